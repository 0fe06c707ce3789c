"""How well a method dodges, at what quality: protected photo against another photo of the same person.

    python benchmarks/dodging.py --pairs DIR --fr DIR --out benchmarks/results/NAME.json [--method latent] [--without dlib-resnet]

``--pairs`` holds ``train_align/`` (protected) and ``test_align/`` (another photo of the same person, clean) with matching numbers;
``--fr`` is a folder of recognisers with an fr.json, of which those with the role ``judge`` score; they have no say in how often a face
is searched, which the shipped recognisers alone decide (``--attempts``). Written as JPEG (q95, 4:4:4), read
back, scored at the points of the original; and again after a second JPEG at q75. Faces already measured are kept in ``--work``.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from mi_fgsm import mi_fgsm
from tqdm import tqdm

from faceprotect_engines.store import Store
from faceprotect_sdk import Protector, __version__
from faceprotect_sdk.align import aligned_crop
from faceprotect_sdk.encode import encode
from faceprotect_sdk.faces import face_in_place, find_faces, shift
from faceprotect_sdk.judge import given_judges, shipped_judges, shipped_surrogates, took_part, unique
from faceprotect_sdk.mask import face_mask
from faceprotect_sdk.methods import STRENGTHS
from faceprotect_sdk.paste import paste
from faceprotect_sdk.photo import Photo, load
from faceprotect_sdk.protector import ATTEMPTS
from faceprotect_sdk.quality import psnr, ssim
from faceprotect_sdk.recognisers import EngineRecogniser, Recogniser
from faceprotect_sdk.room import EngineRoom

BOOTSTRAP = 2000


def pair_paths(folder: Path) -> list[tuple[str, Path, Path]]:
    """Number, photo to protect and the other photo, in order; raises UsageError where a partner is missing."""

    def numbered(part: str) -> dict[str, Path]:
        return {re.sub(r"\D", "", p.stem): p for p in sorted((folder / part).iterdir()) if p.is_file()}

    first, second = numbered("train_align"), numbered("test_align")
    if not first or first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise click.UsageError(f"{folder}: train_align and test_align do not match; without a partner: {odd or 'everything'}")
    return [(n, first[n], second[n]) for n in sorted(first, key=int)]


class Bench:
    """One process: recognisers and a protector, opened once."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.room = EngineRoom(Store(), options["device"], options["threads"])
        judges = given_judges([options["fr"], *(["dlib"] if options["dlib"] else [])], self.room)
        shipped = shipped_surrogates(self.room, [])
        self.panel: list[Recogniser] = unique([*shipped, *shipped_judges(self.room), *judges])
        added = [EngineRecogniser(self.room(Path(d)), self.room.manifest(Path(d))) for d in options["surrogates"]]
        self.searched = [*(one for one in shipped if one.name not in options["without"]), *added]
        self.protector = Protector(
            options["method"] if options["method"] != "mi-fgsm" else "latent", options["device"], strength=options["strength"],
            surrogates=options["surrogates"], without=options["without"], installed_judges=False, attempts=options["attempts"],
            threads=options["threads"],
        )  # fmt: skip

    def measure(self, number: str, path: Path, other_path: Path) -> dict[str, Any]:
        """Protect one photo and score it under every recogniser."""
        source = load(path)
        original = replace(source, container="JPEG", lossless=False, path=None)
        pixels, other = source.rgb8(), load(other_path).rgb8()
        faces, other_faces = find_faces(pixels, self.room("face-detector")), find_faces(other, self.room("face-detector"))
        if not faces or not other_faces:
            return {"number": number, "error": "no face found"}
        face = faces[0]
        files, seconds, attempts = self._protect(original, pixels, face)
        crop = aligned_crop(pixels, face.points)
        final = aligned_crop(load(files["q95"]).rgb8(), face.points)
        seen, after = (face_in_place(p, face, self.room("face-detector")) for p in (pixels, load(files["q95"]).rgb8()))
        scores: dict[str, dict[str, float]] = {}
        for one in self.panel:
            reference = one.embed(other, one.locate(other, other_faces[0]))
            place = one.locate(pixels, face)
            row = {"clean": one.similarity(one.embed(pixels, place), reference)}
            row |= {name: one.similarity(one.embed(load(data).rgb8(), place), reference) for name, data in files.items()}
            row["own"] = one.similarity(one.embed(load(files["q95"]).rgb8(), place), one.embed(pixels, place))
            scores[one.name] = {k: float(v) for k, v in row.items()}
        moved = shift(seen, after) if seen is not None and after is not None else None
        if self.options["keep"]:
            Path(self.options["keep"]).mkdir(parents=True, exist_ok=True)
            Path(self.options["keep"], f"{number}.jpg").write_bytes(files["q95"])
        quality = {"psnr": psnr(crop, final), "ssim": ssim(crop, final), "points_moved": moved}
        return {"number": number, **quality, "seconds": seconds, "attempts": attempts, "scores": scores}

    def _protect(self, original: Photo, pixels: np.ndarray, face: Any) -> tuple[dict[str, bytes], float, int]:
        """The written files by name, the seconds of the searches, and their number."""
        if self.options["method"] == "mi-fgsm":
            changed = paste(original.pixels, self._mi_fgsm(pixels, face), face_mask(), face.points, grey=original.grey)
            data, seconds, attempts = encode(original.with_pixels(changed), quality=95), 0.0, 1
        else:
            result = self.protector.protect(original, faces=[face], seed=self.options["seed"])
            data, seconds, attempts = result.image or result.unconfirmed or b"", result.timings["search"], result.faces[0].attempts
        return {"q95": data, "q75": encode(load(data), quality=75)}, seconds, attempts

    def _mi_fgsm(self, pixels: np.ndarray, face: Any) -> np.ndarray:
        """The baseline, on the same surrogates and mask, scaled to ``--psnr``."""
        return mi_fgsm(aligned_crop(pixels, face.points), self.searched, face_mask(), psnr=self.options["psnr"])


_BENCH: list[Bench] = []


def _start(options: dict[str, Any]) -> None:
    _BENCH.append(Bench(options))


def _measure(job: tuple[str, Path, Path]) -> dict[str, Any]:
    return _BENCH[0].measure(*job)


def interval(hits: Sequence[bool], seed: int = 0) -> list[float]:
    """95 % bootstrap interval of a rate, in percent."""
    draws = np.random.default_rng(seed).choice(np.asarray(hits, float), (BOOTSTRAP, len(hits))).mean(1)
    return [round(float(v), 1) for v in 100 * np.quantile(draws, [0.025, 0.975])]


def summarise(rows: list[dict[str, Any]], thresholds: dict[str, float], searched: set[str]) -> dict[str, Any]:
    """Success rates per recogniser (in percent, with the clean row), and mean quality."""
    good = [row for row in rows if "scores" in row]
    table = {}
    for name, threshold in thresholds.items():
        entry: dict[str, Any] = {"threshold": threshold, "took_part": name in searched}
        for column in ("clean", "q95", "q75"):
            hits = [row["scores"][name][column] < threshold for row in good]
            entry[column] = round(100 * float(np.mean(hits)), 1)
            if column == "q95":
                entry["interval"] = interval(hits)
        entry["own_similarity"] = round(float(np.mean([row["scores"][name]["own"] for row in good])), 4)
        table[name] = entry
    moved = [row["points_moved"] for row in good if row["points_moved"] is not None]
    quality = {key: round(float(np.mean([row[key] for row in good])), 4) for key in ("psnr", "ssim", "seconds", "attempts")}
    quality |= {"points_moved_mean": round(float(np.mean(moved)), 4), "points_moved_p95": round(float(np.quantile(moved, 0.95)), 4)}
    return {"people": len(good), "without_face": len(rows) - len(good), "recognisers": table, "quality": quality}


def resume(work: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run by number; its first line says how it was made, and rows of other settings are refused."""
    head = json.dumps({"settings": settings}, default=list)
    if not work.exists():
        work.write_text(head + "\n")
    first, *rows = work.read_text().splitlines()
    if first != head:
        raise click.UsageError(f"{work} was begun with other settings. Finish that run, or remove the file: rm '{work}'")
    return {row["number"]: row for row in map(json.loads, rows)}


@click.command()
@click.option("--pairs", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--fr", required=True, type=click.Path(exists=True, file_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), help="JSON lines of measured faces; a rerun goes on from there.")
@click.option("--method", type=click.Choice(["latent", "mi-fgsm"]), default="latent", show_default=True)
@click.option("--strength", type=click.Choice(list(STRENGTHS)), default="medium", show_default=True)
@click.option("--surrogates", multiple=True, help="Folders of further surrogates to search on.")
@click.option("--without", multiple=True, help="Shipped surrogates to leave out of the search.")
@click.option("--attempts", default=ATTEMPTS, show_default=True, help="Searches per face, while a shipped recogniser still matches.")
@click.option("--dlib/--no-dlib", default=True, show_default=True, help="Also score with dlib-bin.")
@click.option("--psnr", default=36.0, show_default=True, help="What mi-fgsm is scaled to, in dB.")
@click.option("--limit", type=int, help="Only the first N pairs.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--keep", type=click.Path(), help="Folder for the protected JPEGs.")
def main(pairs: Path, out: Path, work: Path | None, limit: int | None, workers: int, **options: Any) -> None:
    """Measure and write one JSON."""
    jobs = pair_paths(pairs)[:limit]
    work = work or out.with_suffix(".work.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    done = resume(work, {"pairs": str(pairs.resolve()), **options})
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(options,)) as pool, work.open("a") as log:
        for row in tqdm(pool.map(_measure, [job for job in jobs if job[0] not in done]), total=len(jobs) - len(done)):
            done[row["number"]] = row
            log.write(json.dumps(row) + "\n")
            log.flush()
    bench = Bench(options)
    thresholds = {one.name: float(one.threshold) for one in bench.panel}
    identities = [one.identity for one in bench.searched]
    searched = {one.name for one in bench.panel if took_part(one, identities)}
    summary = summarise([done[number] for number, *_ in jobs], thresholds, searched)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607
    head = {
        "command": "python benchmarks/dodging.py", "options": {k: v for k, v in options.items() if k not in ("fr", "keep")},
        "date": datetime.date.today().isoformat(), "commit": commit, "version": __version__,
        "machine": f"{platform.machine()}, {workers} workers",
    }  # fmt: skip
    out.write_text(json.dumps({**head, **summary}, indent=1) + "\n")
    work.unlink()
    click.echo(json.dumps(summary["quality"]))
    for name, entry in summary["recognisers"].items():
        part = "in the search" if entry["took_part"] else "unseen"
        rates = f"clean {entry['clean']:5.1f} %  q95 {entry['q95']:5.1f} % {entry['interval']}  q75 {entry['q75']:5.1f} %"
        click.echo(f"{name:24} {part:14} {rates}")


if __name__ == "__main__":
    main()

"""GIFT in its literal form against the method ``style``, on the same generator and surrogates: passes and seconds to the same loss.

    python benchmarks/style_passes.py PHOTO... --out benchmarks/results/style_passes.json

The loss is the mean cosine over surrogates of the undiversified picture. Both forms are read at the first iteration of their search at
which it is as low as the literal one ever gets; the seconds are those until then, without what this script adds to look. A pass is one
forward run of the generator, and has a backward one but for the last. The quality is that of the whole crop at the end of either run:
the literal form gives its decoding, ours the photo with the difference of two.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from faceprotect_engines.store import Store
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.detect import find_faces
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.judging.quality import psnr, ssim
from faceprotect_sdk.methods import SearchRequest, make_method, recipe_of, strength_of
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.pool import EnginePool
from harness.literal import INVERSION, SEARCH, GiftNets, Image, gift, pulled
from harness.provenance import command_line, environment
from protection import FAILURES, fail

Row = dict[str, Any]


def literal(crop: Image, surrogates: Any, own: list[Image], nets: GiftNets, seed: int) -> Row:
    """How far the published form gets, and what it takes to get there."""
    seen: list[tuple[float, int, float]] = []
    looking, began = 0.0, time.perf_counter()

    def look(passes: int, image: Image) -> None:
        nonlocal looking
        now = time.perf_counter()
        seen.append((pulled(image, surrogates, own)[0], passes, now - began - looking))
        looking += time.perf_counter() - now

    made = gift(crop, surrogates, own, nets, np.random.default_rng(seed), report=look)
    cosine, passes, seconds = min(seen)
    return {"cosine": cosine, "passes": passes, "seconds": seconds, "psnr": psnr(crop, made), "ssim": ssim(crop, made)}


def ours(crop: Image, method: Any, own: list[Image], wanted: float, budget: float, seed: int) -> Row:
    """The same of ``style``: at the first clean step of its search that is as far as ``wanted``."""
    surrogates = method.surrogates()
    times: list[float] = []
    request = SearchRequest(
        crop,
        face_mask(),
        {s.name: o for s, o in zip(surrogates, own, strict=True)},
        {s.name: -1.0 for s in surrogates},
        budget,
        seed,
        lambda step, steps: times.append(time.perf_counter()),
    )
    began = time.perf_counter()
    found = method.search(request)
    last = found.trace[-1]["stage"]
    inverting = [row for row in found.trace if row["stage"] != last]
    steps = [row for row in found.trace if row["stage"] == last][: len(times)]
    reached, number = first_below(steps, wanted)
    made = np.clip(crop + found.difference[None], 0, 1)
    return {
        # Inversion ends with a run for what is kept of it.
        "reached": reached,
        "passes": len(inverting) + bool(inverting) + number + 1,
        "cosine": mean_cosine(steps[number]),
        "seconds": times[number] - began,
        "psnr": psnr(crop, made),
        "ssim": ssim(crop, made),
    }


def mean_cosine(row: Mapping[str, Any]) -> float:
    """Over the surrogates, in one row of a search's trace."""
    return float(np.mean([value for name, value in row.items() if name.startswith("similarity_")]))


def first_below(steps: Sequence[Mapping[str, Any]], wanted: float) -> tuple[bool, int]:
    """Whether a clean step is as far as ``wanted``, and which is the first; else the last."""
    for number, row in enumerate(steps):
        if row["clean"] and mean_cosine(row) <= wanted:
            return True, number
    return False, len(steps) - 1


@click.command()
@click.argument("photos", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--budget", type=float, help="Of ours.  [default: that of the strength high]")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(photos: tuple[Path, ...], weights: Path, budget: float | None, out: Path, seed: int, threads: int) -> None:
    """Run both forms on PHOTOS in turn, and write what each took."""
    torch.set_num_threads(threads)
    budget = budget or strength_of(recipe_of("style"), "high").budget
    rows = []
    try:
        nets, room = GiftNets.read(weights), EnginePool(Store(), "cpu", threads)
        method = make_method("style", room)
        for photo in photos:
            pixels = load(photo).rgb8()
            faces = find_faces(pixels, room("face-detector"))
            if not faces:
                raise UsageError(f"{photo}: no face found. Choose another photo")
            crop = aligned_crop(pixels, faces[0].points)
            own = [one.embed_crop(crop)[None] for one in method.surrogates()]
            own = [np.asarray(o / np.linalg.norm(o), np.float32) for o in own]
            published = literal(crop, method.surrogates(), own, nets, seed)
            rows.append({"literal": published, "ours": ours(crop, method, own, published["cosine"], budget, seed)})
            click.echo(json.dumps(rows[-1]), err=True)
    except FAILURES as error:
        fail(error)
    reached = [row for row in rows if row["ours"]["reached"]]
    result = {
        "schema": 1,
        "command": command_line(),
        "seed": seed,
        **environment(1),
        "budget": budget,
        "photos": len(rows),
        "literal_iterations": {"inversion": INVERSION, "search": SEARCH},
        "reached": len(reached),
        "fewer_passes": _median([row["literal"]["passes"] / row["ours"]["passes"] for row in reached]),
        "times_as_fast": _median([row["literal"]["seconds"] / row["ours"]["seconds"] for row in reached]),
        "rows": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps({key: result[key] for key in ("photos", "reached", "fewer_passes", "times_as_fast")}))


def _median(values: list[float]) -> float | None:
    return round(float(np.median(values)), 1) if values else None


if __name__ == "__main__":
    sys.exit(main())

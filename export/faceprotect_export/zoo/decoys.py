"""Draw the decoys that ship: synthetic faces, as far as can be from every face that was at hand.

``python -m faceprotect_export.zoo.decoys CROPS.npy... --fr DIR -o engines/faceprotect_engines/zoo/decoys --work runs/decoys``

Candidates are drawn from the spread of the style generator's codes. Each is compared with every crop under every recogniser of ``--fr``
and every shipped one; those whose nearest face is the farthest stay (in units of a recogniser's spread, the worst recogniser counts),
and no two of them are alike. With thousands of faces to compare with, the nearest one of any face, real or drawn, comes close to a
threshold set at a false accept rate of 1e-2: ``decoys.json`` states how close, beside the same figure for the real faces themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from faceprotect_engines.store import Store
from faceprotect_export.modules.style import Style
from faceprotect_export.objectives.style import StyleDecode
from faceprotect_export.train.crops import read_crops
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.face.align import CANONICAL_POINTS, CROP
from faceprotect_sdk.face.detect import detect
from faceprotect_sdk.judging.judge import given_judges, shipped_judges, shipped_surrogates
from faceprotect_sdk.judging.recognisers import Recogniser
from faceprotect_sdk.methods.decoys import Decoy
from faceprotect_sdk.pool import EnginePool

Embeddings = NDArray[np.float32]
#: A candidate that the detector is less sure of than this is no face.
SURE = 0.7
#: Pixels by which a point may lie elsewhere than in an aligned face.
NEAR = 12


def embed_all(recogniser: Recogniser, crops: Sequence[NDArray[np.uint8]], work: Path | None = None) -> Embeddings:
    """Unit embeddings [N, E] of aligned crops uint8 [256, 256, 3], rounded to float16; kept in ``work``, by recogniser and crops."""
    cache = work / f"{recogniser.name}-{_digest(recogniser, crops)}.npy" if work else None
    if cache is not None and cache.exists():
        return np.asarray(np.load(cache), np.float32)
    faces = [Decoy("", crop) for crop in crops]
    found = np.stack([recogniser.embed(one.pixels, recogniser.locate(one.pixels, one.face)) for one in tqdm(faces, desc=recogniser.name)])
    kept = (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)).astype(np.float16)
    if cache is not None:
        np.save(cache, kept)
    return np.asarray(kept, np.float32)


def _digest(recogniser: Recogniser, crops: Sequence[NDArray[np.uint8]]) -> str:
    digest = hashlib.sha256(" ".join(sorted(recogniser.identity)).encode())
    for crop in crops:
        digest.update(crop[::16, ::16].tobytes())  # telling apart, not guarding: all pixels of thousands of crops take long
    return digest.hexdigest()[:16]


def nearest(faces: Embeddings, drawn: Embeddings, recogniser: Recogniser) -> NDArray[np.float64]:
    """Cosine of each drawn face to the nearest of ``faces``, above the threshold, in spreads [N]."""
    return np.asarray(((drawn @ faces.T).max(1) - recogniser.threshold) / recogniser.spread, np.float64)


def choose(worst: NDArray[np.float64], alike: NDArray[np.float64], count: int) -> list[int]:
    """Indices of the ``count`` candidates of smallest ``worst`` [N] of which no two are ``alike`` [N, N] (above 0)."""
    chosen: list[int] = []
    for index in np.argsort(worst, kind="stable"):
        if len(chosen) < count and all(alike[index, other] < 0 for other in chosen):
            chosen.append(int(index))
    return chosen


def draw(style: Style, count: int, seed: int, spread: float) -> list[NDArray[np.uint8]]:
    """``count`` faces uint8 [256, 256, 3] in which the detector is sure to see one where it has to be."""
    decode, random = StyleDecode(style.generator, style.space, CROP), torch.Generator().manual_seed(seed)
    found: list[NDArray[np.uint8]] = []
    with Store().open("face-detector") as detector, tqdm(total=count, desc="drawing") as bar:
        for _ in range(20 * count):
            image = decode.decoded(*style.space.draw(style.generator.config, random, spread))
            pixels = (image[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            seen = detect(pixels, detector, longest_side=CROP)
            if len(seen) == 1 and seen[0].score > SURE and np.abs(seen[0].points - CANONICAL_POINTS).max() < NEAR:
                found.append(pixels)
                bar.update()
            if len(found) == count:
                return found
    raise click.UsageError(f"only {len(found)} of {20 * count} drawn faces look like one; train the generator longer, or lower --spread")


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--fr", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Recognisers with an fr.json.")
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--work", required=True, type=click.Path(file_okay=False, path_type=Path), help="Keeps embeddings; a rerun goes on.")
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--count", default=6, show_default=True)
@click.option("--candidates", default=200, show_default=True)
@click.option("--spread", default=0.7, show_default=True, help="Of the codes, in those of real faces.")
@click.option("--seed", default=0, show_default=True)
def main(
    crops: tuple[Path, ...], fr: Path, weights: Path, work: Path, out: Path, count: int, candidates: int, spread: float, seed: int
) -> None:
    """Draw, compare, and write the COUNT farthest with decoys.json."""
    work.mkdir(parents=True, exist_ok=True)
    faces = read_crops(list(crops), CROP)
    drawn = draw(Sources(weights, ()).style(), candidates, seed, spread)
    pool = EnginePool(Store(), "cpu", None)
    models = json.loads((fr / "fr.json").read_text())["models"].values()
    panel = shipped_judges(pool) + shipped_surrogates(pool, []) + given_judges([fr / model["file"] for model in models], pool)
    worst, alike, facts = np.full(candidates, -np.inf), np.full((candidates, candidates), -np.inf), {}
    for one in panel:
        known, new = embed_all(one, list(faces), work), embed_all(one, drawn)
        excess = nearest(known, new, one)
        facts[one.name] = {"threshold": round(one.threshold, 4), "real": _real(known), "drawn": (new @ known.T).max(1)}
        worst = np.maximum(worst, excess)
        alike = np.maximum(alike, (new @ new.T - one.threshold) / one.spread)
    chosen = choose(worst, alike, count)
    if len(chosen) < count:
        raise click.UsageError(f"only {len(chosen)} candidates are unlike each other; draw more: --candidates {4 * candidates}")
    out.mkdir(parents=True, exist_ok=True)
    for name, index in enumerate(chosen, 1):
        cv2.imwrite(str(out / f"{name}.png"), cv2.cvtColor(drawn[index], cv2.COLOR_RGB2BGR))
    document = {
        "command": "python -m faceprotect_export.zoo.decoys CROPS --fr DIR --work DIR -o DIR "
        f"--count {count} --candidates {candidates} --spread {spread} --seed {seed}",
        "compared_with": len(faces),
        "meaning": "largest cosine to any of the faces, per decoy; real: the median of the same figure over the faces themselves",
        "recognisers": {
            name: {"threshold": f["threshold"], "real": f["real"], "decoys": [round(float(f["drawn"][i]), 4) for i in chosen]}
            for name, f in facts.items()
        },
    }
    (out / "decoys.json").write_text(json.dumps(document, indent=1) + "\n")
    click.echo(json.dumps(document["recognisers"]))


def _real(known: Embeddings) -> float:
    """Median over 500 faces of the cosine to the nearest other one; higher where a person is there twice."""
    some = np.random.default_rng(0).permutation(len(known))[:500]
    cosines = known[some] @ known.T
    cosines[np.arange(len(some)), some] = -1
    return round(float(np.median(cosines.max(1))), 4)


if __name__ == "__main__":
    main()

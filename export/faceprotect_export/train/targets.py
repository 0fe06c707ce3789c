"""What searches find on training crops: the differences that a one-pass student is to come near to.

``python -m faceprotect_export.train.targets CROPS.npy... --method latent --count 1000 -o TARGETS.npz``, crops uint8 RGB [N, 256, 256, 3]
as written by ``faceprotect_export.train.crops``. Each search is the shipped recipe with fewer steps, away from the face's own
embeddings, at the budget and margin of medium. Written are ``rows`` [n] of the joined crops and ``differences`` float16 [n, 3, 256, 256].
Goes on where an interrupted run stopped.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from faceprotect_engines.store import Store
from faceprotect_export.train.crops import read_crops
from faceprotect_sdk.align import CROP
from faceprotect_sdk.mask import face_mask
from faceprotect_sdk.methods.base import STRENGTHS, SearchRequest
from faceprotect_sdk.methods.search import Search
from faceprotect_sdk.room import EngineRoom

SAVED_EVERY = 50
STRENGTH = "medium"


class Searcher:
    """One method's search, of crops instead of photos."""

    def __init__(self, method: str, steps: int, threads: int) -> None:
        self.search = Search(method, EngineRoom(Store(), "cpu", threads))
        self.search.recipe["parameters"]["steps"] = steps
        self.strength, self.mask = STRENGTHS[method][STRENGTH], face_mask()

    def __call__(self, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
        """The difference [3, S, S] that the search finds for a crop [S, S, 3]."""
        crop = np.asarray(pixels.transpose(2, 0, 1)[None] / 255, np.float32)
        surrogates = self.search.surrogates()
        own = {one.name: unit(one.embed_crop(crop))[None] for one in surrogates}
        limits = {one.name: self.strength.limit(one) for one in surrogates}
        return self.search.search(SearchRequest(crop, self.mask, own, limits, self.strength.budget, seed)).difference


def unit(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of length 1."""
    return np.asarray(embedding / np.linalg.norm(embedding), np.float32)


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--method", default="latent", show_default=True, type=click.Choice(["latent", "diffusion", "style"]))
@click.option("--count", default=1000, show_default=True, help="Searches.")
@click.option("--steps", default=16, show_default=True, help="Of each search.")
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Which crops, in which order, and of the searches' draws.")
@click.option("--threads", default=1, show_default=True)
def main(crops: tuple[Path, ...], method: str, count: int, steps: int, out: Path, seed: int, threads: int) -> None:
    """Search, and write what was found; ``train/fast.py --targets`` has to be given the same CROPS in the same order."""
    data = read_crops(list(crops), CROP)
    order, about = np.random.default_rng(seed).permutation(len(data)), f"{method}, {steps} steps, {len(data)} crops, seed {seed}"
    found: list[NDArray[np.float16]] = []
    if out.is_file():
        with np.load(out) as kept:
            if str(kept["about"]) != about:
                raise click.UsageError(f"{out} holds other searches: {kept['about']}. Choose another --out")
            found = list(kept["differences"])
    rows = order[: max(count, len(found))]
    searcher = Searcher(method, steps, threads)
    for number in tqdm(range(len(found), len(rows)), initial=len(found), total=len(rows)):
        found.append(searcher(data[rows[number]], seed + number).astype(np.float16))
        if len(found) % SAVED_EVERY == 0 or len(found) == len(rows):
            beside = out.with_suffix(".part.npz")
            np.savez(beside, about=about, rows=rows[: len(found)], differences=np.stack(found))
            beside.replace(out)


if __name__ == "__main__":
    main()

"""What searches find on training crops: the differences that a one-pass student is to come near to.

``python -m faceprotect_export.train.targets CROPS.npy... --method latent --count 1000 -o TARGETS.npz``, crops uint8 RGB [N, 256, 256, 3]
as written by ``faceprotect_export.train.crops``. Each search is the shipped recipe with fewer steps, away from the face's own
embeddings, at the budget and margin of medium. Written are ``rows`` [n] of the joined crops, ``checksums`` [n] by which they
are known again, ``differences`` float16 [n, 3, 256, 256], and ``learnt_from``. Goes on where an interrupted run stopped.

``--teachers DIR``: instead, search in torch, many crops at a time, on everything that ``train/fast.py --teachers DIR`` trains against.
Those recognisers need not ship, and what fools them carries over to others much better than what fools those that do. ``--start``: each
search goes on from what a trained student makes of the crop, which takes fewer steps, and gives the student what it can come near to.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import trange

from faceprotect_engines.files.digest import sha256_file
from faceprotect_engines.store import Store
from faceprotect_export.modules.fast import read_fast
from faceprotect_export.objectives.search import combine
from faceprotect_export.train import checkpoint
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.precision import mixed
from faceprotect_export.train.surrogates import digests, drawn, facing, paid, penalty_of, read_surrogates, tensor_of
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.methods import SearchRequest, make_method, methods_of, recipe_of, strength_of
from faceprotect_sdk.pool import EnginePool

#: Groups of crops.
SAVED_EVERY = 5
STRENGTH = "medium"
#: Of a search in torch: crops at a time, and the optimiser's rate, which does not fall; less from a student's change.
TOGETHER, RATE, RATE_FROM_STUDENT = 12, 0.045, 0.02


class Searcher:
    """One method's search as it ships, of crops instead of photos."""

    def __init__(self, method: str, steps: int, threads: int) -> None:
        recipe = recipe_of(method)
        recipe = recipe.applied({"steps": steps}) if "steps" in recipe.parameters else recipe
        self.search = make_method(recipe, EnginePool(Store(), "cpu", threads))
        self.strength, self.mask = strength_of(recipe, STRENGTH), self.search.mask

    def __call__(self, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.float16]:
        """The differences [N, 3, S, S] that searches find for crops [N, S, S, 3]."""
        return np.stack([self.one(crop, seed + number) for number, crop in enumerate(pixels)]).astype(np.float16)

    def one(self, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
        """The difference [3, S, S] that the search finds for a crop [S, S, 3]."""
        crop = np.asarray(pixels.transpose(2, 0, 1)[None] / 255, np.float32)
        surrogates = self.search.surrogates()
        own = {one.name: unit(one.embed_crop(crop))[None] for one in surrogates}
        limits = {one.name: self.strength.limit(one) for one in surrogates}
        return self.search.search(SearchRequest(crop, self.mask, own, limits, self.strength.budget, seed)).difference


class Together:
    """The search of ``latent`` of many crops at once, on the loss of ``train/fast.py``: its recognisers, views and price."""

    def __init__(self, sources: Sources, teachers: Path, start: Path | None, steps: int, margin: float = 2.0) -> None:
        self.surrogates, goals = read_surrogates(sources, teachers, margin)
        self.autoencoder = channels_last(sources.autoencoder())
        self.student = read_fast(*checkpoint.load(start)) if start else None
        self.mask, self.steps, self.goals = torch.from_numpy(face_mask()), steps, len(goals)
        self.budget = strength_of(recipe_of("latent"), STRENGTH).budget

    def __call__(self, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.float16]:
        """The differences [N, 3, S, S] for crops [N, S, S, 3]."""
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        crops = torch.stack([tensor_of(one) for one in pixels]).contiguous(memory_format=torch.channels_last)
        goal = F.one_hot(torch.zeros(len(crops), dtype=torch.long), self.goals).float()
        with torch.no_grad(), mixed():
            latent = self.autoencoder.encoder(crops).float()
            plain = self.autoencoder.decoder(latent).float()
            own = {surrogate.name: surrogate.net(crops).float() for surrogate in self.surrogates}
            told = own[self.surrogates[1].name]
            offset = 0.01 * torch.randn_like(latent)
            if self.student is not None:
                offset = self.student(latent, told, torch.full((len(crops),), self.budget), goal).float()
        offset.requires_grad_()
        rate = RATE if self.student is None else RATE_FROM_STUDENT
        optimiser = torch.optim.AdamW([offset], rate, betas=(0.9, 0.99), weight_decay=0.0)

        def image() -> Tensor:
            with mixed():
                moved = self.autoencoder.decoder(latent + offset).float()
            return combine(moved, plain, crops, self.mask)

        for _ in range(self.steps):
            found, used = image(), drawn(self.surrogates, rng)
            lost, _ = facing(used, found, [own[one.name] for one in used], goal, rng)
            optimiser.zero_grad()
            (lost + paid(penalty_of(found, crops) / self.budget)).backward()
            optimiser.step()
        with torch.no_grad():
            for _ in range(5):  # the penalty grows with less than the square of a large offset
                offset *= (self.budget / penalty_of(image(), crops)).sqrt().clamp(0.5, 2.0).reshape(-1, 1, 1, 1)
            return (image() - crops).numpy().astype(np.float16)


def checksums_of(data: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """By which these crops are known again."""
    return np.array([zlib.crc32(np.ascontiguousarray(data[row]).data) for row in rows], np.int64)


def read_targets(file: Path, data: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """What is in a file of targets. Raises UsageError for those of other crops than ``data``."""
    with np.load(file) as read:
        if "checksums" not in read:
            raise click.UsageError(f"{file}: these targets do not say of which crops they are. Make them again")
        found = dict(read)
    rows = found["rows"]
    if rows.max(initial=0) >= len(data) or (checksums_of(data, rows) != found["checksums"]).any():
        raise click.UsageError(f"{file}: targets of other crops. Name the same CROPS in the same order, or another file")
    return found


class Targets:
    """What searches found, by row of the crops ``data``; without those ``held`` out. Raises UsageError for targets of other crops."""

    def __init__(self, files: Sequence[Path], data: NDArray[np.uint8], held: NDArray[np.int64]) -> None:
        self.found: dict[int, NDArray[np.float16]] = {}
        self.learnt_from: set[str] = set()
        for file in files:
            read = read_targets(file, data)
            self.found |= dict(zip(read["rows"].tolist(), read["differences"], strict=True))
            self.learnt_from |= set(read["learnt_from"].tolist())
        for row in held.tolist():
            self.found.pop(row, None)
        self.rows = np.array(sorted(self.found), np.int64)

    def drawn(self, data: NDArray[np.uint8], count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Crops and their differences [count, 3, S, S], every second one mirrored."""
        rows = rng.choice(self.rows, count, replace=False)
        crops = torch.stack([tensor_of(data[row]) for row in rows])
        differences = torch.stack([torch.from_numpy(self.found[row]).float() for row in rows])
        mirrored = torch.from_numpy(rng.random(count) < 0.5).reshape(-1, 1, 1, 1)
        return torch.where(mirrored, crops.flip(3), crops), torch.where(mirrored, differences.flip(3), differences)


def unit(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of length 1."""
    return np.asarray(embedding / np.linalg.norm(embedding), np.float32)


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--method", default="latent", show_default=True, type=click.Choice(list(methods_of(Store()))))
@click.option("--teachers", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Search in torch, on these as well.")
@click.option("--start", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="With --teachers: go on from this student.")
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=1000, show_default=True, help="Searches.")
@click.option("--steps", default=16, show_default=True, help="Of each search.")
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Which crops, in which order, and of the searches' draws.")
@click.option("--threads", default=1, show_default=True)
def main(
    crops: tuple[Path, ...],
    method: str,
    teachers: Path | None,
    start: Path | None,
    weights: Path,
    count: int,
    steps: int,
    out: Path,
    seed: int,
    threads: int,
) -> None:
    """Search, and write what was found; ``train/fast.py --targets`` has to be given the same CROPS in the same order."""
    if (teachers and method != "latent") or (start and not teachers):
        raise click.UsageError("searches in torch are those of latent: name --teachers alone, or with --start")
    data = read_crops(list(crops), CROP)
    order = np.random.default_rng(seed).permutation(len(data))
    about = f"{method}, {steps} steps, {len(data)} crops, seed {seed}"
    if teachers:
        about += f", on {', '.join(digests(teachers))}, from {sha256_file(start) if start else 'nothing'}"
    learnt_from = {*digests(teachers), *(checkpoint.load(start)[1].get("learnt_from", ()) if start else ())}
    found: list[NDArray[np.float16]] = []
    if out.is_file():
        kept = read_targets(out, data)
        if str(kept["about"]) != about:
            raise click.UsageError(f"{out} holds other searches: {kept['about']}. Choose another --out")
        found = list(kept["differences"])
    rows = order[: max(count, len(found))]
    searcher: Searcher | Together
    if teachers:
        torch.set_num_threads(threads)
        searcher = Together(Sources(weights, ()), teachers, start, steps)
    else:
        searcher = Searcher(method, steps, threads)
    for number in trange(len(found), len(rows), TOGETHER):
        part = rows[number : number + TOGETHER]
        found.extend(searcher(data[part], seed + number))
        if number // TOGETHER % SAVED_EVERY == 0 or len(found) == len(rows):
            beside = out.with_suffix(".part.npz")
            done = rows[: len(found)]
            facts: dict[str, Any] = {"about": about, "learnt_from": np.array(sorted(learnt_from), str)}
            np.savez(beside, rows=done, checksums=checksums_of(data, done), differences=np.stack(found), **facts)
            beside.replace(out)


if __name__ == "__main__":
    main()

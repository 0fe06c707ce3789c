"""Thresholds of a surrogate engine: ``python -m faceprotect_export.surrogates.thresholds ENGINE CROPS...``.

The rule of every engine that ships: all pairs of 1,000 people, one crop of each, so 499,500 pairs of strangers. ``CROPS`` come from
``python -m faceprotect_export.train.crops`` on one photo of each person. What is printed goes into the engine's entry
(``panel/entries.json``) or specification.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from faceprotect_engines.engine import Engine
from faceprotect_engines.store import Store
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.thresholds import impostor_thresholds
from faceprotect_sdk.face.align import CROP


def embedder(engine: Engine) -> Callable[[Tensor], Tensor]:
    """Images [N,3,256,256] RGB 0..1 to unit embeddings [N,E], one run of the engine each."""
    feeds = {spec.name: spec.zeros() for spec in engine.spec.inputs}

    def embed(images: Tensor) -> Tensor:
        rows = [engine.run({**feeds, "image": image[None].numpy()}, ["embedding"])["embedding"] for image in images]
        return torch.from_numpy(np.concatenate(rows))

    return embed


@click.command()
@click.argument("engine")
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--people", default=1000, show_default=True, help="Crops used; each must show another person.")
@click.option("--threads", type=click.IntRange(1), help="Cores to use.  [default: all]")
def main(engine: str, crops: tuple[Path, ...], people: int, threads: int | None) -> None:
    """Measure thresholds and the mean of strangers of ENGINE (a name or a folder), and print them as JSON."""
    faces = read_crops(list(crops), CROP)
    if len(faces) < people:
        raise click.UsageError(f"{len(faces)} crops for {people} people. Bring more, or say how many: --people {len(faces)}")
    with Store().open(engine, threads=threads) as opened:
        found = impostor_thresholds(embedder(opened), faces[:people])
    click.echo(json.dumps({**found, "people": people}))


if __name__ == "__main__":
    main()

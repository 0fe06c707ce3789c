"""Thresholds of a recogniser from impostor pairs: cosine at FAR 1e-2 and 1e-3, and the impostors' mean.

The mean says where "a stranger" lies: margins of the search are measured in units of the way from the threshold to it, because
recognisers differ in scale (dlib's strangers have a cosine of 0.8, ArcFace-like ones of 0).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceprotect_export.modules.students import build_student
from faceprotect_export.train import checkpoint
from faceprotect_export.train.crops import read_crops
from faceprotect_sdk.face.align import CROP


def impostor_thresholds(embed: Callable[[Tensor], Tensor], crops: NDArray[np.uint8]) -> dict[str, Any]:
    """Thresholds over all pairs of ``crops`` (uint8 [N, S, S, 3], every one another person)."""
    with torch.no_grad():
        parts = [embed(torch.from_numpy(crops[i : i + 32]).permute(0, 3, 1, 2).float() / 255) for i in range(0, len(crops), 32)]
    embeddings = torch.cat(parts)
    pairs = (embeddings @ embeddings.T)[torch.triu_indices(len(crops), len(crops), 1).unbind()].numpy()
    high, higher = np.quantile(pairs, [0.99, 0.999])
    thresholds = {"far_1e-2": round(float(high), 4), "far_1e-3": round(float(higher), 4)}
    return {"thresholds": thresholds, "impostor_mean": round(float(pairs.mean()), 4)}


@click.command()
@click.argument("weights", type=click.Path(exists=True, path_type=Path))
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--people", default=1200, show_default=True, help="Crops used; each must show another person.")
def main(weights: Path, crops: tuple[Path, ...], people: int) -> None:
    """Measure a student's thresholds and write them into its metadata."""
    tensors, metadata = checkpoint.load(weights)
    student = build_student(metadata["kind"], metadata["heads"], CROP)
    student.load_state_dict(tensors)
    student.eval()
    metadata |= impostor_thresholds(student, read_crops(list(crops), CROP)[:people])
    checkpoint.save(weights, tensors, metadata, half=True)
    click.echo({key: metadata[key] for key in ("thresholds", "impostor_mean")})


if __name__ == "__main__":
    main()

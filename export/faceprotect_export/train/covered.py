"""Fit the rule that tells a covered face, on photos of faces before which masks, cards, hands and cloths are drawn.

``python -m faceprotect_export.train.covered PHOTOS -o sdk/faceprotect_sdk/face/covered.npy``: PHOTOS is a folder of JPEG or PNG
photos of one face each. Logistic regression on ``covered.features``; sunglasses are drawn, too, and count as uncovered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from faceprotect_engines.store import Store
from faceprotect_export.train.coverings import COVERINGS, OTHERS, cover
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.covered import features
from faceprotect_sdk.face.detect import detect

CLEAN = "clean"
KINDS = (CLEAN, *OTHERS, *COVERINGS)
#: Copies of each crop that are turned, shifted, toned or made grey.
COPIES = 3
_SIDE = 256


def crops_of(paths: Sequence[Path], kinds: Sequence[str], random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Kind and canonical crop [1, 3, 256, 256] of every photo in every kind in which its face is found; points are found anew each time."""
    with Store().open("face-detector") as detector:
        for path in tqdm(paths):
            photo = _read(path)
            clean = detect(photo, detector, longest_side=_SIDE)
            for kind in kinds if clean else ():
                other = _read(paths[int(random.integers(len(paths)))])
                drawn = photo if kind == CLEAN else cover(photo, clean[0].points, kind, random, other)
                found = detect(drawn, detector, longest_side=_SIDE)
                if found:
                    yield kind, aligned_crop(drawn, found[0].points)


def varied(crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The crop turned, shifted and scaled a little, mirrored, lighter or darker, tinted, or grey."""
    angle, scale = np.degrees(random.normal(0, 0.06)), float(np.exp(random.normal(0, 0.05)))
    turn = np.asarray(cv2.getRotationMatrix2D((128, 180), angle, scale), np.float64)
    turn[:, 2] += random.normal(0, 4, 2)
    image = crop[0].transpose(1, 2, 0)[:, :: random.choice([-1, 1])]
    image = cv2.warpAffine(np.ascontiguousarray(image), turn, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    image = np.clip(image, 0, 1) ** np.exp(random.normal(0, 0.25))
    if random.random() < 0.5:
        image = np.clip(image * np.exp(random.normal(0, 0.1, 3)), 0, 1)
    if random.random() < 0.2:
        image = np.repeat(image @ [[0.299], [0.587], [0.114]], 3, 2)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def fit(values: np.ndarray, covered: np.ndarray, steps: int = 400, rate: float = 0.02, decay: float = 0.01) -> np.ndarray:
    """Weights and bias [F + 1] float32 of a logistic regression on ``values`` [N, F]; both classes count alike."""
    mean, spread = values.mean(0), values.std(0) + 1e-2
    inputs = np.column_stack([(values - mean) / spread, np.ones(len(values))])
    share = np.where(covered, 0.5 / max(covered.mean(), 1e-9), 0.5 / max(1 - covered.mean(), 1e-9)) / len(values)
    weights, momentum = np.zeros(inputs.shape[1]), np.zeros(inputs.shape[1])
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (share * (chance - covered)) + decay * np.append(weights[:-1], 0)
        momentum = 0.9 * momentum - rate * slope
        weights = weights + momentum
    scaled = weights[:-1] / spread
    return np.append(scaled, weights[-1] - scaled @ mean).astype(np.float32)


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def photos_of(folder: Path, limit: int) -> list[Path]:
    """The first photos of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:limit]


@click.command(help=__doc__)
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True)
@click.option("--limit", type=click.IntRange(2), default=100, show_default=True, help="Photos, the first by name.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(photos: Path, out: Path, limit: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    found = list(crops_of(photos_of(photos, limit), KINDS, random))
    if not found:
        raise click.UsageError(f"no photo in {photos} has a face that is found")
    values = [(kind, features(one)) for kind, crop in found for one in (crop, *(varied(crop, random) for _ in range(COPIES)))]
    rule = fit(np.stack([value for _, value in values]), np.array([kind in COVERINGS for kind, _ in values]))
    out.parent.mkdir(parents=True, exist_ok=True)
    np.save(out, rule)
    click.echo(f"{out}: {len(values)} crops of {len(found)} pictures")


if __name__ == "__main__":
    main()

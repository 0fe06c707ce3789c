"""Aligned crops for training: photos in, one uint8 array of canonical crops out.

``python -m faceprotect_export.train.crops PHOTO_DIR -o CROPS.npy [--size 256]``. Photos without a face are left out; the file
names that stayed are written beside the array, one a line.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from faceprotect_engines.store import Store
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.detect import detect

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SMALLEST_FACE = 0.04  # of the picture's area: dataset photos hold one large face; smaller ones are bystanders


def read_crops(paths: list[Path], size: int) -> NDArray[np.uint8]:
    """Crop arrays [n, h, h, 3] joined at ``size`` px, uint8 RGB [N, size, size, 3]."""
    parts = []
    for path in paths:
        array = np.load(path, mmap_mode="r")
        if array.shape[1] != size:
            array = np.stack([cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA) for crop in array])
        parts.append(np.asarray(array))
    return np.concatenate(parts)


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--size", default=256, show_default=True)
@click.option("--longest-side", default=192, show_default=True, help="Size at which the detector sees a photo.")
def main(photos: Path, out: Path, size: int, longest_side: int) -> None:
    """Detect the most central face of every photo and write its canonical crop."""
    crops, names = [], []
    with Store().open("face-detector") as detector:
        for path in tqdm(sorted(p for p in photos.rglob("*") if p.suffix.lower() in SUFFIXES)):
            read = cv2.imread(str(path))
            if read is None:
                click.echo(f"{path}: left out, it cannot be decoded", err=True)
                continue
            photo = np.asarray(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), np.uint8)
            height, width = photo.shape[:2]
            faces = [f for f in detect(photo, detector, longest_side=longest_side) if f.area > SMALLEST_FACE * height * width]
            if not faces:
                continue
            face = min(faces, key=lambda f: abs(f.box[0] + f.box[2] - width) + abs(f.box[1] + f.box[3] - height))
            crop = aligned_crop(photo, face.points, size)[0].transpose(1, 2, 0)
            crops.append((crop * 255).round().astype(np.uint8))
            names.append(path.name)
    if not crops:
        raise click.UsageError(f"{photos}: no photo with a face in it")
    np.save(out, np.stack(crops))
    out.with_suffix(".txt").write_text("\n".join(names) + "\n")


if __name__ == "__main__":
    main()

"""Plots of a result document, and the contact sheet of photos before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceprotect_engines.store import Store
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.detect import find_faces
from faceprotect_sdk.photo.reading import load
from harness.pairs import numbered
from harness.tables import Document, after_variant, curve, families, has_seen

LABELS = {"ssimulacra2": "SSIMULACRA2", "psnr": "PSNR, dB", "ssim": "SSIM"}


def curves(document: Document, recognisers: Sequence[str], out: Path) -> bool:
    """Success over SSIMULACRA2 and over PSNR, a line per method; False where no method was measured at several strengths.

    A result of before SSIMULACRA2 was measured is shown over PSNR and over SSIM.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = families(document)
    if not lines:
        return False
    figure, axes = plt.subplots(len(recognisers), 2, figsize=(9, 3.2 * len(recognisers)), squeeze=False, layout="constrained")
    overs = ("ssimulacra2", "psnr") if has_seen(document) else ("psnr", "ssim")
    for row, recogniser in zip(axes, recognisers, strict=True):
        for axis, over in zip(row, overs, strict=True):
            for name, keys in lines.items():
                x, y = zip(*curve(document, keys, recogniser, over), strict=True)
                axis.plot(x, y, marker="o", label=name)
            axis.set(xlabel=LABELS[over], ylabel="not matched, %", title=recogniser, ylim=(0, 102))
            axis.grid(alpha=0.3)
    axes[0, 0].legend()
    figure.savefig(out, dpi=110)
    plt.close(figure)
    return True


def heat_map(document: Document, recognisers: Sequence[str], out: Path) -> None:
    """Success after every variant, a panel per recogniser, two side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    methods = document["methods"]
    keys = list(methods)
    variants = list(methods[keys[0]]["robustness"])
    columns = min(2, len(recognisers))
    rows = -(-len(recognisers) // columns)
    size = (2 + (1 + 0.4 * len(keys)) * columns, 0.6 + (0.9 + 0.25 * len(variants)) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained")
    for axis in axes.flat[len(recognisers) :]:
        axis.set_axis_off()
    for axis, recogniser in zip(axes.flat, recognisers, strict=False):
        values = np.array([[after_variant(document, k, v, recogniser) for k in keys] for v in variants])
        axis.imshow(values, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            axis.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color="white" if value < 60 else "black")
        axis.set_xticks(range(len(keys)), keys, rotation=60, ha="right", fontsize=7)
        axis.set_yticks(range(len(variants)), variants, fontsize=8)
        axis.set_title(f"{recogniser}, not matched, %", fontsize=9)
    figure.savefig(out, dpi=110)
    plt.close(figure)


@dataclass(frozen=True)
class Photos:
    """One person's photo before and after, uint8 RGB [H, W, 3], and the five points of the face."""

    number: str
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    points: NDArray[np.float64]


def photos_of_faces(originals: Path, protected: Path, count: int) -> Iterator[Photos]:
    """The first ``count`` people; files are paired by the numbers in their names. A photo without a face is left out."""
    before = numbered(originals)
    after = {p.stem: p for p in protected.glob("*.jpg") if p.stem in before}
    if not after:
        raise UsageError(f"{protected}: no protected photos (NUMBER.jpg) of {originals}")
    with Store().open("face-detector") as detector:
        for number in sorted(after, key=int)[:count]:
            pixels = load(before[number]).rgb8()
            faces = find_faces(pixels, detector)
            if faces:
                yield Photos(number, pixels, load(after[number]).rgb8(), faces[0].points)


def contact_sheet(originals: Path, protected: Path, out: Path, count: int = 24, columns: int = 3) -> None:
    """Canonical crops before, after, and their difference times 8."""
    triples = []
    for photos in photos_of_faces(originals, protected, count):
        first, second = (aligned_crop(image, photos.points)[0].transpose(1, 2, 0) for image in (photos.before, photos.after))
        triples.append(np.hstack([first, second, np.clip(0.5 + 8 * (second - first), 0, 1)]))
    triples += [np.ones_like(triples[0])] * (-len(triples) % columns)
    rows = [np.hstack(triples[i : i + columns]) for i in range(0, len(triples), columns)]
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.vstack(rows) * 255).round().astype(np.uint8)).save(out)

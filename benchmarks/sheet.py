"""Pages to look at by eye: every face before and after, as large as one would see it, with what the measures say of it.

    python benchmarks/sheet.py WORK --method KEY --people 24 --size 512 -o SHEET.png

WORK is the work folder of ``protection.py`` or ``ablations.py``, KEY a row of its result. Writes SHEET-1.png, SHEET-2.png, ...: photos of
people, not for publication. Exit codes are those of faceprotect-sdk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from faceprotect_sdk.cli.sheet import panel
from faceprotect_sdk.errors import UsageError
from harness.pairs import PHOTO
from harness.plots import Photos, photos_of_faces
from protection import FAILURES, FOLDER, fail

GAP, LINE = 12, 24
ACROSS, DOWN = 2, 3


def read_folder(work: Path, key: str) -> tuple[Path, Path]:
    """The originals and the protected photos of a row; raises UsageError for a work folder without it."""
    folder = work / key.replace("/", "_")
    if not (folder / "settings.json").is_file():
        known = sorted(path.parent.name for path in work.glob("*/settings.json"))
        raise UsageError(f"{work}: has no row '{key}'; there are: {', '.join(known) or 'none'}. Choose one with --method")
    return Path(json.loads((folder / "settings.json").read_text())["pairs"]) / PHOTO, folder


def caption(folder: Path, number: str) -> str:
    """The figures of one face, where they have been measured."""
    stored = folder / f"{number}.npz"
    if not stored.is_file():
        return number
    with np.load(stored, allow_pickle=False) as arrays:
        facts: dict[str, Any] = json.loads(str(arrays["facts"]))
    shown = (("SSIMULACRA2", "ssimulacra2", 0), ("mid band", "mid_band", 1), ("PSNR", "psnr", 1), ("SSIM", "ssim", 3))
    return "   ".join([number, *(f"{label} {facts[name]:.{digits}f}" for label, name, digits in shown if name in facts)])


def page(faces: Sequence[tuple[Photos, str]], size: int) -> Image.Image:
    """Up to ``ACROSS`` x ``DOWN`` faces, original on the left and protected on the right of each, ``size`` px a side."""
    cell_width, cell_height = 2 * size + 2 * GAP, size + LINE + GAP
    picture = Image.new("RGB", (ACROSS * cell_width + GAP, -(-len(faces) // ACROSS) * cell_height + GAP), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=16)
    for place, (photos, text) in enumerate(faces):
        left, top = GAP + place % ACROSS * cell_width, GAP + place // ACROSS * cell_height
        pen.text((left, top), text, fill="black", font=font)
        for side, pixels in enumerate((photos.before, photos.after)):
            picture.paste(Image.fromarray(panel(pixels, photos.points, size)), (left + side * size, top + LINE))
    return picture


@click.command()
@click.argument("work", type=FOLDER)
@click.option("--method", required=True, help="Row of the result: NAME@STRENGTH, say.")
@click.option("--people", type=click.IntRange(1), default=24, show_default=True)
@click.option("--size", type=click.IntRange(64, 2048), default=512, show_default=True, help="Pixels a face.")
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
def main(work: Path, method: str, people: int, size: int, out: Path) -> None:
    """Draw the faces of one row of WORK."""
    try:
        originals, folder = read_folder(work, method)
        found = [(photos, caption(folder, photos.number)) for photos in photos_of_faces(originals, folder, people)]
        if not found:
            raise UsageError(f"{originals}: no face was found in the photos of {method}")
    except FAILURES as error:
        fail(error)
    each = ACROSS * DOWN
    out.parent.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(found), each), 1):
        path = out.with_name(f"{out.stem}-{number}.png")
        page(found[start : start + each], size).save(path)
        click.echo(str(path))


if __name__ == "__main__":
    main()

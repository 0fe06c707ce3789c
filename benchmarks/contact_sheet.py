"""Original, protected and the difference times 8, side by side, for looking at.

    python benchmarks/contact_sheet.py ORIGINALS PROTECTED -o SHEET.png [--count 24]

Files are paired by the number in their names; faces are shown as canonical crops.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
import numpy as np
from PIL import Image

from faceprotect_engines.store import Store
from faceprotect_sdk.align import aligned_crop
from faceprotect_sdk.faces import find_faces
from faceprotect_sdk.photo import load


@click.command()
@click.argument("originals", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("protected", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--count", default=24, show_default=True)
@click.option("--columns", default=3, show_default=True, help="Triples in a row.")
def main(originals: Path, protected: Path, out: Path, count: int, columns: int) -> None:
    """Write the sheet."""
    by_number = {re.sub(r"\D", "", p.stem): p for p in originals.iterdir()}
    triples = []
    with Store().open("face-detector") as detector:
        for path in sorted(protected.iterdir(), key=lambda p: int(re.sub(r"\D", "", p.stem)))[:count]:
            before, after = load(by_number[re.sub(r"\D", "", path.stem)]).rgb8(), load(path).rgb8()
            points = find_faces(before, detector)[0].points
            first, second = (aligned_crop(pixels, points)[0].transpose(1, 2, 0) for pixels in (before, after))
            triples.append(np.hstack([first, second, np.clip(0.5 + 8 * (second - first), 0, 1)]))
    rows = [np.hstack(triples[i : i + columns]) for i in range(0, len(triples) - columns + 1, columns)]
    Image.fromarray((np.vstack(rows) * 255).round().astype(np.uint8)).save(out)


if __name__ == "__main__":
    main()

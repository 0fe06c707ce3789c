"""How often a covered face is not seen to be one, and a free one is taken for covered.

``python benchmarks/covered.py PHOTOS... --out FILE.json``: folders of photos of one face each. On each face a mask, a card, a hand, a cloth
and sunglasses are drawn (``faceprotect_export.train.coverings``); drawn coverings say little of real ones.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from faceprotect_export.train.covered import KINDS, crops_of, photos_of
from faceprotect_export.train.coverings import COVERINGS
from faceprotect_sdk.face.covered import is_covered
from protection import write_result


@click.command(help=__doc__)
@click.argument("photos", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--limit", type=click.IntRange(1), default=120, show_default=True, help="Photos of each folder, the first by name.")
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="What is drawn, with commas; clean: nothing.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
def main(photos: tuple[Path, ...], out: Path, limit: int, kinds: str, seed: int) -> None:
    rows = []
    for folder in photos:
        said: dict[str, list[bool]] = {}
        for kind, crop in crops_of(photos_of(folder, limit), kinds.split(","), np.random.default_rng(seed)):
            said.setdefault(kind, []).append(is_covered(crop))
        for kind, answers in said.items():
            counts = {"called_covered": sum(answers), "of": len(answers)}
            rows.append({"photos": folder.name, "drawn": kind, "should_be": kind in COVERINGS, **counts})
    write_result(out, {"seed": seed, "limit": limit, "rows": rows})
    for row in rows:
        click.echo(f"{row['photos']:<24} {row['drawn']:<12} called covered: {row['called_covered']} of {row['of']}")


if __name__ == "__main__":
    main()

"""One picture of what the style generator can do.

``python -m faceprotect_export.zoo.style_samples -o SHEET.png [--crops CROPS.npy]``. With crops: photos, the same from their codes,
and from W+ alone (F at its mean). Then drawn faces, and the first of them with one layer after the other moved along its largest axis,
by -2 and by +2 standard deviations.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
import torch
from torch import Tensor

from faceprotect_export.modules.style import Style
from faceprotect_export.train.crops import read_crops
from faceprotect_export.zoo.sources import Sources


def sheet(style: Style, photos: Tensor | None, count: int, seed: int) -> Tensor:
    """RGB [3, rows * S, count * S]; ``photos`` [count, 3, S, S]."""
    config, random = style.generator.config, torch.Generator().manual_seed(seed)
    rows: list[Tensor] = []
    if photos is not None:
        base, codes = style.encoder(photos)
        rows += [photos, style.generator(base, codes), style.generator(torch.zeros_like(base), codes)]
    drawn = [style.space.draw(config, random) for _ in range(2 * count)]
    made = torch.cat([style.generator(*one) for one in drawn])
    rows += [made[:count], made[count:]]
    base, codes = drawn[0]
    for way in (-2.0, 2.0):
        edits = [style.generator(base, codes + way * _only(style, layer)) for layer in range(config.layers)]
        rows.append(torch.cat([*edits, *[torch.ones_like(edits[0])] * count])[:count])
    return torch.cat([torch.cat(list(row), 2) for row in rows], 1).clamp(0, 1)


def _only(style: Style, layer: int) -> Tensor:
    """One standard deviation of a layer along its largest axis, as W+."""
    step = torch.zeros_like(style.space.axes[:, 0])[None]
    step[0, layer] = style.space.axes[layer, 0]
    return step


@click.command()
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--crops", multiple=True, type=click.Path(exists=True, path_type=Path), help="Photos to remake; the sheet then shows people.")
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--count", default=8, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(weights: Path, crops: tuple[Path, ...], out: Path, count: int, seed: int) -> None:
    """Draw the sheet."""
    style, photos = Sources(weights, ()).style(), None
    if crops:
        data = read_crops(list(crops), style.generator.config.size)
        chosen = data[np.random.default_rng(seed).choice(len(data), count, replace=False)]
        photos = torch.from_numpy(chosen).permute(0, 3, 1, 2).float() / 255
    picture = (sheet(style, photos, count, seed) * 255).round().byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()

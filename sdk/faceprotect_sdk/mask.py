"""The soft mask on the canonical crop: the only pixels that may change, and by how much of what a method asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.errors import RecipeError
from faceprotect_sdk.align import CROP


@dataclass(frozen=True)
class Region:
    """An ellipse in canonical pixels with a soft rim, and features inside it that are spared.

    The defaults hold brows, cheeks, mouth and chin of a face aligned by five points, and reach neither the crop's edge
    nor most of the hair. ``feather`` is the part of the radius over which the mask falls from 1 to 0. ``spared``: Gaussians
    (x, y, width, height, share) by whose share a change is made smaller at their middle.
    """

    centre: tuple[float, float] = (128.0, 146.0)
    radii: tuple[float, float] = (88.0, 106.0)
    feather: float = 0.25
    spared: Sequence[Sequence[float]] = ()

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> Region:
        """That which a recipe's document states under "region", or the default. Raises RecipeError for what is none."""
        try:
            return cls(**recipe.get("region", {}))
        except TypeError as error:
            raise RecipeError(f"recipe, region: give centre, radii, feather and spared: {error}") from error


def face_mask(region: Region | None = None) -> NDArray[np.float32]:
    """Mask [1, 1, 256, 256] float32 in 0..1: one inside, smoothstep to exactly zero at the ellipse, less where features are spared."""
    region = region or Region()
    y, x = np.mgrid[0:CROP, 0:CROP].astype(np.float64)
    radius = np.hypot((x - region.centre[0]) / region.radii[0], (y - region.centre[1]) / region.radii[1])
    ramp = np.clip((1.0 - radius) / region.feather, 0.0, 1.0)
    mask = ramp * ramp * (3.0 - 2.0 * ramp)
    for across, down, width, height, share in region.spared:
        mask = mask * (1.0 - share * np.exp(-0.5 * (((x - across) / width) ** 2 + ((y - down) / height) ** 2)))
    return np.asarray(mask, np.float32)[None, None]

"""The soft face mask on the canonical crop: the only pixels that may change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.align import CROP


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in canonical pixels, with a soft rim.

    The defaults hold brows, cheeks, mouth and chin of a face aligned by five points, and reach neither the crop's edge
    nor most of the hair. ``feather`` is the part of the radius over which the mask falls from 1 to 0.
    """

    centre: tuple[float, float] = (128.0, 146.0)
    radii: tuple[float, float] = (88.0, 106.0)
    feather: float = 0.25


def face_mask(ellipse: Ellipse | None = None) -> NDArray[np.float32]:
    """Mask [1, 1, 256, 256] float32 in 0..1: one inside, smoothstep to exactly zero at the ellipse."""
    ellipse = ellipse or Ellipse()
    y, x = np.mgrid[0:CROP, 0:CROP].astype(np.float64)
    radius = np.hypot((x - ellipse.centre[0]) / ellipse.radii[0], (y - ellipse.centre[1]) / ellipse.radii[1])
    ramp = np.clip((1.0 - radius) / ellipse.feather, 0.0, 1.0)
    smooth: NDArray[np.float32] = (ramp * ramp * (3.0 - 2.0 * ramp)).astype(np.float32)
    return smooth[None, None]

"""The soft mask on the canonical crop: the only pixels that may change, and by how much of what a method asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.recipes.plan import Region
from faceprotect_sdk.face.align import CROP


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

"""Is a patch of a photo black and white, or toned in one hue? Its pixels say so: many such photos are stored with three channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.photo.picture import Pixels

#: Grey levels of 255 that noise and JPEG leave of a colour that follows from the brightness.
_LEFT = 5.0
_SAMPLES, _FEWEST = 96, 64


def monochrome(patch: Pixels) -> bool:
    """Whether the colour of ``patch`` (RGB [H, W, 3], uint8 or uint16) follows from its brightness: grey, sepia, blueprint.

    R - G and B - G are fitted as cubic functions of the luma (a tone may differ between shadows and lights), and 98 of 100 pixels must
    come within 5 levels of 255 (240 portraits in colour leave 9.7 and more).
    """
    rows, cols = (max(side // _SAMPLES, 1) for side in patch.shape[:2])
    rgb = patch[::rows, ::cols].reshape(-1, 3).astype(np.float64) * (255.0 / np.iinfo(patch.dtype).max)
    if len(rgb) < _FEWEST:  # the fit would explain everything
        return bool((patch == patch[..., :1]).all())
    return all(float(np.percentile(left, 98)) <= _LEFT for left in _unexplained(rgb))


def _unexplained(rgb: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the fit leaves of R - G and of B - G, [n] each, without sign."""
    luma = rgb @ [0.299, 0.587, 0.114] / 127.5 - 1.0
    powers = np.stack([luma**power for power in range(4)], 1)
    chroma = rgb[:, [0, 2]] - rgb[:, [1]]
    fitted = powers @ np.linalg.lstsq(powers, chroma, rcond=None)[0]
    left = np.abs(chroma - fitted)
    return left[:, 0], left[:, 1]

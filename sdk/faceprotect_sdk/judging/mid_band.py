"""The mid band of a change: 5 to 11 cycles a face, by which people tell faces apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FINE, COARSE = 2.0, 8.0
_LUMA = (0.299, 0.587, 0.114)
_REACH = 4  # sigmas that a kernel reaches to either side
_PERCENTILE = 99


def mid_band(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The 99th percentile of abs(G2 - G8) of the luma change between two crops, in grey levels of 0..255; 0 for equal ones.

    ``first``, ``second``: aligned crops [1, 3, 256, 256] float32 RGB in 0..1. G2 and G8: Gaussians of 2 and 8 px, cut at 4 sigma, mirrored
    at the edges; luma by Rec. 601. Such a band holds what tells faces apart: Gold, Bennett and Sekuler, "Identification of
    band-pass filtered letters and faces by human and ideal observers", Vision Research 1999; Näsänen, "Spatial frequency bandwidth used
    in the recognition of facial images", Vision Research 1999. A feature that moves changes it, fine noise hardly does.
    """
    change = 255 * np.tensordot(_LUMA, (second[0] - first[0]).astype(np.float64), 1)
    return float(np.percentile(np.abs(blurred(change, FINE) - blurred(change, COARSE)), _PERCENTILE))


def blurred(image: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """A map [H, W] behind a Gaussian of ``sigma`` px that reaches 4 sigma to either side; its edges mirror it."""
    import cv2

    side = 2 * round(_REACH * sigma) + 1
    return np.asarray(cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT))

"""How much a face changed: PSNR and SSIM on the canonical crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Quality:
    """Figures between two crops.

    ``psnr`` in dB, ``ssim``; ``points_moved``: how far the farthest of the detector's five points went, as a part of
    the face's width, or None where the detector found no face any more.
    """

    psnr: float
    ssim: float
    points_moved: float | None = None


def psnr(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Peak signal-to-noise ratio in dB of arrays in 0..1; 100.0 for equal ones, so that it stays a JSON number."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return 100.0 if error < 1e-10 else float(-10.0 * np.log10(error))


def ssim(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mean structural similarity of two RGB crops [1, 3, H, W] in 0..1.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004, eq. 13,
    with the 11-tap Gaussian window of 1.5 px, per channel.
    """
    import cv2

    def blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT))

    c1, c2 = 0.01**2, 0.03**2
    x = np.ascontiguousarray(first[0].transpose(1, 2, 0), np.float64)
    y = np.ascontiguousarray(second[0].transpose(1, 2, 0), np.float64)
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float((top / bottom)[5:-5, 5:-5].mean())

"""SSIMULACRA2: how much of a change people see, on the crop and on the face at the photo's own resolution.

The metric is Cloudinary's, as libjxl states it (tools/ssimulacra2): six scales of structural similarity and of edges gained and lost in
XYB, weighted by what people said of compressed photos. Constants, weights, maps and the final score are those of the package
``ssimulacra2``; here are its blur, its pyramid and its colour, in float32 with OpenCV, which takes half the time (the package itself is
the oracle of the tests).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.face.align import Points
from faceprotect_sdk.face.paste import region_of

Pixels8 = NDArray[np.uint8]
#: The shorter side that a face of a photo is scored at: below it is enlarged, above it averaged down.
SMALLEST, LARGEST = 256, 384
#: A region longer than this many times its width is the strip that a photo's edge has left of a face.
_STRIP = 4
_SCALES = 6
_LEAST = 8
_RADIUS, _SIGMA = 5, 1.5


def ssimulacra2(first: Pixels8, second: Pixels8) -> float:
    """SSIMULACRA2 of ``second`` against the original ``first``: 100 for equal ones, falling without a limit, also below 0.

    Both sRGB, uint8 [H, W, 3]. All six scales, to which the scale of the score belongs, need 225 px a side. Raises ValueError for
    pictures of other or different shapes, or smaller than that.
    """
    from ssimulacra2 import ssimulacra2 as package

    if first.shape != second.shape or first.ndim != 3 or min(first.shape[:2]) <= (_LEAST - 1) * 2 ** (_SCALES - 1):
        raise ValueError(f"two uint8 [H, W, 3] of one size, 225 px a side or more, are needed; got {first.shape} and {second.shape}")
    linear = _linear()
    x, y = linear[first], linear[second]
    result = package.Msssim()
    for _ in range(_SCALES):
        one, other = _positive_xyb(x, package), _positive_xyb(y, package)
        mean, mean_other = _blur(one), _blur(other)
        scale = package.MsssimScale()
        scale.avg_ssim = package.ssim_map(mean, mean_other, _blur(one * one), _blur(other * other), _blur(one * other))
        scale.avg_edgediff = package.edge_diff_map(one, mean, other, mean_other)
        result.scales.append(scale)
        x, y = _half(x), _half(y)
    return float(result.score())


def crop_score(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """:func:`ssimulacra2` of two aligned crops [1, 3, 256, 256] float32 RGB 0..1, rounded to 8 bits."""
    return ssimulacra2(*(_eight_bits(crop) for crop in (first, second)))


def face_score(first: Pixels8, second: Pixels8, points: Points) -> float | None:
    """:func:`ssimulacra2` of the face in two photos of one size, uint8 RGB [H, W, 3]; ``points``: the face's five (x, y).

    The region is the upright bounding box of the canonical crop, clipped to the photo (``paste.region_of``), at the photo's own
    resolution where its shorter side has 256 to 384 px; a smaller one is enlarged bicubically to 256, as somebody does who zooms in, and a
    larger one averaged down to 384. None where the photo holds none of it, or but a strip.
    """
    region = region_of(points, *first.shape[:2])
    if region is None or max(region.size) > _STRIP * min(region.size):
        return None
    return ssimulacra2(*(_sized(photo[region.rows, region.cols]) for photo in (first, second)))


def _sized(patch: Pixels8) -> Pixels8:
    import cv2

    shorter = min(patch.shape[:2])
    target = int(np.clip(shorter, SMALLEST, LARGEST))
    if target == shorter:
        return patch
    size = tuple(round(side * target / shorter) for side in patch.shape[1::-1])
    return np.asarray(cv2.resize(patch, size, interpolation=cv2.INTER_CUBIC if target > shorter else cv2.INTER_AREA), np.uint8)


def _eight_bits(crop: NDArray[np.float32]) -> Pixels8:
    return np.ascontiguousarray(np.clip(np.rint(crop[0].transpose(1, 2, 0) * 255), 0, 255), np.uint8)


def _linear() -> NDArray[np.float32]:
    """Linear light of every 8-bit sRGB value (IEC 61966-2-1)."""
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _positive_xyb(linear: NDArray[np.float32], package: object) -> NDArray[np.float32]:
    """XYB [H, W, 3] of linear RGB, moved and scaled as the metric has it."""
    import cv2

    bias = np.asarray(package.kOpsinAbsorbanceBias)  # type: ignore[attr-defined]
    matrix = np.column_stack([package.kOpsinAbsorbanceMatrix.reshape(3, 3), bias])  # type: ignore[attr-defined]
    cones = np.cbrt(cv2.transform(linear, matrix.astype(np.float32))) - np.cbrt(bias).astype(np.float32)
    x, y, b = (cones[..., 0] - cones[..., 1]) / 2, (cones[..., 0] + cones[..., 1]) / 2, cones[..., 2]
    return np.stack([x * 14 + 0.42, y + 0.01, b - y + 0.55], 2)


def _blur(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The package's blur: zeros beyond the left and right edge, the mirrored picture beyond the other two."""
    import cv2

    kernel = cv2.getGaussianKernel(2 * _RADIUS + 1, _SIGMA, cv2.CV_32F)
    padded = cv2.copyMakeBorder(image, 0, 0, _RADIUS, _RADIUS, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.sepFilter2D(padded, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT)[:, _RADIUS:-_RADIUS])


def _half(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2 x 2 pixels; at an odd edge of those that there are."""
    import cv2

    height, width = linear.shape[:2]
    even = cv2.copyMakeBorder(linear, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))

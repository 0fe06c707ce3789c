"""Paste the difference, not the picture.

What the search changed in the canonical crop is carried back into the photo at the photo's own resolution and added.
What the autoencoder cannot reconstruct never enters, and pixels outside the mask keep their bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.face.align import CROP, Points, crop_transform, invert
from faceprotect_sdk.photo.picture import Pixels
from faceprotect_sdk.photo.tone import monochrome

_MARGIN = 2
_BAND = 512


@dataclass(frozen=True)
class Region:
    """Where a crop lies in a photo: rows and columns, and the 2 x 3 matrix from crop pixels to region pixels."""

    rows: slice
    cols: slice
    transform: NDArray[np.float64]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.cols.stop - self.cols.start, self.rows.stop - self.rows.start

    def bands(self) -> Iterator[Region]:
        """The same region in horizontal strips, so that a face of many megapixels needs little memory."""
        for start in range(self.rows.start, self.rows.stop, _BAND):
            transform = self.transform.copy()
            transform[1, 2] -= start - self.rows.start
            yield Region(slice(start, min(start + _BAND, self.rows.stop)), self.cols, transform)


def region_of(points: Points, height: int, width: int) -> Region | None:
    """Upright bounding box of the canonical crop in a photo, clipped to it; None if they do not meet."""
    back = invert(crop_transform(points))
    edge = CROP - 1.0
    corners = np.array([[0, 0], [edge, 0], [0, edge], [edge, edge]]) @ back[:, :2].T + back[:, 2]
    low = np.maximum(np.floor(corners.min(0)).astype(int) - _MARGIN, 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + _MARGIN + 1, [width, height])
    if (high <= low).any():
        return None
    transform = back.copy()
    transform[:, 2] -= low
    return Region(slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])), transform)


def warp_back(image: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
    """Carry a canonical map [256, 256] or [256, 256, C] float32 into a region of the photo; zero beyond the crop.

    A face smaller than the crop is averaged down first (no aliasing); a larger one is interpolated bicubically.
    """
    import cv2

    transform = region.transform
    scale = float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))
    side = CROP
    if scale < 1.0:
        side = max(round(CROP * scale), 1)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        ratio = CROP / side
        shrunk = np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2], [0, 0, 1.0]])
        transform = transform @ shrunk
    flags = cv2.INTER_LINEAR if scale < 1.0 else cv2.INTER_CUBIC
    warped = cv2.warpAffine(image, transform, region.size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(warped, np.float32)


def support(mask: NDArray[np.float32], points: Points, height: int, width: int) -> NDArray[np.bool_]:
    """Pixels [H, W] of a photo that :func:`paste` may change for a mask [1, 1, 256, 256]."""
    allowed = np.zeros((height, width), bool)
    region = region_of(points, height, width)
    for band in region.bands() if region is not None else ():
        allowed[band.rows, band.cols] = warp_back(mask[0, 0], band) > 0
    return allowed


def paste(pixels: Pixels, difference: NDArray[np.float32], mask: NDArray[np.float32], points: Points, *, grey: bool = False) -> Pixels:
    """Add a difference to a photo.

    ``pixels``: RGB [H, W, 3] uint8 or uint16, not modified. ``difference``: [3, 256, 256] or [1, 3, 256, 256] float32,
    RGB on the scale where the photo is 0..1, already weighted by the mask. ``mask``: [1, 1, 256, 256]; where it is zero
    the result equals ``pixels`` bit for bit. ``points``: the five points the crop was aligned by. ``grey``: all three
    channels change alike; so they do where the face itself is black and white, or toned in one hue. Returns a new array of the same dtype.
    """
    result: Pixels = pixels.copy()
    paste_into(result, difference, mask, points, grey=grey)
    return result


def paste_into(pixels: Pixels, difference: NDArray[np.float32], mask: NDArray[np.float32], points: Points, *, grey: bool = False) -> None:
    """The same in place: ``pixels`` themselves are changed, which may be a view."""
    region = region_of(points, *pixels.shape[:2])
    if region is None:
        return
    change = np.ascontiguousarray(difference.reshape(3, CROP, CROP).transpose(1, 2, 0), np.float32)
    if grey or monochrome(_middle(pixels[region.rows, region.cols])):
        change = np.repeat((change @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, 2)
    for band in region.bands():
        pixels[band.rows, band.cols] = _changed(pixels[band.rows, band.cols], change, mask, band)


def _middle(patch: Pixels) -> Pixels:
    """Its inner half in both directions: the face without what is around it."""
    height, width = patch.shape[:2]
    return patch[height // 4 : height - height // 4, width // 4 : width - width // 4]


def _changed(pixels: Pixels, change: NDArray[np.float32], mask: NDArray[np.float32], band: Region) -> Pixels:
    allowed = warp_back(mask[0, 0], band) > 0
    warped = np.where(allowed[..., None], warp_back(change, band), np.float32(0.0))
    top = float(np.iinfo(pixels.dtype).max)
    patch = pixels.astype(np.float32) + warped * top
    rounded = np.clip(np.rint(patch), 0.0, top)
    return rounded.astype(np.uint8) if pixels.dtype == np.uint8 else rounded.astype(np.uint16)

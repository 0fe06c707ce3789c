"""The aligned crop: one similarity transform from photo to canonical crop, and templates as windows of it.

Everything that looks at a face (the autoencoder, every recogniser, the mask) sees the same square *canonical crop*,
``CROP`` pixels wide, in which the five points sit at ``CANONICAL_POINTS``. A recogniser's own template (ArcFace 112,
dlib 150, ...) is an axis-aligned window of that crop, so cutting it out and resizing it is two constant matrix
products, ``rows @ crop @ cols``: differentiable, exact, and accepted by every engine.

Coordinates are pixels, x then y, with (0, 0) the *centre* of the top left pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Matrix = NDArray[np.float64]

CROP = 256
_BAND = 1 << 20  # pixels rendered at a time
ARCFACE_112: Points = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
# Eyes 64 px apart in 256, as in FFHQ-style crops, which leaves every template a margin inside the crop.
CANONICAL_POINTS: Points = (ARCFACE_112 - [55.9133, 51.59885]) * 1.816 + [128.0, 118.0]


@dataclass(frozen=True)
class Window:
    """An axis-aligned window of the canonical crop, resized to ``size`` x ``size``.

    ``left``, ``top`` and ``side`` are in canonical pixels, measured from the crop's outer edge.
    """

    size: int
    left: float
    top: float
    side: float

    @classmethod
    def from_points(cls, points: Sequence[Sequence[float]], size: int) -> Window:
        """Window whose content has the template's points where the template wants them.

        ``points``: five (x, y) in template pixels, in the order left eye, right eye, nose, left and right mouth
        corner. Least squares over one scale and a translation, no rotation (templates are upright).
        """
        template = np.asarray(points, np.float64)
        if template.shape != (5, 2):
            raise ValueError(f"a template has five (x, y) points, got an array of shape {template.shape}")
        template = template + 0.5
        canonical = CANONICAL_POINTS + 0.5
        t0, c0 = template - template.mean(0), canonical - canonical.mean(0)
        scale = float((t0 * c0).sum() / (t0 * t0).sum())  # canonical pixels per template pixel
        left, top = canonical.mean(0) - scale * template.mean(0)
        return cls(size, float(left), float(top), scale * size)

    def matrices(self, crop: int = CROP) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``rows`` [size, crop] and ``cols`` [crop, size] with ``window = rows @ crop @ cols``, float32."""
        scale = crop / CROP
        rows = resize_matrix(crop, self.size, self.top * scale, self.side * scale)
        cols = resize_matrix(crop, self.size, self.left * scale, self.side * scale)
        return rows, np.ascontiguousarray(cols.T)


def resize_matrix(source: int, target: int, start: float = 0.0, length: float | None = None) -> NDArray[np.float32]:
    """Bilinear, antialiased resampling of a segment of a line as a matrix [target, source], rows summing to 1.

    ``start`` and ``length`` of the segment are in source pixels from the outer edge (default: the whole line).
    Samples beyond the border take the border's value.
    """
    step = (source if length is None else length) / target
    centres = start + (np.arange(target) + 0.5) * step - 0.5
    support = max(step, 1.0)  # a triangle as wide as one target pixel when shrinking
    reach = int(np.ceil(support)) + 1
    matrix = np.zeros((target, source))
    for row, centre in enumerate(centres):
        taps = np.arange(int(np.floor(centre)) - reach, int(np.floor(centre)) + reach + 1)
        weights = np.clip(1.0 - np.abs(taps - centre) / support, 0.0, None)
        np.add.at(matrix[row], np.clip(taps, 0, source - 1), weights / weights.sum())
    return matrix.astype(np.float32)


def similarity_transform(source: Points, target: Points) -> Matrix:
    """Least-squares similarity (rotation, one scale, translation; no mirror) as a 2 x 3 matrix.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, eq. 40-42.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    s, t = source - source_mean, target - target_mean
    u, values, vt = np.linalg.svd(t.T @ s / len(s))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = (u * sign) @ vt
    variance = (s * s).sum() / len(s)
    if variance < 1e-12:
        raise ValueError("the five points coincide: pass the points of one face, in pixels")
    scale = float((values * sign).sum() / variance)
    return np.column_stack([scale * rotation, target_mean - scale * rotation @ source_mean])


def crop_transform(points: Points) -> Matrix:
    """2 x 3 matrix from photo pixels to canonical crop pixels for five (x, y) points of one face."""
    points = np.asarray(points, np.float64)
    if points.shape != (5, 2):
        raise ValueError(f"five (x, y) points are needed, got an array of shape {points.shape}")
    return similarity_transform(points, CANONICAL_POINTS)


def tilt(points: Points) -> float:
    """Degrees, -180..180, by which five (x, y) points are turned against the clock in the photo, 0 for an upright face."""
    transform = crop_transform(points)
    return float(np.degrees(np.arctan2(transform[1, 0], transform[0, 0])))


def quarter_turns(points: Points) -> int:
    """How often (0..3) ``np.rot90`` brings an upright face to how these five points lie; the tilt that is left is within 45 degrees."""
    return round(tilt(points) / 90) % 4


def misfit(points: Points) -> float:
    """Root mean square distance of five (x, y) points, aligned, from ``CANONICAL_POINTS``, in pixels of the crop."""
    transform = crop_transform(points)
    aligned = np.asarray(points, np.float64) @ transform[:, :2].T + transform[:, 2]
    return float(np.sqrt(((aligned - CANONICAL_POINTS) ** 2).sum(1).mean()))


def invert(transform: Matrix) -> Matrix:
    """Inverse of a 2 x 3 affine matrix."""
    return np.asarray(np.linalg.inv(np.vstack([transform, [0.0, 0.0, 1.0]]))[:2])


def aligned_crop(photo: NDArray[np.uint8] | NDArray[np.float32], points: Points, size: int = CROP) -> NDArray[np.float32]:
    """Canonical crop of one face.

    ``photo``: RGB, HWC, uint8 0..255 or float32 0..1. Returns float32 RGB NCHW [1, 3, size, size] in 0..1. Large faces
    are averaged down before they are sampled, so that fine texture does not alias.
    """
    import cv2

    transform = crop_transform(points)
    ratio = size / CROP
    transform = np.vstack([transform, [0, 0, 1]])
    transform[:2] *= ratio
    transform[:2, 2] += (ratio - 1) / 2
    # A large face is rendered at a multiple of the size, then averaged: an exact area filter.
    shrink = max(int(np.floor(1.0 / np.sqrt(max(abs(np.linalg.det(transform[:2, :2])), 1e-12)) + 1e-6)), 1)
    up = np.diag([shrink, shrink, 1.0])
    up[:2, 2] = (shrink - 1) / 2
    transform = up @ transform
    rows = max(_BAND // (size * shrink * shrink), 1)  # in bands, or a face that fills a 50 MP photo would take a gigabyte
    crop = np.empty((size, size, 3), np.float32)
    for top in range(0, size, rows):
        count = min(rows, size - top)
        own = transform[:2] - [[0, 0, 0], [0, 0, top * shrink]]
        shape = (size * shrink, count * shrink)
        band = cv2.warpAffine(photo, own, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        band = band.astype(np.float32) / (255.0 if photo.dtype == np.uint8 else 1.0)
        crop[top : top + count] = cv2.resize(band, (size, count), interpolation=cv2.INTER_AREA) if shrink > 1 else band
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None])

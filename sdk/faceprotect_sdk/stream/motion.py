"""How a face moved from one frame to the next: points on it are followed in a small grey picture, and a similarity is fitted to them.

Lucas and Kanade's optical flow in pyramids (Bouguet, 2000), there and back again, so that points which do not come home are left out
(Kalal, Mikolajczyk, Matas, "Forward-Backward Error: Automatic Detection of Tracking Failures", ICPR 2010). The five points alone would
tremble: blinking and speaking moves them. A grid between them steadies the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.face.align import CANONICAL_POINTS, Matrix, Points, crop_transform, invert
from faceprotect_sdk.stream.settings import Order

#: Longest side of the picture in which points are followed.
SIDE = 320
#: The points, and a grid over brows, cheeks and chin, in pixels of the canonical crop.
_GRID = np.stack(np.meshgrid(np.linspace(78, 178, 6), np.linspace(70, 196, 7)), -1).reshape(-1, 2)
FOLLOWED: Points = np.vstack([CANONICAL_POINTS, _GRID])
_WINDOW, _LEVELS = (15, 15), 3
#: Pixels of the small picture by which a point may miss where it came from, and the fewest points that say how a face moved.
_ASTRAY, _FEWEST = 0.6, 10
#: Of the points' distances from the fit, how many medians make one an outlier; in small pixels, what is none in any case.
_OUTLIER, _NEAR = 2.5, 0.15
#: By so much a face grows or turns (radians) in a frame at most; in small pixels, how well the fit has to hold for half of the points.
_GROWTH, _TURN, _LOOSE = 1.3, 0.5, 1.0
_THUMBNAIL = (16, 12)
#: Mean difference of two thumbnails in grey levels, their means taken out, from which on one scene has taken the place of another.
CUT = 28.0


@dataclass(frozen=True)
class Small:
    """A frame as motion sees it.

    ``grey``: uint8 [h, w], with local contrast in place of brightness, so that light may change. ``thumbnail``: float32
    [12, 16] grey levels without their mean. ``scale``: small pixels per pixel of the frame, x and y.
    """

    grey: NDArray[np.uint8]
    thumbnail: NDArray[np.float32]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, frame: NDArray[np.uint8], order: Order = "bgr") -> Small:
        """``frame``: uint8 [H, W, 3], whose channels come in this order."""
        import cv2

        to_grey = cv2.COLOR_BGR2GRAY if order == "bgr" else cv2.COLOR_RGB2GRAY
        height, width = frame.shape[:2]
        ratio = min(SIDE / max(height, width), 1.0)
        size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
        grey = cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), to_grey)
        thumbnail = cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        contrast = cv2.addWeighted(grey, 1.0, cv2.blur(grey, (31, 31)), -1.0, 128.0)
        return cls(np.asarray(contrast, np.uint8), thumbnail - thumbnail.mean(), np.array([size[0] / width, size[1] / height]))

    def is_cut(self, after: Small) -> bool:
        """Whether ``after`` shows another scene."""
        if after.grey.shape != self.grey.shape:
            return True
        return float(np.abs(after.thumbnail - self.thumbnail).mean()) > CUT


def motion_of(points: Points, before: Small, after: Small) -> Matrix | None:
    """The similarity [2, 3] that brings pixels of the frame before to pixels of the frame after, for a face at five (x, y) points.

    None where it cannot be told: too few points are found again, or they do not move together.
    """
    back = invert(crop_transform(points))
    start = FOLLOWED @ back[:, :2].T + back[:, 2]
    small = (start + 0.5) * before.scale - 0.5
    inside = ((small >= 0) & (small < np.array(before.grey.shape[::-1]))).all(1)
    found, kept = _flow(before.grey, after.grey, small[inside])
    if kept.sum() < _FEWEST:
        return None
    return _fitted(start[inside][kept], (found[kept] + 0.5) / after.scale - 0.5, float(after.scale.mean()))


def _flow(before: NDArray[np.uint8], after: NDArray[np.uint8], points: Points) -> tuple[Points, NDArray[np.bool_]]:
    """Where the points went, and which of them come back to where they were."""
    import cv2

    if not len(points):
        return points, np.zeros(0, bool)
    given: dict[str, Any] = {"nextPts": None, "winSize": _WINDOW, "maxLevel": _LEVELS}
    there, seen, _ = cv2.calcOpticalFlowPyrLK(before, after, points.astype(np.float32)[:, None], **given)
    home, again, _ = cv2.calcOpticalFlowPyrLK(after, before, there, **given)
    astray = np.linalg.norm(home[:, 0] - points, axis=1)
    return there[:, 0].astype(np.float64), (seen.ravel() > 0) & (again.ravel() > 0) & (astray < _ASTRAY)


def _fitted(source: Points, target: Points, scale: float) -> Matrix | None:
    """Least squares over the points that agree; None where half of them do not, or where no face moves like that in one frame."""
    kept = np.ones(len(source), bool)
    for _ in range(3):
        transform = _similarity(source[kept], target[kept])
        missed = np.linalg.norm(source @ transform[:, :2].T + transform[:, 2] - target, axis=1) * scale
        limit = max(_OUTLIER * float(np.median(missed)), _NEAR)
        if (missed <= limit).sum() < _FEWEST // 2:
            return None
        kept = missed <= limit
    growth = float(np.hypot(*transform[:, 0]))
    turn = abs(float(np.arctan2(transform[1, 0], transform[0, 0])))
    plausible = 1 / _GROWTH < growth < _GROWTH and turn < _TURN and float(np.median(missed)) < _LOOSE
    return transform if plausible else None


def _similarity(source: Points, target: Points) -> Matrix:
    """``align.similarity_transform`` in complex numbers, in which a product is a turn and a scale: no frame has the time for more."""
    s, t = source @ _COMPLEX, target @ _COMPLEX
    s_mean, t_mean = s.mean(), t.mean()
    s, t = s - s_mean, t - t_mean
    factor = np.vdot(s, t) / max(np.vdot(s, s).real, 1e-12)
    offset = t_mean - factor * s_mean
    return np.array([[factor.real, -factor.imag, offset.real], [factor.imag, factor.real, offset.imag]])


_COMPLEX = np.array([1, 1j])

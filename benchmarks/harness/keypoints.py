"""Where a face's five points are, more steadily than one look of the detector says.

A detector's points jitter: JPEG encoding alone moves the farthest of five by 0.7 % of the face's width. Averaged over views that
differ by a few pixels, half of that goes away, and what a protection really moved stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.engine import Engine
from faceprotect_sdk.face.detect import Face, face_in_place

VIEWS = 9


def steady_points(pixels: NDArray[np.uint8], face: Face, detector: Engine) -> NDArray[np.float64] | None:
    """Mean points [5, 2] over ``VIEWS`` views around the face's box, always the same ones; None where no view shows a face."""
    x0, y0, x1, y1 = face.box
    width, found = x1 - x0, []
    for x, y, grow in np.random.default_rng(0).uniform(-0.07, 0.07, (VIEWS, 3)) * width:
        view = Face((x0 + x - grow, y0 + y - grow, x1 + x + grow, y1 + y + grow), face.points, face.score)
        seen = face_in_place(pixels, view, detector)
        if seen is not None:
            found.append(seen.points)
    return np.mean(found, axis=0) if found else None


def points_moved(before: NDArray[np.uint8], after: NDArray[np.uint8], face: Face, detector: Engine) -> float | None:
    """How far the farthest of five points went, as a part of the face's width; None where either photo shows no face there."""
    first, second = (steady_points(pixels, face, detector) for pixels in (before, after))
    if first is None or second is None:
        return None
    return float(np.linalg.norm(second - first, axis=1).max() / max(face.box[2] - face.box[0], 1.0))

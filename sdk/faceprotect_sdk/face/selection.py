"""Which faces of a photo are meant: all, the largest, or those that the app passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.detect import Face, shifted

#: "all", "largest", or a list of faces: Face, five (x, y) points, or a box (x0, y0, x1, y1), in upright photo pixels.
Selection = Literal["all", "largest"] | Sequence[Any]
Detect = Callable[..., tuple[Face, ...]]
_MARGIN = 0.5
#: Centres nearer than this part of the points' spread, and spreads nearer than this ratio, are one face.
_APART, _LARGER = 0.7, 2.0


def select(pixels: NDArray[np.uint8], selection: Selection, detect: Detect) -> tuple[tuple[Face, ...], int]:
    """The faces meant and how many there are in all.

    ``pixels``: uint8 RGB [H, W, 3]. A box is searched for the one face whose centre is nearest its own. Where one box
    holds no face none is returned, and the number says how many do: the app's faces are confirmed all or not at all.
    One face that is given twice, or lies in two of the boxes, counts once. Raises UsageError for anything else.
    """
    if isinstance(selection, str):
        if selection not in ("all", "largest"):
            raise UsageError(f"faces must be 'all', 'largest' or a list of faces, got {selection!r}")
        found = detect(pixels)
        return (found if selection == "all" else found[:1]), len(found)
    try:
        items = list(selection)
    except TypeError as error:
        raise UsageError(f"faces must be 'all', 'largest' or a list of faces, got {selection!r}") from error
    found_or_not = [_own_face(pixels, item, detect) for item in items]
    faces = _distinct([face for face in found_or_not if face is not None])
    if any(face is None for face in found_or_not):
        return (), len(faces)  # an app's face that is not there: nothing is confirmed
    return tuple(faces), len(faces)


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """Every face once: two changes of one face would add up."""
    kept: list[Face] = []
    for face in faces:
        if not any(_same(face, other) for other in kept):
            kept.append(face)
    return kept


def _same(first: Face, second: Face) -> bool:
    """Whether both are one face, by their points: boxes are drawn in many ways."""
    one, two = _spread(first), _spread(second)
    apart = float(np.linalg.norm(first.points.mean(0) - second.points.mean(0)))
    return apart < _APART * max(one, two) and max(one, two) < _LARGER * min(one, two)


def _spread(face: Face) -> float:
    """Root mean square distance of the points from their centre: about a third of the face's width."""
    return float(np.sqrt(((face.points - face.points.mean(0)) ** 2).sum(1).mean()))


def _own_face(pixels: NDArray[np.uint8], item: Any, detect: Detect) -> Face | None:
    if isinstance(item, Face):
        return item
    try:
        array = np.asarray(item, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a face is a Face, five (x, y) points or a box (x0, y0, x1, y1), got {item!r}") from error
    if not np.isfinite(array).all():
        raise UsageError("a face's coordinates must be finite numbers, in pixels of the upright photo")
    if array.shape == (5, 2):
        try:
            return Face(box_of_points(array), array, 1.0)
        except ValueError as error:
            raise UsageError(str(error)) from error
    if array.shape == (4,):
        return _face_in_box(pixels, array, detect)
    raise UsageError(f"a face is a Face, five (x, y) points or a box (x0, y0, x1, y1), got shape {list(array.shape)}")


def box_of_points(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """The box (x0, y0, x1, y1) that a detector would draw around five points [5, 2]."""
    from faceprotect_sdk.face.align import crop_transform, invert

    back = invert(crop_transform(points))
    rim = np.array([[62.0, 62.0], [194.0, 62.0], [62.0, 240.0], [194.0, 240.0]]) @ back[:, :2].T + back[:, 2]
    (x0, y0), (x1, y1) = rim.min(0), rim.max(0)
    return float(x0), float(y0), float(x1), float(y1)


def _face_in_box(pixels: NDArray[np.uint8], box: NDArray[np.float64], detect: Detect) -> Face | None:
    """Detect inside the box with half its size around it, where the detector sees a face at its best scale."""
    x0, y0, x1, y1 = box
    if x1 <= x0 or y1 <= y0:
        raise UsageError(f"a box is (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {box.tolist()}")
    grow_x, grow_y = _MARGIN * (x1 - x0), _MARGIN * (y1 - y0)
    left, top = max(int(x0 - grow_x), 0), max(int(y0 - grow_y), 0)
    right, bottom = min(int(x1 + grow_x) + 1, pixels.shape[1]), min(int(y1 + grow_y) + 1, pixels.shape[0])
    if right <= left or bottom <= top:
        raise UsageError(f"the box {box.tolist()} lies outside the photo of {pixels.shape[1]} x {pixels.shape[0]}")
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    found = [shifted(face, left, top) for face in detect(np.ascontiguousarray(pixels[top:bottom, left:right]))]
    inside = [face for face in found if _contains(box, face.points.mean(0))]
    return min(inside, key=lambda face: float(np.linalg.norm(face.points.mean(0) - centre)), default=None)


def _contains(box: NDArray[np.float64], point: NDArray[np.float64]) -> bool:
    return bool((point >= box[:2]).all() and (point <= box[2:]).all())

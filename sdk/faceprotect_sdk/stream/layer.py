"""A change that lies on a face, and its drawing: a warp and an addition in the face's rectangle, nothing else of the frame is touched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.recipes.plan import Region as Oval
from faceprotect_sdk.face.align import CROP, Matrix, Points, crop_transform, invert
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.face.paste import Region

Frame = NDArray[np.uint8]
#: What a blur leaves of a canonical crop: so many cells across, of which a face takes five.
CELLS = 9
#: What is blurred of the canonical crop: the whole head, more than a method changes.
_HEAD = Oval(centre=(128.0, 130.0), radii=(112.0, 124.0), feather=0.15)
#: What is blurred of a frame in which nobody has looked for faces yet: so many cells across.
_FRAME_CELLS = 12


@dataclass(frozen=True)
class Layer:
    """``change``: float32 [256, 256, 3] in grey levels of 255 and the frame's order of channels, zero outside of the mask.

    ``place``: matrix [3, 3] from canonical pixels to those of the frame at which the face was first seen (``followed.py``).
    """

    change: NDArray[np.float32]
    place: Matrix


def square(transform: Matrix) -> Matrix:
    """A 2 x 3 matrix with the row that it leaves out."""
    return np.vstack([transform, [0.0, 0.0, 1.0]])


def crop_to_frame(points: Points) -> Matrix:
    """Matrix [3, 3] from canonical pixels to those of a frame with five (x, y) points in it."""
    return square(invert(crop_transform(points)))


def region_at(place: Matrix, height: int, width: int) -> Region | None:
    """Where the canonical crop lies in a frame by a matrix [3, 3]; None where it does not meet the frame."""
    edge = CROP - 1.0
    corners = np.array([[0, 0], [edge, 0], [0, edge], [edge, edge]]) @ place[:2, :2].T + place[:2, 2]
    low = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, [width, height])
    if (high - low < 2).any():
        return None
    transform = place[:2].copy()
    transform[:, 2] -= low
    return Region(slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])), transform)


def warped(image: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
    """A canonical map [256, 256] or [256, 256, 3] float32 in a region of the frame, zero beyond the crop.

    As ``paste.warp_back``, but linear at every size: a frame has no time for more, and what a video keeps does not show it.
    """
    import cv2

    transform, scale = region.transform, float(np.sqrt(abs(np.linalg.det(region.transform[:, :2]))))
    if scale < 0.75:
        side = max(round(CROP * scale), 1)
        image = np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.float32)
        ratio = CROP / side
        transform = transform @ np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2], [0, 0, 1.0]])
    found = cv2.warpAffine(image, transform, region.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(found, np.float32)


def add(frame: Frame, change: NDArray[np.float32], place: Matrix) -> None:
    """Add a change (as :class:`Layer` has it) to a frame, in place."""
    import cv2

    region = region_at(place, *frame.shape[:2])
    if region is not None:
        patch = np.ascontiguousarray(frame[region.rows, region.cols])
        frame[region.rows, region.cols] = cv2.add(patch, warped(change, region), dtype=cv2.CV_8U)


def mix(frame: Frame, layers: list[tuple[float, Layer]], moved: Matrix) -> None:
    """Add several changes, each by its share. ``moved``: matrix [3, 3] of how the face went since it was first seen."""
    for share, layer in layers:
        if share > 0:
            change = layer.change if share >= 1 else layer.change * np.float32(share)
            add(frame, change, moved @ layer.place)


def cover(frame: Frame, original: Frame, place: Matrix, share: float = 1.0) -> None:
    """Blur a head in place, so that five cells are left across the face. ``share``: 1 all of it, less: mixed with what is there.

    ``original``: the frame as it came, of which the cells are made.
    """
    region = region_at(place, *frame.shape[:2])
    if region is None or share <= 0:
        return
    cells = _cells(original[region.rows, region.cols], float(np.sqrt(abs(np.linalg.det(place[:2, :2])))))
    weight = (warped(_HEAD_MASK, region) * np.float32(min(share, 1.0)))[..., None]
    patch = frame[region.rows, region.cols].astype(np.float32)
    frame[region.rows, region.cols] = np.rint(patch + weight * (cells - patch)).astype(np.uint8)


def _cells(patch: Frame, scale: float) -> NDArray[np.float32]:
    """The patch with the detail of ``CELLS`` cells across the canonical crop; ``scale``: its pixels per canonical pixel."""
    import cv2

    rows, cols = patch.shape[:2]
    cell = max(scale * CROP / CELLS, 1.0)
    small = cv2.resize(patch, (max(round(cols / cell), 1), max(round(rows / cell), 1)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (cols, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def cover_all(frame: Frame) -> None:
    """Blur the whole frame in place."""
    import cv2

    height, width = frame.shape[:2]
    across = _FRAME_CELLS if width >= height else max(round(_FRAME_CELLS * width / height), 1)
    down = max(round(across * height / width), 1)
    small = cv2.resize(frame, (across, down), interpolation=cv2.INTER_AREA)
    frame[...] = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


_HEAD_MASK = np.ascontiguousarray(face_mask(_HEAD)[0, 0])

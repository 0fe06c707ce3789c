"""Face detection: boxes and five points, from CenterFace's network run as an engine.

Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019: a heat map of face centres at a
quarter of the resolution, with size, offset and landmarks read at each peak (section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.face.align import misfit, quarter_turns, tilt
from faceprotect_sdk.face.pieces import is_whole, pieces

if TYPE_CHECKING:
    from faceprotect_engines.engine import Engine

STRIDE = 4
MULTIPLE = 32
#: Longest sides that a photo is brought to, with the score asked for: the finest one sees most that is no face.
PYRAMID = ((320, 0.5), (640, 0.5), (1600, 0.6))
BEST_WIDTH = 130.0
SAME_FACE = 0.3
#: Points of an upright face: tilted by so many degrees at most, and so near to the canonical ones (``align.misfit``). The network puts
#: points on faces that lie on their side or on their head, too: those are outside of this, or (a mouth taken for eyes) of a lower score.
UPRIGHT_TILT, UPRIGHT_MISFIT = 40.0, 9.0
#: From this score on nothing else is looked for in the place of an upright face; 0.76 was the highest of a face on its head.
SURE = 0.8
#: By so much a turned view has to be surer than the photo as it lies: most photos lie right.
TURNING = 0.1
#: A face of fewer of the network's pixels is seen more exactly in a piece of the photo than in all of it.
EXACT_WIDTH = 40.0
#: A box by so much inside a face that is so many times as large is a part of that face.
INSIDE, LARGER = 0.6, 4.0


@dataclass(frozen=True)
class Face:
    """One face in a photo.

    ``box``: x0, y0, x1, y1 in pixels. ``points``: [5, 2] (x, y): left eye, right eye, nose, left and right mouth
    corner as seen in the image. ``score``: detector confidence 0..1 (1.0 when the app passed the face itself).
    """

    box: tuple[float, float, float, float]
    points: NDArray[np.float64]
    score: float

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return max(self.box[2] - self.box[0], 0.0) * max(self.box[3] - self.box[1], 0.0)


def detect(photo: NDArray[np.uint8], engine: Engine, *, threshold: float = 0.5, longest_side: int = 640) -> tuple[Face, ...]:
    """Faces of a photo, largest first.

    ``photo``: uint8 RGB [H, W, 3]. ``engine``: the ``face-detector`` engine. The photo is shrunk to ``longest_side``
    for the network (never enlarged beyond twice its size); coordinates come back in photo pixels.
    """
    import cv2

    height, width = photo.shape[:2]
    scale = min(longest_side / max(height, width), 2.0)
    net_height, net_width = (max(MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in (height, width))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(photo, (net_width, net_height), interpolation=interpolation)
    image = np.ascontiguousarray(small.transpose(2, 0, 1)[None], dtype=np.float32)
    outputs = engine.run({"image": image})
    boxes, points, scores = decode(outputs, threshold)
    ratio = np.array([width / net_width, height / net_height])
    faces = []
    for index in suppress(boxes, scores):
        x0, y0, x1, y1 = boxes[index] * np.tile(ratio, 2)
        box = (max(float(x0), 0.0), max(float(y0), 0.0), min(float(x1), width), min(float(y1), height))
        faces.append(Face(box, points[index] * ratio, float(scores[index])))
    return tuple(sorted(faces, key=lambda face: -face.area))


def find_faces(photo: NDArray[np.uint8], engine: Engine, reduction: int = 1) -> tuple[Face, ...]:
    """Faces of a photo at every size and in four turns, largest first.

    ``photo``: uint8 RGB [H, W, 3]; ``reduction``: by so much it has been made smaller. A panorama, and one of more than 8192 px, is also
    looked at in pieces (``pieces.pieces``). Where the photo as it is shows no face, or one that is not surely upright, it is looked at
    turned by 90, 180 and 270 degrees as well, and of detections of one face the surest of an upright one is kept. Boxes and points are
    those of the photo as it is.
    """
    found = _faces_all_over(photo, engine, reduction)
    if found and all(is_upright(face) and face.score >= SURE for face in found):
        return found
    candidates = [(_doubt(face), face) for face in found]
    for turns in (1, 2, 3):
        view = np.ascontiguousarray(np.rot90(photo, turns))
        seen = [face for face in _faces_all_over(view, engine, reduction) if is_upright(face)]
        candidates += [(_doubt(face) + TURNING, turned(face, -turns, view.shape[1], view.shape[0])) for face in seen]
    kept = _best(candidates)
    return tuple(sorted(kept, key=lambda face: -face.area))


def is_upright(face: Face) -> bool:
    """Whether the points may be those of an upright face; a profile's may be found wanting, and are looked at again."""
    return abs(tilt(face.points)) <= UPRIGHT_TILT and misfit(face.points) <= UPRIGHT_MISFIT


def _doubt(face: Face) -> float:
    """The less, the surer that this is an upright face, seen upright."""
    return (0.0 if is_upright(face) else 1.0) - face.score


def _best(candidates: list[tuple[float, Face]]) -> list[Face]:
    """Of detections of one face, the one with the smallest number beside it."""
    kept: list[Face] = []
    for _, face in sorted(candidates, key=lambda pair: pair[0]):
        if all(overlap(face, other) < SAME_FACE for other in kept):
            kept.append(face)
    return kept


def _faces_all_over(photo: NDArray[np.uint8], engine: Engine, reduction: int) -> tuple[Face, ...]:
    """Faces of the whole photo, and of its pieces, if it has any: each once, where it is seen best."""
    height, width = photo.shape[:2]
    found = _faces_as_it_lies(photo, engine)
    parts = pieces(width, height, reduction)
    if not parts:
        return found
    scale = min(PYRAMID[-1][0] / max(width, height), 1.0)
    candidates = [(-2.0 if (face.box[2] - face.box[0]) * scale >= EXACT_WIDTH else 1.0, face) for face in found]
    for part in parts:
        left, top, right, bottom = part
        near = _faces_as_it_lies(np.ascontiguousarray(photo[top:bottom, left:right]), engine)
        for face in (shifted(one, left, top) for one in near):
            if is_whole(face.box, part, width, height) and not any(_is_part(face, other) for other in found):
                candidates.append((-face.score, face))
    return tuple(sorted(_best(candidates), key=lambda face: -face.area))


def _is_part(face: Face, other: Face) -> bool:
    """Whether the box is a detail of a far larger face."""
    if other.area < LARGER * face.area:
        return False
    low, high = np.maximum(face.box[:2], other.box[:2]), np.minimum(face.box[2:], other.box[2:])
    return float(np.prod(np.clip(high - low, 0, None))) >= INSIDE * face.area


def _faces_as_it_lies(photo: NDArray[np.uint8], engine: Engine) -> tuple[Face, ...]:
    """Faces of a photo at every size, largest first, in no turn but its own.

    The network is most exact on faces of 40 to 300 of its own pixels (measured against dlib's landmarks), so the photo is
    looked at in several sizes; of detections of one face the one nearest to the best width is kept. Faces from about 1.5 %
    of the longest side on are found.
    """
    longest = max(photo.shape[:2])
    candidates: list[tuple[float, Face]] = []
    for side, threshold in PYRAMID:
        if side > PYRAMID[1][0] and longest < 1.5 * PYRAMID[1][0]:
            break  # enlarging a small photo shows nothing new
        reach = min(side, longest) if side > PYRAMID[1][0] else side
        scale = min(reach / longest, 2.0)
        for face in detect(photo, engine, threshold=threshold, longest_side=reach):
            distance = abs(float(np.log(max((face.box[2] - face.box[0]) * scale, 1.0) / BEST_WIDTH)))
            candidates.append((distance, face))
    return tuple(sorted(_best(candidates), key=lambda face: -face.area))


def face_in_place(photo: NDArray[np.uint8], face: Face, engine: Engine) -> Face | None:
    """The face looked at from near, upright and at the best size; None where the detector sees none in its place.

    Used to compare a face before and after: both are seen under the same conditions.
    """
    x0, y0, x1, y1 = face.box
    side = max(x1 - x0, y1 - y0)
    left, top = max(int(x0 - side / 2), 0), max(int(y0 - side / 2), 0)
    right, bottom = min(int(x1 + side / 2) + 1, photo.shape[1]), min(int(y1 + side / 2) + 1, photo.shape[0])
    if right - left < 2 or bottom - top < 2:
        return None
    turns = quarter_turns(face.points)
    view = np.ascontiguousarray(np.rot90(photo[top:bottom, left:right], -turns))
    across = x1 - x0 if turns % 2 == 0 else y1 - y0
    reach = round(BEST_WIDTH / max(across, 1.0) * max(view.shape[:2]))
    seen = detect(view, engine, longest_side=max(reach, 2 * MULTIPLE))
    found = [shifted(turned(one, turns, view.shape[1], view.shape[0]), left, top) for one in seen]
    nearest = max(found, key=lambda one: overlap(face, one), default=None)
    return nearest if nearest is not None and overlap(face, nearest) >= SAME_FACE else None


def shifted(face: Face, x: float, y: float) -> Face:
    """The same face in a photo whose origin lies (x, y) further up and left."""
    x0, y0, x1, y1 = face.box
    return Face((x0 + x, y0 + y, x1 + x, y1 + y), face.points + np.array([x, y]), face.score)


def turned(face: Face, turns: int, width: int, height: int) -> Face:
    """The same face in ``np.rot90(photo, turns)``, for a photo of ``width`` x ``height`` pixels before that."""
    (x0, y0, x1, y1), points = face.box, np.asarray(face.points, np.float64)
    for _ in range(turns % 4):
        x0, y0, x1, y1 = y0, width - x1, y1, width - x0
        points = np.column_stack([points[:, 1], width - 1 - points[:, 0]])
        width, height = height, width
    return Face((x0, y0, x1, y1), points, face.score)


def scaled(face: Face, x: float, y: float) -> Face:
    """The same face in a photo resized by the factors ``x`` and ``y``."""
    x0, y0, x1, y1 = face.box
    return Face((x0 * x, y0 * y, x1 * x, y1 * y), face.points * [x, y], face.score)


def overlap(first: Face, second: Face) -> float:
    """Intersection over union of two boxes."""
    low = np.maximum(first.box[:2], second.box[:2])
    high = np.minimum(first.box[2:], second.box[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / max(first.area + second.area - shared, 1e-9)


def decode(
    outputs: dict[str, NDArray[np.float32]], threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Network outputs to boxes [n, 4], points [n, 5, 2] and scores [n], in network pixels."""
    heatmap = outputs["heatmap"][0, 0]
    ys, xs = np.nonzero(heatmap > threshold)
    size = np.exp(outputs["scale"][0][:, ys, xs].T.astype(np.float64)) * STRIDE  # height, width
    offset = outputs["offset"][0][:, ys, xs].T.astype(np.float64)  # y, x
    landmarks = outputs["landmarks"][0][:, ys, xs].T.astype(np.float64).reshape(-1, 5, 2)  # y, x per point
    centre = (np.stack([ys, xs], 1) + offset + 0.5) * STRIDE
    corner = centre - size / 2
    boxes = np.concatenate([corner[:, ::-1], (corner + size)[:, ::-1]], 1)
    points = (landmarks * size[:, None] + corner[:, None])[:, :, ::-1]
    return boxes, points, heatmap[ys, xs].astype(np.float64)


def suppress(boxes: NDArray[np.float64], scores: NDArray[np.float64], overlap: float = 0.3) -> list[int]:
    """Greedy non-maximum suppression; indices of the boxes kept, best first."""
    order = list(np.argsort(-scores, kind="stable"))
    areas = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), 1)
    kept: list[int] = []
    while order:
        best = int(order.pop(0))
        kept.append(best)
        rest = np.array(order, int)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.clip(high - low, 0, None), 1)
        order = list(rest[shared / np.maximum(areas[best] + areas[rest] - shared, 1e-9) < overlap])
    return kept


def shift(first: Face, second: Face) -> float:
    """Largest distance between corresponding points, as a part of the first face's width."""
    width = max(first.box[2] - first.box[0], 1.0)
    return float(np.linalg.norm(second.points - first.points, axis=1).max() / width)

"""Overlapping pieces of a photo too long, or too large, for the detector to see its small faces as a whole.

The detector looks at 1600 pixels along the longest side (``faces.PYRAMID``): in a panorama of 14000 x 400 a head of 150 px is 17 of them.
Such a photo is looked at as a whole, for its large faces, and in pieces, for its small ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

Piece = tuple[int, int, int, int]  # left, top, right, bottom
#: Sides of a piece, in pixels: the detector shows no more of a smaller one, and no ordinary photo is longer than the larger.
_LEAST, _MOST = 1600, 8192
#: A piece is so many times as long as the photo is high; a photo that is not much longer than that is no panorama.
_ASPECT, _WORTH = 2, 1.5
#: What two neighbours share, as a part of the photo's longest side: faces larger than three quarters of that are seen as a whole.
_SHARED = 0.042
#: As a part of a box: nearer to an inner edge the face may be cut, and the neighbour has all of it.
_RIM = 0.1


def pieces(width: int, height: int, reduction: int = 1) -> tuple[Piece, ...]:
    """Pieces of a photo of that size, none for an ordinary one: below three to one, or 2400 px, and up to 8192 px.

    ``reduction``: by so much the photo has been made smaller.
    """
    longest, shortest = max(width, height), min(width, height)
    most = _MOST // reduction
    length = max(_ASPECT * shortest, _LEAST)
    if longest <= min(_WORTH * length, most):
        return ()
    length = min(length, most)
    shared = min(math.ceil(_SHARED * longest), shortest, length // 2)
    return tuple(
        (left, top, right, bottom) for top, bottom in _spans(height, length, shared) for left, right in _spans(width, length, shared)
    )


def _spans(whole: int, length: int, shared: int) -> Iterator[tuple[int, int]]:
    """Spans of ``length`` over ``whole``, evenly, neighbours sharing at least ``shared``."""
    if whole <= length:
        yield 0, whole
        return
    count = math.ceil((whole - shared) / (length - shared))
    for number in range(count):
        start = round(number * (whole - length) / (count - 1))
        yield start, start + length


def is_whole(box: tuple[float, float, float, float], piece: Piece, width: int, height: int) -> bool:
    """Whether a box in pixels of the photo keeps away from those edges of its piece that are none of the photo's."""
    across, down = _RIM * (box[2] - box[0]), _RIM * (box[3] - box[1])
    left, top, right, bottom = piece
    return (
        (left == 0 or box[0] - across > left)
        and (top == 0 or box[1] - down > top)
        and (right == width or box[2] + across < right)
        and (bottom == height or box[3] + down < bottom)
    )

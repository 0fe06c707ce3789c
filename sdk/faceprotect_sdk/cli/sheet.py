"""A picture to judge a protection by: every face before, after, and the difference, with what the recognisers say of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.face.align import quarter_turns
from faceprotect_sdk.face.paste import region_of
from faceprotect_sdk.result import FaceResult, Verdict

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

#: Side of a panel, in pixels.
SIDE = 384
#: What the difference is multiplied with, around mid grey.
GAIN = 10
_GAP, _LINE, _FONT = 12, 20, 14
_WIDTH = 3 * SIDE + 4 * _GAP
_COLUMNS = (0, 240, 560, 700)
_INK, _WARNING = (30, 30, 30), (190, 20, 20)


def sheet(original: NDArray[np.uint8], protected: NDArray[np.uint8], faces: Sequence[FaceResult]) -> Image.Image:
    """Original, protected photo and their difference, a row per face, with the figures beneath, as an RGB picture.

    ``original``, ``protected``: uint8 RGB [H, W, 3], upright, of one size, the second as decoded from the written bytes. ``faces``: of the
    ``ProtectResult``. A face is cut out at the photo's own resolution (``paste.region_of``) and scaled to 384 px; the difference
    is multiplied by 10 around mid grey. A face that is still matched is marked as such: the picture is no protected photo.
    Raises ValueError for photos of different size, or without a face.
    """
    if original.shape != protected.shape or not faces:
        raise ValueError(f"a sheet needs two photos of one size and a face; got {original.shape}, {protected.shape}, {len(faces)} faces")
    return sheet_of([(original, protected, face) for face in faces])


def sheet_of(views: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8], FaceResult]]) -> Image.Image:
    """The same of a window of both photos per face, whose points are in pixels of the window."""
    from PIL import Image, ImageDraw

    heights = [_GAP + _LINE + SIDE + _GAP + _LINE * (2 + len(face.verdicts)) for *_, face in views]
    picture = Image.new("RGB", (_WIDTH, sum(heights) + _GAP), "white")
    pen = ImageDraw.Draw(picture)
    top = 0
    for (original, protected, face), height in zip(views, heights, strict=True):
        _draw_panels(picture, pen, top + _GAP, original, protected, face)
        _draw_figures(pen, top + 2 * _GAP + _LINE + SIDE, face)
        top += height
    return picture


def sheet_bytes(picture: Image.Image, suffix: str) -> bytes:
    """The picture as JPEG (q95, 4:4:4) where ``suffix`` is one of JPEG's, else as PNG; without metadata."""
    import io

    from faceprotect_sdk.photo.reading import SUFFIXES

    stream = io.BytesIO()
    if suffix.lower() in SUFFIXES["JPEG"]:
        picture.save(stream, "JPEG", quality=95, subsampling=0)
    else:
        picture.save(stream, "PNG")
    return stream.getvalue()


def panel(photo: NDArray[np.uint8], points: NDArray[np.float64], side: int = SIDE) -> NDArray[np.uint8]:
    """The face of a photo, uint8 RGB [H, W, 3], upright in a white square [side, side, 3]; averaged down, or enlarged bicubically."""
    region = region_of(points, *photo.shape[:2])
    if region is None:
        return np.full((side, side, 3), 255, np.uint8)
    return _fitted(np.rot90(photo[region.rows, region.cols], -quarter_turns(points)), side)


def difference(original: NDArray[np.uint8], protected: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 of the same shape: mid grey plus ten times what changed."""
    change = protected.astype(np.int16) - original
    return np.asarray(np.clip(128 + GAIN * change, 0, 255), np.uint8)


def _fitted(patch: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    import cv2

    patch = np.ascontiguousarray(patch)
    ratio = side / max(patch.shape[:2])
    width, height = (max(round(length * ratio), 1) for length in patch.shape[1::-1])
    scaled = cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
    whole = np.full((side, side, 3), 255, np.uint8)
    y, x = (side - height) // 2, (side - width) // 2
    whole[y : y + height, x : x + width] = scaled
    return whole


def _draw_panels(
    picture: Image.Image,
    pen: ImageDraw.ImageDraw,
    top: int,
    original: NDArray[np.uint8],
    protected: NDArray[np.uint8],
    face: FaceResult,
) -> None:
    from PIL import Image

    points = np.array(face.points, np.float64)
    still = "changed, but NOT PROTECTED: still matched" if face.changed else f"left as it was ({face.status}): NOT PROTECTED"
    after = "protected" if face.status == "protected" else still
    first, second = (panel(photo, points) for photo in (original, protected))
    last = _difference_panel(original, protected, points)
    for place, (title, pixels) in enumerate((("original", first), (after, second), (f"difference, times {GAIN}", last))):
        left = _GAP + place * (SIDE + _GAP)
        _write(pen, left, top, title, _WARNING if place == 1 and face.status != "protected" else _INK)
        picture.paste(Image.fromarray(pixels), (left, top + _LINE))


def _difference_panel(original: NDArray[np.uint8], protected: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Amplified at the photo's own resolution, and scaled then: rounding must not come before the gain."""
    region = region_of(points, *original.shape[:2])
    if region is None:
        return np.full((SIDE, SIDE, 3), 128, np.uint8)
    change = difference(original[region.rows, region.cols], protected[region.rows, region.cols])
    return _fitted(np.rot90(change, -quarter_turns(points)), SIDE)


def _draw_figures(pen: ImageDraw.ImageDraw, top: int, face: FaceResult) -> None:
    _write(pen, _GAP, top, f"face {face.index + 1}: {face.quality}", _INK)
    for number, one in enumerate(face.verdicts, 1):
        for column, text in zip(_COLUMNS, _cells(one), strict=True):
            _write(pen, _GAP + column, top + number * _LINE, text, _WARNING if one.matched else _INK)


def _cells(one: Verdict) -> tuple[str, str, str, str]:
    return one.recogniser, one.figure, "MATCHED" if one.matched else "not matched", one.part


def _write(pen: ImageDraw.ImageDraw, left: int, top: int, text: str, ink: tuple[int, int, int]) -> None:
    from PIL import ImageFont

    pen.text((left, top), text, fill=ink, font=ImageFont.load_default(size=_FONT))

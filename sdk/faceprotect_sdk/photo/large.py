"""A JPEG of so many pixels that it is never held decoded twice, nor beside the engines' work.

The file's bytes are kept. Faces are looked for on a decode of a quarter of its width (a JPEG is decoded to that at once, by its blocks'
low frequencies), and whatever needs the pixels decodes them anew and lets them go: three bytes a pixel, by OpenCV, where Pillow holds four
and copies them. Both use libjpeg-turbo, whose pixels are the same.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import UnreadableInput
from faceprotect_sdk.photo.container import left_out
from faceprotect_sdk.photo.mark import Mark, marked
from faceprotect_sdk.photo.picture import Photo
from faceprotect_sdk.photo.pil_image import common
from faceprotect_sdk.photo.turns import turn, turned_view

if TYPE_CHECKING:
    from PIL import Image

#: Pixels from which on a JPEG file is one of these.
LARGE = 64_000_000
REDUCTION = 4
_SEGMENT = 65533  # bytes that fit into a marker segment beside its length
_ICC = b"ICC_PROFILE\0"


@dataclass(frozen=True)
class LargePhoto:
    """A JPEG file and what is around its pixels.

    ``frame``: the photo without its pixels. ``data``: the file. ``size``: width and height, upright. ``reduced``: uint8 RGB
    [H, W, 3], upright, a quarter of the width and height.
    """

    frame: Photo
    data: bytes
    size: tuple[int, int]
    reduced: NDArray[np.uint8]

    @property
    def mark(self) -> Mark | None:
        """Says that the photo has been protected before."""
        return self.frame.mark

    @property
    def path(self) -> Path | None:
        """Where it was read."""
        return self.frame.path

    @property
    def container(self) -> str:
        """JPEG."""
        return self.frame.container

    def at(self, path: Path) -> LargePhoto:
        """The same photo as read from ``path``."""
        return replace(self, frame=self.frame.at(path))

    def stored(self) -> NDArray[np.uint8]:
        """All pixels, decoded now: uint8 BGR [H, W, 3] as they are stored, not turned."""
        return decoded_bgr(self.data, str(self.path or "the bytes given"))

    def decoded(self) -> Photo:
        """The photo with its pixels, which takes six bytes a pixel for a moment, and three from then on."""
        return replace(self.frame, pixels=turn(self.stored()[..., ::-1], self.frame.orientation))


def open_large(image: Image.Image, data: bytes, where: str) -> LargePhoto:
    """Look at an opened JPEG of Pillow's; all of ``data`` is read, so that a damaged file is refused with UnreadableInput here.

    Of its size is asked before (``limits.check_size``).
    """
    width, height = image.size
    frame = common(image, "JPEG", False)
    frame = replace(frame, grey=image.mode == "L", notes=(*frame.notes, *left_out(data, "JPEG")))
    image.draft("RGB", (max(width // REDUCTION, 1), max(height // REDUCTION, 1)))
    try:
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableInput(f"{where}: truncated or damaged ({error}). Copy it again from where it came") from error
    reduced = turn(np.asarray(image.convert("RGB")), frame.orientation)
    return LargePhoto(frame, data, (height, width) if frame.orientation >= 5 else (width, height), reduced)


def decoded_bgr(data: bytes, where: str) -> NDArray[np.uint8]:
    """Pixels of a JPEG file, uint8 BGR [H, W, 3], as stored. Raises UnreadableInput where OpenCV refuses what Pillow has read."""
    import cv2

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    if hasattr(os, "memfd_create") and _version(cv2) >= (4, 11):
        pixels = _read_in_place(data, flags)
    else:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise UnreadableInput(f"{where}: the large JPEG cannot be decoded. Save it again with another program")
    return np.asarray(pixels)


def _version(cv2: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in cv2.__version__.split(".")[:2])


def _read_in_place(data: bytes, flags: int) -> Any:
    """Decoded straight into the array, where ``imdecode`` copies it out of OpenCV; from a file that lies in memory alone."""
    import cv2

    with os.fdopen(os.memfd_create("photo"), "wb") as file:
        file.write(data)
        file.flush()
        return cv2.imread(f"/proc/self/fd/{file.fileno()}", None, flags)


def upright_rgb(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Stored BGR pixels as upright RGB ones: a view that writes through."""
    return turned_view(stored[..., ::-1], orientation)


def encode_large(frame: Photo, stored: NDArray[np.uint8], *, quality: int, mark: Mark | None = None) -> bytes:
    """A JPEG file of ``stored`` (uint8 BGR [H, W, 3], not turned) with the metadata of ``frame``, like ``encode.encode``.

    4:4:4, with the standard's Huffman tables: tables of its own would have libjpeg hold six bytes a pixel. The pixels are the same.
    """
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    written, coded = cv2.imencode(".jpg", np.ascontiguousarray(stored[..., 0]) if frame.grey else stored, options)
    if not written:
        raise MemoryError("the large JPEG could not be encoded")
    exif = marked(frame.exif, mark) if mark is not None else frame.exif
    return b"".join([b"\xff\xd8", _jfif(frame), *_segments(frame, exif), coded.data[_after_jfif(coded) :]])


def _after_jfif(coded: NDArray[np.uint8]) -> int:
    """Where the coder's own first segment, JFIF, ends."""
    return 4 + int(coded[4]) * 256 + int(coded[5]) if bytes(coded[2:4]) == b"\xff\xe0" else 2


def _jfif(frame: Photo) -> bytes:
    across, down = (round(dpi) for dpi in frame.dpi) if frame.dpi else (1, 1)
    return b"\xff\xe0" + struct.pack(">H5sHBHHBB", 16, b"JFIF\0", 0x0101, 1 if frame.dpi else 0, across, down, 0, 0)


def _segments(frame: Photo, exif: bytes) -> list[bytes]:
    """Marker segments of EXIF (APP1) and of the ICC profile (APP2, in numbered parts: ICC.1, annex B.4)."""
    found = []
    if exif:
        found.append(b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif)
    room = _SEGMENT - len(_ICC) - 2
    parts = [frame.icc[at : at + room] for at in range(0, len(frame.icc), room)] if frame.icc else []
    for number, part in enumerate(parts, 1):
        found.append(b"\xff\xe2" + struct.pack(">H", len(part) + len(_ICC) + 4) + _ICC + bytes([number, len(parts)]) + part)
    return found

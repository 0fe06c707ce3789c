"""A PNG with 16 bits per channel, which Pillow would cut to 8 bits for colour: decoded by OpenCV."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import UnreadableInput
from faceprotect_sdk.photo.container import PNG_SIGNATURE, png_chunks
from faceprotect_sdk.photo.picture import Photo
from faceprotect_sdk.photo.pil_image import TRANSPARENT, common, opaque_but, upright

if TYPE_CHECKING:
    from PIL import Image

#: Colour types of a PNG's header chunk (its byte 25): grey, and grey with alpha, which OpenCV gives as four channels.
_GREY_TYPES = (0, 4)


def is_deep(data: bytes) -> bytes | None:
    """The data, when it is a PNG with 16 bits per channel (byte 24 is the bit depth of the header chunk)."""
    return data if data[:8] == PNG_SIGNATURE and len(data) > 25 and data[24] == 16 else None


def from_deep(image: Image.Image, data: bytes, where: str) -> Photo:
    """16-bit PNG, which Pillow would cut to 8 bits for colour: decoded by OpenCV."""
    import cv2

    try:
        image.load()  # first, for it checks the checksums, where OpenCV prints to stderr and goes on
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableInput(f"{where}: truncated or damaged ({error}). Copy it again from where it came") from error
    raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16:
        raise UnreadableInput(f"{where}: the 16-bit PNG cannot be decoded. Save it again with another program")
    colour, alpha = _split_deep(raw)
    base = common(image, "PNG", True)
    hidden = next((content for kind, content, _ in png_chunks(data) if kind == b"tRNS"), b"")
    if len(hidden) in (2, 6):
        base = replace(base, notes=(*base.notes, TRANSPARENT))
    if alpha is None and len(hidden) in (2, 6):  # OpenCV from 5 on does it by itself, for colour
        alpha = opaque_but((colour == np.frombuffer(hidden, ">u2")).all(2))
    return upright(replace(base, pixels=colour, alpha=alpha, grey=data[25] in _GREY_TYPES))


def _split_deep(raw: NDArray[Any]) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
    if raw.ndim == 2:
        return np.repeat(raw[..., None], 3, 2), None
    alpha = np.ascontiguousarray(raw[..., 3]) if raw.shape[2] == 4 else None
    return np.ascontiguousarray(raw[..., 2::-1]), alpha

"""Pixels back into the container they came from."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.arguments import whole
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.photo.container import PNG_SIGNATURE
from faceprotect_sdk.photo.mark import Mark, marked
from faceprotect_sdk.photo.picture import Photo
from faceprotect_sdk.photo.turns import turn_back

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_QUALITY = 95
_BAND = 512


def encode(photo: Photo, *, quality: int = DEFAULT_QUALITY, mark: Mark | None = None) -> bytes:
    """The bytes of ``photo`` in its own container, deterministic.

    JPEG and AVIF are written 4:4:4 at ``quality`` 1..100, HEIC 4:2:0; WebP at ``quality``, or lossless where the original was; PNG is
    exact, 16 bits stay 16 bits. The pixels are turned back to the stored orientation, whose EXIF tag is kept.
    ``mark``: written into EXIF; one that the photo came with is not.
    """
    quality = whole("quality", quality, 1, 100)
    if mark is not None:
        photo = replace(photo, exif=marked(photo.exif, mark))
    if photo.deep:
        return _encode_deep(photo)
    image = _to_pil(photo)
    options: dict[str, Any] = {"exif": photo.exif} if photo.exif else {}
    if photo.icc:
        options["icc_profile"] = photo.icc
    if photo.dpi and photo.container in ("JPEG", "PNG"):
        options["dpi"] = photo.dpi
    if photo.container == "JPEG":
        options |= {"quality": quality, "subsampling": 0, "optimize": True}
    elif photo.container == "WEBP":
        # exact: colour under transparent pixels is kept, or pixels outside the mask would change
        options |= {"lossless": photo.lossless, "quality": quality, "exact": True, "method": 4}
    elif photo.container == "AVIF":
        options |= {"quality": quality, "subsampling": "4:4:4"}
    elif photo.container == "HEIC":
        # 4:2:0, as cameras have it: the profile of everything else is one that many viewers lack
        return _encode_heic(image, options | {"quality": quality, "chroma": 420})
    elif photo.container != "PNG":
        raise UsageError(f"container is '{photo.container}'; give JPEG, PNG, WEBP, AVIF or HEIC")
    buffer = io.BytesIO()
    image.save(buffer, format=photo.container, **options)
    data = buffer.getvalue()
    if photo.container == "PNG":
        after = len(PNG_SIGNATURE) + 12 + 13  # the header chunk comes first
        return data[:after] + b"".join(_colour(photo)) + data[after:]
    return data


def _encode_heic(image: Image.Image, options: dict[str, Any]) -> bytes:
    """By pillow-heif, which turns by itself what EXIF says: its pixels are upright, when read and when written."""
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **options)
    return buffer.getvalue()


def _colour(photo: Photo) -> list[bytes]:
    return [_chunk(kind, content) for kind, content in photo.colour.items()]


def luma(rgb: NDArray[Any]) -> NDArray[Any]:
    """ITU-R 601 luma of RGB [..., 3] in the same dtype; exact where the three channels are equal."""
    result = np.empty(rgb.shape[:-1], rgb.dtype)
    for top in range(0, len(rgb), _BAND):  # in bands: no whole picture of floats
        weighted = rgb[top : top + _BAND].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        result[top : top + _BAND] = np.rint(weighted)
    return result


def _channels(photo: Photo) -> NDArray[Any]:
    """Stored-orientation array [H, W] or [H, W, C] with alpha last."""
    colour = luma(photo.pixels)[..., None] if photo.grey else photo.pixels
    parts = [colour] if photo.alpha is None else [colour, photo.alpha[..., None]]
    return turn_back(parts[0] if len(parts) == 1 else np.concatenate(parts, 2), photo.orientation)


def _to_pil(photo: Photo) -> Image.Image:
    from PIL import Image

    array = _channels(photo)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[array.shape[2]]
    height, width = array.shape[:2]
    # frombytes rather than fromarray: the mode is ours to say
    return Image.frombytes(mode, (width, height), array.data)


def _encode_deep(photo: Photo) -> bytes:
    """16-bit PNG written by hand: Pillow has no 16-bit colour and OpenCV no profile."""
    array = _channels(photo)
    height, width, channels = array.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = np.ascontiguousarray(array.astype(">u2")).view(np.uint8).reshape(height, -1)
    filtered = np.zeros((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # "up": each byte minus the byte above; smooth photos compress well with it
    filtered[:, 1:] = rows
    filtered[1:, 1:] -= rows[:-1]
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    chunks += _colour(photo)
    if photo.icc:
        chunks.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.icc, 9)))
    if photo.dpi:
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", *(round(dpi / 0.0254) for dpi in photo.dpi), 1)))
    if photo.exif:
        chunks.append(_chunk(b"eXIf", photo.exif.removeprefix(b"Exif\0\0")))
    chunks += [_chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6)), _chunk(b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

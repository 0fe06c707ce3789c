"""Photo files of every container, and ways to break them: each way a function of the bytes and a generator of random numbers."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms, features

from faceprotect_sdk.photo.container import PNG_SIGNATURE, png_chunks

Breaker = Callable[[bytes, np.random.Generator], bytes]
_START = 256  # where headers lie


def sources(picture: Image.Image) -> dict[str, bytes]:
    """One RGB picture as files: name and suffix to bytes."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = made[:24] + bytes(12) + made[36:]  # without the time of its making
    alpha = picture.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(picture.size))
    other = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    described: dict[str, Any] = {"exif": exif, "icc_profile": profile}
    found = {
        "jpeg.jpg": _saved(picture, "JPEG", quality=90),
        "progressive.jpg": _saved(picture, "JPEG", quality=90, progressive=True),
        "described.jpg": _saved(picture, "JPEG", xmp=b"<x tiff:Orientation='3'/>", dpi=(72, 72), **described),
        "gain-map.jpg": _saved(picture, "JPEG", xmp=b"<x xmlns:hdrgm='http://ns.adobe.com/hdr-gain-map/1.0/' hdrgm:Version='1.0'/>")
        + _saved(picture.convert("L").reduce(4), "JPEG"),
        "two.jpg": _saved(picture, "MPO", save_all=True, append_images=[other]),
        "grey.jpg": _saved(picture.convert("L"), "JPEG"),
        "cmyk.jpg": _saved(picture.convert("CMYK"), "JPEG", icc_profile=profile),
        "png.png": _saved(picture, "PNG", **described),
        "palette.png": _saved(picture.quantize(64), "PNG", transparency=3),
        "alpha.png": _saved(alpha, "PNG"),
        "grey.png": _saved(picture.convert("L"), "PNG", transparency=7),
        "deep.png": _deep(np.asarray(picture)[..., ::-1]),
        "deep-grey.png": _deep(np.asarray(picture.convert("L"))),
        "webp.webp": _saved(picture, "WEBP", quality=90, **described),
        "lossless.webp": _saved(alpha, "WEBP", lossless=True),
        "animated.webp": _saved(picture, "WEBP", save_all=True, append_images=[other], duration=100),
        "gif.gif": _saved(picture, "GIF"),
        "tiff.tif": _saved(picture, "TIFF"),
    }
    if features.check("avif"):
        found["avif.avif"] = _saved(picture, "AVIF", quality=80, **described)
    return found


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _deep(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values.astype(np.uint16) * 257)[1].tobytes()


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The file ends somewhere, near its end half of the time."""
    kept = int(rng.integers(0, len(data)))
    return data[: max(kept, len(data) - int(rng.integers(1, 64))) if rng.random() < 0.5 else kept]


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """One to eight bytes are others, anywhere."""
    return _with_noise(data, rng, len(data))


def flip_start(data: bytes, rng: np.random.Generator) -> bytes:
    """One to eight bytes are others, among the headers."""
    return _with_noise(data, rng, min(len(data), _START))


def _with_noise(data: bytes, rng: np.random.Generator, end: int) -> bytes:
    changed = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(0, end, int(rng.integers(1, 9)))
    changed[places] = rng.integers(0, 256, len(places))
    return changed.tobytes()


def move(data: bytes, rng: np.random.Generator) -> bytes:
    """A stretch is missing, or is there twice."""
    start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 400))
    return data[:start] + data[start + length :] if rng.random() < 0.5 else data[: start + length] + data[start:]


def claim(data: bytes, rng: np.random.Generator) -> bytes:
    """A JPEG or a PNG that claims another size, up to the largest that is read; of others as :func:`flip_start`."""
    width, height = (int(side) for side in np.exp(rng.uniform(np.log(16), np.log(65535), 2)))
    if rng.random() < 0.5:
        width, height = 9999, 9999  # just below the limit of 100 megapixels
    if data.startswith(PNG_SIGNATURE):
        return _summed(data[:16] + struct.pack(">II", width, height) + data[24:])
    frame = next((at for marker in (b"\xff\xc0", b"\xff\xc2") if (at := data.find(marker)) > 0), 0)
    if not data.startswith(b"\xff\xd8") or not frame:
        return flip_start(data, rng)
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def flip_unseen(data: bytes, rng: np.random.Generator) -> bytes:
    """As :func:`flip`, with a PNG's checksums made good again, so that what lies behind them is reached."""
    changed = flip(data, rng)
    return _summed(changed) if changed.startswith(PNG_SIGNATURE) else changed


def _summed(data: bytes) -> bytes:
    chunks = [kind + content for kind, content, _ in png_chunks(data)]
    return PNG_SIGNATURE + b"".join(struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks)


BREAKERS: dict[str, Breaker] = {one.__name__: one for one in (cut, flip, flip_start, flip_unseen, move, claim)}

"""Writes photo.json: what the Python SDK and Pillow find of pictures that a formula draws, for the tests of web/src/photo.

    python web/test/golden/photo.py
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceprotect_engines.method_plan import Region
from faceprotect_sdk import undoing
from faceprotect_sdk.align import CANONICAL_POINTS, aligned_crop, misfit, tilt
from faceprotect_sdk.covered import features
from faceprotect_sdk.mask import face_mask
from faceprotect_sdk.paste import paste
from faceprotect_sdk.tone import monochrome

REGIONS = {
    "ordinary": {},
    "spared": {"centre": [128, 134], "radii": [114, 120], "feather": 0.2, "spared": [[128, 150, 17, 24, 0.6], [96, 98, 24, 12, 0.4]]},
}
PLACES = {"as it is": (1.0, 0.0, (20.0, 10.0)), "small": (0.31, 10.0, (60.5, 40.25)), "large": (2.6, -25.0, (-40.0, 120.0))}
SIZES = ((320, 256, True), (640, 480, True), (1408, 1056, False))


def drawn(width: int, height: int) -> NDArray[np.uint8]:
    """The picture of photo-tools.ts, ``picture``."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([((x * (3 + c) + y * (5 - c)) ^ ((x * y) >> 5)) & 255 for c in range(3)], 2).astype(np.uint8)


def wave(count: int, step: float, low: float, high: float) -> NDArray[np.float32]:
    """The wave of SPEC 2.3."""
    return (low + (high - low) * (1 + np.sin(step * np.arange(count))) / 2).astype(np.float32)


def points(scale: float, degrees: float, corner: tuple[float, float]) -> NDArray[np.float64]:
    """The canonical points, turned about the origin, scaled and moved."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (CANONICAL_POINTS * scale) @ turn.T + corner


def probes(values: NDArray[Any]) -> list[float]:
    """Every 2999th number, in C order."""
    return [round(float(value), 7) for value in values.ravel()[::2999]]


def jpeg(picture: NDArray[np.uint8], mode: str = "RGB", **options: Any) -> dict[str, str]:
    """A file by Pillow; the digest of its pixels, and of those after Pillow has written them again as the SDK does."""
    image = Image.fromarray(picture).convert(mode)
    data = _saved(image, **options)
    read = Image.open(io.BytesIO(data))
    again = Image.open(io.BytesIO(_saved(read, quality=95, subsampling=0))) if mode != "CMYK" else read
    return {"file": base64.b64encode(data).decode(), "pixels": digest(read), "again": digest(again)}


def _saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def digest(image: Image.Image) -> str:
    """sha256 of RGB rows."""
    return hashlib.sha256(np.asarray(image.convert("RGB")).tobytes()).hexdigest()


def png(picture: NDArray[np.uint8], mode: str, **options: Any) -> dict[str, str]:
    """A file by Pillow, and the digest of its pixels as RGBA."""
    image = Image.fromarray(picture).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return {"file": base64.b64encode(buffer.getvalue()).decode(), "pixels": hashlib.sha256(np.asarray(image.convert("RGBA")).tobytes()).hexdigest()}


def main() -> None:
    """Write the file."""
    picture = drawn(701, 533)
    change = wave(3 * 256 * 256, 0.37, -0.05, 0.05).reshape(3, 256, 256)
    mask = face_mask(Region())
    crop = wave(3 * 256 * 256, 0.011, 0.0, 1.0).reshape(1, 3, 256, 256)
    small = drawn(37, 29)
    document = {
        "mask": {name: probes(face_mask(_region(region))) for name, region in REGIONS.items()},
        "resized": {
            f"{width}x{height}": probes(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR).transpose(2, 0, 1))
            for width, height, area in SIZES
        },
        "places": {
            name: {
                "points": points(*place).tolist(), "tilt": tilt(points(*place)), "misfit": misfit(points(*place) + [[1, 0], [0, 2], [0, 0], [0, 0], [0, 0]]),
                "crop": probes(aligned_crop(picture, points(*place)) * 255), "pasted": probes(paste(picture, change, mask, points(*place))),
            }
            for name, place in PLACES.items()
        },
        "covered": probes(features(crop)[::9].repeat(2999)),
        "undone": {"apart": undoing.share(crop, change, mask), "same": undoing.share(crop, -0.1 * crop[0], mask)},
        "monochrome": {"colour": monochrome(picture), "grey": monochrome(np.repeat(picture[..., :1], 3, 2))},
        "jpeg": {
            "444": jpeg(small, quality=90, subsampling=0), "422": jpeg(small, quality=80, subsampling=1),
            "420": jpeg(small, quality=90, subsampling=2), "420 progressive": jpeg(small, quality=75, subsampling=2, progressive=True),
            "444 progressive": jpeg(small, quality=95, subsampling=0, progressive=True), "grey": jpeg(small, "L", quality=85),
            "restarts": jpeg(small, quality=85, subsampling=2, restart_marker_blocks=1), "cmyk": jpeg(small, "CMYK", quality=90),
            "RGB": jpeg(small, quality=90, keep_rgb=True), "poor": jpeg(small, quality=3), "narrow": jpeg(drawn(2, 50), quality=90),
        },
        "png": {"palette": png(small, "P"), "bits": png(small, "1"), "grey": png(small, "L"), "grey alpha": png(small, "LA"), "alpha": png(small, "RGBA")},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(document, indent=0, default=bool) + "\n")


def _region(stated: dict[str, Any]) -> Region:
    spared = tuple(tuple(spot) for spot in stated.get("spared", ()))
    return Region(**{key: tuple(value) if isinstance(value, list) else value for key, value in stated.items() if key != "spared"}, spared=spared)


if __name__ == "__main__":
    main()

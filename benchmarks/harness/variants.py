"""What happens to a photo on its way: recompressed, resized, filtered, cut, denoised. Robustness is measured under each.

A variant takes the written photo (uint8 RGB [H, W, 3]), its face, and a generator of its own, and returns the changed photo.
All but the cut keep the geometry, so that a recogniser looks at the same place.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.detect import Face
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.face.paste import paste
from faceprotect_sdk.pool import EnginePool

Pixels = NDArray[np.uint8]
Variant = Callable[[Pixels, np.random.Generator], Pixels]

AS_WRITTEN = "as written"
REDETECTED = "face found again"
CUT = "cut by 6 % a side"
PURIFIED = "autoencoder"


def recompressed(container: str, quality: int) -> Variant:
    """Encoded once more, as a service would: chroma at half resolution."""

    def variant(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, container, quality=quality)
        return np.asarray(Image.open(buffer).convert("RGB"))

    return variant


def resized(factor: float) -> Variant:
    """Shrunk (areas averaged) and enlarged again (bicubic)."""

    def variant(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        small = cv2.resize(pixels, (max(round(width * factor), 1), max(round(height * factor), 1)), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)

    return variant


def scaled(gain: float) -> Variant:
    """Brighter or darker."""
    return lambda pixels, rng: np.clip(np.rint(pixels.astype(np.float32) * gain), 0, 255).astype(np.uint8)


def noisy(std: float) -> Variant:
    """White noise of ``std`` grey levels."""
    return lambda pixels, rng: np.clip(np.rint(pixels + rng.normal(0, std, pixels.shape)), 0, 255).astype(np.uint8)


#: Variants that keep the geometry, in the order of the reports.
VARIANTS: dict[str, Variant] = {
    AS_WRITTEN: lambda pixels, rng: pixels,
    "JPEG q95": recompressed("JPEG", 95),
    "JPEG q75": recompressed("JPEG", 75),
    "JPEG q50": recompressed("JPEG", 50),
    "WebP q80": recompressed("WEBP", 80),
    "half size": resized(0.5),
    "quarter size": resized(0.25),
    "5x5 mean": lambda pixels, rng: np.asarray(cv2.blur(pixels, (5, 5)), np.uint8),
    "5x5 Gaussian": lambda pixels, rng: np.asarray(cv2.GaussianBlur(pixels, (5, 5), 0), np.uint8),
    "brighter": scaled(1.25),
    "darker": scaled(0.75),
    "noise of 6": noisy(6.0),
    "denoised": lambda pixels, rng: np.asarray(cv2.fastNlMeansDenoisingColored(pixels, None, 5, 5, 7, 15), np.uint8),
}
#: With those that need the face: found again by the detector, cut, or its pixels replaced by what an autoencoder makes of them.
ALL = (*VARIANTS, REDETECTED, CUT, PURIFIED)


def cut(pixels: Pixels, share: float = 0.06) -> Pixels:
    """Without a border of ``share`` of each side; whoever looks at it has to find the face again."""
    height, width = pixels.shape[:2]
    y, x = round(height * share), round(width * share)
    return np.ascontiguousarray(pixels[y : height - y, x : width - x])


def purified(pixels: Pixels, face: Face, room: EnginePool) -> Pixels:
    """The face encoded and decoded by the autoencoder that ships: what a purifier would keep of the change."""
    crop = aligned_crop(pixels, face.points)
    latent = room("face-encoder").run({"image": crop})["latent"]
    mask = face_mask()
    feeds = {"latent": latent, "offset": np.zeros_like(latent), "decoded_original": crop, "original": crop, "mask": mask}
    decoded = np.clip(room(DECODER).run(feeds)["decoded"], 0, 1)
    return np.asarray(paste(pixels, (decoded - crop)[0] * mask[0], mask, face.points), np.uint8)


DECODER = "latent-decode"

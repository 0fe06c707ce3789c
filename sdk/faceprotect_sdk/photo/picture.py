"""``Photo``: upright RGB pixels, with all that is needed to write them back alike.

Kept: size, container, EXIF orientation (pixels are turned upright here and turned back on writing), ICC profile, alpha,
grey, 16 bits of a PNG. Dropped: see :mod:`faceprotect_sdk.photo.metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.photo.formats import Container
from faceprotect_sdk.photo.mark import Mark

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
_BAND = 512


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    ``pixels``: upright RGB [H, W, 3], uint8 0..255, or uint16 0..65535 from a 16-bit PNG. ``alpha``: [H, W] of the same
    dtype or None. ``grey``: the file has one colour channel (``pixels`` repeats it). ``orientation``: EXIF 1..8 of the
    file, already applied to ``pixels``. ``exif``: cleaned EXIF block (may be empty). ``colour``: of a PNG, the chunks that
    describe its colours, kind to content. ``lossless``: the container holds exact pixels. ``notes``: what could not be kept.
    ``mark``: says that the photo has been protected before.
    """

    pixels: Pixels
    container: Container
    alpha: Pixels | None = None
    grey: bool = False
    orientation: int = 1
    icc: bytes | None = None
    exif: bytes = b""
    colour: Mapping[bytes, bytes] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    lossless: bool = False
    path: Path | None = None
    notes: tuple[str, ...] = ()
    mark: Mark | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])

    @property
    def deep(self) -> bool:
        """Whether there are 16 bits per channel."""
        return self.pixels.dtype == np.uint16

    def at(self, path: Path) -> Photo:
        """The same photo as read from ``path``."""
        return replace(self, path=path)

    def rgb8(self) -> NDArray[np.uint8]:
        """Upright uint8 RGB [H, W, 3]: what detectors and recognisers look at."""
        if self.pixels.dtype == np.uint8:
            return self.pixels.astype(np.uint8, copy=False)
        seen = np.empty(self.pixels.shape, np.uint8)
        for top in range(0, len(seen), _BAND):  # in bands: no whole picture of 32-bit numbers
            seen[top : top + _BAND] = (self.pixels[top : top + _BAND].astype(np.uint32) + 128) // 257
        return seen

    def with_pixels(self, pixels: Pixels) -> Photo:
        """The same photo with other upright pixels of the same shape and dtype."""
        if pixels.shape != self.pixels.shape or pixels.dtype != self.pixels.dtype:
            own = self.pixels
            raise UsageError(f"pixels must be {own.dtype} {own.shape}, got {pixels.dtype} {pixels.shape}")
        return replace(self, pixels=pixels)

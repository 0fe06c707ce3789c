"""How large a photo may be: what a computer of today can hold, and what is no photo but a bomb."""

from __future__ import annotations

from faceprotect_sdk.errors import UnreadableInput

MAX_BYTES = 512 * 1024 * 1024
#: Of a picture that is kept decoded.
MAX_PIXELS = 100_000_000
#: Of a JPEG, which is worked on a window at a time (``large.LargePhoto``): cameras make 200 megapixels.
MAX_JPEG_PIXELS = 260_000_000


def check_size(width: int, height: int, where: str, limit: int = MAX_PIXELS) -> None:
    """Raise :class:`UnreadableInput` for a picture without pixels, or with more than ``limit``."""
    if width < 1 or height < 1:
        raise UnreadableInput(f"{where}: the image has no pixels ({width} x {height})")
    if width * height > limit:
        other = "" if limit > MAX_PIXELS else f" ({MAX_JPEG_PIXELS // 10**6} for a JPEG)"
        raise UnreadableInput(
            f"{where}: {width} x {height} is {width * height / 1e6:.0f} megapixels; the limit is "
            f"{limit // 10**6}{other}. Scale it down first"
        )

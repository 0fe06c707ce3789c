"""What says of a photo that it has been protected: a line in EXIF's tag ProcessingSoftware, in every container alike.

``faceprotect-sdk VERSION method=NAME id=HEX``: nothing of the person, the machine or the time; the id is a digest of the pixels. Who
passes the photo on may drop it: nothing in the pixels says it again (``docs/support.md``).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceprotect_engines.shared import NO_WARNINGS
from faceprotect_sdk._version import __version__

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

#: EXIF's ProcessingSoftware: what a program writes that has worked on the picture.
TAG = 0x000B
_BAND = 512
_LINE = re.compile(r"faceprotect-sdk (?P<version>[\w.+-]{1,40}) method=(?P<method>[\w-]{1,40}) id=(?P<id>[0-9a-f]{16})")


@dataclass(frozen=True)
class Mark:
    """The version and method that protected a photo, and 16 hexadecimal digits of the sha256 of its pixels before encoding."""

    version: str
    method: str
    id: str

    @classmethod
    def of(cls, pixels: NDArray[Any], method: str) -> Mark:
        """The mark of upright pixels as ``method`` of this version has changed them."""
        digest = hashlib.sha256()
        for top in range(0, len(pixels), _BAND):  # the same as of all at once, without a copy of all
            digest.update(pixels[top : top + _BAND].tobytes())
        return cls(__version__, method, digest.hexdigest()[:16])

    def __str__(self) -> str:
        """The line as it is written."""
        return f"faceprotect-sdk {self.version} method={self.method} id={self.id}"


def mark_in(exif: Image.Exif) -> Mark | None:
    """The mark in a block that has been read; None where there is none, or another program's line."""
    line = exif.get(TAG)
    found = _LINE.fullmatch(line) if isinstance(line, str) else None
    return None if found is None else Mark(**found.groupdict())


def marked(exif: bytes, mark: Mark) -> bytes:
    """A cleaned EXIF block (may be empty) with the mark in it."""
    from PIL import Image

    block = Image.Exif()
    block.load(exif)
    block[TAG] = str(mark)
    return block.tobytes()


def mark_of_file(path: Path) -> Mark | None:
    """The mark of a photo file, read without decoding it; None for every file that cannot be read, whatever is wrong with it.

    Of a PNG it is found where we write it, before the pixels.
    """
    from PIL import Image

    from faceprotect_sdk.photo.formats import open_image

    try:
        if not path.is_file():  # opening a pipe waits until somebody writes into it
            return None
        with NO_WARNINGS, open_image(path, str(path)) as image:
            exif = Image.Exif()
            exif.load(image.info.get("exif") or b"")  # Image.getexif would decode all of a PNG to look behind its pixels
            return mark_in(exif)
    except Exception:  # noqa: BLE001 - what is wrong with the file is said where it is decoded
        return None

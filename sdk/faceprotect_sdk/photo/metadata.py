"""What is kept of a photo's metadata: how the camera took it, when, and its orientation.

Only the tags listed here are copied. So everything that names a place, a person or a device is dropped: GPS, artist and
owner, descriptions and comments, serial numbers, the embedded thumbnail (it shows the unprotected face), maker notes
(they may hold previews and face boxes), XMP and IPTC (names, places, face regions), PNG text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112
#: Keys of ``Image.info`` under which Pillow puts XMP and "raw profiles".
_XMP = ("xmp", "XML:com.adobe.xmp")
_RAW_PROFILES = ("Raw profile type exif", "Raw profile type APP1")
_XMP_TURN = re.compile(rb"tiff:Orientation(?:=\"|>)[2-8]")
EXIF_IFD = 0x8769
#: Make, model, resolution, date, colour positioning.
MAIN_TAGS = frozenset({0x010F, 0x0110, ORIENTATION, 0x011A, 0x011B, 0x0128, 0x0132, 0x0213})
#: Exposure, aperture, sensitivity, dates and their zones, metering, flash, focal length, colour space, size, focal plane,
#: scene and processing modes, lens make and model.
CAMERA_TAGS = frozenset(
    {
        0x829A,
        0x829D,
        0x8822,
        0x8827,
        0x8830,
        0x8831,
        0x8832,
        0x9000,
        0x9003,
        0x9004,
        0x9010,
        0x9011,
        0x9012,
        0x9101,
        0x9102,
        *range(0x9201, 0x920B),
        0x9290,
        0x9291,
        0x9292,
        0xA000,
        0xA001,
        0xA002,
        0xA003,
        0xA20E,
        0xA20F,
        0xA210,
        0xA215,
        0xA217,
        0xA300,
        0xA301,
        *range(0xA401, 0xA40B),
        0xA40C,
        0xA432,
        0xA433,
        0xA434,
        0xA460,
        0xA500,
    }
)


def clean_exif(exif: Image.Exif) -> tuple[bytes, int]:
    """EXIF block with the listed tags only, and how many of them could not be written again.

    Empty bytes when nothing is left.
    """
    from PIL import Image

    kept, damaged = Image.Exif(), 0
    for directory, tags in ((None, MAIN_TAGS), (EXIF_IFD, CAMERA_TAGS)):
        source = exif if directory is None else exif.get_ifd(directory)
        for tag in sorted(tags & set(source)):
            target = kept if directory is None else kept.get_ifd(directory)
            target[tag] = source[tag]
            if not _writable(kept):
                del target[tag]
                damaged += 1
    return (kept.tobytes() if len(kept) or kept.get_ifd(EXIF_IFD) else b""), damaged


def _writable(exif: Image.Exif) -> bool:
    """Whether Pillow can serialise the block; a value of an unexpected type makes it fail in many ways."""
    try:
        exif.tobytes()
    except Exception:  # noqa: BLE001 - whatever it is, the tag just added is to blame and is left out
        return False
    return True


def orientation_only(orientation: int) -> bytes:
    """EXIF block with nothing but the orientation; empty for 1."""
    from PIL import Image

    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes() if orientation != 1 else b""


def stored_exif(image: Image.Image) -> Image.Exif:
    """The image's EXIF without what Pillow reads elsewhere: an orientation in XMP, or all of a "raw profile" in a PNG's text.

    Viewers turn photos by EXIF alone: an orientation from there, applied and written as EXIF, would turn what was upright.
    """
    from PIL import Image

    exif, block = image.getexif(), image.info.get("exif")
    own = Image.Exif()
    if block:
        own.load(block)
    elif any(key in image.info for key in _RAW_PROFILES):
        return own
    if ORIENTATION not in own and any(key in image.info for key in _XMP):
        exif.pop(ORIENTATION, None)
    return exif


def foreign_orientation(image: Image.Image, exif: Image.Exif) -> bool:
    """Whether XMP or a raw profile states an orientation that is not among the ``exif`` of :func:`stored_exif`."""
    if ORIENTATION in exif:
        return False
    stated = [image.info[key] for key in _XMP if key in image.info]
    in_xmp = any(_XMP_TURN.search(text if isinstance(text, bytes) else str(text).encode()) for text in stated)
    return in_xmp or ("exif" not in image.info and any(_turns(str(image.info.get(key, ""))) for key in _RAW_PROFILES))


def _turns(profile: str) -> bool:
    """Whether a raw profile (a name, a length, and hex digits, a line each at least) holds an orientation other than upright."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(bytes.fromhex("".join(profile.split("\n")[3:])))
        return orientation_of(exif) != 1
    except Exception:  # noqa: BLE001 - foreign bytes again; what cannot be read turns nothing
        return False


def orientation_of(exif: Image.Exif) -> int:
    """EXIF orientation 1 to 8; 1 for a missing or impossible value."""
    value = exif.get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1

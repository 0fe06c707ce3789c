"""What is kept of a photo's metadata: camera settings and orientation. What names a place or a person is dropped.

Dropped: GPS, the embedded thumbnail (it shows the unprotected face), maker notes (they may hold previews and face
boxes), XMP and IPTC (names, places, face regions), PNG text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112
EXIF_IFD = 0x8769
#: GPS, interoperability, maker note, and the XMP, IPTC, Photoshop and thumbnail tags of the main directory.
DROPPED = frozenset({0x8825, 0xA005, 0x927C, 0x02BC, 0x83BB, 0x8649, 0x0201, 0x0202, 0x501B})


def clean_exif(exif: Image.Exif) -> bytes:
    """EXIF block without anything of :data:`DROPPED`, orientation kept; empty bytes when nothing is left."""
    from PIL import Image

    kept = Image.Exif()
    for tag, value in exif.items():
        if tag not in DROPPED and tag != EXIF_IFD:
            kept[tag] = value
    camera = {tag: value for tag, value in exif.get_ifd(EXIF_IFD).items() if tag not in DROPPED}
    if camera:
        kept.get_ifd(EXIF_IFD).update(camera)
    return kept.tobytes() if len(kept) or camera else b""


def orientation_of(exif: Image.Exif) -> int:
    """EXIF orientation 1 to 8; 1 for a missing or impossible value."""
    value = exif.get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1

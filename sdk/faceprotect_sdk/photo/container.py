"""What a photo's file holds beside its picture: the colours' description, which is kept, and further pictures, which are named.

PNG: "Portable Network Graphics, Third Edition", W3C 2025, 11.3.2 (colour space). JPEG: ITU-T T.81, B.1.1 (markers). AVIF: "AV1 Codec
ISO Media File Format Binding", 2.3 (av1C). HEIC: ISO/IEC 14496-15, 8.3.3 (hvcC).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Chunks that say how colours are to be shown, with their only size: no room for anything else.
_COLOUR = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"mDCv": 24, b"cLLI": 8, b"cLLi": 8}
_USUAL_GAMMA = range(45000, 46001)  # sRGB's, 1 / 2.2, times 100,000
_HDR_TRANSFER = {16: "PQ", 18: "HLG"}
_GAIN_MAP = (b"hdrgm:", b"HDRGainMap", b"aux:hdrgainmap", b"urn:iso:std:iso:ts:21496")
#: Frames whose blocks are Huffman codes; others may be arithmetic, which needs less than a bit for what is likely.
_HUFFMAN_FRAMES = frozenset(range(0xC0, 0xC8)) - {0xC4}
_BLOCK = 64
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Kind, content and end of every chunk of a PNG file, as far as it goes."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + size], at + 12 + size
        if kind == b"IEND":
            return
        at += 12 + size


def colour_chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG file that describe its colours, kind to content; a malformed one is left out."""
    return {kind: content for kind, content, _ in png_chunks(data) if _COLOUR.get(kind) == len(content)}


def unusual_colours(chunks: dict[bytes, bytes]) -> tuple[str, ...]:
    """A note where the numbers do not mean what sRGB's would: recognisers are shown the numbers."""
    cicp, gamma = chunks.get(b"cICP", b"\0\0\0\0"), struct.unpack(">I", chunks.get(b"gAMA", struct.pack(">I", 45455)))[0]
    named = _HDR_TRANSFER.get(cicp[1])
    if named is None and (b"sRGB" in chunks or gamma in _USUAL_GAMMA):
        return ()
    said = f"colours are coded in {named} (cICP)" if named else f"the file states a gamma of {gamma / 1e5:.2f} (gAMA)"
    return (f"{said}, which is kept; recognisers were shown its numbers as they stand, and brightness may have misled them",)


def left_out(data: bytes, container: str) -> tuple[str, ...]:
    """Notes of what follows the picture in its file, or belongs to it elsewhere, and will not be written."""
    end = len(data)
    if container == "JPEG":
        end = _jpeg_end(data)
    elif container == "PNG":
        end = max((end for kind, _, end in png_chunks(data) if kind == b"IEND"), default=end)
    rest = data[end:].strip(b"\0")
    if any(mark in data[:end] or mark in rest for mark in _GAIN_MAP):
        return ("the HDR gain map was left out: the photo is written in its standard range",)
    if not rest:
        return ()
    pictures = rest.count(b"\xff\xd8\xff")
    if pictures:
        return (f"the file holds more than one picture: only the first was kept, {len(rest)} bytes after it were left out",)
    what = "a motion clip" if b"ftyp" in rest[:4096] else "something"
    return (f"{what} of {len(rest)} bytes after the picture was left out",)


def holds_all_blocks(data: bytes, pixels: int) -> bool:
    """Whether a JPEG file is long enough for so many pixels: each block of 8 x 8 has a code of a bit at the least (T.81, F.1.2 and G.1.2).

    Decoders fill what is missing with grey, however much, and call it a picture.
    """
    huffman = any(kind in _HUFFMAN_FRAMES for kind, _ in _jpeg_markers(data))
    return not huffman or 8 * _jpeg_end(data) >= pixels // _BLOCK


def cut_to_8_bits(data: bytes, container: str) -> tuple[str, ...]:
    """A note where an AVIF or HEIC file has more than the 8 bits per channel that it is read with."""
    kind, at, bits = {"AVIF": (b"av1C", 6, 0x40), "HEIC": (b"hvcC", 21, 0x07)}[container]
    found = data.find(kind)
    if found < 0 or found + at >= len(data) or not data[found + at] & bits:
        return ()
    return ("colours of more than 8 bits were read, and are written, with 8",)


def _jpeg_end(data: bytes) -> int:
    """Where the first picture of a JPEG file ends; the end of the data where no marker says so."""
    return next((at for kind, at in _jpeg_markers(data) if kind == 0xD9), len(data))


def _jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Kind of every marker of the first picture, and where its own bytes end; segments are passed over."""
    at = 2
    while found := _MARKER.search(data, at):
        kind, at = data[found.start() + 1], found.end()
        yield kind, at
        if kind == 0xD9:
            return
        if kind not in (0x01, 0xD8) and at + 2 <= len(data):
            at += int(struct.unpack_from(">H", data, at)[0])


def lossless_webp(data: bytes) -> bool:
    """Whether the image chunk of a WebP file is the lossless kind (RIFF: name, size, data, padded to even)."""
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind in (b"VP8L", b"VP8 "):
            return bool(kind == b"VP8L")
        at += 8 + size + size % 2
    return False

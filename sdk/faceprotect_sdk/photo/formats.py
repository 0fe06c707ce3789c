"""The kinds of files that are photos here: their names, how they are told apart, and which of them this installation reads.

AVIF needs Pillow 11.3 or newer; HEIC needs pillow-heif (extra ``heif``), which brings libheif. Both are told by the brands of their first
box, ``ftyp`` (ISO/IEC 14496-12, 4.3; ISO/IEC 23008-12, 10.2): Pillow takes any HEIC that calls itself "mif1" for an AVIF.
"""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from faceprotect_sdk.errors import UnreadableInput

if TYPE_CHECKING:
    from PIL import Image

Container = Literal["JPEG", "PNG", "WEBP", "AVIF", "HEIC"]
SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif", ".hif"),
}
#: What Pillow calls a file to what it is called here.
CONTAINERS: dict[str, Container] = {
    "JPEG": "JPEG",
    "MPO": "JPEG",
    "PNG": "PNG",
    "WEBP": "WEBP",
    "AVIF": "AVIF",
    "HEIF": "HEIC",
}
#: How people write the names.
NAMES: dict[Container, str] = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "AVIF": "AVIF", "HEIC": "HEIC"}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEAD = 512
_REMEDY: dict[Container, str] = {
    "AVIF": "AVIF needs Pillow 11.3 or newer with its AVIF support. Install it: pip install -U 'pillow>=11.3'",
    "HEIC": "HEIC needs the package pillow-heif. Install it: pip install 'faceprotect-sdk[heif]'",
}


def reads(container: Container) -> bool:
    """Whether this installation reads (and then also writes) such files."""
    from PIL import features

    if container == "HEIC":
        return importlib.util.find_spec("pillow_heif") is not None
    return container != "AVIF" or ("avif" in features.modules and bool(features.check("avif")))


def readable() -> tuple[str, ...]:
    """Names of the kinds of files that this installation reads."""
    return tuple(name for container, name in NAMES.items() if reads(container))


def remedy(container: Container) -> str:
    """What to install for files that this installation does not read."""
    return _REMEDY[container]


def open_image(source: bytes | Path, where: str) -> Image.Image:
    """The file's bytes, or the file, as an opened PIL image that is not decoded yet.

    Raises :class:`UnreadableInput` where something has to be installed for its kind, and what Pillow raises for a damaged file. A
    JPEG is opened whatever its size is: whoever decodes it has to check that (``limits.check_size``).
    """
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

    head = source[:_HEAD] if isinstance(source, bytes) else _head(source)
    kind = box_brand(head)
    if kind is not None and not reads(kind):
        raise UnreadableInput(f"{where}: {remedy(kind)}")
    if kind == "HEIC":
        return _open_heic(_file(source))
    try:
        return Image.open(_file(source))
    except Image.DecompressionBombError:
        if head[:3] != b"\xff\xd8\xff":
            raise
        return JpegImageFile(_file(source))


def box_brand(head: bytes) -> Literal["AVIF", "HEIC"] | None:
    """What the brands of a file's first box say it is; None for every other kind of file. ``head``: its first 512 bytes."""
    if head[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None


def _open_heic(file: io.BytesIO | Path) -> Image.Image:
    """Opened by itself: nothing is registered with Pillow, which belongs to the app."""
    import pillow_heif

    opener: Any = pillow_heif.HeifImageFile
    return cast("Image.Image", opener(file))


def _file(source: bytes | Path) -> io.BytesIO | Path:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD)

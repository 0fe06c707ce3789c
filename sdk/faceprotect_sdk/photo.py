"""A photo as an app hands it over, decoded to upright RGB pixels, with all that is needed to write it back alike.

Kept: size, container, EXIF orientation (pixels are turned upright here and turned back on writing), ICC profile, alpha,
grey, 16 bits of a PNG. Dropped: see :mod:`faceprotect_sdk.metadata`.
"""

from __future__ import annotations

import io
import shlex
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.container import PNG_SIGNATURE, colour_chunks, holds_all_blocks, left_out, lossless_webp, png_chunks, unusual_colours
from faceprotect_sdk.errors import FaceprotectError, UnreadableInput, UsageError
from faceprotect_sdk.mark import Mark, mark_in
from faceprotect_sdk.metadata import clean_exif, foreign_orientation, orientation_of, orientation_only, stored_exif

if TYPE_CHECKING:
    from PIL import Image

Container = Literal["JPEG", "PNG", "WEBP"]
ChannelOrder = Literal["rgb", "bgr"]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
#: What :func:`load` takes.
PhotoLike = Union[str, Path, bytes, "Image.Image", NDArray[np.uint8], "Photo"]

MAX_PIXELS = 100_000_000
MAX_BYTES = 512 * 1024 * 1024
SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
}
#: Colour types of a PNG's header chunk (its byte 25): grey, and grey with alpha, which OpenCV gives as four channels.
_GREY_TYPES = (0, 4)
#: PIL modes of 16-bit grey; "I" is how older versions of Pillow open such a PNG.
_DEEP_GREY = ("I;16", "I;16B", "I;16L", "I")
_TRANSPARENT = "the transparent colour became an alpha channel"
_CONTAINER: dict[str, Container] = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "WEBP": "WEBP"}


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

    def rgb8(self) -> NDArray[np.uint8]:
        """Upright uint8 RGB [H, W, 3]: what detectors and recognisers look at."""
        if self.pixels.dtype == np.uint8:
            return self.pixels.astype(np.uint8, copy=False)
        return ((self.pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)

    def with_pixels(self, pixels: Pixels) -> Photo:
        """The same photo with other upright pixels of the same shape and dtype."""
        if pixels.shape != self.pixels.shape or pixels.dtype != self.pixels.dtype:
            own = self.pixels
            raise UsageError(f"pixels must be {own.dtype} {own.shape}, got {pixels.dtype} {pixels.shape}")
        return replace(self, pixels=pixels)


def load(source: PhotoLike, *, channel_order: ChannelOrder = "rgb") -> Photo:
    """Decode a photo.

    ``source``: a path, the bytes of a file, a PIL image, a uint8 array (HWC with 3 or 4 channels, or HW grey) or a
    :class:`Photo`. ``channel_order`` says how an array's channels are ordered ("bgr" for OpenCV frames); it is never
    guessed and applies to arrays only.

    Raises :class:`UnreadableInput` for a file that is missing, empty, truncated, animated, mislabelled, of an unknown
    kind, or larger than 100 megapixels (before it is decoded), :class:`UsageError` for a wrong kind of argument.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source, channel_order)
    if channel_order != "rgb":
        raise UsageError("channel_order applies to arrays only: a file or PIL image knows its own")
    if isinstance(source, (str, Path)):
        return _from_path(Path(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), "the bytes given")
    return _from_pil(source)


def _from_path(path: Path) -> Photo:
    try:
        found = path.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise UnreadableInput(f"{path}: is a pipe or a device, which could block the run. Save the photo to a file first")
        if found.st_size > MAX_BYTES:
            raise UnreadableInput(f"{path}: {found.st_size / 2**20:.0f} MB is more than a photo; the limit is 512 MB")
        if stat.S_ISDIR(found.st_mode):
            raise UnreadableInput(f"{path}: is a folder. Add --recursive to protect the photos in it")
        data = path.read_bytes()
    except ValueError as error:
        raise UnreadableInput(f"{str(path)!r}: no file can be called so ({error}). Check the path") from error
    except OSError as error:
        reason = error.strerror or error
        raise UnreadableInput(f"{path}: cannot be read ({reason}). Check the path and its rights") from error
    photo = replace(_decode(data, str(path)), path=path)
    if path.suffix.lower() not in SUFFIXES[photo.container]:
        wanted = SUFFIXES[photo.container][0]
        raise UnreadableInput(
            f"{path}: the name says '{path.suffix or 'nothing'}' but the content is {photo.container}. "
            f"Rename it: mv -- {shlex.quote(str(path))} {shlex.quote(str(path.with_suffix(wanted)))}"
        )
    return photo


def _from_array(array: NDArray[Any], channel_order: ChannelOrder) -> Photo:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise UsageError(
            f"an array must be uint8 [H, W, 3], [H, W, 4] or [H, W], got {array.dtype} {list(array.shape)}. "
            "Scale floats first: (x * 255).round().astype('uint8')"
        )
    if channel_order not in ("rgb", "bgr"):
        raise UsageError(f"channel_order must be 'rgb' or 'bgr', got {channel_order!r}")
    _check_size(array.shape[1], array.shape[0], "the array given")
    if array.ndim == 2:
        return Photo(np.repeat(array[..., None], 3, 2), "PNG", grey=True, lossless=True)
    colour = array[..., 2::-1] if channel_order == "bgr" else array[..., :3]
    alpha = np.ascontiguousarray(array[..., 3]) if array.shape[2] == 4 else None
    return Photo(np.ascontiguousarray(colour), "PNG", alpha=alpha, lossless=True)


def _check_size(width: int, height: int, where: str) -> None:
    if width < 1 or height < 1:
        raise UnreadableInput(f"{where}: the image has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise UnreadableInput(
            f"{where}: {width} x {height} is {width * height / 1e6:.0f} megapixels; the limit is "
            f"{MAX_PIXELS // 10**6}. Scale it down first"
        )


def _decode(data: bytes, where: str) -> Photo:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise UnreadableInput(f"{where}: the file is empty. Copy it again from where it came")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own size limit comes below; damaged EXIF becomes a note
            with Image.open(io.BytesIO(data)) as image:
                return _from_opened(image, data, where)
    except Image.DecompressionBombError as error:
        limit = f"{MAX_PIXELS // 10**6} megapixels"
        raise UnreadableInput(f"{where}: far more pixels than the limit of {limit}. Scale it down first") from error
    except UnidentifiedImageError as error:
        raise UnreadableInput(f"{where}: not a JPEG, PNG or WebP photo. Convert it to JPEG first") from error
    except (FaceprotectError, MemoryError):
        raise
    except Exception as error:  # Pillow reads foreign bytes here, and fails in as many ways as there are
        raise UnreadableInput(f"{where}: damaged ({error}). Copy it again from where it came") from error


def _from_opened(image: Image.Image, data: bytes, where: str) -> Photo:
    container = _CONTAINER.get(image.format or "")
    if container is None:
        raise UnreadableInput(f"{where}: {image.format} is not supported. Convert it to JPEG, PNG or WebP first")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise UnreadableInput(f"{where}: the image is animated. Save one frame as a still image first")
    _check_size(image.width, image.height, where)
    if container == "JPEG" and not holds_all_blocks(data, image.width * image.height):
        short = f"{len(data)} bytes cannot hold {image.width} x {image.height} pixels"
        raise UnreadableInput(f"{where}: truncated or damaged ({short}). Copy it again from where it came")
    deep = _deep_png(data) if container == "PNG" else None
    try:
        if deep is None:
            image.load()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableInput(f"{where}: truncated or damaged ({error}). Copy it again from where it came") from error
    lossless = container == "PNG" or (container == "WEBP" and lossless_webp(data))
    photo = _from_pil(image, container, lossless) if deep is None else _from_deep(image, deep, where)
    colour = colour_chunks(data) if container == "PNG" else {}
    return replace(photo, colour=colour, notes=(*photo.notes, *unusual_colours(colour), *left_out(data, container)))


def _from_pil(image: Image.Image, container: Container | None = None, lossless: bool | None = None) -> Photo:
    from PIL import Image

    if isinstance(image, Image.Image) and container is None:
        _load_pil(image)
    if not isinstance(image, Image.Image):
        raise UsageError(
            f"a photo is a path, bytes, a PIL image or a uint8 array, got {type(image).__name__}. "
            "For a file object pass its bytes: photo.read()"
        )
    chosen = container or _CONTAINER.get(image.format or "", "PNG")
    _check_size(image.width, image.height, "the image given")
    base = _common(image, chosen, (chosen == "PNG") if lossless is None else lossless)
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in _DEEP_GREY:
        return _upright(_with_integers(replace(base, container="PNG", lossless=True, grey=True), image))
    if image.mode == "CMYK":
        base = replace(base, icc=None)
    image, notes = _to_rgb_mode(image)
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # a copy would be 400 MB at the largest
    alpha = np.asarray(image.getchannel("A")) if image.mode in ("RGBA", "LA") else None
    return _upright(replace(base, pixels=pixels, alpha=alpha, grey=grey, notes=base.notes + notes))


def _with_integers(base: Photo, image: Image.Image) -> Photo:
    """Grey of 16 bits, or the integers of mode I: those up to 255 are of 8 bits, where no file says otherwise."""
    values = np.asarray(image)
    if image.mode == "I" and image.format is None:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            remedy = "Scale them to 0..255 and convert it: image.convert('L')"
            raise UsageError(f"a PIL image of mode I has values from {low} to {high}. {remedy}")
        if high <= 255:
            note = "integers up to 255 (mode I) were read as grey of 8 bits"
            return replace(base, pixels=np.repeat(values.astype(np.uint8)[..., None], 3, 2), notes=(*base.notes, note))
    grey = np.clip(values, 0, 65535).astype(np.uint16)
    colour = np.repeat(grey[..., None], 3, 2)
    see_through = image.info.get("transparency")
    if not isinstance(see_through, int):
        return replace(base, pixels=colour)
    return replace(base, pixels=colour, alpha=_opaque_but(grey == see_through), notes=(*base.notes, _TRANSPARENT))


def _opaque_but(see_through: NDArray[np.bool_]) -> NDArray[np.uint16]:
    return np.where(see_through, 0, 65535).astype(np.uint16)


def _load_pil(image: Image.Image) -> None:
    """Decode an image that the app has opened; raises UnreadableInput as for a file."""
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise UnreadableInput("the image given is animated. Save one frame as a still image first")
    _check_size(image.width, image.height, "the image given")
    try:
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableInput(f"the image given is truncated or damaged ({error}). Get it again") from error


def _common(image: Image.Image, container: Container, lossless: bool) -> Photo:
    """Everything but the pixels."""
    kept, orientation, mark = b"", 1, None
    notes: tuple[str, ...] = ()
    # A damaged block must not be copied blindly (it may hold a place) nor stop the photo, nor turn it.
    try:
        exif = stored_exif(image)
        orientation = orientation_of(exif)
        mark = mark_in(exif)
        kept, damaged = clean_exif(exif)
        if damaged:
            notes = (f"{damaged} damaged EXIF tags were left out",)
        if foreign_orientation(image, exif):
            notes += ("an orientation outside EXIF (XMP or a raw profile) was left out: viewers do not turn the photo by it",)
    except Exception as error:  # noqa: BLE001 - Pillow reads foreign bytes here, and fails in as many ways as there are
        kept = orientation_only(orientation)
        notes = (f"EXIF was damaged and left out ({type(error).__name__})",)
    dpi = image.info.get("dpi")
    return Photo(
        pixels=np.empty((0, 0, 3), np.uint8),
        container=container,
        orientation=orientation,
        icc=image.info.get("icc_profile") or None,
        exif=kept,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        lossless=lossless,
        notes=notes,
        mark=mark,
    )


def _to_rgb_mode(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in mode RGB, RGBA, L or LA, and notes of what changed."""
    if image.mode in ("RGB", "L") and "transparency" in image.info:  # one colour that means transparent
        return image.convert("RGBA" if image.mode == "RGB" else "LA"), (_TRANSPARENT,)
    if image.mode in ("RGB", "RGBA", "L", "LA"):
        return image, ()
    if image.mode == "CMYK":
        return _from_cmyk(image), ("CMYK was converted to RGB; its ICC profile was left out",)
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB"), ("the palette became true colour",)
    if image.mode == "1":
        return image.convert("L"), ("black and white became 8-bit grey",)
    if image.mode in ("La", "RGBa"):
        return image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode]), ("colours multiplied with alpha were divided again",)
    if image.mode == "F":
        raise UsageError("a PIL image of mode F has no known range. Scale it to 0..255 and convert it: image.convert('L')")
    try:
        return image.convert("RGBA" if image.mode == "PA" else "RGB"), ()
    except ValueError as error:
        raise UsageError(f"a PIL image of mode {image.mode} cannot be read. Convert it first: image.convert('RGB')") from error


def _from_cmyk(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # an unusable profile: the plain formula below is what viewers show too
    return image.convert("RGB")


def _deep_png(data: bytes) -> bytes | None:
    """The data, when it is a PNG with 16 bits per channel (byte 24 is the bit depth of the header chunk)."""
    return data if data[:8] == PNG_SIGNATURE and len(data) > 25 and data[24] == 16 else None


def _from_deep(image: Image.Image, data: bytes, where: str) -> Photo:
    """16-bit PNG, which Pillow would cut to 8 bits for colour: decoded by OpenCV."""
    import cv2

    try:
        image.load()  # first, for it checks the checksums, where OpenCV prints to stderr and goes on
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableInput(f"{where}: truncated or damaged ({error}). Copy it again from where it came") from error
    raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16:
        raise UnreadableInput(f"{where}: the 16-bit PNG cannot be decoded. Save it again with another program")
    colour, alpha = _split_deep(raw)
    base = _common(image, "PNG", True)
    hidden = next((content for kind, content, _ in png_chunks(data) if kind == b"tRNS"), b"")
    if len(hidden) in (2, 6):
        base = replace(base, notes=(*base.notes, _TRANSPARENT))
    if alpha is None and len(hidden) in (2, 6):  # OpenCV from 5 on does it by itself, for colour
        alpha = _opaque_but((colour == np.frombuffer(hidden, ">u2")).all(2))
    return _upright(replace(base, pixels=colour, alpha=alpha, grey=data[25] in _GREY_TYPES))


def _split_deep(raw: NDArray[Any]) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
    if raw.ndim == 2:
        return np.repeat(raw[..., None], 3, 2), None
    alpha = np.ascontiguousarray(raw[..., 3]) if raw.shape[2] == 4 else None
    return np.ascontiguousarray(raw[..., 2::-1]), alpha


def _upright(photo: Photo) -> Photo:
    pixels = turn(photo.pixels, photo.orientation)
    alpha = None if photo.alpha is None else turn(photo.alpha, photo.orientation)
    return replace(photo, pixels=pixels, alpha=alpha)


def turn(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation 1..8 to the first two axes: stored rows and columns to upright ones."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def turn_back(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Inverse of :func:`turn`: only 6 and 8 are not their own inverse."""
    return turn(array, {6: 8, 8: 6}.get(orientation, orientation))

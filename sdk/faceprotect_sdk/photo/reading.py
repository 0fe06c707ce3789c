"""A photo as an app hands it over, decoded: a path, the bytes of a file, a PIL image or an array."""

from __future__ import annotations

import shlex
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.shared import NO_WARNINGS
from faceprotect_sdk.errors import FaceprotectError, UnreadableInput, UsageError
from faceprotect_sdk.photo.container import colour_chunks, cut_to_8_bits, holds_all_blocks, left_out, lossless_webp, unusual_colours
from faceprotect_sdk.photo.deep_png import from_deep, is_deep
from faceprotect_sdk.photo.formats import CONTAINERS, SUFFIXES, Container, open_image
from faceprotect_sdk.photo.large import LARGE, LargePhoto, open_large
from faceprotect_sdk.photo.limits import MAX_BYTES, MAX_JPEG_PIXELS, MAX_PIXELS, check_size
from faceprotect_sdk.photo.picture import Photo, Pixels
from faceprotect_sdk.photo.pil_image import from_pil, is_moving
from faceprotect_sdk.photo.turns import turn, turn_back

if TYPE_CHECKING:
    from PIL import Image

ChannelOrder = Literal["rgb", "bgr"]
#: What :func:`load` takes.
PhotoLike = Union[str, Path, bytes, "Image.Image", NDArray[np.uint8], Photo, LargePhoto]

__all__ = ["ChannelOrder", "Container", "LargePhoto", "Photo", "PhotoLike", "Pixels", "SUFFIXES", "load", "open_photo", "turn", "turn_back"]


def load(source: PhotoLike, *, channel_order: ChannelOrder = "rgb") -> Photo:
    """Decode a photo.

    ``source``: a path, the bytes of a file, a PIL image, a uint8 array (HWC with 3 or 4 channels, or HW grey) or a
    :class:`Photo`. ``channel_order`` says how an array's channels are ordered ("bgr" for OpenCV frames); it is never
    guessed and applies to arrays only.

    Raises :class:`UnreadableInput` for a file that is missing, empty, truncated, animated, mislabelled, of an unknown
    kind or one that something has to be installed for, or larger than 100 megapixels (a JPEG: 260; before it is decoded),
    :class:`UsageError` for a wrong kind of argument.
    """
    opened = open_photo(source, channel_order=channel_order)
    return opened.decoded() if isinstance(opened, LargePhoto) else opened


def open_photo(source: PhotoLike, *, channel_order: ChannelOrder = "rgb") -> Photo | LargePhoto:
    """The same, but a JPEG file of more than 64 megapixels is looked at and not kept decoded. Raises like :func:`load`."""
    if isinstance(source, (Photo, LargePhoto)):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source, channel_order)
    if channel_order != "rgb":
        raise UsageError("channel_order applies to arrays only: a file or PIL image knows its own")
    if isinstance(source, (str, Path)):
        return _from_path(Path(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), "the bytes given")
    return from_pil(source)


def _from_path(path: Path) -> Photo | LargePhoto:
    try:
        found = path.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise UnreadableInput(f"{path}: is a pipe or a device, which could block the run. Save the photo to a file first")
        if found.st_size > MAX_BYTES:
            raise UnreadableInput(f"{path}: {found.st_size / 2**20:.0f} MB is more than a photo; the limit is 512 MB")
        if stat.S_ISDIR(found.st_mode):
            raise UnreadableInput(f"{path}: is a folder", hint="Pass the photos in it one by one")
        data = path.read_bytes()
    except ValueError as error:
        raise UnreadableInput(f"{str(path)!r}: no file can be called so ({error}). Check the path") from error
    except OSError as error:
        reason = error.strerror or error
        raise UnreadableInput(f"{path}: cannot be read ({reason}). Check the path and its rights") from error
    photo = _decode(data, str(path)).at(path)
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
    check_size(array.shape[1], array.shape[0], "the array given")
    if array.ndim == 2:
        return Photo(np.repeat(array[..., None], 3, 2), "PNG", grey=True, lossless=True)
    colour = array[..., 2::-1] if channel_order == "bgr" else array[..., :3]
    alpha = np.ascontiguousarray(array[..., 3]) if array.shape[2] == 4 else None
    return Photo(np.ascontiguousarray(colour), "PNG", alpha=alpha, lossless=True)


def _decode(data: bytes, where: str) -> Photo | LargePhoto:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise UnreadableInput(f"{where}: the file is empty. Copy it again from where it came")
    try:
        with NO_WARNINGS, open_image(data, where) as image:  # our own size limit comes below; damaged EXIF becomes a note
            return _from_opened(image, data, where)
    except Image.DecompressionBombError as error:
        limit = f"{MAX_PIXELS // 10**6} megapixels"
        raise UnreadableInput(f"{where}: far more pixels than the limit of {limit}. Scale it down first") from error
    except UnidentifiedImageError as error:
        raise UnreadableInput(f"{where}: not a JPEG, PNG, WebP, AVIF or HEIC photo. Convert it to JPEG first") from error
    except (FaceprotectError, MemoryError):
        raise
    except Exception as error:  # Pillow reads foreign bytes here, and fails in as many ways as there are
        raise UnreadableInput(f"{where}: damaged ({error}). Copy it again from where it came") from error


def _from_opened(image: Image.Image, data: bytes, where: str) -> Photo | LargePhoto:
    container = CONTAINERS.get(image.format or "")
    if container is None:
        raise UnreadableInput(f"{where}: {image.format} is not supported. Convert it to JPEG, PNG or WebP first")
    if is_moving(image):
        raise UnreadableInput(f"{where}: the image is animated. Save one frame as a still image first")
    large = container == "JPEG" and image.width * image.height > LARGE and image.mode in ("RGB", "L")
    check_size(image.width, image.height, where, MAX_JPEG_PIXELS if large else MAX_PIXELS)
    if container == "JPEG" and not holds_all_blocks(data, image.width * image.height):
        short = f"{len(data)} bytes cannot hold {image.width} x {image.height} pixels"
        raise UnreadableInput(f"{where}: truncated or damaged ({short}). Copy it again from where it came")
    if large:
        return open_large(image, data, where)
    deep = is_deep(data) if container == "PNG" else None
    try:
        if deep is None:
            image.load()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableInput(f"{where}: truncated or damaged ({error}). Copy it again from where it came") from error
    lossless = container == "PNG" or (container == "WEBP" and lossless_webp(data))
    photo = from_pil(image, container, lossless) if deep is None else from_deep(image, deep, where)
    colour = colour_chunks(data) if container == "PNG" else {}
    notes = (*photo.notes, *unusual_colours(colour), *left_out(data, container))
    return replace(photo, colour=colour, notes=notes + _boxed_notes(image, data, container))


def _boxed_notes(image: Image.Image, data: bytes, container: Container) -> tuple[str, ...]:
    """What an AVIF or HEIC file loses."""
    if container not in ("AVIF", "HEIC"):
        return ()
    pictures = int(getattr(image, "n_frames", 1))
    further = (f"the file holds {pictures} pictures: only the main one was kept",) if pictures > 1 else ()
    return (*further, *cut_to_8_bits(data, container))

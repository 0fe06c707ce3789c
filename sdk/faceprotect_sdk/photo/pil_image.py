"""An opened PIL image as a :class:`Photo`, whatever its mode."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import UnreadableInput, UsageError
from faceprotect_sdk.photo.formats import CONTAINERS, Container
from faceprotect_sdk.photo.limits import check_size
from faceprotect_sdk.photo.mark import mark_in
from faceprotect_sdk.photo.metadata import clean_exif, foreign_orientation, orientation_of, orientation_only, stored_exif
from faceprotect_sdk.photo.picture import Photo
from faceprotect_sdk.photo.turns import turn

if TYPE_CHECKING:
    from PIL import Image

#: PIL modes of 16-bit grey; "I" is how older versions of Pillow open such a PNG.
_DEEP_GREY = ("I;16", "I;16B", "I;16L", "I")
TRANSPARENT = "the transparent colour became an alpha channel"
_BAND = 512


def from_pil(image: Image.Image, container: Container | None = None, lossless: bool | None = None) -> Photo:
    """The photo in an image: one of a file of ours is decoded already and has its ``container``; an app's is decoded and checked here."""
    from PIL import Image

    if isinstance(image, Image.Image) and container is None:
        _load_pil(image)
    if not isinstance(image, Image.Image):
        raise UsageError(
            f"a photo is a path, bytes, a PIL image or a uint8 array, got {type(image).__name__}. "
            "For a file object pass its bytes: photo.read()"
        )
    chosen = container or CONTAINERS.get(image.format or "", "PNG")
    check_size(image.width, image.height, "the image given")
    base = common(image, chosen, (chosen == "PNG") if lossless is None else lossless)
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in _DEEP_GREY:
        return upright(_with_integers(replace(base, container="PNG", lossless=True, grey=True), image))
    if image.mode == "CMYK":
        base = replace(base, icc=None)
    image, notes = _to_rgb_mode(image)
    pixels = _rgb(image)
    alpha = np.asarray(image.getchannel("A")) if image.mode in ("RGBA", "LA") else None
    return upright(replace(base, pixels=pixels, alpha=alpha, grey=grey, notes=base.notes + notes))


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """[H, W, 3] of an image of mode RGB, RGBA, L or LA; in bands, for Pillow holds four bytes a pixel and copies them twice on the way."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        pixels[top : top + _BAND] = np.asarray(band.convert("RGB"))
    return pixels


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
    return replace(base, pixels=colour, alpha=opaque_but(grey == see_through), notes=(*base.notes, TRANSPARENT))


def opaque_but(see_through: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Alpha [H, W] of 16 bits for a colour that means transparent."""
    return np.where(see_through, 0, 65535).astype(np.uint16)


def is_moving(image: Image.Image) -> bool:
    """Whether an opened image has frames that follow each other; further pictures of a JPEG (MPO) or HEIC file are none."""
    return image.format not in ("MPO", "HEIF") and bool(getattr(image, "is_animated", False))


def _load_pil(image: Image.Image) -> None:
    """Decode an image that the app has opened; raises UnreadableInput as for a file."""
    if is_moving(image):
        raise UnreadableInput("the image given is animated. Save one frame as a still image first")
    check_size(image.width, image.height, "the image given")
    try:
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableInput(f"the image given is truncated or damaged ({error}). Get it again") from error


def common(image: Image.Image, container: Container, lossless: bool) -> Photo:
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
        return image.convert("RGBA" if image.mode == "RGB" else "LA"), (TRANSPARENT,)
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


def upright(photo: Photo) -> Photo:
    """The photo turned by its orientation."""
    pixels = turn(photo.pixels, photo.orientation)
    alpha = None if photo.alpha is None else turn(photo.alpha, photo.orientation)
    return replace(photo, pixels=pixels, alpha=alpha)

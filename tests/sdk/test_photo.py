"""Photos in and out: geometry, profiles, alpha, depth, and what is kept or dropped beside the picture."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from picture_files import SRGB, chunk, exif_of, file_of, gradient
from PIL import Image

from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.photo.encode import encode
from faceprotect_sdk.photo.reading import load, turn, turn_back


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_agrees_with_pillow(orientation: int) -> None:
    stored = gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.open(io.BytesIO(file_of(Image.fromarray(stored), "PNG", exif=exif)))
    from PIL import ImageOps

    np.testing.assert_array_equal(turn(stored, orientation), np.asarray(ImageOps.exif_transpose(image)))
    np.testing.assert_array_equal(turn_back(turn(stored, orientation), orientation), stored)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_survives_a_round_trip(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = file_of(Image.fromarray(gradient()), kind, exif=exif_of(orientation), **options)
    first = load(data)
    second = load(encode(first))
    assert first.orientation == second.orientation == orientation
    assert first.size == second.size
    assert np.abs(first.pixels.astype(int) - second.pixels).max() <= (12 if kind == "JPEG" else 0)
    with Image.open(io.BytesIO(encode(first))) as written:
        assert written.size == (60, 40)
        assert written.format == kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_profile_kept_and_place_dropped(kind: str) -> None:
    data = file_of(Image.fromarray(gradient()), kind, exif=exif_of(6), icc_profile=SRGB)
    with Image.open(io.BytesIO(data)) as before:
        assert before.getexif().get_ifd(0x8825)
    with Image.open(io.BytesIO(encode(load(data)))) as after:
        assert after.info["icc_profile"] == SRGB
        exif = after.getexif()
        assert exif[0x010F] == "Camera Maker"
        assert 0x829A in exif.get_ifd(0x8769)
        assert 0x927C not in exif.get_ifd(0x8769)
        assert not exif.get_ifd(0x8825)
    assert b"maker note" not in encode(load(data))


def test_thumbnail_xmp_and_text_are_dropped() -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Author", "Jane Roe")
    assert b"Jane" not in encode(load(file_of(Image.fromarray(gradient()), "PNG", pnginfo=text)))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">Jane Roe</x:xmpmeta>'
    assert b"Jane" not in encode(load(file_of(Image.fromarray(gradient()), "JPEG", xmp=xmp)))


def test_exif_thumbnail_is_dropped() -> None:
    """Directory 1 of an EXIF block holds a picture of the unprotected face."""
    thumbnail = file_of(Image.fromarray(gradient(12, 16)), "JPEG")
    first = struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<I", 8 + 2 + 12 + 4)
    where = 8 + len(first) + 2 + 2 * 12 + 4
    second = struct.pack("<H", 2)
    second += struct.pack("<HHII", 0x0201, 4, 1, where) + struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail))
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + struct.pack("<I", 0) + thumbnail
    data = file_of(Image.fromarray(gradient()), "JPEG", exif=block)
    assert data.count(b"\xff\xd8\xff") == 2
    written = encode(load(data))
    assert written.count(b"\xff\xd8\xff") == 1
    assert load(written).orientation == 6


def test_damaged_exif_is_left_out_with_a_note() -> None:
    data = file_of(Image.fromarray(gradient()), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xffgarbage")
    photo = load(data)
    assert photo.size == (60, 40)
    assert b"garbage" not in encode(photo)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_kept_bit_for_bit(kind: str) -> None:
    rgba = np.dstack([gradient(), np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    photo = load(file_of(Image.fromarray(rgba), kind, **options))
    with Image.open(io.BytesIO(encode(photo))) as written:
        assert written.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(written), rgba)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_stays_grey(kind: str) -> None:
    grey = gradient()[..., 0]
    photo = load(file_of(Image.fromarray(grey), kind))
    assert photo.pixels.shape == (40, 60, 3)
    with Image.open(io.BytesIO(encode(photo))) as written:
        assert written.mode == "L"
        assert np.abs(np.asarray(written).astype(int) - grey).max() <= (2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_kept(channels: int) -> None:
    generator = np.random.default_rng(0)
    array = generator.integers(0, 65536, (40, 60, channels), dtype=np.uint16)
    ok, data = cv2.imencode(".png", array[..., 0] if channels == 1 else array)
    assert ok
    photo = load(data.tobytes())
    assert photo.deep
    assert photo.rgb8().dtype == np.uint8
    again = cv2.imdecode(np.frombuffer(encode(photo), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(again.reshape(array.shape), array)


def test_sixteen_bit_png_keeps_orientation_and_profile() -> None:
    array = np.random.default_rng(0).integers(0, 65536, (40, 60, 3), dtype=np.uint16)
    plain = cv2.imencode(".png", array)[1].tobytes()
    profile = b"icc\0\0" + zlib.compress(SRGB)
    exif = exif_of(6).tobytes().removeprefix(b"Exif\0\0")
    data = plain[:33] + chunk(b"iCCP", profile) + chunk(b"eXIf", exif) + plain[33:]
    photo = load(data)
    assert photo.size == (40, 60)
    with Image.open(io.BytesIO(encode(photo))) as written:
        assert written.size == (60, 40)
        assert written.info["icc_profile"] == SRGB
        assert written.getexif()[0x0112] == 6
        assert not written.getexif().get_ifd(0x8825)


def test_jpeg_is_written_without_chroma_subsampling() -> None:
    data = encode(load(file_of(Image.fromarray(gradient()), "JPEG")))
    with Image.open(io.BytesIO(data)) as written:
        assert [component[1:3] for component in written.layer] == [(1, 1)] * 3


def test_modes_become_something_that_can_be_written() -> None:
    palette = Image.fromarray(gradient()).quantize(16)
    assert load(file_of(palette, "PNG")).notes == ("the palette became true colour",)
    cmyk = load(file_of(Image.fromarray(gradient()).convert("CMYK"), "JPEG"))
    assert cmyk.icc is None
    assert "CMYK" in cmyk.notes[0]
    assert load(file_of(Image.fromarray(gradient()).convert("1"), "PNG")).grey


def test_arrays_say_their_channel_order() -> None:
    rgb = gradient()
    np.testing.assert_array_equal(load(rgb).pixels, rgb)
    np.testing.assert_array_equal(load(rgb[..., ::-1], channel_order="bgr").pixels, rgb)
    with pytest.raises(UsageError, match="arrays only"):
        load(b"x", channel_order="bgr")
    with pytest.raises(UsageError, match="uint8"):
        load(rgb.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a photo is"):
        load(io.BytesIO(b""))  # type: ignore[arg-type]


def test_who_took_the_photo_is_dropped_and_how_is_kept() -> None:
    exif = exif_of(6)
    names = {0x010E: "at Ann's", 0x013B: "Ann", 0x8298: "Ann", 0x9C9D: b"A\0n\0n\0\0\0"}
    for tag, value in names.items():
        exif[tag] = value
    exif[0x0110] = "Camera 1"
    exif.get_ifd(0x8769).update({0xA430: "Ann", 0xA431: "123", 0x9286: b"ASCII\0\0\0Ann", 0x829A: 0.01, 0x9003: "2026:01:01 00:00:00"})
    data = encode(load(file_of(Image.fromarray(gradient()), "JPEG", exif=exif)))
    assert b"Ann" not in data
    assert b"A\0n\0n" not in data
    with Image.open(io.BytesIO(data)) as written:
        kept = written.getexif()
        assert (kept[0x0112], kept[0x0110]) == (6, "Camera 1")
        assert set(kept.get_ifd(0x8769)) == {0x829A, 0x9003}


def test_one_odd_tag_does_not_turn_the_photo() -> None:
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 3)
    exif += struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x0128, 4, 1, 70000)
    exif += struct.pack("<HHI", 0x0110, 2, 4) + b"Cam\0" + struct.pack("<I", 0)
    photo = load(file_of(Image.fromarray(gradient()), "JPEG", exif=exif))
    assert photo.orientation == 6
    assert photo.size == (40, 60)
    assert "damaged" in photo.notes[0]
    with Image.open(io.BytesIO(encode(photo))) as written:
        assert dict(written.getexif()) == {0x0112: 6, 0x0110: "Cam"}


def test_a_transparent_colour_becomes_alpha() -> None:
    colours = gradient()
    photo = load(file_of(Image.fromarray(colours), "PNG", transparency=tuple(int(v) for v in colours[3, 4])))
    assert photo.alpha is not None
    assert photo.alpha[3, 4] == 0
    assert photo.alpha.max() == 255
    np.testing.assert_array_equal(photo.pixels, colours)


# what a file holds beside its picture, and greyness


def _png(colour_type: int, depth: int, rows: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG of big-endian rows [H, W, C], unfiltered, with further chunks before the picture."""
    height, width = rows.shape[:2]
    flat = rows.astype(">u2" if depth == 16 else np.uint8).reshape(height, -1).view(np.uint8)
    data = zlib.compress(np.hstack([np.zeros((height, 1), np.uint8), flat]).tobytes())
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_grey_with_alpha_of_sixteen_bits_stays_so() -> None:
    rows = np.random.default_rng(0).integers(0, 65536, (6, 8, 2), dtype=np.uint16)
    photo = load(_png(4, 16, rows))
    assert photo.grey and photo.alpha is not None
    np.testing.assert_array_equal(photo.alpha, rows[..., 1])
    written = encode(photo)
    assert written[24:26] == bytes([16, 4])
    np.testing.assert_array_equal(load(written).pixels[..., 0], rows[..., 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_sixteen_bits_becomes_alpha(channels: int) -> None:
    rows = np.random.default_rng(0).integers(1, 65536, (6, 8, channels), dtype=np.uint16)
    rows[2, 3] = 0
    photo = load(_png(0 if channels == 1 else 2, 16, rows, chunk(b"tRNS", b"\0\0" * channels)))
    assert photo.alpha is not None
    assert (photo.alpha == 0).sum() == 1 and photo.alpha[2, 3] == 0
    assert "transparent colour" in photo.notes[0]
    assert photo.grey == (channels == 1)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    ("kind", "content", "noted"),
    [
        (b"gAMA", struct.pack(">I", 100000), "gamma of 1.00"),
        (b"gAMA", struct.pack(">I", 45455), ""),
        (b"cICP", bytes([9, 16, 0, 1]), "PQ"),
        (b"sRGB", b"\0", ""),
        (b"gAMA", b"Jane", "gamma"),
    ],
)
def test_how_a_png_says_its_colours_is_kept(depth: int, kind: bytes, content: bytes, noted: str) -> None:
    rows = gradient().astype(np.uint16) * (257 if depth == 16 else 1)
    photo = load(_png(2, depth, rows, chunk(kind, content)))
    assert load(encode(photo)).colour == photo.colour == {kind: content}
    assert chunk(kind, content) in encode(photo)[:80]
    assert (noted in "".join(photo.notes)) if noted else photo.notes == ()


def test_what_is_no_description_of_colours_is_not_kept() -> None:
    data = _png(2, 8, gradient(), chunk(b"gAMA", b"Jane Roe"), chunk(b"tEXt", b"Author\0Jane"))
    assert b"Jane" not in encode(load(data))


def test_further_pictures_are_left_out_with_a_note() -> None:
    data = file_of(Image.fromarray(gradient()), "JPEG", exif=exif_of())
    assert load(data).notes == ()
    assert load(data + b"\0" * 64).notes == (), "padding is nothing"
    second = file_of(Image.fromarray(gradient()[::-1]), "JPEG")
    assert "more than one picture" in load(data + second).notes[0]
    stereo = file_of(Image.fromarray(gradient()), "MPO", save_all=True, append_images=[Image.fromarray(gradient())])
    assert "more than one picture" in load(stereo).notes[0]
    gain = file_of(Image.fromarray(gradient()), "JPEG", xmp=b'<x xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>')
    assert "gain map" in load(gain + second).notes[0]
    assert "motion clip" in load(data + b"\0\0\0\x18ftypmp42" + b"x" * 99).notes[0]
    png = file_of(Image.fromarray(gradient()), "PNG")
    assert "after the picture" in load(png + b"secret").notes[0]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_an_orientation_outside_exif_turns_nothing(kind: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    image = Image.fromarray(gradient())
    if kind == "PNG":
        block = exif_of(6).tobytes().hex()
        text = PngInfo()
        text.add_text("Raw profile type exif", f"\nexif\n{len(block) // 2:8}\n{block}\n")
        data = file_of(image, kind, pnginfo=text)
    else:
        data = file_of(image, kind, xmp=b'<rdf:Description tiff:Orientation="6"/>')
    photo = load(data)
    assert (photo.size, photo.orientation, photo.exif) == ((60, 40), 1, b"")
    assert "outside EXIF" in photo.notes[0]
    both = file_of(image, "JPEG", xmp=b'<rdf:Description tiff:Orientation="3"/>', exif=exif_of(6))
    assert (load(both).orientation, load(both).notes) == (6, ())


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "LAB", "HSV", "YCbCr", "RGBX", "CMYK", "1", "L", "LA"])
def test_every_mode_of_pillow_is_read(mode: str) -> None:
    start = Image.fromarray(gradient())
    for step in {"La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "PA": ("P", "PA"), "LAB": ()}.get(mode, (mode,)):
        start = start.convert(step)
    try:
        photo = load(start if mode != "LAB" else Image.new("LAB", (60, 40)))
    except UsageError as error:
        assert mode in str(error)
    else:
        assert photo.size == (60, 40)
        assert (photo.alpha is not None) == (mode in ("La", "RGBa", "PA", "LA"))


def test_integers_of_mode_i() -> None:
    values = gradient()[..., 0].astype(np.int32)
    small = load(Image.fromarray(values))
    assert small.pixels.dtype == np.uint8 and small.grey
    np.testing.assert_array_equal(small.pixels[..., 1], values)
    deep = load(Image.fromarray(values * 200))
    assert deep.deep
    np.testing.assert_array_equal(deep.pixels[..., 1], values * 200)
    for bad in (values - 1, values * 1000):
        with pytest.raises(UsageError, match="mode I"):
            load(Image.fromarray(bad))

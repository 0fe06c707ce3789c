"""Photos in and out: geometry, profiles, alpha, depth; and files that are refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from faceprotect_sdk.encode import encode
from faceprotect_sdk.errors import UnreadableInput, UsageError
from faceprotect_sdk.photo import load, turn, turn_back

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _gradient(height: int = 40, width: int = 60) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 4, y * 6, (x + y) * 2], 2).astype(np.uint8)


def _exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Camera Maker"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    exif.get_ifd(0x8769)[0x927C] = b"maker note with a preview"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.6)
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_agrees_with_pillow(orientation: int) -> None:
    stored = _gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.open(io.BytesIO(_bytes(Image.fromarray(stored), "PNG", exif=exif)))
    from PIL import ImageOps

    np.testing.assert_array_equal(turn(stored, orientation), np.asarray(ImageOps.exif_transpose(image)))
    np.testing.assert_array_equal(turn_back(turn(stored, orientation), orientation), stored)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_survives_a_round_trip(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = _bytes(Image.fromarray(_gradient()), kind, exif=_exif(orientation), **options)
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
    data = _bytes(Image.fromarray(_gradient()), kind, exif=_exif(6), icc_profile=SRGB)
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
    assert b"Jane" not in encode(load(_bytes(Image.fromarray(_gradient()), "PNG", pnginfo=text)))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">Jane Roe</x:xmpmeta>'
    assert b"Jane" not in encode(load(_bytes(Image.fromarray(_gradient()), "JPEG", xmp=xmp)))


def test_exif_thumbnail_is_dropped() -> None:
    """Directory 1 of an EXIF block holds a picture of the unprotected face."""
    thumbnail = _bytes(Image.fromarray(_gradient(12, 16)), "JPEG")
    first = struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<I", 8 + 2 + 12 + 4)
    where = 8 + len(first) + 2 + 2 * 12 + 4
    second = struct.pack("<H", 2)
    second += struct.pack("<HHII", 0x0201, 4, 1, where) + struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail))
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + struct.pack("<I", 0) + thumbnail
    data = _bytes(Image.fromarray(_gradient()), "JPEG", exif=block)
    assert data.count(b"\xff\xd8\xff") == 2
    written = encode(load(data))
    assert written.count(b"\xff\xd8\xff") == 1
    assert load(written).orientation == 6


def test_damaged_exif_is_left_out_with_a_note() -> None:
    data = _bytes(Image.fromarray(_gradient()), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xffgarbage")
    photo = load(data)
    assert photo.size == (60, 40)
    assert b"garbage" not in encode(photo)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_kept_bit_for_bit(kind: str) -> None:
    rgba = np.dstack([_gradient(), np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    photo = load(_bytes(Image.fromarray(rgba), kind, **options))
    with Image.open(io.BytesIO(encode(photo))) as written:
        assert written.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(written), rgba)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_stays_grey(kind: str) -> None:
    grey = _gradient()[..., 0]
    photo = load(_bytes(Image.fromarray(grey), kind))
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
    exif = _exif(6).tobytes().removeprefix(b"Exif\0\0")
    data = plain[:33] + _chunk(b"iCCP", profile) + _chunk(b"eXIf", exif) + plain[33:]
    photo = load(data)
    assert photo.size == (40, 60)
    with Image.open(io.BytesIO(encode(photo))) as written:
        assert written.size == (60, 40)
        assert written.info["icc_profile"] == SRGB
        assert written.getexif()[0x0112] == 6
        assert not written.getexif().get_ifd(0x8825)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_jpeg_is_written_without_chroma_subsampling() -> None:
    data = encode(load(_bytes(Image.fromarray(_gradient()), "JPEG")))
    with Image.open(io.BytesIO(data)) as written:
        assert [component[1:3] for component in written.layer] == [(1, 1)] * 3


def test_modes_become_something_that_can_be_written() -> None:
    palette = Image.fromarray(_gradient()).quantize(16)
    assert load(_bytes(palette, "PNG")).notes == ("the palette became true colour",)
    cmyk = load(_bytes(Image.fromarray(_gradient()).convert("CMYK"), "JPEG"))
    assert cmyk.icc is None
    assert "CMYK" in cmyk.notes[0]
    assert load(_bytes(Image.fromarray(_gradient()).convert("1"), "PNG")).grey


def test_arrays_say_their_channel_order() -> None:
    rgb = _gradient()
    np.testing.assert_array_equal(load(rgb).pixels, rgb)
    np.testing.assert_array_equal(load(rgb[..., ::-1], channel_order="bgr").pixels, rgb)
    with pytest.raises(UsageError, match="arrays only"):
        load(b"x", channel_order="bgr")
    with pytest.raises(UsageError, match="uint8"):
        load(rgb.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a photo is"):
        load(io.BytesIO(b""))  # type: ignore[arg-type]


def _truncated(kind: str) -> bytes:
    data = _bytes(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), kind)
    return data[: len(data) // 2]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated_files_are_refused(kind: str) -> None:
    with pytest.raises(UnreadableInput, match=r"truncated|damaged"):
        load(_truncated(kind))


def test_truncated_sixteen_bit_png_is_refused() -> None:
    data = cv2.imencode(".png", np.random.default_rng(0).integers(0, 65536, (64, 64, 3), dtype=np.uint16))[1].tobytes()
    with pytest.raises(UnreadableInput):
        load(data[: len(data) // 2])


def test_other_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="empty"):
        load(b"")
    with pytest.raises(UnreadableInput, match="not a JPEG"):
        load(b"hello, this is text")
    with pytest.raises(UnreadableInput, match="GIF is not supported"):
        load(_bytes(Image.fromarray(_gradient()), "GIF"))
    with pytest.raises(UnreadableInput, match="cannot be read"):
        load(tmp_path / "nowhere.jpg")
    wrong = tmp_path / "photo.png"
    wrong.write_bytes(_bytes(Image.fromarray(_gradient()), "JPEG"))
    with pytest.raises(UnreadableInput, match=r"content is JPEG.*mv"):
        load(wrong)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(kind: str) -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (0, 128)]
    with pytest.raises(UnreadableInput, match="animated"):
        load(_bytes(frames[0], kind, save_all=True, append_images=frames[1:], duration=100))


def test_bombs_are_refused_before_they_are_decoded() -> None:
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + _chunk(b"IEND", b"")
    )
    with pytest.raises(UnreadableInput, match="megapixels"):
        load(bomb)
    smaller = bomb.replace(
        _chunk(b"IHDR", header), _chunk(b"IHDR", struct.pack(">IIBBBBB", 11000, 10000, 8, 2, 0, 0, 0))
    )
    with pytest.raises(UnreadableInput, match="110 megapixels"):
        load(smaller)


def test_who_took_the_photo_is_dropped_and_how_is_kept() -> None:
    exif = _exif(6)
    names = {0x010E: "at Ann's", 0x013B: "Ann", 0x8298: "Ann", 0x9C9D: b"A\0n\0n\0\0\0"}
    for tag, value in names.items():
        exif[tag] = value
    exif[0x0110] = "Camera 1"
    exif.get_ifd(0x8769).update({0xA430: "Ann", 0xA431: "123", 0x9286: b"ASCII\0\0\0Ann", 0x829A: 0.01, 0x9003: "2026:01:01 00:00:00"})
    data = encode(load(_bytes(Image.fromarray(_gradient()), "JPEG", exif=exif)))
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
    photo = load(_bytes(Image.fromarray(_gradient()), "JPEG", exif=exif))
    assert photo.orientation == 6
    assert photo.size == (40, 60)
    assert "damaged" in photo.notes[0]
    with Image.open(io.BytesIO(encode(photo))) as written:
        assert dict(written.getexif()) == {0x0112: 6, 0x0110: "Cam"}


def test_opened_images_are_checked_like_files(tmp_path: Path) -> None:
    frames = [Image.fromarray(_gradient() // (n + 1)) for n in range(2)]
    moving = _bytes(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(moving)) as opened, pytest.raises(UnreadableInput, match="animated"):
        load(opened)
    data = _bytes(Image.fromarray(_gradient()), "JPEG")
    with Image.open(io.BytesIO(data[:-200])) as cut, pytest.raises(UnreadableInput, match="truncated"):
        load(cut)
    deep = np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27
    with Image.open(io.BytesIO(_bytes(Image.fromarray(deep), "PNG"))) as opened:
        photo = load(opened)
    assert photo.grey
    np.testing.assert_array_equal(photo.pixels[..., 0], deep)


def test_a_transparent_colour_becomes_alpha() -> None:
    colours = _gradient()
    photo = load(_bytes(Image.fromarray(colours), "PNG", transparency=tuple(int(v) for v in colours[3, 4])))
    assert photo.alpha is not None
    assert photo.alpha[3, 4] == 0
    assert photo.alpha.max() == 255
    np.testing.assert_array_equal(photo.pixels, colours)

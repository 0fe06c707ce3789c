"""Files that are refused, before they cost anything, and those near them that are read."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_files import SRGB, chunk, exif_of, file_of, gradient
from PIL import Image

from faceprotect_sdk.errors import UnreadableInput
from faceprotect_sdk.photo.reading import load


def _truncated(kind: str) -> bytes:
    data = file_of(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), kind)
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
        load(file_of(Image.fromarray(gradient()), "GIF"))
    with pytest.raises(UnreadableInput, match="cannot be read"):
        load(tmp_path / "nowhere.jpg")
    wrong = tmp_path / "photo.png"
    wrong.write_bytes(file_of(Image.fromarray(gradient()), "JPEG"))
    with pytest.raises(UnreadableInput, match=r"content is JPEG.*mv"):
        load(wrong)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(kind: str) -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (0, 128)]
    with pytest.raises(UnreadableInput, match="animated"):
        load(file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=100))


def test_bombs_are_refused_before_they_are_decoded() -> None:
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    with pytest.raises(UnreadableInput, match="megapixels"):
        load(bomb)
    smaller = bomb.replace(chunk(b"IHDR", header), chunk(b"IHDR", struct.pack(">IIBBBBB", 11000, 10000, 8, 2, 0, 0, 0)))
    with pytest.raises(UnreadableInput, match="110 megapixels"):
        load(smaller)


def test_opened_images_are_checked_like_files(tmp_path: Path) -> None:
    frames = [Image.fromarray(gradient() // (n + 1)) for n in range(2)]
    moving = file_of(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(moving)) as opened, pytest.raises(UnreadableInput, match="animated"):
        load(opened)
    data = file_of(Image.fromarray(gradient()), "JPEG")
    with Image.open(io.BytesIO(data[:-200])) as cut, pytest.raises(UnreadableInput, match="truncated"):
        load(cut)
    deep = np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27
    with Image.open(io.BytesIO(file_of(Image.fromarray(deep), "PNG"))) as opened:
        photo = load(opened)
    assert photo.grey
    np.testing.assert_array_equal(photo.pixels[..., 0], deep)


def test_names_that_no_file_can_have_and_files_that_would_block(tmp_path: Path) -> None:
    for path in ("a\0b.jpg", tmp_path / ("x" * 300 + ".jpg")):
        with pytest.raises(UnreadableInput):
            load(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(UnreadableInput, match="pipe"):
            load(tmp_path / "pipe.jpg")


def test_damaged_files_are_refused_or_read_and_nothing_else() -> None:
    """Bytes turned at random places: a photo, or UnreadableInput."""
    generator = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP"):
        whole = np.frombuffer(file_of(Image.fromarray(gradient()), kind, exif=exif_of(6), icc_profile=SRGB), np.uint8)
        for _ in range(100):
            data = whole.copy()
            places = generator.integers(0, len(data), 4)
            data[places] = generator.integers(0, 256, 4)
            cut = data[: generator.integers(len(data) // 2, len(data) + 1)].tobytes()
            try:
                photo = load(cut)
            except UnreadableInput:
                continue
            assert photo.pixels.shape[2] == 3


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_a_jpeg_that_is_too_short_for_its_size_is_refused_before_it_is_decoded(options: dict[str, bool]) -> None:
    """Decoders fill what is missing with grey: some thousand bytes would become 100 megapixels."""
    data = file_of(Image.fromarray(gradient()), "JPEG", **options)
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) + 5
    with pytest.raises(UnreadableInput, match="cannot hold 9999 x 9999"):
        load(data[:frame] + struct.pack(">HH", 9999, 9999) + data[frame + 4 :])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"subsampling": 2, "optimize": True}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_shortest_jpeg_of_its_size_is_read(mode: str, options: dict[str, object]) -> None:
    """One colour all over at the lowest quality: no encoder makes it shorter."""
    data = file_of(Image.new(mode, (3000, 2000)), "JPEG", quality=1, **options)
    assert load(data).size == (3000, 2000)

"""A JPEG too large to be held twice: worked on in windows, it becomes what it would have become as a whole."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import toy_zoo
from cli_tools import run
from PIL import Image, ImageCms

from faceprotect_sdk import Face, Protector, UnreadableInput
from faceprotect_sdk.canvas import LargeCanvas, WholeCanvas, canvas_of
from faceprotect_sdk.face.window import Window
from faceprotect_sdk.photo.encode import encode
from faceprotect_sdk.photo.large import LargePhoto, encode_large
from faceprotect_sdk.photo.limits import MAX_JPEG_PIXELS
from faceprotect_sdk.photo.mark import Mark, mark_of_file
from faceprotect_sdk.photo.reading import load, open_photo, turn

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def jpeg_bytes(orientation: int = 1, **options: object) -> bytes:
    """A toy photo of 1280 x 960, stored so that it is upright after its orientation."""
    upright = cv2.resize(toy_zoo.photo(), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = orientation, "Some camera"
    stored = turn(upright, {6: 8, 8: 6}.get(orientation, orientation))
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "JPEG", quality=92, exif=exif, icc_profile=SRGB, dpi=(300, 300), **options)
    return buffer.getvalue()


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceprotect_sdk.photo.reading.LARGE", 10_000)


@pytest.mark.usefixtures("all_are_large")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_and_metadata_are_those_of_the_ordinary_way(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding and encoding are OpenCV's here and Pillow's there."""
    data, mark = jpeg_bytes(orientation), Mark("1.2.3", "auto", "0123456789abcdef")
    large = open_photo(data)
    assert isinstance(large, LargePhoto)
    written = encode_large(large.frame, large.stored(), quality=95, mark=mark)
    found = load(data)
    monkeypatch.undo()
    ordinary = load(data)
    np.testing.assert_array_equal(found.pixels, ordinary.pixels)
    assert (found.size, large.size) == (ordinary.size, ordinary.size)
    one, other = load(written), load(encode(ordinary, quality=95, mark=mark))
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert (one.exif, one.icc, one.dpi, one.orientation, one.mark) == (other.exif, other.icc, other.dpi, orientation, mark)
    small = cv2.resize(ordinary.pixels, large.reduced.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - large.reduced).mean() < 2, "the reduced decode lies as the photo does"


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photo_becomes_what_it_would_as_a_whole(protector: Protector, monkeypatch: pytest.MonkeyPatch, orientation: int) -> None:
    data = jpeg_bytes(orientation)
    face = protector.faces(data)[0]
    whole = protector.protect(data, faces=[face])
    monkeypatch.setattr("faceprotect_sdk.photo.reading.LARGE", 10_000)
    large = protector.protect(data, faces=[face])
    assert (large.status, large.size, large.container) == (whole.status, whole.size, whole.container)
    assert large.image is not None and whole.image is not None
    assert large.faces[0].box == pytest.approx(whole.faces[0].box)
    alone = protector.faces(data)[0]
    np.testing.assert_allclose(alone.points, face.points, atol=0.05 * (face.box[2] - face.box[0]))
    monkeypatch.undo()
    first, second = load(whole.image), load(large.image)
    assert np.abs(first.pixels.astype(int) - second.pixels).mean() < 0.5
    assert (second.mark is not None, second.exif != b"", second.icc) == (True, True, SRGB)
    window = Window.around(face, *first.size)
    untouched = load(encode(load(data), quality=95)).pixels.astype(int) - second.pixels
    inside = untouched[window.top : window.bottom, window.left : window.right].copy()
    untouched[window.top : window.bottom, window.left : window.right] = 0
    assert not untouched.any()
    assert inside.any()


@pytest.mark.usefixtures("all_are_large", "toy_cli")
def test_the_command_writes_it_and_knows_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = tmp_path / "me.jpg", tmp_path / "me_protected.jpg"
    path.write_bytes(jpeg_bytes())
    code, (document,), _ = run(capsys, "protect", path, "--json", "--device", "cpu", "--no-installed-judges", "--sheet", tmp_path)
    assert (code, document["size"]) == (0, [1280, 960])
    assert mark_of_file(output) is not None
    assert (tmp_path / "me_sheet.png").exists()
    code, (document,), _ = run(capsys, "protect", output, "--json", "--device", "cpu", "--no-installed-judges")
    assert (code, document["error"]["type"]) == (4, "AlreadyProtected")


@pytest.mark.usefixtures("all_are_large")
def test_a_grey_one_stays_grey() -> None:
    buffer = io.BytesIO()
    Image.fromarray(toy_zoo.photo()).convert("L").save(buffer, "JPEG")
    large = open_photo(buffer.getvalue())
    assert isinstance(large, LargePhoto)
    with Image.open(io.BytesIO(LargeCanvas(large).write(None, 95, None))) as written:
        assert written.mode == "L"


@pytest.mark.usefixtures("all_are_large")
def test_a_truncated_one_is_refused() -> None:
    data = jpeg_bytes()
    with pytest.raises(UnreadableInput, match="truncated"):
        open_photo(data[: len(data) // 2])


def test_only_a_jpeg_may_have_200_megapixels() -> None:
    """The size is changed in the header alone: it is refused, or not, before anything is decoded."""
    data = bytearray(jpeg_bytes())
    at = data.rindex(b"\xff\xc0") + 5  # the profile may hold the same two bytes
    data[at : at + 4] = (17000).to_bytes(2, "big") + (16000).to_bytes(2, "big")
    with pytest.raises(UnreadableInput, match=f"272 megapixels; the limit is {MAX_JPEG_PIXELS // 10**6}"):
        load(bytes(data))
    png = io.BytesIO()
    Image.new("1", (10001, 10000)).save(png, "PNG")
    with pytest.raises(UnreadableInput, match=r"the limit is 100 \(260 for a JPEG\)"):
        load(png.getvalue())


def test_a_window_holds_what_is_looked_at() -> None:
    """The whole photo is no copy; a face's window has its crop, lies in the photo, and moves points there and back."""
    points = np.array([[480.0, 300], [560, 300], [520, 350], [485, 400], [555, 400]])
    face = Face((430.0, 220, 610, 450), points, 1.0)
    window = Window.around(face, 1000, 500)
    assert (0 <= window.left < 400, window.right > 640, window.bottom) == (True, True, 500)
    back = window.back(window.local(face))
    assert back.box == face.box
    np.testing.assert_array_equal(back.points, points)
    pixels = np.zeros((500, 1000, 3), np.uint8)
    assert np.shares_memory(Window().cut(pixels), pixels)
    assert Window().cut(pixels).shape == pixels.shape


def test_wider_than_a_warp_can_be() -> None:
    """OpenCV's warps take pictures below 32767 px: a wider one is worked on in windows, too."""
    wide = np.full((64, 40000, 3), 127, np.uint8)
    canvas = canvas_of(load(wide))
    assert isinstance(canvas, WholeCanvas)
    face = Face((39000.0, 10, 39030, 50), np.array([[39008.0, 22], [39022, 22], [39015, 30], [39009, 40], [39021, 40]]), 1.0)
    (window,) = canvas.windows([face])
    assert window.cut(wide).shape[1] < 200
    assert canvas_of(load(wide[:, :1000])).windows([face]) == [Window()]

"""AVIF and HEIC: read, written alike, and refused with what is to be installed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from cli_tools import run
from PIL import Image, ImageCms, features

from faceprotect_sdk import UnreadableInput
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.errors import exit_code_of
from faceprotect_sdk.photo import formats
from faceprotect_sdk.photo.encode import encode
from faceprotect_sdk.photo.mark import Mark, mark_of_file
from faceprotect_sdk.photo.reading import load, turn

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MARK = Mark("1.2.3", "auto", "0123456789abcdef")
BOTH = pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
#: The first box of an iPhone's photo, and of one whose main brand is the container's.
IPHONE = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
CAMERA = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heix"


def pixels() -> np.ndarray:
    y, x = np.mgrid[0:64, 0:96]
    return np.stack([x * 2, y * 3, (x + y)], 2).astype(np.uint8)


def saved(kind: str, array: np.ndarray, orientation: int = 1) -> bytes:
    """As a camera stores it: ``array`` is what is stored, the orientation says how to turn it."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = orientation, "Some camera"
    exif.get_ifd(0x8825)[1] = "N"
    options = {"exif": exif.tobytes(), "icc_profile": SRGB, "quality": 95}
    buffer = io.BytesIO()
    if kind == "AVIF":
        if not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        Image.fromarray(array).save(buffer, "AVIF", subsampling="4:4:4", **options)
    else:
        heif = pytest.importorskip("pillow_heif", reason="needs the extra [heif]")
        heif.from_pillow(Image.fromarray(array)).save(buffer, chroma=444, **options)
    return buffer.getvalue()


@BOTH
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_it_is_upright_and_stays_so(kind: str, orientation: int) -> None:
    """Read turned once (libheif turns by itself), and written so that it is again; with profile, camera and mark, without the place."""
    upright = turn(pixels(), orientation)
    photo = load(saved(kind, pixels(), orientation))
    assert (photo.container, photo.pixels.shape, photo.icc, photo.lossless) == (kind, upright.shape, SRGB, False)
    assert np.abs(photo.pixels.astype(int) - upright).mean() < 3
    data = encode(photo, quality=95, mark=MARK)
    assert encode(photo, quality=95, mark=MARK) == data
    again = load(data)
    assert (again.container, again.icc, again.mark) == (kind, SRGB, MARK)
    assert np.abs(again.pixels.astype(int) - upright).mean() < 5
    block = Image.Exif()
    block.load(again.exif)
    assert block[0x0110] == "Some camera"
    assert not block.get_ifd(0x8825)


@BOTH
def test_alpha_is_kept(kind: str) -> None:
    photo = load(saved(kind, np.dstack([pixels(), np.full((64, 96), 77, np.uint8)])))
    assert photo.alpha is not None
    alpha = load(encode(photo)).alpha
    assert alpha is not None
    assert np.abs(alpha.astype(int) - 77).max() <= 2


@BOTH
def test_the_mark_is_read_without_decoding(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"me.{kind.lower()}"
    path.write_bytes(encode(load(saved(kind, pixels())), mark=MARK))
    assert mark_of_file(path) == MARK
    assert load(path).path == path


@BOTH
def test_a_truncated_one_is_refused(kind: str) -> None:
    data = saved(kind, np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    with pytest.raises(UnreadableInput) as refused:
        load(data[: len(data) // 2])
    assert exit_code_of(refused.value) == 4


def test_heic_is_written_as_what_every_viewer_has() -> None:
    data = encode(load(saved("HEIC", pixels())))
    assert data[8:12] == b"heic", "the brand of the Main Still Picture profile: 8 bits, 4:2:0"


@pytest.mark.parametrize("first", [IPHONE, CAMERA])
def test_without_the_package_one_sentence_says_what_to_install(
    first: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(formats, "reads", lambda container: container != "HEIC")
    path = tmp_path / "me.heic"
    path.write_bytes(first + bytes(64))
    code, (document,), error = run(capsys, "faces", path, "--json")
    assert code == 4
    assert document["error"]["type"] == "UnreadableInput"
    assert "pip install 'faceprotect-sdk[heif]'" in error


def test_a_pillow_without_avif_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "reads", lambda container: container != "AVIF")
    with pytest.raises(UnreadableInput, match="pip install -U 'pillow"):
        load(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf" + bytes(64))


def test_brands() -> None:
    assert (formats.box_brand(IPHONE), formats.box_brand(CAMERA)) == ("HEIC", "HEIC")
    assert formats.box_brand(b"\0\0\0\x14ftypisom\0\0\0\0mp41") is None, "a film"
    assert formats.box_brand(b"\xff\xd8\xff\xe0") is None


def test_help_names_what_is_read_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(formats, "reads", lambda container: container != "HEIC")
    main(["protect", "--help"])
    said = capsys.readouterr().out
    assert "JPEG, PNG, WebP, AVIF." in said
    assert "pillow-heif" in said

"""What is written says that it has been protected, and is not protected again by mistake."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import toy_zoo
from cli_tools import run as _run
from PIL import Image

from faceprotect_sdk import AlreadyProtected, Protector, __version__
from faceprotect_sdk.photo.encode import encode
from faceprotect_sdk.photo.mark import TAG, Mark, mark_of_file
from faceprotect_sdk.photo.reading import load

QUIET = ["--device", "cpu", "--no-installed-judges"]
MARK = Mark("1.2.3", "auto", "0123456789abcdef")


def written(container: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(toy_zoo.photo(64, 48)).save(buffer, container, **options)
    return buffer.getvalue()


def deep_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = np.random.default_rng(0).integers(0, 256, (16, 1 + 16 * 6), np.uint8)
    rows[:, 0] = 0
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")


@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "deep"])
def test_every_container_holds_the_mark_beside_what_the_camera_said(container: str, tmp_path: Path) -> None:
    """It is read with and without decoding, and does not outlive a second encoding by itself; the pixels are the same."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "Some camera"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    data = deep_png() if container == "deep" else written(container, exif=exif)
    photo = load(data)
    assert photo.mark is None
    marked, plain = encode(photo, mark=MARK), encode(photo)
    again = load(marked)
    assert again.mark == MARK
    np.testing.assert_array_equal(again.pixels, load(plain).pixels)
    if container != "deep":
        with Image.open(io.BytesIO(marked)) as image:
            kept = image.getexif()
            assert (kept[0x0112], kept[0x0110], kept.get_ifd(0x8769)[0x9003]) == (6, "Some camera", "2026:01:01 00:00:00")
            assert kept[TAG] == str(MARK)
    assert load(encode(again)).mark is None
    path = tmp_path / "photo"
    path.write_bytes(marked)
    assert mark_of_file(path) == MARK
    path.write_bytes(marked[:20])
    assert mark_of_file(path) is None
    assert mark_of_file(tmp_path / "none") is None


@pytest.mark.parametrize("line", ["Some editor 5", f"{MARK} and more", str(MARK).replace("id=", "id=x"), 7])
def test_other_programs_leave_other_lines(line: object) -> None:
    exif = Image.Exif()
    exif[TAG] = line
    assert load(written("PNG", exif=exif)).mark is None


def test_a_protected_photo_is_refused_until_one_insists(protector: Protector, jpeg: Path) -> None:
    result = protector.protect(jpeg)
    assert result.image is not None
    mark = load(result.image).mark
    assert mark is not None
    assert (mark.version, mark.method) == (__version__, result.method)
    assert protector.protect(jpeg).image == result.image, "the id says nothing that is not in the pixels"
    for source in (result.image, Image.open(io.BytesIO(result.image)), load(result.image)):
        with pytest.raises(AlreadyProtected, match="original"):
            protector.protect(source)
    again = protector.protect(result.image, again=True, faces=protector.faces(jpeg))
    data = again.image or again.unconfirmed
    assert data is not None
    second = load(data).mark
    assert second is not None
    assert second.id != mark.id
    (told,) = protector.check(jpeg, result.image).notes
    assert mark.id in told
    assert any("no original" in note for note in protector.check(result.image, jpeg).notes)


@pytest.mark.usefixtures("toy_cli")
def test_a_pattern_that_finds_the_run_before(capsys: pytest.CaptureFixture[str], jpeg: Path) -> None:
    """Typed twice: outputs are left out by their mark or their name, and the batch is not ended by them; all of them is an error."""
    folder, output = jpeg.parent, jpeg.with_name("me_protected.jpg")
    assert _run(capsys, "protect", jpeg, "--json", *QUIET)[0] == 0
    renamed, bare = folder / "holiday.jpg", folder / "other_protected.jpg"
    renamed.write_bytes(output.read_bytes())
    Image.open(output).save(bare, quality=95)  # the mark is lost
    files = sorted(folder.glob("*.jpg"))
    code, documents, error = _run(capsys, "protect", *files, "--force", "--json", *QUIET)
    assert code == 0
    states = {Path(document["input"]).name: document["status"] for document in documents}
    assert states == {"holiday.jpg": "left_out", "me.jpg": "protected", "me_protected.jpg": "left_out", "other_protected.jpg": "left_out"}
    assert error.count("left out: ") == 3
    assert len(list(folder.glob("*.jpg"))) == len(files)
    code, _, error = _run(capsys, "protect", output, renamed, "--json", *QUIET)
    assert code == 4
    assert "--again" in error
    code, (document,), error = _run(capsys, "protect", renamed, "--json", *QUIET)
    assert (code, document["error"]["type"]) == (4, "AlreadyProtected")
    assert "--again" in error
    code, (document,), _ = _run(capsys, "protect", renamed, "--again", "--json", *QUIET)
    assert (code, document["status"]) == (3, "no_face"), "the stand-in sees no face any more, but it was looked at"


@pytest.mark.usefixtures("toy_cli")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_pipe_among_the_photos_stops_nothing(capsys: pytest.CaptureFixture[str], jpeg: Path, tmp_path: Path) -> None:
    """To open it would wait for somebody who writes."""
    os.mkfifo(tmp_path / "pipe.jpg")
    code, documents, error = _run(capsys, "protect", tmp_path / "pipe.jpg", jpeg, "--json", *QUIET)
    assert code == 4
    assert [document["exit_code"] for document in documents] == [4, 0]
    assert "is a pipe" in error


def test_looking_for_the_mark_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The photos of a batch are looked at before any limit on their size."""

    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    for container in ("JPEG", "PNG", "WEBP"):
        path = tmp_path / container
        path.write_bytes(encode(load(written(container)), mark=MARK))
        with monkeypatch.context() as patched:
            patched.setattr("PIL.ImageFile.ImageFile.load", refuse)
            assert mark_of_file(path) == MARK

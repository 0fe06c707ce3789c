"""What the command line takes: files, folders and streams, and those that it refuses."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import toy_zoo
from cli_tools import QUIET, folder, run
from PIL import Image

from faceprotect_sdk.cli.main import main

pytestmark = pytest.mark.usefixtures("toy_cli")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (0, 128)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=100)
    return buffer.getvalue()


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(toy_zoo.photo()).save(buffer, "JPEG")
    return buffer.getvalue()


BOMB = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)) + _chunk(b"IDAT", b"")


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("empty.jpg", b"", "empty"),
        ("truncated.jpg", _jpeg()[:2000], "again"),
        ("mislabelled.png", _jpeg(), "mv"),
        ("text.jpg", b"hello", "Convert"),
        ("bomb.png", BOMB, "Scale it down"),
        ("animated.png", _animated(), "still image"),
    ],
)
def test_unreadable_inputs(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, data: bytes, says: str) -> None:
    place = tmp_path / "in"
    place.mkdir()
    (place / name).write_bytes(data)
    code, (document,), error = run(capsys, "protect", place / name, "--json", *QUIET)
    assert code == 4
    assert says in error
    assert document["exit_code"] == 4
    assert document["output"] is None
    assert list(folder(place)) == [name]


def test_no_face_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    Image.fromarray(toy_zoo.photo(faces=0)).save(place / "wall.png")
    code, (document,), _ = run(capsys, "protect", place / "wall.png", "--json", *QUIET)
    assert code == 3
    assert document["status"] == "no_face"
    assert list(folder(place)) == ["wall.png"]
    assert run(capsys, "faces", place / "wall.png", "--device", "cpu")[0] == 3


def test_a_file_that_may_not_be_read_ends_itself_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall, locked = tmp_path / "wall.png", tmp_path / "locked.png"
    for path in (wall, locked):
        Image.fromarray(toy_zoo.photo(faces=0)).save(path)
    access, read = os.access, Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(os, "access", lambda path, mode, **more: Path(path) != locked and access(path, mode, **more))
    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, documents, error = run(capsys, "protect", locked, wall, "--json", *QUIET)
    assert code == 4
    assert [document["exit_code"] for document in documents] == [4, 3]
    assert "Permission denied" in error


class _Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_a_photo_through_standard_streams(
    capfdbinary: pytest.CaptureFixture[bytes], png: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", _Stdin(png.read_bytes()))
    assert main(["protect", "-", *QUIET]) == 0
    out, error = capfdbinary.readouterr()
    assert Image.open(io.BytesIO(out)).size == (320, 240)
    assert b"protected" in error
    assert list(folder(tmp_path)) == ["me.png"]
    for wrong in (["--json"], [str(png)], ["--keep-unconfirmed"]):
        monkeypatch.setattr("sys.stdin", _Stdin(png.read_bytes()))
        assert main(["protect", "-", "-o", "-", *wrong, *QUIET]) == 2
    assert capfdbinary.readouterr().out == b""


def test_folders_are_walked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a" / ".hidden").mkdir(parents=True)
    for name in ("a/2.PNG", "1.png", "a/1_protected.png", "a/.hidden/3.png", ".4.png"):
        Image.fromarray(toy_zoo.photo(faces=0)).save(tmp_path / name, "PNG")
    (tmp_path / "notes.txt").write_text("no photo")
    code, documents, _ = run(capsys, "protect", "-r", tmp_path, tmp_path / "1.png", "--json", *QUIET)
    assert code == 3
    assert [document["input"] for document in documents] == [str(tmp_path / "1.png"), str(tmp_path / "a/2.PNG")]
    code, _, error = run(capsys, "protect", tmp_path, *QUIET)
    assert code == 4
    assert "--recursive" in error
    assert run(capsys, "protect", "-r", tmp_path / "a" / ".hidden" / "..", *QUIET)[0] == 3
    (tmp_path / "empty").mkdir()
    assert run(capsys, "protect", "-r", tmp_path / "empty", *QUIET)[0] == 2


def test_a_name_that_begins_with_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(capsys, "protect", "-me.jpg")
    assert code == 2
    assert '"--"' in error
    assert run(capsys, "faces", "--", "-me.jpg")[0] == 4

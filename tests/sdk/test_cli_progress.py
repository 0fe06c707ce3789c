"""What a command says while it works: one line that fits the terminal, or one line for every photo; never on stdout."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest
import toy_zoo
from cli_tools import QUIET, run
from PIL import Image

from faceprotect_sdk.cli.main import main
from faceprotect_sdk.cli.progress import cut, width_of

pytestmark = pytest.mark.usefixtures("toy_cli")
termios = pytest.importorskip("termios", reason="there are no pseudo terminals here")
WIDTH = 40


class Terminal:
    """A pseudo terminal of 40 columns in place of stderr, and all that was written to it."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        termios.tcsetwinsize(slave, (24, WIDTH))
        self.stream = os.fdopen(slave, "w", encoding="utf-8", buffering=1)
        self._seen: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 4096)
            except OSError:  # how Linux says that the other end is closed
                return
            if not data:
                return
            self._seen.append(data)

    def text(self) -> str:
        self.stream.close()
        self._reader.join(5)
        return b"".join(self._seen).decode("utf-8")


def _terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """To be called in the test itself: what a fixture puts in place of stderr is replaced by pytest's own before the test begins."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal.stream)
    return terminal


def _many(tmp_path: Path, *names: str) -> list[str]:
    for name in names:
        Image.fromarray(toy_zoo.photo(640, 240, faces=2)).save(tmp_path / name)
    return [str(tmp_path / name) for name in names]


def test_one_line_that_fits_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    photos = _many(tmp_path, "a photo with a name that is longer than the line.png", "写真写真写真写真写真写真写真写真写真写真.png")
    assert main(["protect", *photos, "--json", *QUIET]) == 0
    drawn = terminal.text()
    assert "\n" not in drawn, "there is one line, and it is wiped"
    lines = drawn.split("\r")
    assert max(width_of(line) for line in lines) < WIDTH
    for said in (r"1/2 face 1/2 search 1/3 \d+/\d+", r"2/2 face 2/2 search 1/3 \d+/\d+"):
        assert re.search(said, drawn), said
    assert lines[-1] == "" and set(lines[-2]) == {" "}
    assert all(line.startswith("{") for line in capsys.readouterr().out.splitlines())


def test_the_widest_form_names_photo_face_and_search(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    monkeypatch.setattr("faceprotect_sdk.cli.progress.columns", lambda: 100)
    assert main(["protect", str(png), *QUIET]) == 0
    assert re.search(r"photo 1 of 1  me\.png  face 1 of 1  search 1 of 3  \[#* *\] \d+/\d+", terminal.text())


def test_a_line_for_every_photo_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = _many(tmp_path, "a.png", "b.png")
    code, documents, error = run(capsys, "protect", *photos, "--json", *QUIET)
    assert (code, len(documents)) == (0, 2)
    assert error.splitlines() == [f"photo {number} of 2: {photo}" for number, photo in enumerate(photos, 1)]
    assert run(capsys, "protect", *photos, "--force", "--quiet", "--json", *QUIET)[2] == ""


def test_check_and_benchmark_say_that_they_work(png: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    assert main(["check", str(png), str(png), "--json", *QUIET]) == 6
    assert main(["benchmark", "--engine", "face-encoder", "--repeat", "3", "--device", "cpu", "--json"]) == 0
    drawn = terminal.text()
    assert re.search(r"face 1(/| of )1 +recogniser 3(/| of )3", drawn)
    assert re.search(r"run 3(/| of )3", drawn)
    assert "\n" not in drawn
    assert len(capsys.readouterr().out.splitlines()) == 2, "stdout has the two objects and nothing else"


def test_columns_are_counted_as_terminals_do() -> None:
    assert width_of("写真") == 4
    assert width_of("e\u0301") == 1
    assert cut("写真ab", 3) == "写"

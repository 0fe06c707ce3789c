"""Standard streams that are closed, full, left or poor in letters; and signals that end a run."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from faceprotect_sdk.cli import signals, streams
from faceprotect_sdk.cli.main import cli, main
from faceprotect_sdk.errors import ReportError
from faceprotect_sdk.photo.write import write_atomic

POSIX = pytest.mark.skipif(os.name != "posix", reason="the shell's redirections and signals of POSIX")
#: Two inputs that are not there: each has its line on stdout without any engine.
COMMAND = [sys.executable, "-m", "faceprotect_sdk", "faces", "nowhere-1.jpg", "nowhere-2.jpg", "--json"]


def _shell(redirection: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FACEPROTECT_CACHE": str(tmp_path)}
    return subprocess.run(["sh", "-c", f'"$@" {redirection}', "sh", *COMMAND], env=environment, capture_output=True, text=True)


@POSIX
@pytest.mark.parametrize(("redirection", "said"), [(">/dev/full", "No space left"), (">&-", "Bad file")])
def test_stdout_that_refuses_blames_no_photo(tmp_path: Path, redirection: str, said: str) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = _shell(redirection, tmp_path)
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert said in done.stderr
    assert done.returncode == 1
    assert "nowhere-2" not in done.stderr, "the run stops"


@POSIX
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_stderr_that_refuses_stops_nothing(tmp_path: Path, redirection: str) -> None:
    done = _shell(redirection, tmp_path)
    assert done.returncode == 4
    assert [json.loads(line)["exit_code"] for line in done.stdout.splitlines()] == [4, 4]


@POSIX
def test_a_reader_that_has_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = streams._stream(None, writing, streams._Report)
    stream.write("line\n")
    with pytest.raises(ReportError, match="nobody reads standard output"):
        stream.flush()
    stream.flush()  # once is enough: leaving must not fail again
    os.close(writing)


def test_letters_that_the_encoding_has_not(tmp_path: Path) -> None:
    number = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    poor = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    stream = streams._stream(poor, number, streams._Report)
    stream.write("é漢\udcff\n")
    stream.flush()
    os.close(number)
    assert (tmp_path / "out").read_bytes().split() == [b"\xe9\\u6f22\\udcff"]
    assert streams.printable("a\nb\x1b[2Jé漢\udcff") == "a\\nb\\x1b[2Jé漢\\udcff"


def test_json_is_ascii(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = "é漢\udcff.png"
    main(["faces", name, "--json"])
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["input"] == name


def test_no_command_looks_at_files_before_its_own_code_does() -> None:
    """The option parser would end the whole batch for one file that may not be read."""

    def parameters(command: click.Command) -> Iterator[click.Parameter]:
        yield from command.params
        for other in command.commands.values() if isinstance(command, click.Group) else ():
            yield from parameters(other)

    paths = [one.type for one in parameters(cli) if isinstance(one.type, click.Path)]
    assert len(paths) > 10
    assert not any(path.readable or path.writable or path.exists for path in paths)


@pytest.fixture
def caught() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals._present()}  # whoever runs this may ignore some
    signals.catch()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@POSIX
@pytest.mark.usefixtures("caught")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_in_mid_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    number = getattr(signal, name)
    monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), number))
    with pytest.raises(signals.Stopped) as stopped:
        write_atomic(tmp_path / "out.png", b"x" * 1000)
    assert list(tmp_path.iterdir()) == []
    assert signals.exit_code_of_stop(stopped.value) == 128 + number


@POSIX
def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signals.catch()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

"""``faceprotect-sdk web``: what it says where something is missing, and that it serves until it is stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from faceprotect_sdk.cli import web as cli_web
from faceprotect_sdk.cli.main import main


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<!doctype html>")
    monkeypatch.setattr(cli_web, "PAGE", tmp_path / "page")
    return tmp_path / "page"


def test_a_page_that_was_not_built_is_told_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli_web, "PAGE", tmp_path)
    assert main(["web", "--no-browser"]) != 0
    assert "npm ci && npm run build" in capsys.readouterr().err


def test_a_folder_that_is_no_bundle_is_refused(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["web", "--no-browser", "--bundle", str(tmp_path)]) == 2
    assert "is no bundle" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert main(["web", "--no-browser", "--bundle", str(tmp_path), "--port", port]) == 2
    assert f"port {port} cannot be used" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_it_prints_its_address_and_serves_until_it_is_stopped(page: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    # A shell that starts a job in the background has it ignore SIGINT, and so have all that it starts.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start = heard + f"from pathlib import Path; from faceprotect_sdk.cli import main, web; web.PAGE = Path({str(page)!r}); main.entry()"
    command = [sys.executable, "-c", start, "web", "--no-browser", "--port", "0", "--bundle", str(tmp_path)]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=paths) as running:
        try:
            assert running.stdout is not None
            address = running.stdout.readline().strip()
            with urllib.request.urlopen(address, timeout=60) as answer:
                assert answer.read() == b"<!doctype html>"
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130
    assert said.count("\n") == 1, "the sentence that says what to do, and no stack"

"""Temporary folders of the cache: gone in the end, kept while somebody fills them, removed once nobody does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faceprotect_engines.files.leftovers import sweep, temporary_folder


def test_a_folder_is_gone_in_the_end_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path, ".x-") as folder:
        (folder / "half").write_bytes(b"x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_renamed_folder_stays(tmp_path: Path) -> None:
    with temporary_folder(tmp_path, ".x-") as folder:
        (folder / "whole").write_bytes(b"x")
        folder.replace(tmp_path / "kept")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "whole"]


def test_what_is_being_filled_stays_and_what_was_left_goes(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    (tmp_path / ".x-left").mkdir()
    (tmp_path / ".x-left" / "half").write_bytes(b"x")
    (tmp_path / ".y-other").mkdir()
    with temporary_folder(tmp_path, ".x-") as folder:
        sweep(tmp_path, ".x-")
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, ".y-other"])


def test_a_process_that_is_killed_leaves_a_folder_that_the_next_removes(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    code = (
        "import pathlib, sys, time; from faceprotect_engines.files.leftovers import temporary_folder\n"
        "with temporary_folder(pathlib.Path(sys.argv[1]), '.x-') as folder: print(folder, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        sweep(tmp_path, ".x-")
        assert left.is_dir(), "it is still being filled"
        other.send_signal(signal.SIGKILL)
    with temporary_folder(tmp_path, ".x-"):
        assert not left.exists()

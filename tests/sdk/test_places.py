"""Machines as containers and services have them: no home, a user whom nobody knows, folders and whole systems that may not be written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.command import command, surroundings

#: No home, no name, no place that is known to be writable.
WITHOUT = ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "FACEPROTECT_CACHE", "TMPDIR", "CI")
UNKNOWN = 54321
QUIET = ("--device", "cpu", "--threads", "1", "--no-installed-judges")
#: The toy zoo's face is dots without nose and mouth.
TOY = (*QUIET, "--even-covered")
Done = subprocess.CompletedProcess[str]


def _namespace(*options: str) -> list[str]:
    """A way to start a command as another user, or skip: not every system lets one."""
    tool = shutil.which("unshare")
    if tool is None:
        pytest.skip("there is no unshare here")
    words = [tool, "--user", *options]
    tried = subprocess.run([*words, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this system gives no user namespace: {tried.stderr.strip()}")
    return words


def _start(words: Sequence[str], zoo: Path, given: dict[str, str], before: Sequence[str]) -> Done:
    environment = {**surroundings(None, without=WITHOUT), "PYTHONDONTWRITEBYTECODE": "1", **given}
    return subprocess.run([*before, *command(*words, zoo=zoo)], env=environment, capture_output=True, text=True)


def _has_no_stack(done: Done) -> bool:
    return "Traceback" not in done.stderr and "internal error" not in done.stdout + done.stderr


@pytest.fixture
def stranger() -> list[str]:
    """A user without an entry in passwd, who owns what we own and has no further rights."""
    return _namespace(f"--map-user={UNKNOWN}", f"--map-group={UNKNOWN}")


def test_a_user_whom_nobody_knows_is_told_what_to_set(stranger: list[str], zoo: Path, jpeg: Path) -> None:
    known = subprocess.run([*stranger, sys.executable, "-c", "import os, pwd; pwd.getpwuid(os.getuid())"], capture_output=True, text=True)
    assert "KeyError" in known.stderr, "the user is unknown indeed"
    for words in (["doctor"], ["protect", str(jpeg), *QUIET], ["check", str(jpeg), str(jpeg), *QUIET], ["engines", "list"]):
        done = _start(words, zoo, {}, stranger)
        assert done.returncode == 5, done.stderr
        assert "export FACEPROTECT_CACHE=FOLDER" in done.stdout + done.stderr
        assert _has_no_stack(done)


def test_one_writable_folder_is_enough(stranger: list[str], zoo: Path, jpeg: Path, tmp_path: Path) -> None:
    """All else may be read alone: the photo's folder, the engines' and what is beside them."""
    writable, photo = tmp_path / "writable", tmp_path / "photos" / jpeg.name
    writable.mkdir()
    photo.parent.mkdir()
    shutil.copyfile(jpeg, photo)
    given = {"FACEPROTECT_CACHE": str(writable / "cache")}
    photo.parent.chmod(0o555)
    try:
        refused = _start(["protect", str(photo), *QUIET], zoo, given, stranger)
        assert refused.returncode == 2
        assert "not writable" in refused.stderr and "-o" in refused.stderr
        done = _start(["protect", str(photo), "-o", str(writable), *TOY, "--json"], zoo, given, stranger)
    finally:
        photo.parent.chmod(0o755)
    assert done.returncode == 0, done.stderr
    written = Path(json.loads(done.stdout)["output"])
    assert written == writable / "me_protected.jpg"
    assert _start(["check", str(photo), str(written), *QUIET], zoo, given, stranger).returncode == 0
    found = _start(["doctor", "--json"], zoo, given, stranger)
    assert _has_no_stack(found)
    levels = {one["name"]: one["level"] for one in map(json.loads, found.stdout.splitlines())}
    assert levels["cache"] == "ok"


def test_a_system_that_may_not_be_written(zoo: Path, jpeg: Path, tmp_path: Path) -> None:
    """Read-only from the root on, but for one folder: without a place for temporary files, too."""
    root = _namespace("--mount", "--map-root-user")
    writable = tmp_path / "writable"
    writable.mkdir()
    before = [*root, "sh", "-c", 'mount --bind "$1" "$1" && mount -o remount,bind,ro / && shift && exec "$@"', "sh", str(writable)]
    try_it = f"! touch '{tmp_path}/x' 2>/dev/null && touch '{writable}/x'"
    tried = subprocess.run([*before, "sh", "-c", try_it], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this system lets nobody make its root read-only: {tried.stderr.strip()}")
    (writable / "x").unlink()
    given = {"FACEPROTECT_CACHE": str(writable / "cache")}
    done = _start(["protect", str(jpeg), "-o", str(writable), *TOY], zoo, given, before)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in writable.iterdir() if path.is_file()] == ["me_protected.jpg"]
    refused = _start(["protect", str(jpeg), *QUIET], zoo, given, before)
    assert refused.returncode == 2
    assert "-o" in refused.stderr
    assert _has_no_stack(_start(["doctor"], zoo, given, before))

"""What a run connects to and opens for writing, as the system sees it: nothing, and nothing outside its output and its cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from faceprotect_sdk.doctor import examine
from harness.command import command, surroundings

#: Calls that open, make, rename or remove files, and all of the network's.
CALLS = "network,openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlinkat,unlink,unlinkat"
#: What continuous integration sets, and libraries take for a wish to be left alone.
NOT_A_PERSONS = ("CI", "GITHUB_ACTIONS", "DO_NOT_TRACK", "PYTEST_CURRENT_TEST", "FACEPROTECT_CACHE", "XDG_CACHE_HOME", "MPLCONFIGDIR")
_WRITES = re.compile(r"(?:O_WRONLY|O_RDWR|O_CREAT)")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SPEAKS = re.compile(r"AF_INET6?\b|AF_NETLINK|AF_PACKET")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def _surroundings(home: Path) -> dict[str, str]:
    without = (*NOT_A_PERSONS, *(name for name in os.environ if name.startswith(("ORT_", "HF_", "CI_"))))
    return {**surroundings(None, without=without), "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}


def _traced(words: list[str], home: Path, trace: Path) -> tuple[int, list[str], set[Path]]:
    """Exit code, the calls that name an address, and the paths written, made or removed."""
    tool = shutil.which("strace")
    if tool is None:
        pytest.skip("there is no strace here")
    spying = [tool, "-f", "--seccomp-bpf", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(trace)]
    if subprocess.run([*spying, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody trace a process")
    done = subprocess.run([*spying, *words], env=_surroundings(home), cwd=home, capture_output=True, text=True)
    lines = trace.read_text(errors="replace").splitlines()
    written = {
        (home / found).resolve()
        for line in lines
        if " = -1 " not in line and ("open" not in line.split("(")[0] or _WRITES.search(line)) and not _SPEAKS.search(line)
        for found in _PATH.findall(line)
        if "sock" not in line.split("(")[0]
    }
    return done.returncode, [line for line in lines if _SPEAKS.search(line)], written - {Path(os.devnull)}


def test_a_protection_connects_to_nothing_and_writes_into_its_folders_only(home: Path, zoo: Path, jpeg: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    words = ["protect", str(jpeg), "-o", str(output), "--device", "cpu", "--threads", "1", "--even-covered"]
    code, spoken, written = _traced(command(*words, zoo=zoo), home, tmp_path / "trace")
    assert code in (0, 6)
    assert spoken == []
    allowed = (output, home / ".cache" / "faceprotect-sdk")
    assert [path for path in sorted(written) if not path.is_relative_to(allowed[0]) and not path.is_relative_to(allowed[1])] == []
    assert code == 6 or output / "me_protected.jpg" in written, "the trace sees what is written"


def test_doctor_connects_to_nothing_and_writes_nothing(home: Path, zoo: Path, tmp_path: Path) -> None:
    _, spoken, written = _traced(command("doctor", zoo=zoo), home, tmp_path / "trace")
    assert spoken == []
    assert sorted(written) == []
    assert list(home.rglob("*")) == []


def test_the_trace_would_see_onnx_runtime_speak_up(home: Path, tmp_path: Path) -> None:
    """Its wheels since 1.29 keep an identifier of the device: the two tests above could fail."""
    import onnxruntime

    if tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < (1, 29):
        pytest.skip("this onnxruntime has no telemetry")
    _, _, written = _traced([sys.executable, "-c", "import onnxruntime"], home, tmp_path / "trace")
    if not written:
        pytest.skip("this build of onnxruntime has no telemetry")
    assert all(path.is_relative_to(home) for path in written)


@pytest.mark.parametrize("value", [None, "0"])
def test_who_imports_onnx_runtime_first_is_told(home: Path, value: str | None) -> None:
    """By a warning at import where the variable came too late, and by doctor where it says the opposite."""
    code = "import onnxruntime, faceprotect_sdk.protector; from faceprotect_engines import telemetry; print(telemetry.complaint())"
    environment = _surroundings(home) | ({} if value is None else {"ORT_DISABLE_TELEMETRY": value})
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "export ORT_DISABLE_TELEMETRY=1" in done.stdout
    assert ("RuntimeWarning: onnxruntime was imported before" in done.stderr) == (value is None)


def test_doctor_says_whether_onnx_runtime_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr("faceprotect_engines.telemetry.TOO_LATE", False)
    assert {one.name: one.level for one in examine()}["telemetry"] == "ok"
    monkeypatch.setattr("faceprotect_engines.telemetry.TOO_LATE", True)
    assert {one.name: one.level for one in examine()}["telemetry"] == "warning"

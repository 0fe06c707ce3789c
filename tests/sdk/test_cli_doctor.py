"""The command doctor, and what it says of a machine on which others fail."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import toy_zoo
from cli_tools import QUIET, run

from faceprotect_sdk.cli.main import main

pytestmark = pytest.mark.usefixtures("toy_cli")


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    code, documents, _ = run(capsys, "doctor", "--json")
    levels = {document["name"]: document["level"] for document in documents}
    assert levels["engine toy-a"] == "ok"
    assert code == (5 if "error" in levels.values() else 0)


def test_doctor_sees_two_runtimes() -> None:
    from faceprotect_sdk.doctor import clashes

    assert clashes({"onnxruntime": "1", "numpy": "2"}) == []
    (finding,) = clashes({"onnxruntime": "1", "onnxruntime-gpu": "1"})
    assert finding.level == "error"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in finding.message


def test_doctor_says_what_there_is_to_compute_on() -> None:
    from faceprotect_sdk.doctor import accelerators

    found = {finding.name: finding for finding in accelerators()}
    assert {"device rtx", "device tensorrt", "gpu"} <= set(found)
    assert all(finding.level != "error" for finding in found.values())


def test_a_user_without_a_home_is_told_what_to_set(capsys: pytest.CaptureFixture[str], png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FACEPROTECT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    for command in (["doctor"], ["protect", png, *QUIET], ["faces", png], ["engines", "list"]):
        assert main([str(word) for word in command]) == 5, command
        captured = capsys.readouterr()
        assert "export FACEPROTECT_CACHE=FOLDER" in captured.out + captured.err


@pytest.mark.parametrize("warm", [False, True])
def test_doctor_says_of_the_cache_what_protect_will_say(
    capsys: pytest.CaptureFixture[str], zoo: Path, tmp_path: Path, png: Path, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    """A cache that cannot be written is an error where weights have yet to go there, and none where they are there already."""
    root, cache = Path(shutil.copytree(zoo, tmp_path / "zoo")), tmp_path / "cache"
    monkeypatch.setattr("faceprotect_engines.store.ZOO", root)
    manifest = json.loads((root / "toy-b" / "manifest.json").read_text())
    weights = {**vars(toy_zoo.unfetched_weights()), "sha256": hashlib.sha256(b"wwww").hexdigest()}
    (root / "toy-b" / "manifest.json").write_text(json.dumps({**manifest, "weights": [weights]}))
    (tmp_path / "w.bin").write_bytes(b"wwww")
    assert run(capsys, "engines", "fetch", "toy-b", "--file", tmp_path / "w.bin")[0] == 0
    if warm:
        assert run(capsys, "check", png, png, *QUIET)[0] == 6
    else:
        mkdtemp = "faceprotect_engines.files.leftovers.tempfile.mkdtemp"
        monkeypatch.setattr(mkdtemp, lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    monkeypatch.setattr(os, "access", lambda path, mode, **_: not (mode & os.W_OK and Path(path) == cache))
    findings = {found["name"]: found for found in run(capsys, "doctor", "--json")[1]}
    code, _, error = run(capsys, "check", png, png, *QUIET)
    assert (findings["cache"]["level"], code) == (("ok", 6) if warm else ("error", 5))
    assert warm or ("export FACEPROTECT_CACHE=FOLDER" in findings["cache"]["message"] and "FACEPROTECT_CACHE" in error)

"""The commands about engines: exit codes, JSON, and what is fetched."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import toy_zoo
from cli_tools import run
from PIL import Image

from faceprotect_sdk.cli.main import main

pytestmark = pytest.mark.usefixtures("toy_cli")


def test_engines_commands(capsys: pytest.CaptureFixture[str], zoo: Path) -> None:
    code, documents, _ = run(capsys, "engines", "list", "--json")
    assert code == 0
    assert {"name": "toy-judge", "role": "judge"}.items() <= next(d for d in documents if d["name"] == "toy-judge").items()
    assert run(capsys, "engines", "verify")[0] == 0
    assert main(["engines", "path", "toy-a"]) == 0
    assert capsys.readouterr().out.strip() == str(zoo / "toy-a")
    assert main(["engines", "info", "toy-a"]) == 0
    assert json.loads(capsys.readouterr().out)["role"] == "surrogate"
    code, _, error = run(capsys, "engines", "info", "nobody")
    assert code == 5
    assert "engines list" in error


def test_fetching_weights(capsys: pytest.CaptureFixture[str], zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(zoo, tmp_path / "zoo")
    manifest = json.loads((tmp_path / "zoo" / "toy-b" / "manifest.json").read_text())
    weights = {**vars(toy_zoo.unfetched_weights()), "sha256": hashlib.sha256(b"wwww").hexdigest()}
    (tmp_path / "zoo" / "toy-b" / "manifest.json").write_text(json.dumps({**manifest, "weights": [weights]}))
    monkeypatch.setattr("faceprotect_engines.store.ZOO", tmp_path / "zoo")
    listed = {d["name"]: d["ready"] for d in run(capsys, "engines", "list", "--json")[1]}
    assert [name for name, ready in listed.items() if not ready] == ["toy-b"]
    code, documents, _ = run(capsys, "engines", "verify", "--json")
    assert code == 0
    assert [d["name"] for d in documents if d["ok"] is None] == ["toy-b"]
    assert run(capsys, "engines", "verify", "toy-b")[0] == 5
    for name, content, expected in (("wrong.bin", b"wwwx", 5), ("absent.bin", None, 5), ("w.bin", b"wwww", 0)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        code, documents, error = run(capsys, "engines", "fetch", "toy-b", "--file", str(tmp_path / name), "--json")
        assert code == expected, error
    assert Path(documents[0]["files"][0]).read_bytes() == b"wwww"
    assert run(capsys, "engines", "verify", "toy-b")[0] == 0
    assert run(capsys, "engines", "fetch", "toy-a")[0] == 5, "nothing to fetch"


def test_fetching_several(capsys: pytest.CaptureFixture[str], zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch goes on past one that fails; `all` leaves out what stands for another."""
    root = Path(shutil.copytree(zoo, tmp_path / "zoo"))
    monkeypatch.setattr("faceprotect_engines.store.ZOO", root)
    monkeypatch.setenv("FACEPROTECT_CACHE", str(tmp_path / "cache"))
    facts = {"far-a": {}, "far-b": {}, "far-c": {"instead_of": "far-b"}}
    for seed, (name, further) in enumerate(facts.items()):
        folder = toy_zoo.make_surrogate(root / name, seed, joins=True, **further)
        manifest = json.loads((folder / "manifest.json").read_text())
        digest = hashlib.sha256(b"wwww" if name != "far-a" else b"else").hexdigest()
        manifest["weights"] = [{**vars(toy_zoo.unfetched_weights()), "sha256": digest, "url": f"https://example.org/{name}"}]
        manifest["source"] = {"publisher": "somebody", "licence": "MIT"}
        (folder / "manifest.json").write_text(json.dumps(manifest))

    def download(self: object, url: str, target: str, _: object) -> None:
        Path(target).write_bytes(b"wwww")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", download)
    code, listed, _ = run(capsys, "engines", "fetch", "--list", "--json")
    assert code == 0
    assert [(d["name"], d["terms"], d["publisher"], d["bytes"], d["there"]) for d in listed] == [
        (name, "MIT", "somebody", 4, False) for name in facts
    ]
    code, documents, error = run(capsys, "engines", "fetch", "all", "--json")
    assert code == 5
    assert [(d["name"], bool(d["files"]), bool(d["error"])) for d in documents] == [("far-a", False, True), ("far-b", True, False)]
    assert "far-a: " in error
    assert [d["there"] for d in run(capsys, "engines", "fetch", "--list", "--json")[1]] == [False, True, True], "one file, two engines"
    for wrong in (["fetch"], ["fetch", "all", "--file", "x"], ["fetch", "--list", "far-a"]):
        assert run(capsys, "engines", *wrong)[0] == 2


def test_building_for_a_gpu_that_is_not_there_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceprotect_engines.backends import tensorrt
    from faceprotect_engines.errors import DeviceUnavailable

    def absent(*_: object) -> None:
        raise DeviceUnavailable("no CUDA device is there (none found); see: faceprotect-sdk doctor")

    monkeypatch.setenv("FACEPROTECT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt, "load_library", absent)
    code, _, error = run(capsys, "engines", "build", "face-encoder", "--device", "rtx")
    assert code == 5
    assert "doctor" in error
    assert not (tmp_path / "cache").exists()


def test_export_without_torch_says_what_to_install(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    model = tmp_path / "net.onnx"
    model.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, error = run(capsys, "export", "surrogate", model, "-o", tmp_path / "out", "--size", 112, "--threshold", 0.3)
    assert code == 1
    assert "faceprotect-sdk[export]" in error
    assert not (tmp_path / "out").exists()


def test_a_benchmark_without_a_face_has_the_code_of_no_face(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.fromarray(toy_zoo.photo(faces=0)).save(tmp_path / "wall.png")
    code, _, error = run(capsys, "benchmark", "--method", "latent", "--photo", tmp_path / "wall.png", "--device", "cpu")
    assert code == 3
    assert "no face" in error

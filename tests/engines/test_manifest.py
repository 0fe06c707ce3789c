"""Manifests: round trip, and refusal of anything that leads outside or makes no sense."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy_models

from faceprotect_engines import EngineCorrupt, EngineNotFound, Manifest, TensorSpec, read_manifest, write_manifest
from faceprotect_engines.files.manifest import ExternalWeights, FileEntry, resolve_inside

BAD_PATHS = ["../x", "a/../../x", "/etc/passwd", "C:/x", "C:x", "a\\..\\x", "", ".", "a/..", "x\0"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_models.affine(tmp_path / "affine")


def test_everything_survives_the_round_trip(folder: Path) -> None:
    full = replace(
        read_manifest(folder),
        inputs=(TensorSpec("x", "float32", (None, 3), "NC", "RGB", (0.0, 1.0), "a row"),),
        weights=(ExternalWeights("p", "m/f.dat", "00", 4, "f.dat"),),
        preprocessing={"mean": [0.5]},
        gradient={"of": "loss", "variables": ["x"]},
        metadata={"thresholds": {"far_1e-2": 0.3}, "template": "arcface112", "ä": "ü"},
    )
    assert read_manifest(folder) != full
    assert write_manifest(folder, full) == full
    assert read_manifest(folder) == full


def test_written_digest_is_the_files(folder: Path) -> None:
    data = (folder / "model.onnx").read_bytes()
    entry = read_manifest(folder).files["graph"]
    assert (entry.sha256, entry.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_that_leave_the_folder_are_refused(folder: Path, path: str) -> None:
    with pytest.raises(EngineCorrupt):
        FileEntry(path)
    with pytest.raises(EngineCorrupt):
        ExternalWeights("p", "f", "", 0, path)
    document = json.loads((folder / "manifest.json").read_text())
    document["files"]["graph"]["path"] = path
    with pytest.raises(EngineCorrupt):
        Manifest.from_json(document)


def test_symbolic_link_to_the_outside_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.onnx").write_bytes((folder / "model.onnx").read_bytes())
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(EngineCorrupt, match="outside"):
        resolve_inside(folder, "model.onnx")
    with pytest.raises(EngineCorrupt, match="outside"):
        write_manifest(folder, read_manifest(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"name": "../up"},
        {"name": ""},
        {"files": []},
        {"files": {"graph": {"path": "model.onnx", "mode": "x"}}},
        {"inputs": [{"name": "x", "dtype": "complex64", "shape": [1]}]},
        {"inputs": [{"name": "x", "dtype": "float32", "shape": [-1]}]},
        {"inputs": [{"dtype": "float32", "shape": [1]}]},
        {"outputs": None},
        {"weights": [{"package": "p"}]},
    ],
)
def test_malformed_manifest_says_where(folder: Path, change: dict[str, Any]) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(EngineCorrupt, match=r"manifest\.json"):
        read_manifest(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"schema": 1'])
def test_damaged_manifest_is_corrupt(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(EngineCorrupt):
        read_manifest(folder)


def test_missing_manifest_and_missing_file_are_not_found(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineNotFound):
        read_manifest(tmp_path / "nowhere")
    manifest = read_manifest(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(EngineNotFound, match=r"model\.onnx"):
        write_manifest(folder, manifest)

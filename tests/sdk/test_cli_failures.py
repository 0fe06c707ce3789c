"""What the command line says and leaves behind where something fails."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from cli_tools import QUIET, folder, run

from faceprotect_engines.backends.ort import OrtEngine
from faceprotect_engines.errors import DeviceUnavailable
from faceprotect_engines.files.manifest import FileEntry, read_manifest, write_manifest
from faceprotect_sdk import Photo, Protector, ProtectResult

pytestmark = pytest.mark.usefixtures("toy_cli")


def test_interrupted_in_a_batch(capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceprotect_sdk.cli.files import ProtectFiles

    second = tmp_path / "second.png"
    shutil.copy(png, second)
    real = ProtectFiles.protect

    def interrupt(self: ProtectFiles, path: Path, progress: object = None) -> object:
        if path == second:
            raise KeyboardInterrupt
        return real(self, path, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(ProtectFiles, "protect", interrupt)
    code, documents, error = run(capsys, "protect", png, second, "--json", *QUIET)
    assert code == 130
    assert len(documents) == 1
    assert "interrupted" in error
    assert sorted(folder(tmp_path)) == ["me.png", "me_protected.png", "second.png"]


def test_disk_full_leaves_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, error = run(capsys, "protect", png, *QUIET)
    assert code == 1
    assert "No space left" in error
    assert list(folder(tmp_path)) == ["me.png"]


def test_devices_and_engines_that_are_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in ("cuda", "warp"):
        code, _, error = run(capsys, "protect", png, "--device", device, "--no-installed-judges")
        assert code == 5
        assert device in error
    broken = tmp_path / "zoo"
    shutil.copytree(zoo, broken)
    monkeypatch.setattr("faceprotect_engines.store.ZOO", broken)
    model = broken / "face-encoder" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    code, _, error = run(capsys, "protect", png, "--method", "latent", *QUIET)
    assert code == 5
    assert "model.onnx" in error
    code, documents, _ = run(capsys, "engines", "verify", "--json")
    assert code == 5
    assert [document["name"] for document in documents if not document["ok"]] == ["face-encoder"]
    shutil.rmtree(broken / "latent-step")
    code, _, error = run(capsys, "protect", png, *QUIET)
    assert code == 5
    assert "latent-step" in error
    assert list(folder(tmp_path)) == ["me.png"]


def test_what_nobody_foresaw_ends_one_input_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, png: Path) -> None:
    second = png.with_name("two.png")
    shutil.copy(png, second)
    honest = Protector.protect

    def protect(self: Protector, photo: Photo, **options: object) -> ProtectResult:
        if photo.path == png:
            raise RuntimeError("odd")
        return honest(self, photo, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Protector, "protect", protect)
    code, documents, error = run(capsys, "protect", png, second, "--json", *QUIET)
    assert code == 1
    assert [document["status"] for document in documents] == ["error", "protected"]
    assert "internal error" in error


def _edited(zoo: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = zoo / "recipes" / "latent.json"
    recipe = json.loads(path.read_text())
    change(recipe)
    path.write_text(json.dumps(recipe))


def _without_gradient(zoo: Path) -> None:
    folder = zoo / "latent-step"
    model = onnx.load(str(folder / "model.onnx"))
    kept = [output for output in model.graph.output if output.name != "grad_offset"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    write_manifest(folder, replace(read_manifest(folder), files={"graph": FileEntry("model.onnx")}))


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("shape", r"latent-step.*'mask'.*\[1, 1, 256, 256\]"),
        ("infinite", "gradient is no longer finite"),
        ("gradient", "latent-step.*grad_offset"),
        ("memory", "latent-step.*memory.*--threads 1"),
    ],
)
def test_a_search_that_cannot_go_on_says_why_and_writes_nothing(
    fault: str, named: str, zoo: Path, png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "zoo"
    shutil.copytree(zoo, broken)
    monkeypatch.setattr("faceprotect_engines.store.ZOO", broken)
    if fault == "shape":
        _edited(broken, lambda recipe: recipe["stages"][-1]["inputs"].update(mask="original"))
    elif fault == "infinite":
        _edited(broken, lambda recipe: recipe["stages"][-1].update(start_std=1e38))
    elif fault == "gradient":
        _without_gradient(broken)
    else:
        execute = OrtEngine._execute

        def starved(engine: OrtEngine, feeds: Any, outputs: Any) -> Any:
            if engine.spec.name == "latent-step":
                engine._session = SimpleNamespace(run=_exhausted)
            return execute(engine, feeds, outputs)

        monkeypatch.setattr(OrtEngine, "_execute", starved)
    code, _, error = run(capsys, "protect", png, "--method", "latent", *QUIET)
    assert code == 5
    assert re.search(named, error), error
    assert list(folder(tmp_path)) == ["me.png"]


def _exhausted(*_: Any) -> None:
    raise MemoryError


def test_a_run_that_is_told_to_end(capsys: pytest.CaptureFixture[str], png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceprotect_sdk.cli.files import ProtectFiles
    from faceprotect_sdk.cli.signals import Stopped

    def stop(*_: object) -> None:
        raise Stopped(15)

    monkeypatch.setattr(ProtectFiles, "protect", stop)
    assert run(capsys, "protect", png, *QUIET)[0] == 143


def test_an_interruption_that_an_import_turned_into_an_error_is_still_one() -> None:
    """A signal while an extension is imported arrives as an ImportError, of which this package makes errors of its own."""
    from faceprotect_sdk.cli.signals import Stopped, exit_code_of_stop, stop_behind

    try:
        try:
            try:
                raise Stopped(15)
            except BaseException as signal:
                raise ImportError("initialization failed") from signal
        except ImportError as error:
            raise DeviceUnavailable("device 'cpu' needs onnxruntime") from error
    except DeviceUnavailable as error:
        behind = stop_behind(error)
    assert isinstance(behind, Stopped)
    assert exit_code_of_stop(behind) == 143
    assert stop_behind(ValueError("of its own")) is None

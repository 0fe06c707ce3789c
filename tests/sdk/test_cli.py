"""The command line: exit codes, what is written, JSON on stdout."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import toy_zoo
from cli_tools import run as _run
from PIL import Image

from faceprotect_engines.backends.ort import OrtEngine
from faceprotect_engines.manifest import FileEntry, read_manifest, write_manifest
from faceprotect_sdk import Photo, Protector, ProtectResult
from faceprotect_sdk.cli import main

pytestmark = pytest.mark.usefixtures("toy_cli")
QUIET = ["--device", "cpu", "--no-installed-judges"]


def _folder(path: Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in path.iterdir() if item.is_file()}


def test_protect_writes_beside_the_input_and_reports(capsys: pytest.CaptureFixture[str], jpeg: Path) -> None:
    code, (document,), error = _run(capsys, "protect", jpeg, "--json", *QUIET)
    assert code == 0
    assert error == ""
    assert document["status"] == "protected"
    assert document["output"] == str(jpeg.with_name("me_protected.jpg"))
    assert Image.open(document["output"]).size == (320, 240)
    code, (document,), error = _run(capsys, "check", jpeg, document["output"], "--json", *QUIET)
    assert code == 0
    assert document["independent"] == 1
    quality = document["faces"][0]["quality"]
    assert quality["ssimulacra2"] < 100 and quality["ssimulacra2_face"] < 100 and quality["mid_band"] > 0
    assert quality["mesh_moved"] is None


def test_text_output(capsys: pytest.CaptureFixture[str], jpeg: Path) -> None:
    assert main(["protect", str(jpeg), *QUIET]) == 0
    text = capsys.readouterr().out
    assert "protected" in text
    assert "took part in the search" in text
    for figure in ("SSIMULACRA2 ", "mid band ", "PSNR "):
        assert figure in text
    assert "independent" in text
    assert main(["faces", str(jpeg), "--device", "cpu"]) == 0
    assert "1 face\n" in capsys.readouterr().out
    assert main(["check", str(jpeg), str(jpeg), *QUIET]) == 6
    assert "STILL MATCHED" in capsys.readouterr().out


def test_same_seed_same_bytes_through_files(capsys: pytest.CaptureFixture[str], png: Path) -> None:
    outputs = [png.with_name(f"{index}.png") for index in range(2)]
    for output in outputs:
        assert _run(capsys, "protect", png, "-o", output, "--seed", 7, *QUIET)[0] == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_nothing_is_replaced_without_force(capsys: pytest.CaptureFixture[str], png: Path) -> None:
    target = png.with_name("me_protected.png")
    target.write_bytes(b"mine")
    code, (document,), error = _run(capsys, "protect", png, "--json", *QUIET)
    assert code == 2
    assert "--force" in error
    assert document["error"]["type"] == "OutputError"
    assert target.read_bytes() == b"mine"
    assert _run(capsys, "protect", png, "--force", *QUIET)[0] == 0
    assert target.read_bytes() != b"mine"
    before = png.read_bytes()
    code, _, error = _run(capsys, "protect", png, "-o", png, "--force", *QUIET)
    assert code == 2
    assert "input itself" in error
    assert png.read_bytes() == before


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (0, 128)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=100)
    return buffer.getvalue()


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(toy_zoo.photo()).save(buffer, "JPEG")
    return buffer.getvalue()


BOMB = (
    b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)) + _chunk(b"IDAT", b"")
)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("empty.jpg", b"", "empty"),
        ("truncated.jpg", _jpeg()[:2000], "again"),
        ("mislabelled.png", _jpeg(), "mv"),
        ("text.jpg", b"hello", "Convert"),
        ("bomb.png", BOMB, "Scale it down"),
        ("animated.png", _animated(), "still image"),
    ],
)
def test_unreadable_inputs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / name).write_bytes(data)
    code, (document,), error = _run(capsys, "protect", folder / name, "--json", *QUIET)
    assert code == 4
    assert says in error
    assert document["exit_code"] == 4
    assert document["output"] is None
    assert list(_folder(folder)) == [name]


def test_no_face_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(toy_zoo.photo(faces=0)).save(folder / "wall.png")
    code, (document,), _ = _run(capsys, "protect", folder / "wall.png", "--json", *QUIET)
    assert code == 3
    assert document["status"] == "no_face"
    assert list(_folder(folder)) == ["wall.png"]
    assert _run(capsys, "faces", folder / "wall.png", "--device", "cpu")[0] == 3


def test_still_matched_writes_nothing_that_looks_protected(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path
) -> None:
    stubborn = toy_zoo.make_judge(tmp_path / "stubborn", 77, threshold=-1.0)
    code, (document,), _ = _run(capsys, "protect", png, "--judge", stubborn, "--json", *QUIET)
    assert code == 6
    assert document["status"] == "still_matched"
    assert document["output"] is None
    assert list(_folder(tmp_path)) == ["me.png"]
    code, (document,), _ = _run(capsys, "protect", png, "--judge", stubborn, "--keep-unconfirmed", "--json", *QUIET)
    assert code == 6
    assert sorted(_folder(tmp_path)) == ["me.png", "me_unconfirmed.png"]


@pytest.mark.parametrize(("strength", "advised"), [("medium", "Try --strength high"), ("high", "engines fetch all")])
def test_what_is_still_matched_says_by_how_much_and_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path, strength: str, advised: str
) -> None:
    stubborn = toy_zoo.make_judge(tmp_path / "stubborn", 77, threshold=-1.0)
    assert main(["protect", str(png), "--judge", str(stubborn), "--strength", strength, *QUIET]) == 6
    text = capsys.readouterr().out
    said = re.search(r"stubborn still matches face 1, by (\d\.\d+) of similarity", text)
    verdict = re.search(r"stubborn +similarity ([+-]\d\.\d+)", text)
    assert said and verdict and float(said[1]) == pytest.approx(float(verdict[1]) + 1.0, abs=2e-3)
    assert advised in text


def test_a_batch_goes_on_and_the_worst_code_wins(capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    out = tmp_path / "out"
    out.mkdir()
    code, documents, error = _run(capsys, "protect", bad, png, "-o", out, "--json", *QUIET)
    assert code == 4
    assert [document["exit_code"] for document in documents] == [4, 0]
    assert list(_folder(out)) == ["me_protected.png"]
    assert "empty" in error
    code, _, error = _run(capsys, "protect", bad, png, "-o", tmp_path / "missing", *QUIET)
    assert code == 2
    assert "mkdir" in error


def test_interrupted_in_a_batch(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceprotect_sdk.protect_files import ProtectFiles

    second = tmp_path / "second.png"
    shutil.copy(png, second)
    real = ProtectFiles.protect

    def interrupt(self: ProtectFiles, path: Path, progress: object = None) -> object:
        if path == second:
            raise KeyboardInterrupt
        return real(self, path, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(ProtectFiles, "protect", interrupt)
    code, documents, error = _run(capsys, "protect", png, second, "--json", *QUIET)
    assert code == 130
    assert len(documents) == 1
    assert "interrupted" in error
    assert sorted(_folder(tmp_path)) == ["me.png", "me_protected.png", "second.png"]


def test_disk_full_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, error = _run(capsys, "protect", png, *QUIET)
    assert code == 1
    assert "No space left" in error
    assert list(_folder(tmp_path)) == ["me.png"]


def test_devices_and_engines_that_are_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in ("cuda", "warp"):
        code, _, error = _run(capsys, "protect", png, "--device", device, "--no-installed-judges")
        assert code == 5
        assert device in error
    broken = tmp_path / "zoo"
    shutil.copytree(zoo, broken)
    monkeypatch.setattr("faceprotect_engines.store.ZOO", broken)
    model = broken / "face-encoder" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    code, _, error = _run(capsys, "protect", png, "--method", "latent", *QUIET)
    assert code == 5
    assert "model.onnx" in error
    code, documents, _ = _run(capsys, "engines", "verify", "--json")
    assert code == 5
    assert [document["name"] for document in documents if not document["ok"]] == ["face-encoder"]
    shutil.rmtree(broken / "latent-step")
    code, _, error = _run(capsys, "protect", png, *QUIET)
    assert code == 5
    assert "latent-step" in error
    assert list(_folder(tmp_path)) == ["me.png"]


def test_usage_errors(capsys: pytest.CaptureFixture[str], png: Path) -> None:
    for arguments in (
        ["protect"],
        ["protect", png, "--strength", "huge"],
        ["nonsense"],
        ["protect", png, "--seed", "-1"],
    ):
        assert _run(capsys, *arguments)[0] == 2
    code, _, error = _run(capsys, "protect", png, "-o", png.with_suffix(".jpg"), *QUIET)
    assert code == 2
    assert "container" in error
    assert _run(capsys, "protect", png, "--method", "magic", *QUIET)[0] == 2


def test_engines_commands(capsys: pytest.CaptureFixture[str], zoo: Path) -> None:
    code, documents, _ = _run(capsys, "engines", "list", "--json")
    assert code == 0
    assert {"name": "toy-judge", "role": "judge"}.items() <= next(
        d for d in documents if d["name"] == "toy-judge"
    ).items()
    assert _run(capsys, "engines", "verify")[0] == 0
    assert main(["engines", "path", "toy-a"]) == 0
    assert capsys.readouterr().out.strip() == str(zoo / "toy-a")
    assert main(["engines", "info", "toy-a"]) == 0
    assert json.loads(capsys.readouterr().out)["role"] == "surrogate"
    code, _, error = _run(capsys, "engines", "info", "nobody")
    assert code == 5
    assert "engines list" in error


def test_fetching_weights(capsys: pytest.CaptureFixture[str], zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(zoo, tmp_path / "zoo")
    manifest = json.loads((tmp_path / "zoo" / "toy-b" / "manifest.json").read_text())
    weights = {**vars(toy_zoo.unfetched_weights()), "sha256": hashlib.sha256(b"wwww").hexdigest()}
    (tmp_path / "zoo" / "toy-b" / "manifest.json").write_text(json.dumps({**manifest, "weights": [weights]}))
    monkeypatch.setattr("faceprotect_engines.store.ZOO", tmp_path / "zoo")
    listed = {d["name"]: d["ready"] for d in _run(capsys, "engines", "list", "--json")[1]}
    assert [name for name, ready in listed.items() if not ready] == ["toy-b"]
    code, documents, _ = _run(capsys, "engines", "verify", "--json")
    assert code == 0
    assert [d["name"] for d in documents if d["ok"] is None] == ["toy-b"]
    assert _run(capsys, "engines", "verify", "toy-b")[0] == 5
    for name, content, expected in (("wrong.bin", b"wwwx", 5), ("absent.bin", None, 5), ("w.bin", b"wwww", 0)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        code, documents, error = _run(capsys, "engines", "fetch", "toy-b", "--file", str(tmp_path / name), "--json")
        assert code == expected, error
    assert Path(documents[0]["files"][0]).read_bytes() == b"wwww"
    assert _run(capsys, "engines", "verify", "toy-b")[0] == 0
    assert _run(capsys, "engines", "fetch", "toy-a")[0] == 5, "nothing to fetch"


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
    code, listed, _ = _run(capsys, "engines", "fetch", "--list", "--json")
    assert code == 0
    assert [(d["name"], d["terms"], d["publisher"], d["bytes"], d["there"]) for d in listed] == [
        (name, "MIT", "somebody", 4, False) for name in facts
    ]
    code, documents, error = _run(capsys, "engines", "fetch", "all", "--json")
    assert code == 5
    assert [(d["name"], bool(d["files"]), bool(d["error"])) for d in documents] == [("far-a", False, True), ("far-b", True, False)]
    assert "far-a: " in error
    assert [d["there"] for d in _run(capsys, "engines", "fetch", "--list", "--json")[1]] == [False, True, True], "one file, two engines"
    for wrong in (["fetch"], ["fetch", "all", "--file", "x"], ["fetch", "--list", "far-a"]):
        assert _run(capsys, "engines", *wrong)[0] == 2


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    code, documents, _ = _run(capsys, "doctor", "--json")
    levels = {document["name"]: document["level"] for document in documents}
    assert levels["engine toy-a"] == "ok"
    assert code == (5 if "error" in levels.values() else 0)


def test_doctor_sees_two_runtimes() -> None:
    from faceprotect_sdk.doctor import clashes

    assert clashes({"onnxruntime": "1", "numpy": "2"}) == []
    (finding,) = clashes({"onnxruntime": "1", "onnxruntime-gpu": "1"})
    assert finding.level == "error"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in finding.message


def test_building_for_a_gpu_that_is_not_there_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceprotect_engines.backends import tensorrt
    from faceprotect_engines.errors import DeviceUnavailable

    def absent(*_: object) -> None:
        raise DeviceUnavailable("no CUDA device is there (none found); see: faceprotect-sdk doctor")

    monkeypatch.setenv("FACEPROTECT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt, "load_library", absent)
    code, _, error = _run(capsys, "engines", "build", "face-encoder", "--device", "rtx")
    assert code == 5
    assert "doctor" in error
    assert not (tmp_path / "cache").exists()


def test_doctor_says_what_there_is_to_compute_on() -> None:
    from faceprotect_sdk.doctor import accelerators

    found = {finding.name: finding for finding in accelerators()}
    assert {"device rtx", "device tensorrt", "gpu"} <= set(found)
    assert all(finding.level != "error" for finding in found.values())


def test_export_without_torch_says_what_to_install(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    model = tmp_path / "net.onnx"
    model.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, error = _run(
        capsys, "export", "surrogate", model, "-o", tmp_path / "out", "--size", 112, "--threshold", 0.3
    )
    assert code == 1
    assert "faceprotect-sdk[export]" in error
    assert not (tmp_path / "out").exists()


def test_a_batch_never_replaces_its_own_photos(capsys: pytest.CaptureFixture[str], tmp_path: Path, pixels: np.ndarray) -> None:
    out = tmp_path / "out"
    for folder in (tmp_path / "a", tmp_path / "b", out):
        folder.mkdir()
        Image.fromarray(pixels).save(folder / "me.png")
    arguments = (tmp_path / "a/me.png", tmp_path / "b/me.png", "-o", out, "--force", "--json", *QUIET)
    code, documents, error = _run(capsys, "protect", *arguments)
    assert code == 2
    assert [document["status"] for document in documents] == ["protected", "error"]
    assert "another photo of this run" in error
    Image.fromarray(pixels).save(out / "me_protected.png")
    kept = (out / "me_protected.png").read_bytes()
    code, _, error = _run(capsys, "protect", out / "me.png", out / "me_protected.png", "--force", *QUIET)
    assert code == 2
    assert "in this run" in error
    assert (out / "me_protected.png").read_bytes() == kept


def test_what_nobody_foresaw_ends_one_input_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, png: Path
) -> None:
    second = png.with_name("two.png")
    shutil.copy(png, second)
    honest = Protector.protect

    def protect(self: Protector, photo: Photo, **options: object) -> ProtectResult:
        if photo.path == png:
            raise RuntimeError("odd")
        return honest(self, photo, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Protector, "protect", protect)
    code, documents, error = _run(capsys, "protect", png, second, "--json", *QUIET)
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
        run = OrtEngine._execute

        def starved(engine: OrtEngine, feeds: Any, outputs: Any) -> Any:
            if engine.spec.name == "latent-step":
                engine._session = SimpleNamespace(run=_exhausted)
            return run(engine, feeds, outputs)

        monkeypatch.setattr(OrtEngine, "_execute", starved)
    code, _, error = _run(capsys, "protect", png, "--method", "latent", *QUIET)
    assert code == 5
    assert re.search(named, error), error
    assert list(_folder(tmp_path)) == ["me.png"]


def _exhausted(*_: Any) -> None:
    raise MemoryError


def test_a_file_that_may_not_be_read_ends_itself_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall, locked = tmp_path / "wall.png", tmp_path / "locked.png"
    for path in (wall, locked):
        Image.fromarray(toy_zoo.photo(faces=0)).save(path)
    access, read = os.access, Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(os, "access", lambda path, mode, **more: Path(path) != locked and access(path, mode, **more))
    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, documents, error = _run(capsys, "protect", locked, wall, "--json", *QUIET)
    assert code == 4
    assert [document["exit_code"] for document in documents] == [4, 3]
    assert "Permission denied" in error


def test_a_name_that_is_too_long_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work was done")

    photo = tmp_path / f"{'x' * 245}.png"
    Image.fromarray(pixels).save(photo)
    monkeypatch.setattr(Protector, "protect", work)
    code, _, error = _run(capsys, "protect", photo, *QUIET)
    assert code == 2
    assert "too long" in error and "-o" in error


def test_a_benchmark_without_a_face_has_the_code_of_no_face(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.fromarray(toy_zoo.photo(faces=0)).save(tmp_path / "wall.png")
    code, _, error = _run(capsys, "benchmark", "--method", "latent", "--photo", tmp_path / "wall.png", "--device", "cpu")
    assert code == 3
    assert "no face" in error


def test_a_run_that_is_told_to_end(capsys: pytest.CaptureFixture[str], png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceprotect_sdk.protect_files import ProtectFiles
    from faceprotect_sdk.signals import Stopped

    def stop(*_: object) -> None:
        raise Stopped(15)

    monkeypatch.setattr(ProtectFiles, "protect", stop)
    assert _run(capsys, "protect", png, *QUIET)[0] == 143


def test_the_face_that_stays_matched_is_named_with_its_box(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.fromarray(toy_zoo.photo(640, 240, faces=2)).save(tmp_path / "two.png")
    assert main(["protect", str(tmp_path / "two.png"), "--method", "fast", *QUIET]) == 6
    assert re.search(r"still matches face [12], box \(\d+, \d+, \d+, \d+\), by", capsys.readouterr().out)


def test_a_user_without_a_home_is_told_what_to_set(
    capsys: pytest.CaptureFixture[str], png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert _run(capsys, "engines", "fetch", "toy-b", "--file", tmp_path / "w.bin")[0] == 0
    if warm:
        assert _run(capsys, "check", png, png, *QUIET)[0] == 6
    else:
        mkdtemp = "faceprotect_engines.leftovers.tempfile.mkdtemp"
        monkeypatch.setattr(mkdtemp, lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    monkeypatch.setattr(os, "access", lambda path, mode, **_: not (mode & os.W_OK and Path(path) == cache))
    findings = {found["name"]: found for found in _run(capsys, "doctor", "--json")[1]}
    code, _, error = _run(capsys, "check", png, png, *QUIET)
    assert (findings["cache"]["level"], code) == (("ok", 6) if warm else ("error", 5))
    assert warm or ("export FACEPROTECT_CACHE=FOLDER" in findings["cache"]["message"] and "FACEPROTECT_CACHE" in error)


class _Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_a_photo_through_standard_streams(
    capfdbinary: pytest.CaptureFixture[bytes], png: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", _Stdin(png.read_bytes()))
    assert main(["protect", "-", *QUIET]) == 0
    out, error = capfdbinary.readouterr()
    assert Image.open(io.BytesIO(out)).size == (320, 240)
    assert b"protected" in error
    assert list(_folder(tmp_path)) == ["me.png"]
    for wrong in (["--json"], [str(png)], ["--keep-unconfirmed"]):
        monkeypatch.setattr("sys.stdin", _Stdin(png.read_bytes()))
        assert main(["protect", "-", "-o", "-", *wrong, *QUIET]) == 2
    assert capfdbinary.readouterr().out == b""


def test_folders_are_walked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a" / ".hidden").mkdir(parents=True)
    for name in ("a/2.PNG", "1.png", "a/1_protected.png", "a/.hidden/3.png", ".4.png"):
        Image.fromarray(toy_zoo.photo(faces=0)).save(tmp_path / name, "PNG")
    (tmp_path / "notes.txt").write_text("no photo")
    code, documents, _ = _run(capsys, "protect", "-r", tmp_path, tmp_path / "1.png", "--json", *QUIET)
    assert code == 3
    assert [document["input"] for document in documents] == [str(tmp_path / "1.png"), str(tmp_path / "a/2.PNG")]
    code, _, error = _run(capsys, "protect", tmp_path, *QUIET)
    assert code == 4
    assert "--recursive" in error
    assert _run(capsys, "protect", "-r", tmp_path / "a" / ".hidden" / "..", *QUIET)[0] == 3
    (tmp_path / "empty").mkdir()
    assert _run(capsys, "protect", "-r", tmp_path / "empty", *QUIET)[0] == 2


def test_a_name_that_begins_with_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = _run(capsys, "protect", "-me.jpg")
    assert code == 2
    assert '"--"' in error
    assert _run(capsys, "faces", "--", "-me.jpg")[0] == 4

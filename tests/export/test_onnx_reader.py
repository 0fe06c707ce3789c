"""ONNX files read back as torch modules: our own small graphs always, the real recognisers where they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_tools import SHARED
from onnx import TensorProto, helper, numpy_helper

from faceprotect_export.build.parity import run_onnx
from faceprotect_export.onnx_io.reader import OnnxReadError, load_onnx

RANDOM = np.random.default_rng(0)
FR = SHARED / "models" / "fr"
MODELS = json.loads((FR / "fr.json").read_text())["models"] if (FR / "fr.json").is_file() else {}


def save(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], batch: str | int = "batch") -> Path:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "test", [image], [result], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def floats(*shape: int) -> np.ndarray:
    return (RANDOM.random(shape) + 0.2).astype(np.float32)


def check(path: Path, batch: int = 2) -> int:
    """Compare with ONNX Runtime; returns how many steps the module runs."""
    image = RANDOM.random((batch, 3, 8, 8), np.float32)
    module = load_onnx(path)
    expected = run_onnx(path, {"image": image})["result"]
    np.testing.assert_allclose(module(torch.from_numpy(image)).numpy(), expected, rtol=1e-4, atol=1e-5)
    return len(module.steps)


def test_batch_norm_in_all_spellings_folds_into_the_convolution(tmp_path: Path) -> None:
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "w"], ["a"], pads=[1, 1, 1, 1]),
        make("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"], epsilon=1e-3),
        make("Mul", ["b", "channel"], ["c"]),
        make("Sub", ["channel", "c"], ["d"]),
        make("Div", ["d", "scalar"], ["e"]),
        make("Add", ["shift3", "e"], ["f"]),
        make("Relu", ["f"], ["result"]),
    ]
    weights = {"w": floats(5, 3, 3, 3), "channel": floats(1, 5, 1, 1), "scalar": floats(1), "shift3": floats(5, 1, 1)}
    weights.update({k: floats(5) for k in ("scale", "shift", "mean", "variance")})
    assert check(save(tmp_path / "m.onnx", nodes, weights)) == 2


def test_a_value_that_is_used_twice_is_not_folded_away(tmp_path: Path) -> None:
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "w"], ["a"]),
        make("Mul", ["a", "channel"], ["b"]),
        make("Add", ["a", "b"], ["result"]),
    ]
    check(save(tmp_path / "m.onnx", nodes, {"w": floats(5, 3, 3, 3), "channel": floats(5, 1, 1)}))


def test_shape_arithmetic_keeps_the_batch_free(tmp_path: Path) -> None:
    make = helper.make_node
    nodes = [
        make("Shape", ["image"], ["s"]),
        make("Gather", ["s", "zero"], ["n"]),
        make("Unsqueeze", ["n", "axis"], ["n1"]),
        make("Concat", ["n1", "rest"], ["shape"], axis=0),
        make("Slice", ["image", "from", "to", "channels", "back"], ["bgr"]),
        make("Reshape", ["bgr", "shape"], ["flat"]),
        make("MatMul", ["flat", "w"], ["y"]),
        make("Add", ["y", "b"], ["result"]),
    ]
    weights = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1]), "w": floats(192, 6), "b": floats(6)}
    weights.update({"from": np.array([-1]), "to": np.array([-(2**31)]), "channels": np.array([1]), "back": np.array([-1])})
    path = save(tmp_path / "m.onnx", nodes, weights)
    check(path, 1)
    check(path, 3)


def test_pools_slopes_and_asymmetric_pads(tmp_path: Path) -> None:
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "w"], ["a"], pads=[0, 1, 2, 1], strides=[2, 2], group=3),
        make("PRelu", ["a", "slope"], ["b"]),
        make("MaxPool", ["b"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        make("GlobalAveragePool", ["c"], ["d"]),
        make("Flatten", ["d"], ["e"]),
        make("Gemm", ["e", "m", "bias"], ["f"], transB=1, alpha=0.5),
        make("LpNormalization", ["f"], ["result"], axis=1),
    ]
    weights = {"w": floats(6, 1, 3, 3) - 0.7, "slope": floats(6, 1, 1), "m": floats(4, 6) - 0.7, "bias": floats(4)}
    check(save(tmp_path / "m.onnx", nodes, weights))


def test_a_rectifier_as_the_writer_writes_it_is_read(tmp_path: Path) -> None:
    """Networks that were exported here must remain usable as surrogates, with the gradient of the rectifier."""
    make = helper.make_node
    nodes = [
        make("Sub", ["image", "half"], ["x"]),
        make("Greater", ["x", "zero"], ["positive"]),
        make("Cast", ["positive"], ["step"], to=TensorProto.FLOAT),
        make("Mul", ["step", "rest"], ["part"]),
        make("Add", ["part", "slope"], ["slopes"]),
        make("Mul", ["x", "slopes"], ["result"]),
    ]
    numbers = {"half": 0.5, "zero": 0.0, "rest": 0.75, "slope": 0.25}
    path = save(tmp_path / "m.onnx", nodes, {k: np.array(v, np.float32) for k, v in numbers.items()})
    check(path)
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(load_onnx(path)(image).sum(), image)
    assert torch.equal(gradient, torch.where(image > 0.5, 1.0, 0.25))


def test_unknown_operator_and_junk_are_named(tmp_path: Path) -> None:
    node = helper.make_node("Det", ["image"], ["result"])
    with pytest.raises(OnnxReadError, match="Det"):
        load_onnx(save(tmp_path / "m.onnx", [node], {}))
    (tmp_path / "junk.onnx").write_bytes(b"\x00not a model" * 9)
    with pytest.raises(OnnxReadError, match=r"junk\.onnx"):
        load_onnx(tmp_path / "junk.onnx")


@pytest.mark.skipif(not MODELS, reason="../shared/models/fr is not here")
@pytest.mark.parametrize("name", MODELS)
def test_real_recogniser_agrees_with_onnx_runtime(name: str) -> None:
    entry = MODELS[name]
    size = entry["input"]["shape"][-1]
    image = np.random.default_rng(1).random((2, 3, size, size), np.float32)
    expected = run_onnx(FR / entry["file"], {entry["input"]["name"]: image})[entry["output"]["name"]]
    with torch.no_grad():
        measured = load_onnx(FR / entry["file"])(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(measured, expected, atol=1e-5)


@pytest.mark.parametrize("location", ["../secret.bin", "/secret.bin", "absent.bin"])
def test_external_data_outside_the_folder_is_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4 * 192 * 4))
    path = save(folder / "m.onnx", [helper.make_node("Flatten", ["image"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["result"])], {})
    model = onnx.load(str(path))
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[192, 4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    model.graph.initializer.append(weight)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxReadError, match="in the folder of the graph"):
        load_onnx(path)

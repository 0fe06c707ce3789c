"""Recognisers of every kind, exported as people do, become surrogates whose gradient is torch's own."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from recogniser_nets import EMBEDDING, SIZE, made
from torch import Tensor, nn

from faceprotect_export.build.parity import run_onnx
from faceprotect_export.onnx_io.reader import load_onnx
from faceprotect_export.surrogates.surrogate import build_surrogate, smooth_samples
from faceprotect_sdk.judging.specification import parse_specification

SPEC: dict[str, Any] = {
    "input": {"shape": [1, 3, SIZE, SIZE], "range": [-1, 1], "template": "arcface112"},
    "thresholds": {"far_1e-2": 0.3},
    "licence": "ours",
}
#: What computes from shapes: nothing of it may be left in a network for one crop.
OF_SHAPES = {"Shape", "Range", "ConstantOfShape", "CumSum", "Sin", "Cos", "Cast", "Equal", "Not", "Mod", "Tile"}
ONNXSCRIPT = importlib.util.find_spec("onnxscript") is not None
KINDS = [("squeeze", 11), ("hybrid", 11), ("hybrid", 17), ("vit", 14), ("vit-einsum", 17), ("swin", 14)]
NEW_KINDS = [("squeeze", 18), ("hybrid", 18), ("vit", 20), ("vit-einsum", 18), ("swin", 20)]


def export(net: nn.Module, path: Path, opset: int, dynamo: bool) -> Path:
    """With the batch left free, by one of torch's exporters."""
    free: dict[str, Any] = {"dynamic_axes": {"image": {0: "batch"}}}
    if dynamo:
        free = {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "external_data": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.rand(2, 3, SIZE, SIZE),),
            path,
            input_names=["image"],
            output_names=["embedding"],
            opset_version=opset,
            dynamo=dynamo,
            verbose=False,
            **free,
        )
    return path


def check(path: Path, net: nn.Module, folder: Path) -> None:
    """Build a surrogate of the file and compare what it gives with autograd through ``net``."""
    image = smooth_samples(2)[1]
    manifest = build_surrogate(path, folder, spec=SPEC, name="mine", images=[image.numpy()])
    assert manifest.parity["relative_error"] <= manifest.parity["tolerance"]
    reference = F.normalize(torch.randn(1, EMBEDDING, generator=torch.Generator().manual_seed(1)), dim=1)
    outputs = run_onnx(folder / "model.onnx", {"image": image.numpy(), "reference": reference.numpy()}, threads=1)
    x = image.clone().requires_grad_()
    window = parse_specification(SPEC).input.window
    assert window is not None
    rows, cols = (torch.from_numpy(m) for m in window.matrices())
    similarity = (F.normalize(net((rows @ x @ cols) * 2 - 1), dim=1) * reference).sum(1)
    similarity.sum().backward()
    assert isinstance(x.grad, Tensor)
    np.testing.assert_allclose(outputs["similarity"], similarity.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(outputs["grad_image"], x.grad.numpy(), atol=1e-4 * float(x.grad.abs().max()))


def of_shapes(path: Path) -> set[str]:
    """Operators of shape arithmetic that a network for one crop still has."""
    return OF_SHAPES & {step.operator for step in load_onnx(path).specialised(torch.zeros(1, 3, SIZE, SIZE)).steps}


@pytest.mark.parametrize(("kind", "opset"), KINDS)
def test_network_of_the_exporter_by_torchscript(kind: str, opset: int, tmp_path: Path) -> None:
    net = made(kind)
    path = export(net, tmp_path / "mine.onnx", opset, dynamo=False)
    assert not of_shapes(path)
    check(path, net, tmp_path / "engine")


@pytest.mark.skipif(not ONNXSCRIPT, reason="torch's newer exporter needs onnxscript: pip install onnxscript")
@pytest.mark.parametrize(("kind", "opset"), NEW_KINDS)
def test_network_of_the_newer_exporter(kind: str, opset: int, tmp_path: Path) -> None:
    net = made(kind)
    path = export(net, tmp_path / "mine.onnx", opset, dynamo=True)
    assert not of_shapes(path)
    check(path, net, tmp_path / "engine")


class Depthwise(nn.Module):
    """The network that :func:`keras_like` writes down, as torch has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth = nn.Conv2d(3, 8, 3, 2, bias=False), nn.Conv2d(8, 8, 3, 2, groups=8)
        self.norm, self.dense = nn.BatchNorm2d(8, eps=1e-3), nn.Linear(8, EMBEDDING)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.stem(F.pad(image, (0, 1, 0, 1)))))
        return F.normalize(self.dense(self.depth(F.pad(x, (0, 1, 0, 1))).mean((2, 3))))


def keras_like(net: Depthwise, path: Path) -> None:
    """As tf2onnx writes a Keras network: images [N, H, W, 3], transposed around convolutions, SAME padding, a shape computed at the end."""
    make, state = helper.make_node, {k: v.numpy() for k, v in net.state_dict().items() if v.ndim}
    scale = state["norm.weight"] / np.sqrt(state["norm.running_var"] + 1e-3)
    constants = {
        "w1": state["stem.weight"],
        "scale": scale,
        "shift": state["norm.bias"] - state["norm.running_mean"] * scale,
        "w2": state["depth.weight"],
        "b2": state["depth.bias"],
        "w3": state["dense.weight"].T,
        "b3": state["dense.bias"],
        "zero": np.zeros((), np.float32),
        "six": np.full((), 6, np.float32),
        "first": np.array([0]),
        "one": np.array([1]),
        "width": np.array([8]),
        "tiny": np.full((), 1e-12, np.float32),
    }
    same = {"strides": [2, 2], "auto_pad": "SAME_UPPER"}
    nodes = [
        make("Transpose", ["input_1"], ["t1"], perm=[0, 3, 1, 2]),
        make("Conv", ["t1", "w1"], ["c1"], **same),
        make("Transpose", ["c1"], ["h1"], perm=[0, 2, 3, 1]),
        make("Mul", ["h1", "scale"], ["m1"]),
        make("Add", ["m1", "shift"], ["a1"]),
        make("Clip", ["a1", "zero", "six"], ["r1"]),
        make("Transpose", ["r1"], ["t2"], perm=[0, 3, 1, 2]),
        make("Conv", ["t2", "w2", "b2"], ["c2"], group=8, **same),
        make("Transpose", ["c2"], ["h2"], perm=[0, 2, 3, 1]),
        make("ReduceMean", ["h2"], ["g"], axes=[1, 2], keepdims=1),
        make("Shape", ["g"], ["shape"]),
        make("Slice", ["shape", "first", "one"], ["n"]),
        make("Concat", ["n", "width"], ["flat"], axis=0),
        make("Reshape", ["g", "flat"], ["f"]),
        make("MatMul", ["f", "w3"], ["d"]),
        make("Add", ["d", "b3"], ["e"]),
        make("ReduceSumSquare", ["e"], ["squares"], axes=[1], keepdims=1),
        make("Max", ["squares", "tiny"], ["most"]),
        make("Sqrt", ["most"], ["length"]),
        make("Div", ["e", "length"], ["embedding"]),
    ]
    image = helper.make_tensor_value_info("input_1", TensorProto.FLOAT, ["unk", SIZE, SIZE, 3])
    result = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["unk", EMBEDDING])
    graph = helper.make_graph(nodes, "keras", [image], [result], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    onnx.save(model, str(path))


def test_network_that_takes_channels_last(tmp_path: Path) -> None:
    torch.manual_seed(2)
    net = Depthwise().requires_grad_(False).eval()
    keras_like(net, tmp_path / "mine.onnx")
    check(tmp_path / "mine.onnx", net, tmp_path / "engine")
    document = json.loads((tmp_path / "engine" / "manifest.json").read_text())
    assert document["inputs"][0]["shape"] == [1, 3, 256, 256]

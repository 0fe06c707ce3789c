"""Operators of ONNX as the reader runs them: held to ONNX Runtime, and their traced gradients, written as ONNX again, to autograd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_tools import parity_of, weighted
from onnx import TensorProto, helper, numpy_helper

from faceprotect_export.build.parity import run_onnx
from faceprotect_export.onnx_io.reader import OnnxModule, OnnxReadError, load_onnx

SHAPE = (2, 6, 8, 8)
RANDOM = np.random.default_rng(3)
Call = tuple[str, list[Any], dict[str, Any]]


def rand(*shape: int) -> np.ndarray:
    return (RANDOM.random(shape) + 0.2).astype(np.float32)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def save(path: Path, calls: list[Call], opset: int, shape: tuple[int, ...] = SHAPE, kind: int = TensorProto.FLOAT) -> Path:
    """A chain: the first input of a call that says "x" is what the one before it gave; arrays become constants."""
    nodes, constants, last = [], [], "image"
    for number, (operator, inputs, attributes) in enumerate(calls):
        names = []
        for place, value in enumerate(inputs):
            if isinstance(value, np.ndarray):
                constants.append(numpy_helper.from_array(value, f"c{number}.{place}"))
                names.append(f"c{number}.{place}")
            else:
                names.append(last if value == "x" else value)
        last = "result" if number == len(calls) - 1 else f"v{number}"
        outputs = attributes.pop("outputs", [last]) if "outputs" in attributes else [last]
        last = outputs[0]
        nodes.append(helper.make_node(operator, names, outputs, **attributes))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *shape[1:]])
    result = helper.make_tensor_value_info(last, kind, None)
    graph = helper.make_graph(nodes, "test", [image], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    onnx.save(model, str(path))
    return path


def read(path: Path, shape: tuple[int, ...]) -> tuple[OnnxModule, torch.Tensor]:
    """The module for one shape, after its reading was held to ONNX Runtime."""
    image = torch.from_numpy(np.random.default_rng(5).standard_normal(shape).astype(np.float32))
    module = load_onnx(path).specialised(image)
    expected = run_onnx(path, {"image": image.numpy()})[module.output_name]
    measured = module(image).numpy()
    assert measured.shape == expected.shape
    np.testing.assert_allclose(measured, expected, rtol=1e-4, atol=2e-5)
    return module, image


ONE: list[tuple[str, int, list[Call]]] = [
    (name, 18, [(name, ["x"], {})])
    for name in (
        "Relu",
        "Sigmoid",
        "Tanh",
        "Erf",
        "Sin",
        "Cos",
        "Exp",
        "Abs",
        "Neg",
        "HardSwish",
        "HardSigmoid",
        "Mish",
        "Elu",
        "Selu",
        "Celu",
        "Softplus",
        "Softsign",
        "LeakyRelu",
        "ThresholdedRelu",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Flatten",
        "MeanVarianceNormalization",
        "LpNormalization",
        "LogSoftmax",
        "Shrink",
    )
]
MANY: list[tuple[str, int, list[Call]]] = [
    ("gelu", 20, [("Gelu", ["x"], {})]),
    ("gelu-tanh", 20, [("Gelu", ["x"], {"approximate": "tanh"})]),
    ("silu", 18, [("Sigmoid", ["x"], {}), ("Mul", ["image", "x"], {})]),
    ("softmax", 13, [("Softmax", ["x"], {"axis": 1})]),
    ("softmax-old", 11, [("Softmax", ["x"], {"axis": 2})]),
    ("softmax-oldest", 11, [("Softmax", ["x"], {})]),
    ("clip", 18, [("Clip", ["x", np.array(-0.3, np.float32), np.array(0.6, np.float32)], {})]),
    ("floor-ceil", 18, [("Mul", ["x", rand(1)], {}), ("Floor", ["x"], {}), ("Add", ["x", "image"], {})]),
    ("mod", 18, [("Mod", ["x", np.float32(0.7).reshape(1)], {"fmod": 1})]),
    ("min-max", 18, [("Max", ["x", np.float32(-0.5).reshape(1)], {}), ("Min", ["x", rand(6, 1, 1)], {})]),
    ("where", 18, [("Greater", ["x", np.float32(0.1).reshape(1)], {}), ("Where", ["x", "image", rand(1, 6, 8, 8)], {})]),
    ("pow", 18, [("Abs", ["x"], {}), ("Add", ["x", rand(1)], {}), ("Pow", ["x", np.array(0.7, np.float32)], {})]),
    ("prelu-number", 18, [("PRelu", ["x", rand(1, 1, 8)], {})]),
    ("layer-norm", 17, [("LayerNormalization", ["x", rand(8), rand(8)], {"epsilon": 1e-3})]),
    ("layer-norm-3", 17, [("LayerNormalization", ["x", rand(6, 8, 8)], {"axis": 1})]),
    ("group-norm", 18, [("GroupNormalization", ["x", rand(3), rand(3)], {"num_groups": 3})]),
    ("group-norm-21", 21, [("GroupNormalization", ["x", rand(6), rand(6)], {"num_groups": 2})]),
    ("instance-norm", 18, [("InstanceNormalization", ["x", rand(6), rand(6)], {"epsilon": 1e-3})]),
    (
        "rms-norm",
        18,
        [
            ("Mul", ["x", "image"], {}),
            ("ReduceMean", ["x", whole(-1)], {}),
            ("Add", ["x", rand(1)], {}),
            ("Sqrt", ["x"], {}),
            ("Reciprocal", ["x"], {}),
            ("Mul", ["image", "x"], {}),
        ],
    ),
    ("lrn", 18, [("LRN", ["x"], {"size": 3, "alpha": 0.1, "beta": 0.75, "bias": 1.0})]),
    ("batch-norm", 15, [("BatchNormalization", ["x", rand(6), rand(6), rand(6), rand(6)], {})]),
    ("reduce-max", 18, [("ReduceMax", ["x", whole(1)], {})]),
    ("reduce-min", 18, [("ReduceMin", ["x", whole(2, 3)], {"keepdims": 0})]),
    ("reduce-l2", 13, [("ReduceL2", ["x"], {"axes": [1]})]),
    ("reduce-l1", 18, [("ReduceL1", ["x", whole(1)], {})]),
    ("reduce-log-sum-exp", 18, [("ReduceLogSumExp", ["x", whole(3)], {})]),
    ("reduce-nothing", 18, [("ReduceSum", ["x"], {"noop_with_empty_axes": 1}), ("ReduceSumSquare", ["x", whole(1)], {})]),
    ("matmul-4d", 18, [("MatMul", ["x", rand(1, 6, 8, 5)], {}), ("Add", ["x", rand(5)], {}), ("Mul", ["x", rand(1, 1, 1, 5)], {})]),
    ("einsum", 18, [("Einsum", ["x", "image"], {"equation": "b c h w, b d h w -> b c d h"})]),
    ("einsum-weight", 12, [("Einsum", ["x", rand(6, 4)], {"equation": "bchw,ck->bkhw"})]),
    ("trilu", 18, [("Trilu", ["x", np.array(1)], {"upper": 0})]),
    ("cumsum", 18, [("CumSum", ["x", np.array(1)], {"exclusive": 1, "reverse": 1})]),
    ("tile", 18, [("Tile", ["x", whole(1, 2, 1, 3)], {})]),
    ("expand", 18, [("ReduceMean", ["x", whole(1)], {}), ("Expand", ["x", whole(1, 5, 1, 1)], {})]),
    (
        "split-uneven",
        18,
        [("Split", ["x"], {"axis": 1, "num_outputs": 4, "outputs": ["a", "b", "c", "d"]}), ("Concat", ["d", "b", "a"], {"axis": 1})],
    ),
    ("split-old", 11, [("Split", ["x"], {"axis": 1, "outputs": ["a", "b", "c"]}), ("Concat", ["c", "a"], {"axis": 1})]),
    ("slices", 18, [("Slice", ["x", whole(6, 1), whole(-100, 8), whole(2, 3), whole(-2, 3)], {})]),
    ("gather-2d", 18, [("Gather", ["x", np.array([[0, 5], [-1, 2], [2, 2]])], {"axis": 1})]),
    ("gather-run", 18, [("Gather", ["x", whole(1, 3, 5)], {"axis": 2})]),
    ("gather-elements", 18, [("GatherElements", ["x", RANDOM.integers(-6, 6, (2, 3, 8, 8))], {"axis": 1})]),
    ("gather-nd", 18, [("GatherND", ["x", np.array([[0, 1], [1, 5], [0, 1]])], {})]),
    ("scatter-nd", 18, [("ReduceMean", ["x", whole(1)], {"keepdims": 0}), ("ScatterND", ["image", np.array([[0, 1], [1, 5]]), "x"], {})]),
    (
        "scatter-elements",
        18,
        [
            ("Slice", ["x", whole(0), whole(2), whole(1)], {}),
            ("ScatterElements", ["image", np.tile(np.array([3, 0]).reshape(1, 2, 1, 1), (2, 1, 8, 8)), "x"], {"axis": 1}),
        ],
    ),
    ("pad-constant", 18, [("Pad", ["x", whole(0, 1, -1, 0, 0, 0, 2, 1), np.array(0.5, np.float32)], {})]),
    ("pad-reflect", 18, [("Pad", ["x", whole(0, 0, 2, 1, 0, 0, 1, 3)], {"mode": "reflect"})]),
    ("pad-reflect-rows", 18, [("Pad", ["x", whole(0, 1, 2, 0, 0, 2, 1, 0)], {"mode": "reflect"})]),
    ("pad-edge-axes", 18, [("Pad", ["x", whole(1, 2, 0, 1), "", whole(1, -1)], {"mode": "edge"})]),
    (
        "depth-to-space",
        18,
        [("Conv", ["x", rand(8, 6, 1, 1)], {}), ("DepthToSpace", ["x"], {"blocksize": 2}), ("SpaceToDepth", ["x"], {"blocksize": 4})],
    ),
    ("depth-to-space-crd", 18, [("Conv", ["x", rand(8, 6, 1, 1)], {}), ("DepthToSpace", ["x"], {"blocksize": 2, "mode": "CRD"})]),
    ("conv-same", 18, [("Conv", ["x", rand(4, 6, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]})]),
    ("conv-transpose", 18, [("ConvTranspose", ["x", rand(6, 2, 3, 3), rand(4)], {"strides": [2, 2], "group": 2, "pads": [1, 1, 1, 1]})]),
    ("conv-transpose-uneven", 18, [("ConvTranspose", ["x", rand(6, 4, 4, 3)], {"strides": [2, 2], "pads": [0, 1, 2, 0]})]),
    ("conv-transpose-shape", 18, [("ConvTranspose", ["x", rand(6, 4, 3, 3)], {"strides": [2, 2], "output_shape": [16, 16]})]),
    ("average-pool-same", 18, [("AveragePool", ["x"], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"})]),
    (
        "average-pool-uneven",
        18,
        [("AveragePool", ["x"], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 0, 1, 1], "count_include_pad": 1})],
    ),
    ("average-pool-ceil", 18, [("AveragePool", ["x"], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})]),
    ("max-pool", 18, [("MaxPool", ["x"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1]})]),
    (
        "pools-1d",
        18,
        [
            ("Reshape", ["x", whole(0, 6, 64)], {}),
            ("MaxPool", ["x"], {"kernel_shape": [3], "strides": [2]}),
            ("AveragePool", ["x"], {"kernel_shape": [2]}),
        ],
    ),
    (
        "conv-1d",
        18,
        [("Reshape", ["x", whole(0, 6, 64)], {}), ("Conv", ["x", rand(4, 6, 3)], {"pads": [0, 1]}), ("Mul", ["x", rand(4, 1)], {})],
    ),
    ("resize-nearest", 18, [("Resize", ["x", "", "", whole(2, 6, 5, 13)], {"mode": "nearest"})]),
    ("resize-linear", 18, [("Resize", ["x", "", np.float32([1, 1, 1.5, 0.7])], {"mode": "linear"})]),
    (
        "resize-corners",
        13,
        [("Resize", ["x", "", "", whole(2, 6, 11, 16)], {"mode": "linear", "coordinate_transformation_mode": "align_corners"})],
    ),
    (
        "resize-cubic",
        13,
        [("Resize", ["x", "", "", whole(2, 6, 12, 9)], {"mode": "cubic", "coordinate_transformation_mode": "pytorch_half_pixel"})],
    ),
    (
        "resize-floor",
        18,
        [
            (
                "Resize",
                ["x", "", np.float32([2, 2])],
                {"axes": [2, 3], "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
            )
        ],
    ),
    ("resize-old", 10, [("Resize", ["x", np.float32([1, 1, 2, 0.5])], {"mode": "nearest"})]),
    ("upsample", 9, [("Upsample", ["x", np.float32([1, 1, 2, 2])], {"mode": "linear"})]),
    (
        "dequantised",
        18,
        [
            ("DequantizeLinear", [RANDOM.integers(-127, 127, (8, 5)).astype(np.int8), rand(5), np.zeros(5, np.int8)], {"axis": 1}),
            ("MatMul", ["image", "x"], {}),
        ],
    ),
    (
        "dequantised-blocks",
        21,
        [
            ("DequantizeLinear", [RANDOM.integers(-127, 127, (8, 5)).astype(np.int8), rand(4, 5)], {"axis": 0, "block_size": 2}),
            ("MatMul", ["image", "x"], {}),
        ],
    ),
    (
        "quantised-weight",
        18,
        [
            ("QuantizeLinear", [rand(8, 5), np.array(0.01, np.float32), np.array(3, np.uint8)], {}),
            ("DequantizeLinear", ["x", np.array(0.01, np.float32), np.array(3, np.uint8)], {}),
            ("MatMul", ["image", "x"], {}),
        ],
    ),
    (
        "two-columns",
        18,
        [
            ("Gemm", [rand(2, 5), rand(5, 3), rand(3)], {"alpha": 0.5, "beta": 2.0}),
            ("Reshape", ["x", whole(2, 3, 1, 1)], {}),
            ("Tile", ["x", whole(1, 2, 1, 1)], {}),
            ("Mul", ["x", "image"], {}),
        ],
    ),
]


@pytest.mark.parametrize(("opset", "calls"), [pytest.param(o, c, id=n) for n, o, c in [*ONE, *MANY]])
def test_operator_and_its_gradient(opset: int, calls: list[Call], tmp_path: Path) -> None:
    module, image = read(save(tmp_path / "m.onnx", [(o, i, dict(a)) for o, i, a in calls], opset), SHAPE)
    parity, _ = parity_of(lambda image: {"loss": weighted(module(image))}, {"image": image}, ("image",), tmp_path)
    assert parity.relative_error <= 1e-4


POSITIONS: list[Call] = [
    ("Shape", ["image"], {"start": 1, "end": 2}),
    ("Squeeze", ["x", whole(0)], {}),
    ("Range", [np.array(0), "x", np.array(1)], {}),
    ("Mod", ["x", np.array(4)], {}),
    ("Cast", ["x"], {"to": TensorProto.FLOAT}),
    ("Sin", ["x"], {}),
    ("Unsqueeze", ["x", whole(1, 2)], {}),
    ("Add", ["image", "x"], {}),
]
MASKS: list[Call] = [
    ("Shape", ["image"], {}),
    ("Gather", ["x", whole(0, 3)], {}),
    ("ConstantOfShape", ["x"], {"value": numpy_helper.from_array(np.array([True]))}),
    ("Not", ["x"], {}),
    ("Cast", ["x"], {"to": TensorProto.INT64}),
    ("Add", ["x", np.array(1)], {}),
    ("CumSum", ["x", np.array(1)], {}),
    ("Less", ["x", np.array(4)], {}),
    ("Reshape", ["x", whole(-1, 1, 1, 8)], {}),
    ("Where", ["x", "image", np.array(-2.0, np.float32)], {}),
]
ONE_HOT: list[Call] = [
    ("Shape", ["image"], {}),
    ("Equal", ["x", np.array(8)], {}),
    ("NonZero", ["x"], {}),
    ("Flatten", ["x"], {"axis": 0}),
    ("OneHot", ["x", np.array(8), np.float32([0, 3])], {}),
    ("ReduceMax", ["x", whole(0, 1)], {"keepdims": 0}),
    ("Add", ["image", "x"], {}),
]
DIVIDED: list[Call] = [
    ("Shape", ["image"], {}),
    ("Div", ["x", np.array(-3)], {}),
    ("ReduceProd", ["x"], {"keepdims": 0}),
    ("Cast", ["x"], {"to": TensorProto.FLOAT}),
    ("Sqrt", ["x"], {}),
    ("Mul", ["image", "x"], {}),
]


@pytest.mark.parametrize("calls", [POSITIONS, MASKS, ONE_HOT, DIVIDED], ids=["positions", "masks", "one-hot", "divided"])
def test_what_depends_on_shapes_alone_is_constant(calls: list[Call], tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", calls, 18, (2, 8, 8, 8))
    for batch in (1, 3):
        module, _ = read(path, (batch, 8, 8, 8))
        assert len(module.steps) == 1


def test_weights_in_bfloat16_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [("Add", ["x", np.float32([1.5])], {})], 18)
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(helper.make_tensor("c0.1", TensorProto.BFLOAT16, [1], [1.5]))
    onnx.save(model, path)
    assert float(load_onnx(path)(torch.zeros(1, 6, 8, 8)).mean()) == 1.5


def test_functions_of_the_model_are_read(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sigmoid", ["v"], ["s"]), helper.make_node("Mul", ["v", "s"], ["w"])]
    swish = helper.make_function("mine", "MySwish", ["v"], ["w"], nodes, [helper.make_opsetid("", 18)])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *SHAPE[1:]])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("MySwish", ["image"], ["result"], domain="mine")], "test", [image], [result])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[swish])
    model.ir_version = 10
    onnx.save(model, str(tmp_path / "m.onnx"))
    read(tmp_path / "m.onnx", SHAPE)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([("QuantizeLinear", ["x", np.array(0.1, np.float32), np.array(0, np.int8)], {})], "before it was quantised"),
        ([("Resize", ["x", "", "", whole(2, 6, 4, 4)], {"mode": "linear", "antialias": 1})], "antialias"),
        ([("GatherND", ["x", np.zeros((2, 1, 1), np.int64)], {"batch_dims": 1})], "batch_dims"),
    ],
)
def test_what_cannot_be_read_is_named(calls: list[Call], message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", calls, 18)
    with pytest.raises(OnnxReadError, match=message):
        load_onnx(path).specialised(torch.zeros(SHAPE))


def test_control_flow_is_refused_with_the_way_out(tmp_path: Path) -> None:
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Relu", ["image"], ["y"])], "branch", [], [result])
    path = save(tmp_path / "m.onnx", [("If", [np.array(True)], {"then_branch": branch, "else_branch": branch})], 18)
    with pytest.raises(OnnxReadError, match=r"If .*control flow.*tracing"):
        load_onnx(path)

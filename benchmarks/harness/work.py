"""What an engine's graph has to do: multiply-accumulates and bytes; and the least time that a machine could do it in.

The roofline model of Williams, Waterman and Patterson, "Roofline: an insightful visual performance model" (CACM 2009): a graph takes no
less than its arithmetic at the machine's best rate, and no less than its data once through the memory. Its shape is read from the ONNX
graph alone; weights that lie in other files are not needed for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, shape_inference

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

#: Numbers that a session unpacks to float32 as it opens, whatever the file stores.
_STORED = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.UINT8)
#: Operators with arithmetic that nothing here counts: better no figure than one too small.
_UNCOUNTED = {"Attention", "ConvInteger", "DeformConv", "Einsum", "GRU", "LSTM", "MatMulInteger", "QLinearConv", "QLinearMatMul", "RNN"}


@dataclass(frozen=True)
class Work:
    """``macs``: multiply-accumulates of one run. ``bytes``: its weights, inputs and outputs, each once."""

    macs: int
    bytes: int


@dataclass(frozen=True)
class Ceilings:
    """The most that was measured of a machine.

    ``matmul`` and ``conv``: 1e9 FLOP/s of float32. ``copy``: 1e9 bytes/s through the memory, those read and those written.
    """

    matmul: float
    conv: float
    copy: float

    def floor(self, work: Work) -> tuple[float, str]:
        """The least seconds for ``work``, and whether "compute" or "memory" sets them. A multiply-accumulate is two FLOP."""
        compute = 2 * work.macs / (1e9 * max(self.matmul, self.conv))
        memory = work.bytes / (1e9 * self.copy)
        return (compute, "compute") if compute >= memory else (memory, "memory")


def work_of(graph: Path, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> Work:
    """Of an ONNX file on inputs of these shapes; ``outputs``: what it gave. Raises ValueError for a graph that cannot be counted."""
    model = onnx.load(str(graph), load_external_data=False)
    try:
        macs = multiply_accumulates(model, {name: array.shape for name, array in inputs.items()})
    except ValueError as error:
        raise ValueError(f"{graph}: {error}") from error
    return Work(macs, weight_bytes(model) + sum(array.nbytes for array in (*inputs.values(), *outputs.values())))


def weight_bytes(model: onnx.ModelProto) -> int:
    """Of the initializers once a session is open: floats and what is unpacked to them take 4 bytes, the rest what it takes in the file."""
    return sum(math.prod(one.dims) * _item_bytes(one.data_type) for one in model.graph.initializer)


def _item_bytes(kind: int) -> int:
    return 4 if kind in _STORED else int(np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize)


def multiply_accumulates(model: onnx.ModelProto, inputs: Mapping[str, Sequence[int]] | None = None) -> int:
    """Of Conv, ConvTranspose, MatMul and Gemm; padding counts as data, biases do not count. What runs once, at opening, is left out.

    ``inputs``: shapes for those that the graph leaves free. Raises ValueError for an operator that is not counted, and for a shape that
    does not follow from the inputs'.
    """
    shapes = shapes_of(model, inputs or {})
    constant = {one.name for one in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if all(name in constant for name in node.input if name) and not node.op_type.startswith("Random"):
            constant.update(node.output)
        else:
            total += _node_macs(node, shapes)
    return total


def shapes_of(model: onnx.ModelProto, inputs: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
    """The shape of every tensor for which ONNX's shape inference finds one. ``model`` is left as it is."""
    given = onnx.ModelProto()
    given.CopyFrom(model)
    del given.graph.value_info[:]  # they may hold the names of free sizes
    for value in given.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, inputs.get(value.name, ()), strict=False):
            dim.dim_value = size
    for value in given.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(given, data_prop=True).graph
    found = {one.name: tuple(one.dims) for one in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    return found


def _node_macs(node: NodeProto, shapes: Shapes) -> int:
    inner = any(one.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for one in node.attribute)
    if node.op_type in _UNCOUNTED or node.domain not in ("", "ai.onnx") or inner:
        raise ValueError(f"operator {node.domain and node.domain + '.'}{node.op_type} (node '{node.name}') is not counted")
    if node.op_type not in _COUNTS:
        return 0
    missing = [name for name in (*node.input[:2], node.output[0]) if name not in shapes]
    if missing:
        raise ValueError(f"the shape of '{missing[0]}' does not follow from the inputs'; give every input its size")
    first, second = (shapes[name] for name in node.input[:2])
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return _COUNTS[node.op_type](first, second, shapes[node.output[0]], attributes)


def _conv(_: Shape, weight: Shape, output: Shape, attributes: Mapping[str, Any]) -> int:
    """``weight`` [M, C / group, kernel...]: every output number is a sum over the second dimension and the kernel."""
    return math.prod(output) * math.prod(weight[1:])


def _conv_transpose(data: Shape, weight: Shape, output: Shape, attributes: Mapping[str, Any]) -> int:
    """``weight`` [C, M / group, kernel...]: every input number goes into that many outputs."""
    return math.prod(data) * math.prod(weight[1:])


def _matmul(first: Shape, second: Shape, output: Shape, attributes: Mapping[str, Any]) -> int:
    """[..., M, K] by [..., K, N], broadcast."""
    return math.prod(output) * first[-1]


def _gemm(first: Shape, second: Shape, output: Shape, attributes: Mapping[str, Any]) -> int:
    """[M, K] by [K, N], either of them transposed."""
    return math.prod(output) * first[0 if attributes.get("transA") else 1]


_COUNTS: dict[str, Callable[[Shape, Shape, Shape, Mapping[str, Any]], int]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "Gemm": _gemm,
}

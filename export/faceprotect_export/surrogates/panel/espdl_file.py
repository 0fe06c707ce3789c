"""A recogniser published for Espressif's ESP-DL: int8 with powers of two as scales, in FlatBuffers.

Kernels lie in blocks of 16 output channels (``N16HWC16``), biases as int32. The engine computes in float32 with the weights that these
stand for; rounding activations, as the chip does, has no gradient.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faceprotect_export.onnx_io.reader import OnnxProgram, Step
from faceprotect_export.onnx_io.values import Value
from faceprotect_export.surrogates.panel.flatbuffer import Table
from faceprotect_export.surrogates.panel.original import Original, OriginalError, StoredTensor

_MAGIC, _HEADER = b"EDL2", 16
_BLOCK = 16
_DTYPES: dict[int, str] = {3: "int8", 6: "<i4"}
#: Slots of the schema's tables.
_MODEL_GRAPH = 18
_NODES, _TENSORS, _INPUTS, _OUTPUTS = 4, 8, 12, 14
_NODE_INPUTS, _NODE_OUTPUTS, _OPERATOR, _ATTRIBUTES = 4, 6, 10, 14
_DIMS, _KIND, _TENSOR_NAME, _LAYOUT, _RAW, _EXPONENTS = 4, 6, 16, 18, 20, 30
_NAME, _TYPE, _INTEGER, _TEXT, _INTEGERS = 4, 10, 14, 16, 26
_IS_INTEGER, _IS_INTEGERS = 2, 7


class _Reading:
    """Collects the program while the file is walked."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.constants: dict[str, Value] = {}
        self.stored: dict[str, StoredTensor] = {}


def read_espdl_original(path: Path) -> Original:
    """The file's network and where its numbers lie; raises OriginalError."""
    data = path.read_bytes()
    if data[:8] != _MAGIC + bytes(4):  # then a flag: whether it is encrypted
        raise OriginalError(f"{path} is not an .espdl file in the clear")
    try:
        graph, reading = _graph(data), _Reading()
        for tensor in graph.tables(_TENSORS):
            _constant(reading, tensor)
        for node in graph.tables(_NODES):
            reading.steps.append(_step(node))
        (image,), (output,) = graph.tables(_INPUTS), graph.tables(_OUTPUTS)
        return Original(OnnxProgram(reading.steps, reading.constants, image.text(_NAME), output.text(_NAME)), reading.stored)
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise OriginalError(f"{path} is damaged, or of another form than is known: {error}") from error


def _graph(data: bytes) -> Table:
    model = Table.root(data, _HEADER)
    at = model.field(_MODEL_GRAPH)
    if at is None:
        raise OriginalError("the file holds no graph")
    return Table.root(data, at)


def _constant(reading: _Reading, tensor: Table) -> None:
    """A tensor as it is stored, and the steps that make it the floats that the network computes with."""
    name, (exponent,), dims = tensor.text(_TENSOR_NAME), tensor.integers(_EXPONENTS), tensor.integers(_DIMS)
    first, _ = tensor.vector(_RAW)
    blocked = len(dims) == 4
    if blocked and "N16HWC16" not in tensor.text(_LAYOUT):
        raise OriginalError(f"'{name}' lies in the layout {tensor.text(_LAYOUT)!r}")
    shape = _blocks(dims) if blocked else tuple(dims)
    array: NDArray[Any] = np.frombuffer(tensor.data, _DTYPES[tensor.number(_KIND)], int(np.prod(shape)), first).reshape(shape)
    raw = f"{name}.stored"
    reading.stored[raw] = StoredTensor(torch.from_numpy(array.copy()), first)
    reading.constants |= {raw: reading.stored[raw].values, f"{name}.scale": torch.tensor(2.0**exponent)}
    made = f"{name}.blocks" if blocked else name
    reading.steps.append(Step("DequantizeLinear", [raw, f"{name}.scale"], [made], {}))
    if blocked:
        height, width, channels, kernels = dims
        whole = [kernels, channels, height, width] if kernels > 1 else [channels, 1, height, width]
        reading.constants[f"{name}.shape"] = np.array(whole, np.int64)
        reading.steps.append(Step("Transpose", [made], [f"{name}.rows"], {"perm": [0, 4, 3, 1, 2]}))
        reading.steps.append(Step("Reshape", [f"{name}.rows", f"{name}.shape"], [name], {}))


def _blocks(dims: list[int]) -> tuple[int, ...]:
    """How a kernel [H,W,C,N] lies: blocks of 16 kernels, or of 16 channels where every channel has its own (N is 1)."""
    height, width, channels, kernels = dims
    count, inner = (kernels, channels) if kernels > 1 else (channels, 1)
    if count % _BLOCK:
        raise OriginalError(f"a kernel {dims} does not fill its blocks of {_BLOCK}")
    return (count // _BLOCK, height, width, inner, _BLOCK)


def _step(node: Table) -> Step:
    """A node as ONNX has it: the file keeps channels last, so an axis of 3 is our 1."""
    operator = node.text(_OPERATOR)
    attributes: dict[str, Any] = {}
    for attribute in node.tables(_ATTRIBUTES):
        kind, name = attribute.number(_TYPE), attribute.text(_NAME)
        if kind == _IS_INTEGER:
            attributes[name] = attribute.number(_INTEGER, "q")
        elif kind == _IS_INTEGERS:
            attributes[name] = attribute.integers(_INTEGERS)
        elif name == "activation" and attribute.bytes(_TEXT) != b"Linear":
            raise OriginalError(f"{operator} with the activation {attribute.bytes(_TEXT)!r} is not known")
    if operator == "Concat":
        if attributes["axis"] != 3:
            raise OriginalError(f"Concat along axis {attributes['axis']} is not known")
        attributes["axis"] = 1
    elif operator not in ("Conv", "PRelu", "Add"):
        raise OriginalError(f"the operator {operator} is not known")
    return Step(operator, node.texts(_NODE_INPUTS), node.texts(_NODE_OUTPUTS), attributes)

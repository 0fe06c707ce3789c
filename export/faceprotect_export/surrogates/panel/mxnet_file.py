"""A recogniser published for MXNet: ``NAME-0000.params`` holds names, shapes and raw float32, ``NAME-symbol.json`` the network.

The ``.params`` file is what a user fetches; the ``symbol.json`` lies beside it when the engine is built. Format of the former: a magic
number and a reserved one, a count, then an array each (dmlc serialisation, ``NDArray::Save`` of MXNet 1.x), then a count and the names.
"""

from __future__ import annotations

import ast
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faceprotect_export.onnx_io.reader import OnnxProgram, Step
from faceprotect_export.onnx_io.values import Value
from faceprotect_export.surrogates.panel.original import Original, OriginalError, StoredTensor

_LIST, _ARRAY = 0x112, 0xF993FAC9
_FLOAT32, _DENSE, _CPU = 0, 0, 1


def read_params(path: Path) -> dict[str, StoredTensor]:
    """Every array of a ``.params`` file by its name; raises OriginalError for anything but dense float32."""
    data = path.read_bytes()
    try:
        magic, _, count = struct.unpack_from("<QQQ", data)
        if magic != _LIST:
            raise OriginalError(f"{path} is not a file of MXNet parameters")
        at, arrays = 24, []
        for _ in range(count):
            array, at = _array(data, at)
            arrays.append(array)
        names, at = _names(data, at)
    except (struct.error, ValueError) as error:
        raise OriginalError(f"{path} is damaged: {error}") from error
    if at != len(data) or len(names) != len(arrays):
        raise OriginalError(f"{path} is damaged: {len(arrays)} arrays, {len(names)} names, {len(data) - at} bytes left over")
    return {name.split(":", 1)[-1]: array for name, array in zip(names, arrays, strict=True)}  # arg:NAME or aux:NAME


def _array(data: bytes, at: int) -> tuple[StoredTensor, int]:
    magic, storage, rank = struct.unpack_from("<IiI", data, at)
    shape = struct.unpack_from(f"<{rank}q", data, at + 12)
    device, _, kind = struct.unpack_from("<iii", data, at + 12 + 8 * rank)
    if magic != _ARRAY or storage != _DENSE or device != _CPU or kind != _FLOAT32:
        raise OriginalError("an array is not dense float32 of MXNet 1.x")
    first = at + 24 + 8 * rank
    values = np.frombuffer(data, "<f4", int(np.prod(shape)), first).reshape(shape)
    return StoredTensor(torch.from_numpy(values.copy()), first), first + values.nbytes


def _names(data: bytes, at: int) -> tuple[list[str], int]:
    (count,) = struct.unpack_from("<Q", data, at)
    at, names = at + 8, []
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", data, at)
        names.append(data[at + 8 : at + 8 + length].decode())
        at += 8 + length
    return names, at


def read_mxnet_original(path: Path) -> Original:
    """The network of ``NAME-symbol.json`` beside ``NAME-0000.params``, over that file's arrays; raises OriginalError."""
    symbol = path.with_name(path.name.replace("-0000.params", "-symbol.json"))
    if not symbol.is_file():
        raise OriginalError(f"{symbol.name} has to lie beside {path}: it says what the network computes")
    nodes, stored = json.loads(symbol.read_text(encoding="utf-8"))["nodes"], read_params(path)
    constants: dict[str, Value] = {name: array.values for name, array in stored.items()}
    steps = []
    for node in nodes:
        if node["op"] != "null":
            inputs = [nodes[number]["name"] for number, *_ in node["inputs"]]
            steps.append(_step(node["op"], node["name"], inputs, node.get("attrs") or node.get("attr") or {}, constants))
    used = {name for step in steps for name in step.inputs}
    return Original(OnnxProgram(steps, constants, "data", steps[-1].outputs[0]), {n: s for n, s in stored.items() if n in used})


Attributes = Mapping[str, str]


def _pair(attributes: Attributes, key: str, default: str) -> list[int]:
    return [int(number) for number in ast.literal_eval(attributes.get(key, default))]


def _convolution(attributes: Attributes) -> dict[str, Any]:
    pads = _pair(attributes, "pad", "(0, 0)")
    strides, dilations = _pair(attributes, "stride", "(1, 1)"), _pair(attributes, "dilate", "(1, 1)")
    return {"pads": pads * 2, "strides": strides, "dilations": dilations, "group": int(attributes.get("num_group", 1))}


#: MXNet's operators with only arrays as inputs: the ONNX operator, and its attributes from MXNet's.
_SAME: dict[str, tuple[str, Callable[[Attributes], dict[str, Any]]]] = {
    "Convolution": ("Conv", _convolution),
    "FullyConnected": ("Gemm", lambda _: {"transB": 1}),
    "BatchNorm": ("BatchNormalization", lambda a: {"epsilon": float(a.get("eps", 1e-3))}),
    "elemwise_add": ("Add", lambda _: {}),
    "Flatten": ("Flatten", lambda _: {}),
    "L2Normalization": ("LpNormalization", lambda _: {"axis": 1}),
}
#: Those with a number: the ONNX operator, and where the number stands.
_SCALAR = {"_minus_scalar": ("Sub", 1), "_mul_scalar": ("Mul", 1), "_maximum_scalar": ("Clip", 1), "_minimum_scalar": ("Clip", 2)}


def _step(operator: str, name: str, inputs: list[str], attributes: Attributes, constants: dict[str, Value]) -> Step:
    """The ONNX form of a node; a number becomes a constant."""
    if operator in _SCALAR:
        known, place = _SCALAR[operator]
        constants[f"{name}.number"] = torch.tensor(float(attributes["scalar"]))
        return Step(known, [*inputs, *[""] * (place - 1), f"{name}.number"], [name], {})
    if operator not in _SAME or (operator == "BatchNorm" and attributes.get("fix_gamma", "True") != "False"):
        raise OriginalError(f"MXNet's operator {operator} ({name}) is not known in this form")
    known, translate = _SAME[operator]
    return Step(known, inputs, [name], translate(attributes))

"""What ONNX values are while a graph is read: the ground of the operator tables (ops.py, which see).

*Float* values are torch tensors; *host* values (shapes, axes, indices, conditions on them) are numpy arrays of int64, bool or, where the
file has single bytes, int8 and uint8: what is known without looking at the image is computed there, and never enters a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor

Host = NDArray[Any]
Value = Any  # Tensor | Host | None (an input left out)
Attributes = Mapping[str, Any]
Operator = Callable[[Sequence[Value], Attributes], Value]

_FLOATS = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.DOUBLE,
    TensorProto.BFLOAT16,
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ,
    TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
}
_HOST_TYPES: dict[int, Any] = {TensorProto.BOOL: np.bool_, TensorProto.INT8: np.int8, TensorProto.UINT8: np.uint8}


def is_float(kind: int) -> bool:
    """True where a type of ONNX is one of floating point: all of them are float32 here."""
    return kind in _FLOATS


def host_type(kind: int) -> Any:
    """The numpy type in which integers and booleans of an ONNX type are kept."""
    return _HOST_TYPES.get(kind, np.int64)


def is_host(value: Value) -> bool:
    return isinstance(value, np.ndarray)


def as_tensor(value: Value) -> Tensor:
    """A host value as a tensor of its type; a tensor as it is."""
    return torch.from_numpy(np.ascontiguousarray(value)).reshape(np.shape(value)) if is_host(value) else value


def settled(value: Value) -> Value:
    """A value that is known for good: integers and booleans as host values."""
    if isinstance(value, Tensor) and not value.is_floating_point():
        return value.numpy()
    return value


def ints(value: Value) -> list[int]:
    """A host value as a list of integers."""
    return [int(v) for v in np.asarray(value).reshape(-1)]


def given(inputs: Sequence[Value], index: int) -> Value:
    """Input ``index``, or None where it was left out."""
    return inputs[index] if len(inputs) > index else None


def text(attributes: Attributes, name: str, default: str) -> str:
    """An attribute that is a word."""
    value = attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def axes_of(inputs: Sequence[Value], attributes: Attributes) -> list[int] | None:
    """Axes come as an attribute in older opsets and as the second input in newer ones."""
    if given(inputs, 1) is not None:
        return ints(inputs[1])
    axes = attributes.get("axes")
    return None if axes is None else [axes] if isinstance(axes, int) else list(axes)


def on_host(function: Callable[..., Any], *values: Value) -> Host:
    """A host value from others (numpy gives scalars where it could give arrays of no dimension)."""
    return np.asarray(function(*values))


def both(host: Callable[..., Any], tensor: Callable[..., Tensor]) -> Operator:
    """An operator of its inputs alone: ``host`` where all of them are host values, else ``tensor`` with all of them as tensors."""

    def run(inputs: Sequence[Value], _: Attributes) -> Value:
        if all(is_host(value) for value in inputs):
            return on_host(host, *inputs)
        return tensor(*[as_tensor(value) for value in inputs])

    return run

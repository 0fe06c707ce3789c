"""ONNX operators that move, cut or resize: part of the table of onnx_ops.py, which see for the conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Host = NDArray[np.int64]
Value = Any  # Tensor | Host | None (an input left out)
Attributes = Mapping[str, Any]
Operator = Callable[[Sequence[Value], Attributes], Value]


def ints(value: Value) -> list[int]:
    """A host value as a list of integers."""
    return [int(v) for v in np.asarray(value).reshape(-1)]


def axes_of(inputs: Sequence[Value], attributes: Attributes) -> list[int] | None:
    """Axes come as an attribute in older opsets and as the second input in newer ones."""
    if len(inputs) > 1 and inputs[1] is not None:
        return ints(inputs[1])
    axes = attributes.get("axes")
    return None if axes is None else list(axes)


def reshape(inputs: Sequence[Value], attributes: Attributes) -> Value:
    """Reshape; 0 copies a dimension unless ``allowzero``."""
    shape = ints(inputs[1])
    if isinstance(inputs[0], np.ndarray):
        return inputs[0].reshape(shape)
    if not attributes.get("allowzero", 0):
        shape = [inputs[0].shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return inputs[0].reshape(shape)


def flatten(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """Flatten to two dimensions."""
    axis = int(attributes.get("axis", 1)) % (inputs[0].dim() + 1)
    return inputs[0].reshape(int(np.prod(inputs[0].shape[:axis])), -1)


def slice_(inputs: Sequence[Value], attributes: Attributes) -> Value:
    data = inputs[0]
    if len(inputs) > 1:
        starts, ends = ints(inputs[1]), ints(inputs[2])
        axes = ints(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else list(range(len(starts)))
        steps = ints(inputs[4]) if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    else:
        starts, ends = list(attributes["starts"]), list(attributes["ends"])
        axes, steps = list(attributes.get("axes", range(len(starts)))), [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if isinstance(data, np.ndarray) or step > 0:
            data = data[(slice(None),) * (axis % data.ndim) + (slice(start, end, step),)]
            continue
        # torch has no negative steps: turn them into an index.
        if start in (-1, data.shape[axis] - 1) and step == -1 and end < -data.shape[axis]:
            data = data.flip(axis)
            continue
        chosen = range(data.shape[axis])[slice(start, None if end < -data.shape[axis] else end, step)]
        data = data.index_select(axis, torch.tensor(list(chosen), device=data.device))
    return data


def concat(inputs: Sequence[Value], attributes: Attributes) -> Value:
    if all(isinstance(v, np.ndarray) for v in inputs):
        return np.concatenate(inputs, int(attributes["axis"]))
    return torch.cat(list(inputs), int(attributes["axis"]))


def gather(inputs: Sequence[Value], attributes: Attributes) -> Value:
    axis = int(attributes.get("axis", 0))
    if isinstance(inputs[0], np.ndarray):
        return np.asarray(np.take(inputs[0], inputs[1], axis))
    index = np.asarray(inputs[1])
    if index.ndim == 0:
        return inputs[0].select(axis, int(index))
    if index.ndim == 1:
        return inputs[0].index_select(axis, torch.from_numpy(index).to(inputs[0].device))
    raise NotImplementedError("Gather with an index of more than one dimension")


def split(inputs: Sequence[Value], attributes: Attributes) -> Value:
    axis = int(attributes.get("axis", 0))
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(torch.split(inputs[0], ints(inputs[1]), axis))
    if "split" in attributes:
        return tuple(torch.split(inputs[0], list(attributes["split"]), axis))
    parts = int(attributes.get("num_outputs", 2))
    return tuple(torch.split(inputs[0], -(-inputs[0].shape[axis] // parts), axis))


def squeeze(inputs: Sequence[Value], attributes: Attributes) -> Value:
    axes = axes_of(inputs, attributes)
    if isinstance(inputs[0], np.ndarray):
        return np.squeeze(inputs[0], None if axes is None else tuple(axes))
    return inputs[0].squeeze() if axes is None else inputs[0].squeeze(axes)


def unsqueeze(inputs: Sequence[Value], attributes: Attributes) -> Value:
    axes = axes_of(inputs, attributes) or []
    if isinstance(inputs[0], np.ndarray):
        return np.expand_dims(inputs[0], tuple(axes))
    data, rank = inputs[0], inputs[0].dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        data = data.unsqueeze(axis)
    return data


def pad(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    pads = ints(inputs[1]) if len(inputs) > 1 else list(attributes["pads"])
    mode = attributes.get("mode", b"constant")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    value = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else float(attributes.get("value", 0.0))
    rank = len(pads) // 2
    order: list[int] = []
    for start, end in reversed(list(zip(pads[:rank], pads[rank:], strict=True))):
        order += [start, end]
    if mode == "constant":
        return F.pad(inputs[0], order, value=value)
    while order and order[-1] == 0 and order[-2] == 0:
        order = order[:-2]
    return F.pad(inputs[0], order, mode={"edge": "replicate"}.get(mode, mode))


def resize(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    x = inputs[0]
    sizes = ints(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else None
    scales = inputs[2] if len(inputs) > 2 else inputs[1]
    size = sizes[2:] if sizes else [int(n * float(s)) for n, s in zip(x.shape[2:], scales.tolist()[2:], strict=True)]
    mode = attributes.get("mode", b"nearest").decode()
    if mode == "nearest":
        return F.interpolate(x, size, mode="nearest")
    corners = attributes.get("coordinate_transformation_mode", b"half_pixel") == b"align_corners"
    return F.interpolate(x, size, mode={"linear": "bilinear", "cubic": "bicubic"}[mode], align_corners=corners)

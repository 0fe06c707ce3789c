"""ONNX operators that move, cut, repeat or make values: part of the table of ops.py, which see for the conventions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceprotect_export.onnx_io.indexing import GATHERING, index_axis
from faceprotect_export.onnx_io.values import Attributes, Host, Operator, Value, as_tensor, axes_of, given, ints, is_host, text


def reshape(inputs: Sequence[Value], attributes: Attributes) -> Value:
    """Reshape; 0 copies a dimension unless ``allowzero``."""
    shape = ints(inputs[1]) if len(inputs) > 1 else list(attributes["shape"])
    if not attributes.get("allowzero", 0):
        shape = [inputs[0].shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return inputs[0].reshape(shape)


def flatten(inputs: Sequence[Value], attributes: Attributes) -> Value:
    """Flatten to two dimensions."""
    axis = int(attributes.get("axis", 1))
    axis = axis + inputs[0].ndim if axis < 0 else axis
    return inputs[0].reshape(int(np.prod(inputs[0].shape[:axis])), -1)


def _transpose(inputs: Sequence[Value], attributes: Attributes) -> Value:
    order = list(attributes.get("perm", range(inputs[0].ndim)[::-1]))
    return np.transpose(inputs[0], order) if is_host(inputs[0]) else inputs[0].permute(*order)


def slice_(inputs: Sequence[Value], attributes: Attributes) -> Value:
    data = inputs[0]
    if len(inputs) > 1:
        starts, ends = ints(inputs[1]), ints(inputs[2])
        axes = list(range(len(starts))) if given(inputs, 3) is None else ints(inputs[3])
        steps = [1] * len(starts) if given(inputs, 4) is None else ints(inputs[4])
    else:
        starts, ends = list(attributes["starts"]), list(attributes["ends"])
        axes, steps = list(attributes.get("axes", range(len(starts)))), [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = data.shape[axis]
        stop = None if step < 0 and end < -size else end
        if is_host(data) or step > 0:
            data = data[(slice(None),) * (axis % data.ndim) + (slice(start, stop, step),)]
        elif range(size)[slice(start, stop, step)] == range(size)[::-1]:
            data = data.flip(axis)
        else:  # torch has no negative steps: turn them into an index.
            data = index_axis(data, axis, np.arange(size)[slice(start, stop, step)])
    return data


def concat(inputs: Sequence[Value], attributes: Attributes) -> Value:
    axis = int(attributes["axis"])
    if all(is_host(v) for v in inputs):
        return np.concatenate(inputs, axis)
    return torch.cat([as_tensor(v) for v in inputs], axis)


def split(inputs: Sequence[Value], attributes: Attributes) -> Value:
    """Split into parts of given sizes, or into as many equal ones as there are outputs (the last may be smaller)."""
    axis, size = int(attributes.get("axis", 0)), inputs[0].shape[int(attributes.get("axis", 0))]
    if given(inputs, 1) is not None or "split" in attributes:
        sizes = ints(inputs[1]) if given(inputs, 1) is not None else list(attributes["split"])
    else:
        parts = int(attributes["num_outputs"])
        each = -(-size // parts)
        sizes = [each] * (parts - 1) + [size - each * (parts - 1)]
    if is_host(inputs[0]):
        return tuple(np.split(inputs[0], np.cumsum(sizes)[:-1], axis))
    return tuple(torch.split(inputs[0], sizes, axis))


def squeeze(inputs: Sequence[Value], attributes: Attributes) -> Value:
    axes = axes_of(inputs, attributes)
    if is_host(inputs[0]):
        return np.squeeze(inputs[0], None if axes is None else tuple(axes))
    return inputs[0].squeeze() if axes is None else inputs[0].squeeze(axes)


def unsqueeze(inputs: Sequence[Value], attributes: Attributes) -> Value:
    axes = axes_of(inputs, attributes) or []
    if is_host(inputs[0]):
        return np.expand_dims(inputs[0], tuple(axes))
    data, rank = inputs[0], inputs[0].dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        data = data.unsqueeze(axis)
    return data


def _expand(inputs: Sequence[Value], _: Attributes) -> Value:
    shape = torch.broadcast_shapes(tuple(inputs[0].shape), tuple(ints(inputs[1])))
    return np.broadcast_to(inputs[0], shape).copy() if is_host(inputs[0]) else inputs[0].expand(shape)


def _tile(inputs: Sequence[Value], _: Attributes) -> Value:
    times = ints(inputs[1])
    if is_host(inputs[0]):
        return np.tile(inputs[0], times)
    return inputs[0] if set(times) <= {1} else inputs[0].repeat(*times)


def _pads(inputs: Sequence[Value], attributes: Attributes) -> list[tuple[int, int]]:
    """(before, after) for every axis."""
    numbers = ints(inputs[1]) if len(inputs) > 1 else list(attributes.get("pads", attributes.get("paddings", [])))
    half, rank = len(numbers) // 2, inputs[0].ndim
    axes = range(rank) if given(inputs, 3) is None else [a % rank for a in ints(inputs[3])]
    found = dict(zip(axes, zip(numbers[:half], numbers[half:], strict=True), strict=True))
    return [found.get(axis, (0, 0)) for axis in range(rank)]


def pad(inputs: Sequence[Value], attributes: Attributes) -> Value:
    """Pad with a number, by mirroring, by the border's value, or going round; a negative pad cuts."""
    data, pairs = inputs[0], _pads(inputs, attributes)
    mode = text(attributes, "mode", "constant")
    value = float(attributes.get("value", 0.0) if given(inputs, 2) is None else inputs[2])
    if mode == "constant" and is_host(data):
        return np.pad(data, pairs, constant_values=int(value))
    if mode == "constant":
        return F.pad(data, [n for pair in reversed(pairs) for n in pair], value=value)
    moved = [axis for axis, pair in enumerate(pairs) if any(pair)]
    if mode != "wrap" and data.ndim == 4 and set(moved) <= {2, 3} and min(n for p in pairs for n in p) >= 0:
        return F.pad(data, [*pairs[3], *pairs[2]], mode={"edge": "replicate"}.get(mode, mode)) if moved else data
    for axis in moved:
        size = data.shape[axis]
        (before, after) = pairs[axis]
        index = np.pad(np.arange(size), (max(before, 0), max(after, 0)), mode=mode)  # type: ignore[call-overload]
        data = index_axis(data, axis, index[max(-before, 0) : len(index) - max(-after, 0)])
    return data


def _depth_to_space(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    x, s = inputs[0], int(attributes["blocksize"])
    if text(attributes, "mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, s)
    n, c, h, w = x.shape
    return x.reshape(n, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // s**2, h * s, w * s)


def _space_to_depth(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    x, s = inputs[0], int(attributes["blocksize"])
    n, c, h, w = x.shape
    return x.reshape(n, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4).reshape(n, c * s**2, h // s, w // s)


def _shape(inputs: Sequence[Value], attributes: Attributes) -> Host:
    return np.array(inputs[0].shape, np.int64)[attributes.get("start", 0) : attributes.get("end", None)]


def _constant_of_shape(inputs: Sequence[Value], attributes: Attributes) -> Value:
    value, shape = attributes.get("value"), ints(inputs[0])
    if value is None or isinstance(value, Tensor):
        return torch.full(shape, 0.0 if value is None else float(value))
    return np.full(shape, value.reshape(()))


def _range(inputs: Sequence[Value], _: Attributes) -> Value:
    if all(is_host(v) for v in inputs):
        return np.arange(*[int(v) for v in inputs], dtype=np.int64)
    return torch.arange(*[float(v) for v in inputs], dtype=torch.float32)


def _cumulative_sum(inputs: Sequence[Value], attributes: Attributes) -> Value:
    """CumSum as a product with a triangle of ones, whose gradient every engine has."""
    data, axis = inputs[0], int(inputs[1])
    ones = np.tril(np.ones([data.shape[axis]] * 2, np.int64), -1 if attributes.get("exclusive", 0) else 0)
    ones = ones[::-1, ::-1] if attributes.get("reverse", 0) else ones
    if is_host(data):
        return np.moveaxis(np.moveaxis(data, axis, -1) @ ones.T, -1, axis)
    triangle = torch.from_numpy(np.ascontiguousarray(ones.T, np.float32)).to(data.dtype)
    return (data.movedim(axis, -1) @ triangle).movedim(-1, axis)


def _triangle(inputs: Sequence[Value], attributes: Attributes) -> Value:
    data, k = inputs[0], 0 if given(inputs, 1) is None else int(inputs[1])
    ones = np.ones(data.shape[-2:], np.bool_)
    keep = np.triu(ones, k) if attributes.get("upper", 1) else np.tril(ones, k)
    return np.where(keep, data, np.zeros_like(data)) if is_host(data) else torch.where(torch.from_numpy(keep), data, 0.0)


def _eye_like(inputs: Sequence[Value], attributes: Attributes) -> Value:
    height, width = inputs[0].shape
    eye = np.eye(height, width, k=int(attributes.get("k", 0)), dtype=np.int64)
    whole = is_host(inputs[0]) if "dtype" not in attributes else int(attributes["dtype"]) in (6, 7)
    return eye if whole else torch.from_numpy(eye.astype(np.float32))


def _one_hot(inputs: Sequence[Value], attributes: Attributes) -> Value:
    index, depth, (off, on) = np.asarray(inputs[0]).astype(np.int64), int(inputs[1]), inputs[2]
    axis = int(attributes.get("axis", -1)) % (index.ndim + 1)
    hit = np.moveaxis(np.arange(depth) == (index % depth)[..., None], -1, axis)
    return np.where(hit, off * 0 + on, off) if is_host(inputs[2]) else torch.where(torch.from_numpy(hit), on, off)


def _non_zero(inputs: Sequence[Value], _: Attributes) -> Host:
    return np.array(np.nonzero(np.asarray(inputs[0])), np.int64)


SHAPES: dict[str, Operator] = {
    "Shape": _shape,
    "Size": lambda v, _: np.array(int(np.prod(v[0].shape)), np.int64),
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": _transpose,
    "Slice": slice_,
    "Concat": concat,
    "Split": split,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "CumSum": _cumulative_sum,
    "Trilu": _triangle,
    "EyeLike": _eye_like,
    "OneHot": _one_hot,
    "NonZero": _non_zero,
    **GATHERING,
}

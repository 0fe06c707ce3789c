"""ONNX operators that read or write at given places, for places that do not depend on the image (see ops.py).

Values of the image are read by one selection along one axis, whatever the operator: of that the gradient is known
(:func:`faceprotect_export.trace.decompose_resampling.index_add`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from faceprotect_export.onnx_io.values import Attributes, Host, Operator, Value, is_host, text

#: The gradient of a selection multiplies with a matrix of ones and zeros: no larger than this many numbers.
_LARGEST = 2**26


def index_axis(data: Value, axis: int, index: Host) -> Value:
    """``data`` with its places along ``axis`` replaced by those that ``index`` [K] names (negative: from the end)."""
    if is_host(data):
        return np.take(data, index, axis)
    size = data.shape[axis]
    index = np.where(index < 0, index + size, index)
    step = int(index[1] - index[0]) if len(index) > 1 else 1
    if len(index) and step > 0 and bool((np.diff(index) == step).all()):
        return data[(slice(None),) * (axis % data.dim()) + (slice(int(index[0]), int(index[-1]) + 1, step),)]
    if size * len(index) > _LARGEST:
        raise NotImplementedError(f"a selection of {len(index)} out of {size} places")
    return data.index_select(axis, torch.from_numpy(index.astype(np.int64)).to(data.device))


def gather(inputs: Sequence[Value], attributes: Attributes) -> Value:
    """Gather: an index of any shape takes the place of ``axis``."""
    data, index = inputs[0], np.asarray(inputs[1])
    axis = int(attributes.get("axis", 0)) % data.ndim
    if is_host(data):
        return np.asarray(np.take(data, index, axis))
    if index.ndim == 0:
        return data.select(axis, int(index))
    chosen = index_axis(data, axis, index.reshape(-1))
    return chosen if index.ndim == 1 else chosen.reshape([*data.shape[:axis], *index.shape, *data.shape[axis + 1 :]])


def _places(shape: Sequence[int]) -> Host:
    """Every place of an array numbered in its own order."""
    return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(tuple(shape))


def _read(data: Value, places: Host) -> Value:
    """What lies at ``places`` (numbers as :func:`_places` gives them), in their shape."""
    return index_axis(data.reshape(-1), 0, places.reshape(-1)).reshape(places.shape)


def _write(data: Value, places: Host, updates: Value, attributes: Attributes) -> Value:
    """``data`` with ``updates`` at ``places``; the last one counts."""
    if text(attributes, "reduction", "none") != "none":
        raise NotImplementedError("writing with a reduction")
    source = np.full(int(np.prod(data.shape)), -1, np.int64)
    source[places.reshape(-1)] = np.arange(places.size)
    hit, chosen = (source >= 0).reshape(data.shape), np.maximum(source, 0).reshape(data.shape)
    if is_host(data) and is_host(updates):
        return np.where(hit, updates.reshape(-1)[chosen], data)
    return torch.where(torch.from_numpy(hit), _read(updates, chosen), data)


def _along(shape: Sequence[int], index: Host, axis: int) -> Host:
    """Places that an index like that of GatherElements names."""
    at: list[Any] = list(np.indices(index.shape))
    at[axis] = np.where(index < 0, index + shape[axis], index)
    return np.asarray(_places(shape)[tuple(at)])


def _coordinates(shape: Sequence[int], index: Host, batch: int = 0) -> Host:
    """Places that an index like that of GatherND names: its last dimension holds coordinates."""
    if batch:
        raise NotImplementedError("batch_dims")
    return np.asarray(_places(shape)[tuple(np.moveaxis(index, -1, 0))])


def _gather_nd(inputs: Sequence[Value], attributes: Attributes) -> Value:
    data, index = inputs[0], np.asarray(inputs[1])
    return _read(data, _coordinates(data.shape, index, int(attributes.get("batch_dims", 0))))


def _gather_elements(inputs: Sequence[Value], attributes: Attributes) -> Value:
    data, index = inputs[0], np.asarray(inputs[1])
    return _read(data, _along(data.shape, index, int(attributes.get("axis", 0)) % data.ndim))


def _scatter_nd(inputs: Sequence[Value], attributes: Attributes) -> Value:
    data, index, updates = inputs[0], np.asarray(inputs[1]), inputs[2]
    return _write(data, _coordinates(data.shape, index), updates, attributes)


def _scatter_elements(inputs: Sequence[Value], attributes: Attributes) -> Value:
    data, index, updates = inputs[0], np.asarray(inputs[1]), inputs[2]
    return _write(data, _along(data.shape, index, int(attributes.get("axis", 0)) % data.ndim), updates, attributes)


GATHERING: dict[str, Operator] = {
    "Gather": gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "Scatter": _scatter_elements,
    "ScatterND": _scatter_nd,
}

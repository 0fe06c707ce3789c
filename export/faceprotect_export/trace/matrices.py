"""Resampling as constant matrices: ``y = rows @ x @ cols`` for every separable linear map of an image.

Resizes, pools and pads are all of this form; their adjoints are the transposed matrices. (Accepted by every engine, while TensorRT
rejects the native adjoints.) Built with numpy, because they are made while a trace is being recorded and must not be part of it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def apply(rows: Tensor, x: Tensor, cols: Tensor) -> Tensor:
    """``rows`` [h,H] @ ``x`` [...,H,W] @ ``cols`` [W,w]; the cheaper order first."""
    rows_first = rows.shape[0] * cols.shape[0] * (rows.shape[1] + cols.shape[1])
    cols_first = rows.shape[1] * cols.shape[1] * (rows.shape[0] + cols.shape[0])
    return (rows @ x) @ cols if rows_first <= cols_first else rows @ (x @ cols)


def _tensor(matrix: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(matrix, np.float32))


def _one_hot(position: NDArray[np.int64], size: int) -> Tensor:
    return _tensor(np.eye(size)[position])


def bilinear(source: int, target: int, align_corners: bool, scale: float | None) -> Tensor:
    """Matrix [target, source] of torch's bilinear resize along one axis.

    ``scale``: the scale factor given by the caller (torch uses it, not target / source, when there is one).
    """
    index = np.arange(target)
    if align_corners:
        position = index * ((source - 1) / (target - 1) if target > 1 else 0.0)
    else:
        step = 1.0 / scale if scale else source / target
        position = np.clip((index + 0.5) * step - 0.5, 0.0, None)
    low = np.minimum(np.floor(position).astype(np.int64), source - 1)
    fraction = position - low
    matrix = np.zeros((target, source))
    np.add.at(matrix, (index, low), 1.0 - fraction)
    np.add.at(matrix, (index, np.minimum(low + 1, source - 1)), fraction)
    return _tensor(matrix)


def nearest(source: int, target: int, scale: float | None) -> Tensor:
    """Matrix [target, source] of torch's nearest resize along one axis; ``scale`` as in :func:`bilinear`."""
    step = np.float32(1.0 / scale if scale else source / target)
    position = np.floor(np.arange(target, dtype=np.float32) * step).astype(np.int64)
    return _one_hot(np.minimum(position, source - 1), source)


def reflection(size: int, before: int, after: int) -> Tensor:
    """Matrix [before + size + after, size] of reflection padding along one axis."""
    position = np.abs(np.arange(-before, size + after))
    return _one_hot(np.where(position >= size, 2 * (size - 1) - position, position), size)


def replication(size: int, before: int, after: int) -> Tensor:
    """Matrix [before + size + after, size] of padding by the border's value along one axis."""
    return _one_hot(np.clip(np.arange(-before, size + after), 0, size - 1), size)


def adaptive_average(source: int, target: int) -> Tensor:
    """Matrix [target, source] of adaptive average pooling along one axis."""
    matrix = np.zeros((target, source))
    for row in range(target):
        start, end = row * source // target, -(-(row + 1) * source // target)
        matrix[row, start:end] = 1.0 / (end - start)
    return _tensor(matrix)

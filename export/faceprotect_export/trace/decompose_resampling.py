"""Decompositions of resizes, pads, slices and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from faceprotect_export.trace import matrices

aten = torch.ops.aten
Pair = Sequence[int]


def upsample_nearest2d(x: Tensor, output_size: Pair, *scales: float | None) -> Tensor:
    """Integer factors stay whole (one Resize, often fused into the next convolution); others: constant matrices."""
    h, w = x.shape[2:]
    if output_size[0] % h == 0 and output_size[1] % w == 0:
        return NotImplemented
    rows, cols = (matrices.nearest(a, b, s) for a, b, s in zip((h, w), output_size, _scales(scales), strict=True))
    return matrices.apply(rows, x, cols.T)


def _scales(scales: Sequence[float | None]) -> tuple[float | None, float | None]:
    return (scales[0], scales[1]) if len(scales) == 2 else (None, None)


def upsample_nearest2d_backward(gradient: Tensor, output_size: Pair, input_size: Sequence[int], *scales: Any) -> Tensor:
    """Integer factors: sum over each block, as an average pool (the fast kernel) times its area."""
    h, w = input_size[2:]
    fh, fw = output_size[0] // h, output_size[1] // w
    if (fh * h, fw * w) == tuple(output_size):
        return gradient if fh == fw == 1 else aten.avg_pool2d(gradient, [fh, fw], [fh, fw]) * float(fh * fw)
    rows, cols = (matrices.nearest(a, b, s) for a, b, s in zip((h, w), output_size, _scales(scales), strict=True))
    return matrices.apply(rows.T, gradient, cols)


def upsample_bilinear2d(x: Tensor, output_size: Pair, align_corners: bool, *scales: float | None) -> Tensor:
    """Constant matrices on both sides."""
    h, w = x.shape[2:]
    sh, sw = _scales(scales)
    rows = matrices.bilinear(h, output_size[0], align_corners, sh)
    cols = matrices.bilinear(w, output_size[1], align_corners, sw)
    return matrices.apply(rows, x, cols.T)


def upsample_bilinear2d_backward(
    gradient: Tensor, output_size: Pair, input_size: Sequence[int], align_corners: bool, *scales: float | None
) -> Tensor:
    """The transposed matrices."""
    sh, sw = _scales(scales)
    rows = matrices.bilinear(input_size[2], output_size[0], align_corners, sh)
    cols = matrices.bilinear(input_size[3], output_size[1], align_corners, sw)
    return matrices.apply(rows.T, gradient, cols)


def _pad_matrices(kind: Callable[[int, int, int], Tensor], x: Tensor, padding: Sequence[int]) -> tuple[Tensor, Tensor]:
    left, right, top, bottom = padding
    return kind(x.shape[-2], top, bottom), kind(x.shape[-1], left, right)


def reflection_pad2d(x: Tensor, padding: Sequence[int]) -> Tensor:
    """Constant 0/1 matrices."""
    rows, cols = _pad_matrices(matrices.reflection, x, padding)
    return matrices.apply(rows, x, cols.T)


def reflection_pad2d_backward(gradient: Tensor, x: Tensor, padding: Sequence[int]) -> Tensor:
    """The transposed matrices."""
    rows, cols = _pad_matrices(matrices.reflection, x, padding)
    return matrices.apply(rows.T, gradient, cols)


def replication_pad2d(x: Tensor, padding: Sequence[int]) -> Tensor:
    """Constant 0/1 matrices."""
    rows, cols = _pad_matrices(matrices.replication, x, padding)
    return matrices.apply(rows, x, cols.T)


def replication_pad2d_backward(gradient: Tensor, x: Tensor, padding: Sequence[int]) -> Tensor:
    """The transposed matrices."""
    rows, cols = _pad_matrices(matrices.replication, x, padding)
    return matrices.apply(rows.T, gradient, cols)


def _pad_axis(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    pads = [0, 0] * (x.dim() - 1 - axis) + [before, after]
    return F.pad(x, pads)


def slice_backward(gradient: Tensor, input_sizes: Sequence[int], dim: int, start: int, end: int, step: int) -> Tensor:
    """Zeros around (and, for a step above one, between) the gradient."""
    axis, size = dim % len(input_sizes), input_sizes[dim]
    first = min(start + size if start < 0 else start, size)
    if step > 1:
        wide = _pad_axis(gradient.unsqueeze(axis + 1), axis + 1, 0, step - 1)
        gradient = wide.flatten(axis, axis + 1)
        extra = first + gradient.shape[axis] - size
        gradient = gradient.narrow(axis, 0, gradient.shape[axis] - extra) if extra > 0 else gradient
    return _pad_axis(gradient, axis, first, size - first - gradient.shape[axis])


def select_backward(gradient: Tensor, input_sizes: Sequence[int], dim: int, index: int) -> Tensor:
    """Zeros around the gradient."""
    axis, size = dim % len(input_sizes), input_sizes[dim]
    first = index % size
    return _pad_axis(gradient.unsqueeze(axis), axis, first, size - first - 1)


def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """``source`` added where ``index`` says, which is the gradient of a selection: a product with a matrix of ones and zeros."""
    places = torch.arange(x.shape[dim], dtype=index.dtype)
    hit = torch.where(index.unsqueeze(1) == places.unsqueeze(0), 1.0, 0.0).to(x.dtype)
    added = (source.movedim(dim, -1) @ hit).movedim(-1, dim)
    return x + (added if alpha == 1 else added * alpha)

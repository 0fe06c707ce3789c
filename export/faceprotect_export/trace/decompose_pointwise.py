"""Decompositions of normalisations and of pointwise operators that engines lack."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch._decomp import decomposition_table

aten = torch.ops.aten
Pair = Sequence[int]


def native_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Inference mode: one multiplication and one addition per channel, whose factors are weight-only."""
    if training:
        raise NotImplementedError("batch normalisation in training mode: call .eval() and freeze the module first")
    scale = torch.rsqrt(variance + eps) * (weight if weight is not None else 1.0)
    shift = (bias if bias is not None else 0.0) - mean * scale
    shape = [1, -1] + [1] * (x.dim() - 2)
    empty = x.new_zeros([0])
    return x * scale.reshape(shape) + shift.reshape(shape), empty, empty


def native_batch_norm_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    save_mean: Tensor | None,
    save_invstd: Tensor | None,
    train: bool,
    eps: float,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Inference mode: the same factor per channel."""
    if train or mask[1] or mask[2]:
        raise NotImplementedError("batch normalisation in training mode: call .eval() and freeze the module first")
    scale = torch.rsqrt(variance + eps) * (weight if weight is not None else 1.0)
    return gradient * scale.reshape([1, -1] + [1] * (x.dim() - 2)), None, None


def native_group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, hw: int, group: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance over each group by plain sums."""
    y = x.reshape(n, group, -1)
    mean = y.mean(2, True)
    centred = y - mean
    rstd = torch.rsqrt((centred * centred).mean(2, True) + eps)
    shape = [1, c] + [1] * (x.dim() - 2)
    y = (centred * rstd).reshape(x.shape)
    y = y if weight is None else y * weight.reshape(shape)
    y = y if bias is None else y + bias.reshape(shape)
    return y, mean.reshape(n, group), rstd.reshape(n, group)


def variance(x: Tensor, dim: int | Pair | None = None, *, correction: float | None = None, keepdim: bool = False) -> Tensor:
    """Mean of squared distances from the mean, ``correction`` taken off the count (default 1)."""
    axes = list(range(x.dim())) if dim is None or dim == [] else _as_list(dim)
    centred = x - x.mean(axes, True)
    count = math.prod(x.shape[a] for a in axes) - (1 if correction is None else correction)
    return (centred * centred).sum(axes, keepdim) * (1.0 / max(count, 0) if count > 0 else math.nan)


def var_mean(x: Tensor, dim: int | Pair | None = None, *, correction: float | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Variance and mean (torch decomposes layer norms to this operator and no further)."""
    axes = list(range(x.dim())) if dim is None or dim == [] else _as_list(dim)
    return variance(x, dim, correction=correction, keepdim=keepdim), x.mean(axes, keepdim)


def linalg_vector_norm(
    x: Tensor, ord: float = 2, dim: Pair | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """The 2-norm without a power operator; others as torch decomposes them."""
    if ord == 2 and dtype in (None, x.dtype):
        axes = list(range(x.dim())) if dim is None else _as_list(dim)
        return torch.sqrt((x * x).sum(axes, keepdim))
    return decomposition_table[aten.linalg_vector_norm.default](x, ord, dim, keepdim, dtype=dtype)


def safe_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax. (Rows that are all -inf, which "safe" is about, come only from masks: none here.)"""
    return torch.softmax(x, dim, dtype=dtype)


def log1p(x: Tensor) -> Tensor:
    """log(1 + x)."""
    return torch.log(x + 1.0)


def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1."""
    return torch.exp(x) - 1.0


def _as_list(value: int | Pair) -> list[int]:
    return [value] if isinstance(value, int) else list(value)

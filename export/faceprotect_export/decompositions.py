"""The decomposition table, as data: aten operator -> function in terms of operators that every engine has.

Used with torch's core table underneath (:func:`table`). Each entry computes exactly what the operator computes; the tests hold one
parity check per entry. ``VERSION`` is part of an engine's cache key: raise it when an entry changes its arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp import core_aten_decompositions, decomposition_table, get_decompositions

from faceprotect_export import matrices
from faceprotect_export.conv_backward import input_gradient, weight_gradient

VERSION = 1
aten = torch.ops.aten
Pair = Sequence[int]


def _pair(value: int | Pair) -> list[int]:
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers * 2 if len(numbers) == 1 else numbers


def convolution_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    transposed: bool,
    output_padding: Pair,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Input gradient as convolutions (conv_backward.py); weight gradient only for one group."""
    rank = weight.dim() - 2
    if rank == 1:  # as 2-d with a height of one
        wide = convolution_backward(
            gradient.unsqueeze(2),
            x.unsqueeze(2),
            weight.unsqueeze(2),
            bias_sizes,
            [1, *stride],
            [0, *padding],
            [1, *dilation],
            transposed,
            [0, *output_padding],
            groups,
            output_mask,
        )
        return tuple(None if t is None else (t.squeeze(2) if t.dim() == 4 else t) for t in wide)  # type: ignore[return-value]
    strides, pads, dilations = _pair(stride), _pair(padding), _pair(dilation)
    x_gradient = w_gradient = b_gradient = None
    if output_mask[0] and transposed:
        x_gradient = F.conv2d(gradient, weight, None, strides, pads, dilations, groups)
    elif output_mask[0]:
        x_gradient = input_gradient(gradient, x.shape[2:], weight, strides, pads, dilations, groups)
    if output_mask[1]:
        if groups != 1 or transposed:
            raise NotImplementedError("the weight gradient of a grouped or transposed convolution: freeze its weight")
        w_gradient = weight_gradient(gradient, x, weight, strides, pads, dilations)
    if output_mask[2]:
        b_gradient = gradient.sum((0, 2, 3))
    return x_gradient, w_gradient, b_gradient


def upsample_nearest2d(x: Tensor, output_size: Pair, *scales: float | None) -> Tensor:
    """Integer factors stay whole (one Resize, often fused into the next convolution); others: constant matrices."""
    h, w = x.shape[2:]
    if output_size[0] % h == 0 and output_size[1] % w == 0:
        return NotImplemented  # type: ignore[no-any-return]
    rows, cols = (matrices.nearest(a, b, s) for a, b, s in zip((h, w), output_size, _scales(scales), strict=True))
    return matrices.apply(rows, x, cols.T)


def _scales(scales: Sequence[float | None]) -> tuple[float | None, float | None]:
    return (scales[0], scales[1]) if len(scales) == 2 else (None, None)


def upsample_nearest2d_backward(gradient: Tensor, output_size: Pair, input_size: Sequence[int], *scales: Any) -> Tensor:
    """Integer factors: sum over each block, as an average pool (the fast kernel) times its area."""
    n, c, h, w = input_size
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


def adaptive_avg_pool2d(x: Tensor, output_size: Pair) -> Tensor:
    """To one pixel: a mean. Whole blocks: an average pool. Else constant matrices."""
    (h, w), (oh, ow) = x.shape[-2:], output_size
    if (oh, ow) == (1, 1):
        return x.mean((-2, -1), keepdim=True)
    if h % oh == 0 and w % ow == 0:
        return aten.avg_pool2d(x, [h // oh, w // ow], [h // oh, w // ow])
    return matrices.apply(matrices.adaptive_average(h, oh), x, matrices.adaptive_average(w, ow).T)


def adaptive_avg_pool2d_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """To one pixel: spread evenly. Else the transposed matrices."""
    (h, w), (oh, ow) = x.shape[-2:], gradient.shape[-2:]
    if (oh, ow) == (1, 1):
        return (gradient * (1.0 / (h * w))).expand(x.shape)
    return matrices.apply(matrices.adaptive_average(h, oh).T, gradient, matrices.adaptive_average(w, ow))


def avg_pool2d_backward(
    gradient: Tensor,
    x: Tensor,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """Whole blocks: repeat and divide. Else the adjoint of a depthwise convolution, which average pooling is."""
    (kh, kw), pads = _pair(kernel), _pair(padding)
    sh, sw = _pair(stride) if len(stride) else (kh, kw)
    n, c, h, w = x.shape
    if pads == [0, 0] and (kh, kw) == (sh, sw) and not ceil_mode:
        small = gradient * (1.0 / (divisor or kh * kw))
        y = aten.upsample_nearest2d(small, [small.shape[2] * kh, small.shape[3] * kw])
        return F.pad(y, (0, w - y.shape[3], 0, h - y.shape[2])) if y.shape[2:] != x.shape[2:] else y
    uniform = count_include_pad or not max(pads) or divisor
    if (sh, sw) == (1, 1) and uniform and not ceil_mode and pads[0] < kh and pads[1] < kw:
        edge = [kw - 1 - pads[1], kw - 1 - pads[1], kh - 1 - pads[0], kh - 1 - pads[0]]
        share = gradient * (kh * kw / divisor) if divisor else gradient
        return aten.avg_pool2d(F.pad(share, edge), [kh, kw], [1, 1])  # a box is its own adjoint
    if ceil_mode or (not count_include_pad and max(pads) and divisor is None):
        share = gradient * _counts(x.shape[2:], (kh, kw), (sh, sw), pads, ceil_mode, count_include_pad, divisor)
    else:
        share = gradient * (1.0 / (divisor or kh * kw))
    if ceil_mode:  # windows that start inside but reach beyond the padding: give the input that much room
        room = [(m - 1) * s + k - 2 * p - n_ for m, s, k, p, n_ in _zip5(share, (sh, sw), (kh, kw), pads, (h, w))]
        size = [h + max(room[0], 0), w + max(room[1], 0)]
    else:
        size = [h, w]
    weight = torch.ones(c, 1, kh, kw)
    return input_gradient(share, size, weight, [sh, sw], pads, [1, 1], c)[:, :, :h, :w]


def _zip5(share: Tensor, stride: Pair, kernel: Pair, padding: Pair, size: Pair) -> Any:
    return zip(share.shape[2:], stride, kernel, padding, size, strict=True)


def _counts(
    size: Sequence[int], kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool, include: bool, divisor: int | None
) -> Tensor:
    """What torch multiplies each window's sum with, [h, w]."""
    if divisor:
        return torch.from_numpy(np.float32([[1.0 / divisor]]))
    factors = []
    for n, k, s, p in zip(size, kernel, stride, padding, strict=True):
        m = math.ceil((n + 2 * p - k) / s) + 1 if ceil_mode else (n + 2 * p - k) // s + 1
        m = m - 1 if (m - 1) * s >= n + p else m
        start = np.arange(m) * s - p
        end = np.minimum(start + k, n + p)
        if not include:
            start, end = np.maximum(start, 0), np.minimum(end, n)
        factors.append(1.0 / (end - start))
    return torch.from_numpy(np.outer(*factors).astype(np.float32))


def max_pool2d_with_indices_backward(
    gradient: Tensor,
    x: Tensor,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    """Equality with the recomputed maximum, first hit wins (torch's own rule for ties), no indices.

    Works phase by phase: window offset i = a + s*u reads phase a of the input, shifted by u, so that no scatter is needed.
    """
    if _pair(dilation) != [1, 1]:
        raise NotImplementedError("max_pool2d with dilation")
    (kh, kw), (ph, pw) = _pair(kernel), _pair(padding)
    sh, sw = _pair(stride) if len(stride) else (kh, kw)
    maximum = aten.max_pool2d_with_indices(x, kernel, stride, padding, dilation, ceil_mode)[0]
    n, c, h, w = x.shape
    oh, ow = maximum.shape[2:]
    qh, qw = (max(-(-(s_ + p) // s), o + (k - 1) // s) for s_, p, s, o, k in ((h, ph, sh, oh, kh), (w, pw, sw, ow, kw)))
    padded = F.pad(x, (pw, qw * sw - w - pw, ph, qh * sh - h - ph), value=-math.inf)
    phases = padded.reshape(n, c, qh, sh, qw, sw)
    sums: dict[tuple[int, int], Tensor] = {}
    left: Tensor | None = None
    for i in range(kh):
        for j in range(kw):
            (u, a), (v, b) = divmod(i, sh), divmod(j, sw)
            window = phases[:, :, u : u + oh, a, v : v + ow, b]
            hit = (window == maximum) if left is None else torch.logical_and(window == maximum, left)
            left = torch.logical_not(hit) if left is None else torch.logical_and(left, torch.logical_not(hit))
            part = F.pad(torch.where(hit, gradient, 0.0), (v, qw - ow - v, u, qh - oh - u))
            sums[a, b] = sums[a, b] + part if (a, b) in sums else part
    zero = torch.zeros_like(next(iter(sums.values())))
    rows = [torch.stack([sums.get((a, b), zero) for b in range(sw)], -1) for a in range(sh)]
    full = torch.stack(rows, 3).reshape(n, c, qh * sh, qw * sw)
    return full[:, :, ph : ph + h, pw : pw + w]


def batch_norm_inference(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One multiplication and one addition per channel, whose factors are weight-only."""
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


def prelu_kernel_backward(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients to input and slope."""
    positive = x > 0
    return torch.where(positive, gradient, weight * gradient), torch.where(positive, 0.0, x * gradient)


def linalg_vector_norm(
    x: Tensor, ord: float = 2, dim: Pair | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """The 2-norm without a power operator; others as torch decomposes them."""
    if ord == 2 and dtype in (None, x.dtype):
        axes = list(range(x.dim())) if dim is None else _as_list(dim)
        return torch.sqrt((x * x).sum(axes, keepdim))
    return decomposition_table[aten.linalg_vector_norm.default](x, ord, dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]


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


def native_group_norm_backward(
    gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    n: int,
    c: int,
    hw: int,
    group: int,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Input gradient: the scaled gradient less its mean and its part along the normalised input (weights are frozen)."""
    if mask[1] or mask[2]:
        raise NotImplementedError("the weight gradient of a group norm: freeze its weight")
    normalised = (x.reshape(n, group, -1) - mean.reshape(n, group, 1)) * rstd.reshape(n, group, 1)
    g = gradient if weight is None else gradient * weight.reshape([1, c] + [1] * (x.dim() - 2))
    g = g.reshape(n, group, -1)
    along = (g * normalised).mean(2, True)
    return ((g - g.mean(2, True) - normalised * along) * rstd.reshape(n, group, 1)).reshape(x.shape), None, None


def variance(
    x: Tensor, dim: int | Pair | None = None, *, correction: float | None = None, keepdim: bool = False
) -> Tensor:
    """Mean of squared distances from the mean, ``correction`` taken off the count (default 1)."""
    axes = list(range(x.dim())) if dim is None or dim == [] else _as_list(dim)
    centred = x - x.mean(axes, True)
    count = math.prod(x.shape[a] for a in axes) - (1 if correction is None else correction)
    return (centred * centred).sum(axes, keepdim) * (1.0 / max(count, 0) if count > 0 else math.nan)


def safe_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax. (Rows that are all -inf, which "safe" is about, come only from masks: none here.)"""
    return torch.softmax(x, dim, dtype=dtype)


def log1p(x: Tensor) -> Tensor:
    """log(1 + x)."""
    return torch.log(x + 1.0)


def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1."""
    return torch.exp(x) - 1.0


def _pad_axis(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    pads = [0, 0] * (x.dim() - 1 - axis) + [before, after]
    return F.pad(x, pads)


def slice_backward(
    gradient: Tensor, input_sizes: Sequence[int], dim: int, start: int, end: int, step: int
) -> Tensor:
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


def _as_list(value: int | Pair) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


def empty_like_zeros(x: Tensor, **options: Any) -> Tensor:
    """Uninitialised memory has no meaning in a graph: zeros."""
    return torch.zeros_like(x)


def empty_zeros(size: Sequence[int], *_: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    """Uninitialised memory has no meaning in a graph: zeros."""
    return torch.zeros(size, dtype=dtype)


def var_mean(x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Variance and mean over ``dim``, as two means (torch decomposes layer norms to this operator and no further)."""
    dims = list(range(x.dim())) if dim is None else [d % x.dim() for d in dim]
    count = math.prod(x.shape[d] for d in dims)
    mean = x.mean(dims, keepdim=True)
    variance = (x - mean).square().sum(dims, keepdim=keepdim) / (count - (1 if correction is None else correction))
    return variance, mean if keepdim else mean.squeeze(dims)


#: Our entries. They win over torch's.
OURS: dict[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: convolution_backward,
    aten.upsample_nearest2d.default: upsample_nearest2d,
    aten.upsample_nearest2d_backward.default: upsample_nearest2d_backward,
    aten.upsample_bilinear2d.default: upsample_bilinear2d,
    aten.upsample_bilinear2d_backward.default: upsample_bilinear2d_backward,
    aten.reflection_pad2d.default: reflection_pad2d,
    aten.reflection_pad2d_backward.default: reflection_pad2d_backward,
    aten.replication_pad2d.default: replication_pad2d,
    aten.replication_pad2d_backward.default: replication_pad2d_backward,
    aten._adaptive_avg_pool2d.default: adaptive_avg_pool2d,
    aten._adaptive_avg_pool2d_backward.default: adaptive_avg_pool2d_backward,
    aten.avg_pool2d_backward.default: avg_pool2d_backward,
    aten.max_pool2d_with_indices_backward.default: max_pool2d_with_indices_backward,
    aten._native_batch_norm_legit_no_training.default: batch_norm_inference,
    aten.native_batch_norm_backward.default: native_batch_norm_backward,
    aten._prelu_kernel_backward.default: prelu_kernel_backward,
    aten.linalg_vector_norm.default: linalg_vector_norm,
    aten.var_mean.correction: var_mean,
    aten.native_group_norm.default: native_group_norm,
    aten.native_group_norm_backward.default: native_group_norm_backward,
    aten.var.correction: variance,
    aten._safe_softmax.default: safe_softmax,
    aten.log1p.default: log1p,
    aten.expm1.default: expm1,
    aten.slice_backward.default: slice_backward,
    aten.select_backward.default: select_backward,
    aten.empty_like.default: empty_like_zeros,
    aten.empty.memory_format: empty_zeros,
    aten.empty_permuted.default: empty_zeros,
}

#: Operators outside torch's core table that have a decomposition there and no single ONNX operator.
_MORE = (
    aten.native_layer_norm,
    aten.gelu,
    aten.silu,
    aten.mish,
    aten.hardswish,
    aten.hardsigmoid,
    aten.hardtanh,
    aten.leaky_relu,
    aten.elu,
    aten.softplus,
    aten.addmm,
    aten.addmv,
    aten.baddbmm,
    aten.stack,
    aten.std,
    aten.native_dropout,
    aten.native_batch_norm,
    aten.cudnn_batch_norm,
    aten.unsafe_chunk,
    aten.huber_loss,
    aten.rsub,
    aten.softmax,
    aten.log_softmax,
    aten._softmax_backward_data,
    aten._log_softmax_backward_data,
    aten.diag_embed,
    aten.unfold_backward,
    aten.embedding_dense_backward,
    aten.grid_sampler_2d,
    aten.roll,
    aten.native_batch_norm_backward,
)

#: Kept whole: the writer has one operator for each, which engines run faster than any decomposition.
_KEEP = (
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten._softmax.default,
    aten.flip.default,
    aten._prelu_kernel.default,
)


def table() -> dict[Any, Callable[..., Any]]:
    """The whole table for ``make_fx``: torch's core entries, the further ones named here, and ours on top."""
    result = dict(core_aten_decompositions())
    result.update(get_decompositions(list(_MORE)))
    result.update(OURS)
    for operator in _KEEP:
        result.pop(operator, None)
    return result

"""Decompositions of pooling gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceprotect_export.trace import matrices
from faceprotect_export.trace.conv_backward import input_gradient

aten = torch.ops.aten
Pair = Sequence[int]


def pair(value: int | Pair) -> list[int]:
    """One number per spatial axis."""
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers * 2 if len(numbers) == 1 else numbers


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
    (kh, kw), pads = pair(kernel), pair(padding)
    sh, sw = pair(stride) if len(stride) else (kh, kw)
    c, h, w = x.shape[1:]
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


def _counts(size: Sequence[int], kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool, include: bool, divisor: int | None) -> Tensor:
    """What torch multiplies each window's sum with, [h, w]."""
    if divisor:
        return torch.from_numpy(np.array([[1.0 / divisor]], np.float32))
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

    Works phase by phase: window offset i = a + s*u reads phase a of the input, shifted by u, so that no scatter is needed. The maximum is
    taken of the very slices that it is compared with: a runtime may keep what a pool reads in another precision than what a slice reads.
    """
    if pair(dilation) != [1, 1]:
        raise NotImplementedError("max_pool2d with dilation")
    (kh, kw), (ph, pw) = pair(kernel), pair(padding)
    sh, sw = pair(stride) if len(stride) else (kh, kw)
    n, c, h, w = x.shape
    oh, ow = gradient.shape[2:]
    qh, qw = (max(-(-(s_ + p) // s), o + (k - 1) // s) for s_, p, s, o, k in ((h, ph, sh, oh, kh), (w, pw, sw, ow, kw)))
    padded = F.pad(x, (pw, qw * sw - w - pw, ph, qh * sh - h - ph), value=-math.inf)
    phases = padded.reshape(n, c, qh, sh, qw, sw)
    offsets = [(*divmod(i, sh), *divmod(j, sw)) for i in range(kh) for j in range(kw)]
    windows = [phases[:, :, u : u + oh, a, v : v + ow, b] for u, a, v, b in offsets]
    maximum = functools.reduce(torch.maximum, windows)
    sums: dict[tuple[int, int], Tensor] = {}
    left: Tensor | None = None
    for (u, a, v, b), window in zip(offsets, windows, strict=True):
        hit = (window == maximum) if left is None else torch.logical_and(window == maximum, left)
        left = torch.logical_not(hit) if left is None else torch.logical_and(left, torch.logical_not(hit))
        part = F.pad(gradient * hit.to(gradient.dtype), (v, qw - ow - v, u, qh - oh - u))
        sums[a, b] = sums[a, b] + part if (a, b) in sums else part
    zero = torch.zeros_like(next(iter(sums.values())))
    rows = [torch.stack([sums.get((a, b), zero) for b in range(sw)], -1) for a in range(sh)]
    full = torch.stack(rows, 3).reshape(n, c, qh * sh, qw * sw)
    return full[:, :, ph : ph + h, pw : pw + w]

"""Input gradient of a convolution, written so that an inference engine runs it fast.

``weight`` is frozen everywhere in this project, so everything done to it here is a *weight-only* subgraph: it is folded at export,
or by the runtime when it loads the engine. What remains per call is:

* stride 1: one convolution with the kernel flipped and its in and out channels exchanged;
* stride s: one stride-1 convolution that computes all s*s sub-pixel phases as channels, then depth-to-space. (A transposed
  convolution is the textbook form, but it is several times slower in ONNX Runtime on CPU.) Shi et al., "Is the deconvolution layer
  the same as a convolutional layer?", arXiv 1609.07009;
* stride s, depthwise: the gradient spread out with zeros, then a depthwise convolution, the form with a fast kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


def flipped(weight: Tensor, groups: int) -> Tensor:
    """Kernel of the adjoint convolution: [O, I/g, kh, kw] -> [I, O/g, kh, kw], flipped in space."""
    o, i, kh, kw = weight.shape
    grouped = weight.reshape(groups, o // groups, i, kh, kw).transpose(1, 2)
    grouped = grouped.reshape(groups * i, o // groups, kh, kw)
    return grouped if kh == kw == 1 else grouped.flip(2, 3)


def _crop(x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    return x[:, :, top : top + height, left : left + width]


def stride_one(
    gradient: Tensor, size: Sequence[int], weight: Tensor, padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Tensor:
    """Gradient of a stride-1 convolution with respect to its input of spatial ``size``."""
    pads = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
    y = F.conv2d(gradient, flipped(weight, groups), None, 1, [max(p, 0) for p in pads], list(dilation), groups)
    # Padding beyond the kernel's reach gave outputs that no input contributed to: drop them.
    return y if min(pads) >= 0 else _crop(y, max(-pads[0], 0), max(-pads[1], 0), size[0], size[1])


def _taps(kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Lowest and highest offset j, over all phases, of the gradient samples o = q + j that reach x[s*q + r]."""
    return -((kernel - 1 - padding) // stride), (stride - 1 + padding) // stride


def phase_kernel(weight: Tensor, stride: Sequence[int], padding: Sequence[int], groups: int) -> Tensor:
    """Sub-pixel kernel [I*sh*sw, O/g, th, tw]: channel (i*sh + a)*sw + b makes phase (a, b) of input channel i.

    From x[s*q + r] = sum over k of g[o] w[k] with s*o + k - p = s*q + r: with j = o - q, k = r + p - s*j.
    """
    o, i, kh, kw = weight.shape
    (lo_h, hi_h), (lo_w, hi_w) = (_taps(k, s, p) for k, s, p in zip((kh, kw), stride, padding, strict=True))
    (sh, sw), (th, tw) = stride, (hi_h - lo_h + 1, hi_w - lo_w + 1)
    top, left = sh * hi_h - padding[0], sw * hi_w - padding[1]
    w = F.pad(weight, (left, sw * tw - kw - left, top, sh * th - kh - top))
    w = w.reshape(groups, o // groups, i, th, sh, tw, sw).permute(0, 2, 4, 6, 1, 3, 5)
    return w.reshape(groups * i * sh * sw, o // groups, th, tw).flip(2, 3)


def _best_shift(kernel: int, stride: int, padding: int) -> int:
    """How many samples to compute in front of the result and crop, so that the phase kernel has the fewest taps."""

    def taps(shift: int) -> int:
        low, high = _taps(kernel, stride, padding - shift)
        return high - low

    return min(range(min(stride - 1, padding) + 1), key=taps)


def sub_pixel(gradient: Tensor, size: Sequence[int], weight: Tensor, stride: Sequence[int], padding: Sequence[int], groups: int) -> Tensor:
    """Gradient of a strided convolution as one convolution and a depth-to-space (equal strides)."""
    s = stride[0]
    shifts = [_best_shift(k, s, p) for k, p in zip(weight.shape[2:], padding, strict=True)]
    shifted = [p - c for p, c in zip(padding, shifts, strict=True)]
    pads: list[int] = []
    for k, p, n, c, m in zip(weight.shape[2:], shifted, size, shifts, gradient.shape[2:], strict=True):
        low, high = _taps(k, s, p)
        pads = [-low, -(-(n + c) // s) + high - m, *pads]
    kernel = phase_kernel(weight, stride, shifted, groups)
    y = F.conv2d(F.pad(gradient, pads), kernel, None, 1, 0, 1, groups)
    return _crop(F.pixel_shuffle(y, s), shifts[0], shifts[1], size[0], size[1])


def spread(gradient: Tensor, stride: Sequence[int], size: Sequence[int]) -> Tensor:
    """Put ``stride - 1`` zeros behind each sample, in both directions: [N,C,h,w] -> [N,C,*size], with at most h*s rows and w*s columns.

    Every sample is repeated, and all but the first of its copies multiplied by zero: a Pad of single numbers is several times slower.
    """
    (h, w), (sh, sw) = gradient.shape[2:], stride
    first = np.outer(np.arange(h * sh) % sh == 0, np.arange(w * sw) % sw == 0).astype(np.float32)
    y = aten.upsample_nearest2d(gradient, [h * sh, w * sw]) * torch.from_numpy(first).to(gradient.dtype)
    return y if tuple(y.shape[2:]) == tuple(size) else _crop(y, 0, 0, size[0], size[1])


def spread_stride_one(
    gradient: Tensor,
    size: Sequence[int],
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Gradient of any strided convolution: spread with zeros, then as for stride 1."""
    # Rows of the input behind the last window position get a gradient only through explicit zeros.
    reach = [n + 2 * p - d * (k - 1) for n, p, d, k in zip(size, padding, dilation, weight.shape[2:], strict=True)]
    y = spread(gradient, stride, reach)
    return stride_one(y, size, weight, padding, dilation, groups)


def input_gradient(
    gradient: Tensor,
    size: Sequence[int],
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Gradient of ``conv2d`` with respect to its input.

    Args:
        gradient: [N,O,h,w], gradient of the output.
        size: (H, W) of the input.
        weight: [O,I/g,kh,kw].
        stride, padding, dilation: two numbers each.
        groups: as in conv2d.

    Returns:
        [N,I,H,W].

    """
    if tuple(stride) == (1, 1):
        return stride_one(gradient, size, weight, padding, dilation, groups)
    depthwise = groups > 1 and weight.shape[1] == 1
    if stride[0] == stride[1] and tuple(dilation) == (1, 1) and not depthwise and min(weight.shape[2:]) >= stride[0]:
        return sub_pixel(gradient, size, weight, stride, padding, groups)
    if tuple(weight.shape[2:]) == (1, 1) and max(padding) == 0:
        # Multiply first: the zeros then never pass through the convolution.
        return spread(F.conv2d(gradient, flipped(weight, groups), None, 1, 0, 1, groups), stride, size)
    return spread_stride_one(gradient, size, weight, stride, padding, dilation, groups)


def weight_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Gradient of ``conv2d`` (one group) with respect to its weight: a convolution over the batch."""
    y = F.conv2d(x.transpose(0, 1), gradient.transpose(0, 1), None, list(dilation), list(padding), list(stride))
    return torch.narrow(torch.narrow(y.transpose(0, 1), 2, 0, weight.shape[2]), 3, 0, weight.shape[3])


def box_summed(weight: Tensor, stride: int) -> Tensor:
    """Kernel of "convolve, then average blocks of stride x stride" as one strided convolution: [O,I,k+s-1,k+s-1]."""
    edge = stride - 1
    return F.avg_pool2d(F.pad(weight, (edge, edge, edge, edge)), stride, 1)


def convolve_pooled(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Sequence[int], stride: int) -> Tensor:
    """``avg_pool2d(conv2d(x, weight, bias, padding=padding), stride)`` at (k+s-1)^2 / (k s)^2 of the cost."""
    return F.conv2d(x, box_summed(weight, stride), bias, stride, list(padding))


def convolve_upsampled(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Sequence[int], stride: int) -> Tensor:
    """``conv2d(upsample_nearest(x, stride), weight, bias, padding=padding)`` without making the large image.

    It is the adjoint of :func:`convolve_pooled` (times stride^2), so its sub-pixel form has the same kernel.
    """
    kernel = box_summed(flipped(weight, 1), stride) * float(stride * stride)
    pads = [k - 1 - p for k, p in zip(weight.shape[2:], padding, strict=True)]
    size = [n * stride + 2 * p - k + 1 for n, p, k in zip(x.shape[2:], padding, weight.shape[2:], strict=True)]
    y = sub_pixel(x, size, kernel, [stride, stride], pads, 1)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)

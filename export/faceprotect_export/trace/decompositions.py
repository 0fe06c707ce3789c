"""The decomposition table, as data: aten operator -> function in terms of operators that every engine has.

Used with torch's core table underneath (:func:`table`). Each entry computes exactly what the operator computes; the tests hold one
parity check per entry. ``VERSION`` is part of an engine's cache key: raise it when an entry changes its arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions

from faceprotect_export.trace import decompose_pointwise as pointwise
from faceprotect_export.trace import decompose_pooling as pooling
from faceprotect_export.trace import decompose_rectifiers as rectifiers
from faceprotect_export.trace import decompose_resampling as resampling
from faceprotect_export.trace.conv_backward import input_gradient, weight_gradient

VERSION = 3
aten = torch.ops.aten
Pair = Sequence[int]


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
    strides, pads, dilations = pooling.pair(stride), pooling.pair(padding), pooling.pair(dilation)
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


def empty_like_zeros(x: Tensor, **options: Any) -> Tensor:
    """Uninitialised memory has no meaning in a graph: zeros."""
    return torch.zeros_like(x)


def empty_zeros(size: Sequence[int], *_: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    """Uninitialised memory has no meaning in a graph: zeros."""
    return torch.zeros(size, dtype=dtype)


#: Our entries. They win over torch's.
OURS: dict[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: convolution_backward,
    aten.upsample_nearest2d.default: resampling.upsample_nearest2d,
    aten.upsample_nearest2d_backward.default: resampling.upsample_nearest2d_backward,
    aten.upsample_bilinear2d.default: resampling.upsample_bilinear2d,
    aten.upsample_bilinear2d_backward.default: resampling.upsample_bilinear2d_backward,
    aten.reflection_pad2d.default: resampling.reflection_pad2d,
    aten.reflection_pad2d_backward.default: resampling.reflection_pad2d_backward,
    aten.replication_pad2d.default: resampling.replication_pad2d,
    aten.replication_pad2d_backward.default: resampling.replication_pad2d_backward,
    aten._adaptive_avg_pool2d.default: pooling.adaptive_avg_pool2d,
    aten._adaptive_avg_pool2d_backward.default: pooling.adaptive_avg_pool2d_backward,
    aten.avg_pool2d_backward.default: pooling.avg_pool2d_backward,
    aten.max_pool2d_with_indices_backward.default: pooling.max_pool2d_with_indices_backward,
    aten.native_batch_norm.default: pointwise.native_batch_norm,
    aten.native_batch_norm_backward.default: pointwise.native_batch_norm_backward,
    aten._prelu_kernel.default: rectifiers.prelu_kernel,
    aten._prelu_kernel_backward.default: rectifiers.prelu_kernel_backward,
    aten.leaky_relu.default: rectifiers.leaky_relu,
    aten.leaky_relu_backward.default: rectifiers.leaky_relu_backward,
    aten.threshold_backward.default: rectifiers.threshold_backward,
    aten.hardtanh_backward.default: rectifiers.hardtanh_backward,
    aten.linalg_vector_norm.default: pointwise.linalg_vector_norm,
    aten.var_mean.correction: pointwise.var_mean,
    aten.native_group_norm.default: pointwise.native_group_norm,
    aten.var.correction: pointwise.variance,
    aten._safe_softmax.default: pointwise.safe_softmax,
    aten.log1p.default: pointwise.log1p,
    aten.expm1.default: pointwise.expm1,
    aten.slice_backward.default: resampling.slice_backward,
    aten.select_backward.default: resampling.select_backward,
    aten.index_add.default: resampling.index_add,
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
    aten.elu,
    aten.softplus,
    aten.addmm,
    aten.addmv,
    aten.baddbmm,
    aten.stack,
    aten.std,
    aten.native_dropout,
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
)


def table() -> dict[Any, Callable[..., Any]]:
    """The whole table for ``make_fx``: torch's core entries, the further ones named here, and ours on top."""
    result = dict(core_aten_decompositions())
    result.update(get_decompositions(list(_MORE)))
    result.update(OURS)
    for operator in _KEEP:
        result.pop(operator, None)
    return result

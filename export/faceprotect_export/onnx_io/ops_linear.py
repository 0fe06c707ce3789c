"""ONNX matrix products, reductions and normalisations as torch functions: part of the table of ops.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceprotect_export.onnx_io.values import Attributes, Operator, Value, as_tensor, axes_of, both, given, is_host, text


def gemm(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """Gemm: alpha A B + beta C."""
    a = inputs[0].T if attributes.get("transA", 0) else inputs[0]
    b = inputs[1].T if attributes.get("transB", 0) else inputs[1]
    y = a @ b
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    y = y if alpha == 1.0 else y * alpha
    if given(inputs, 2) is not None:
        y = y + (inputs[2] if beta == 1.0 else inputs[2] * beta)
    return y


def _reduce(tensor: Callable[..., Tensor], host: Callable[..., object] | None = None) -> Operator:
    def run(inputs: Sequence[Value], attributes: Attributes) -> Value:
        axes, keep = axes_of(inputs, attributes), bool(attributes.get("keepdims", 1))
        if not axes and attributes.get("noop_with_empty_axes", 0):
            return inputs[0]
        axes = axes or list(range(inputs[0].ndim))
        if is_host(inputs[0]) and host is not None:
            return np.asarray(host(inputs[0], axis=tuple(axes), keepdims=keep))
        return tensor(as_tensor(inputs[0]), axes, keep)

    return run


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _softmax(function: Callable[[Tensor, int], Tensor]) -> Operator:
    return lambda inputs, attributes: function(inputs[0], int(attributes.get("axis", -1)))


def _old_softmax(function: Callable[[Tensor, int], Tensor]) -> Operator:
    """Before opset 13: over all dimensions from ``axis`` on, together."""

    def run(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
        x = inputs[0]
        axis = int(attributes.get("axis", 1)) % x.dim()
        if axis == x.dim() - 1:
            return function(x, -1)
        return function(x.reshape(int(np.prod(x.shape[:axis])), -1), -1).reshape(x.shape)

    return run


def batch_norm(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """BatchNormalization in inference mode."""
    if attributes.get("training_mode", 0):
        raise NotImplementedError("training mode")
    x, scale, shift, mean, variance = inputs
    return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, float(attributes.get("epsilon", 1e-5)))


def _standardised(x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)


def _per_channel(value: Tensor, rank: int) -> Tensor:
    return value.reshape(1, -1, *[1] * (rank - 2))


def group_norm(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """GroupNormalization; scale and shift are one per group (opset 18) or one per channel (opset 21)."""
    x, scale, shift = inputs
    groups, channels = int(attributes["num_groups"]), x.shape[1]
    y = _standardised(x.reshape(x.shape[0], groups, -1), [2], float(attributes.get("epsilon", 1e-5))).reshape(x.shape)
    scale, shift = (v if v.numel() == channels else v.repeat_interleave(channels // groups) for v in (scale, shift))
    return y * _per_channel(scale, x.dim()) + _per_channel(shift, x.dim())


def instance_norm(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """InstanceNormalization: every channel of every image by itself."""
    x, scale, shift = inputs
    y = _standardised(x, list(range(2, x.dim())), float(attributes.get("epsilon", 1e-5)))
    return y * _per_channel(scale, x.dim()) + _per_channel(shift, x.dim())


def layer_norm(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """LayerNormalization over the dimensions from ``axis`` on."""
    x, scale, shift = inputs[0], inputs[1], given(inputs, 2)
    axis, epsilon = int(attributes.get("axis", -1)) % x.dim(), float(attributes.get("epsilon", 1e-5))
    if scale.shape == x.shape[axis:] and (shift is None or shift.shape == scale.shape):
        return F.layer_norm(x, x.shape[axis:], scale, shift, epsilon)
    y = F.layer_norm(x, x.shape[axis:], None, None, epsilon) * scale
    return y if shift is None else y + shift


def rms_norm(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """RMSNormalization (opset 23) over the dimensions from ``axis`` on."""
    x, scale = inputs
    axes = list(range(int(attributes.get("axis", -1)) % x.dim(), x.dim()))
    return x * torch.rsqrt((x * x).mean(axes, keepdim=True) + float(attributes.get("epsilon", 1e-5))) * scale


def _mean_variance(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    return _standardised(inputs[0], list(attributes.get("axes", [0, 2, 3])), 1e-9)


def _lp_normalization(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    return F.normalize(inputs[0], float(attributes.get("p", 2)), int(attributes.get("axis", -1)))


def _local_response(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """LRN: by the mean square over neighbouring channels."""
    x, size = inputs[0], int(attributes["size"])
    before = (size - 1) // 2
    squares = F.pad(x * x, [0, 0] * (x.dim() - 2) + [before, size - 1 - before])
    total = sum(squares.narrow(1, k, x.shape[1]) for k in range(size))
    alpha, beta, bias = (float(attributes.get(k, d)) for k, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return x * (bias + total * (alpha / size)) ** -beta


def _spread(value: Tensor, shape: Sequence[int], axis: int, block: int) -> Tensor:
    """Scales of a quantised tensor, to be multiplied with it: one number, one per place along ``axis``, or one per block of it."""
    if block:
        return value.repeat_interleave(block, axis).narrow(axis, 0, shape[axis])
    return value if value.dim() == 0 or value.numel() == 1 else value.reshape([-1 if k == axis else 1 for k in range(len(shape))])


def _quantisation(inputs: Sequence[Value], attributes: Attributes) -> tuple[Tensor, Tensor]:
    x, scale, zero = inputs[0], inputs[1], given(inputs, 2)
    axis, block = int(attributes.get("axis", 1)), int(attributes.get("block_size", 0))
    axis = axis % x.ndim if x.ndim else 0
    point = torch.zeros(1) if zero is None else _spread(as_tensor(zero).float(), x.shape, axis, block)
    return _spread(scale, x.shape, axis, block), point


def dequantize(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """DequantizeLinear: (x - zero point) * scale, of weights stored in whole numbers."""
    scale, zero = _quantisation(inputs, attributes)
    return (as_tensor(inputs[0]).float() - zero) * scale


def quantize(inputs: Sequence[Value], attributes: Attributes) -> Value:
    """QuantizeLinear of constants; the reader refuses it where it depends on the image."""
    scale, zero = _quantisation(inputs, attributes)
    kind = np.dtype(np.uint8) if given(inputs, 2) is None else np.asarray(inputs[2]).dtype
    if kind not in (np.uint8, np.int8):
        raise NotImplementedError(f"rounding to {kind}")
    limits = np.iinfo(kind)
    return torch.clamp(torch.round(inputs[0] / scale) + zero, limits.min, limits.max).numpy().astype(kind)


LINEAR: dict[str, Operator] = {
    "Gemm": gemm,
    "Linear": lambda v, _: F.linear(*v),  # what the reader makes of a product with what is folded into it
    "MatMul": both(np.matmul, torch.matmul),
    "Einsum": lambda v, a: torch.einsum(text(a, "equation", "").replace(" ", ""), *v),
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(axes, keep), np.sum),
    "ReduceMax": _reduce(lambda x, axes, keep: x.amax(axes, keep), np.max),
    "ReduceMin": _reduce(lambda x, axes, keep: x.amin(axes, keep), np.min),
    "ReduceProd": _reduce(_product, np.prod),
    "ReduceL1": _reduce(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": _reduce(lambda x, axes, keep: (x * x).sum(axes, keep).sqrt()),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: (x * x).sum(axes, keep)),
    "ReduceLogSumExp": _reduce(torch.logsumexp),
    "Softmax": _softmax(torch.softmax),
    "Softmax-12": _old_softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "LogSoftmax-12": _old_softmax(torch.log_softmax),
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "RMSNormalization": rms_norm,
    "SimplifiedLayerNormalization": rms_norm,
    "MeanVarianceNormalization": _mean_variance,
    "LpNormalization": _lp_normalization,
    "LRN": _local_response,
    "DequantizeLinear": dequantize,
    "QuantizeLinear": quantize,
}

"""ONNX operators as torch functions: the table behind :mod:`faceprotect_export.onnx_reader`.

Every entry takes ``(inputs, attributes)`` and returns a value or a tuple of values. *Float* values are torch tensors;
*host* values (shapes, axes, indices) are int64 numpy arrays, so that shape arithmetic never enters a trace. Semantics are those
of the ONNX operator specification, opset 9 to 18, for what face recognition networks use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceprotect_export import onnx_ops_shape as shapes
from faceprotect_export.onnx_ops_shape import Attributes, Operator, Value, axes_of, ints


def _spatial_padding(x: Tensor, attributes: Attributes, kernel: Sequence[int]) -> list[int]:
    """ONNX ``pads`` (all starts, then all ends), with ``auto_pad`` resolved."""
    rank = len(kernel)
    mode = attributes.get("auto_pad", b"NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    if mode in ("NOTSET", "VALID"):
        return list(attributes.get("pads", [0] * 2 * rank))
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    starts, ends = [], []
    for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small = total // 2
        starts.append(small if mode == "SAME_UPPER" else total - small)
        ends.append(total - starts[-1])
    return starts + ends


def _symmetric(x: Tensor, pads: list[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """Padding that torch can take as an argument, after padding explicitly where start and end differ."""
    rank = len(pads) // 2
    if pads[:rank] == pads[rank:]:
        return x, pads[:rank]
    explicit: list[int] = []
    for start, end in reversed(list(zip(pads[:rank], pads[rank:], strict=True))):
        explicit += [start, end]
    return F.pad(x, explicit, value=value), [0] * rank


def conv(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """Conv, one or two spatial dimensions."""
    x, weight = inputs[:2]
    bias = inputs[2] if len(inputs) > 2 else None
    rank = weight.dim() - 2
    x, padding = _symmetric(x, _spatial_padding(x, attributes, weight.shape[2:]))
    function = F.conv2d if rank == 2 else F.conv1d
    strides = list(attributes.get("strides", [1] * rank))
    dilations = list(attributes.get("dilations", [1] * rank))
    return function(x, weight, bias, strides, padding, dilations, int(attributes.get("group", 1)))


def conv_transpose(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """ConvTranspose with symmetric padding."""
    x, weight = inputs[:2]
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    if pads[:2] != pads[2:] or "output_shape" in attributes:
        raise NotImplementedError("ConvTranspose with asymmetric pads or output_shape")
    return F.conv_transpose2d(
        x,
        weight,
        inputs[2] if len(inputs) > 2 else None,
        list(attributes.get("strides", [1, 1])),
        pads[:2],
        list(attributes.get("output_padding", [0, 0])),
        int(attributes.get("group", 1)),
        list(attributes.get("dilations", [1, 1])),
    )


def batch_norm(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """BatchNormalization in inference mode."""
    x, scale, shift, mean, variance = inputs
    return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, float(attributes.get("epsilon", 1e-5)))


def max_pool(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """MaxPool 2-d, without indices."""
    (x,) = inputs
    kernel = list(attributes["kernel_shape"])
    x, padding = _symmetric(x, _spatial_padding(x, attributes, kernel), float("-inf"))
    ceil = bool(attributes.get("ceil_mode", 0))
    strides = list(attributes.get("strides", [1, 1]))
    return F.max_pool2d(x, kernel, strides, padding, list(attributes.get("dilations", [1, 1])), ceil)


def average_pool(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """AveragePool 2-d."""
    (x,) = inputs
    kernel = list(attributes["kernel_shape"])
    pads = _spatial_padding(x, attributes, kernel)
    include = bool(attributes.get("count_include_pad", 0))
    if pads[:2] != pads[2:] and not include:
        raise NotImplementedError("AveragePool with asymmetric pads that are not counted")
    x, padding = _symmetric(x, pads)
    strides = list(attributes.get("strides", [1, 1]))
    return F.avg_pool2d(x, kernel, strides, padding, bool(attributes.get("ceil_mode", 0)), include)


def gemm(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """Gemm: alpha A B + beta C."""
    a = inputs[0].T if attributes.get("transA", 0) else inputs[0]
    b = inputs[1].T if attributes.get("transB", 0) else inputs[1]
    y = a @ b
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    y = y if alpha == 1.0 else y * alpha
    if len(inputs) > 2 and inputs[2] is not None:
        y = y + (inputs[2] if beta == 1.0 else inputs[2] * beta)
    return y


def prelu(inputs: Sequence[Value], _: Attributes) -> Tensor:
    """PRelu; the slope is one per channel where its shape allows (torch's own operator is faster)."""
    x, slope = inputs
    if slope.numel() in (1, x.shape[1]) and (slope.dim() < x.dim() or slope.numel() == slope.shape[1]):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


def clip(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """Clip; bounds as attributes (opset 6) or inputs (opset 11). 0..6 becomes relu6."""
    low = inputs[1] if len(inputs) > 1 else attributes.get("min")
    high = inputs[2] if len(inputs) > 2 else attributes.get("max")
    low_number = None if low is None else float(low)
    high_number = None if high is None else float(high)
    if low_number == 0.0 and high_number == 6.0:
        return F.relu6(inputs[0])
    return torch.clamp(inputs[0], low_number, high_number)


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def run(inputs: Sequence[Value], attributes: Attributes) -> Value:
        axes = axes_of(inputs, attributes)
        axes = list(range(inputs[0].dim())) if axes is None else axes
        return function(inputs[0], axes, bool(attributes.get("keepdims", 1)))

    return run


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return (x * x).sum(axes, keep).sqrt()


def _lp_normalization(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    return F.normalize(inputs[0], float(attributes.get("p", 2)), int(attributes.get("axis", -1)))


def _layer_norm(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    x, scale = inputs[:2]
    shift = inputs[2] if len(inputs) > 2 else None
    axis = int(attributes.get("axis", -1)) % x.dim()
    return F.layer_norm(x, x.shape[axis:], scale, shift, float(attributes.get("epsilon", 1e-5)))


def _expand(inputs: Sequence[Value], _: Attributes) -> Tensor:
    return inputs[0].expand(torch.broadcast_shapes(tuple(inputs[0].shape), tuple(ints(inputs[1]))))


def _cast(inputs: Sequence[Value], attributes: Attributes) -> Value:
    # Inference graphs cast floats to floats or shapes to integers: both are already what they should be here. Comparisons become 0 and 1.
    if isinstance(inputs[0], np.ndarray) and int(attributes["to"]) == 1:
        return torch.from_numpy(inputs[0].astype(np.float32))
    if isinstance(inputs[0], Tensor) and inputs[0].dtype == torch.bool and int(attributes["to"]) == 1:
        return inputs[0].float()
    return inputs[0]


def _binary(function: Callable[[Any, Any], Any]) -> Operator:
    return lambda inputs, _: function(inputs[0], inputs[1])


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda inputs, _: function(inputs[0])


OPERATORS: dict[str, Operator] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "BatchNormalization": batch_norm,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": _unary(lambda x: x.mean((2, 3), keepdim=True)),
    "GlobalMaxPool": _unary(lambda x: x.amax((2, 3), keepdim=True)),
    "Gemm": gemm,
    "MatMul": _binary(lambda a, b: a @ b),
    "Add": _binary(lambda a, b: a + b),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b),
    "Div": _binary(lambda a, b: a // b if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else a / b),
    "Pow": _binary(lambda a, b: a * a if np.size(b) == 1 and float(b) == 2.0 else a**b),
    "Greater": _binary(lambda a, b: a > b),
    "Sqrt": _unary(torch.sqrt),
    "Exp": _unary(torch.exp),
    "Abs": _unary(torch.abs),
    "Neg": _unary(torch.neg),
    "Reciprocal": _unary(torch.reciprocal),
    "Erf": _unary(torch.erf),
    "Relu": _unary(torch.relu),
    "Sigmoid": _unary(torch.sigmoid),
    "Tanh": _unary(torch.tanh),
    "HardSwish": _unary(F.hardswish),
    "Softplus": _unary(F.softplus),
    "PRelu": prelu,
    "LeakyRelu": lambda v, a: F.leaky_relu(v[0], float(a.get("alpha", 0.01))),
    "Elu": lambda v, a: F.elu(v[0], float(a.get("alpha", 1.0))),
    "HardSigmoid": lambda v, a: torch.clamp(v[0] * a.get("alpha", 0.2) + a.get("beta", 0.5), 0.0, 1.0),
    "Gelu": lambda v, a: F.gelu(v[0], approximate=a.get("approximate", b"none").decode()),
    "Softmax": lambda v, a: torch.softmax(v[0], int(a.get("axis", -1))),
    "Clip": clip,
    "Reshape": shapes.reshape,
    "Flatten": shapes.flatten,
    "Transpose": lambda v, a: v[0].permute(*a.get("perm", range(v[0].dim())[::-1])),
    "Slice": shapes.slice_,
    "Concat": shapes.concat,
    "Gather": shapes.gather,
    "Split": shapes.split,
    "Squeeze": shapes.squeeze,
    "Unsqueeze": shapes.unsqueeze,
    "Pad": shapes.pad,
    "Resize": shapes.resize,
    "Upsample": shapes.resize,
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceL2": _reduce(_l2),
    "LpNormalization": _lp_normalization,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": lambda v, a: F.instance_norm(v[0], None, None, v[1], v[2], eps=a.get("epsilon", 1e-5)),
    "Expand": _expand,
    "Shape": lambda v, _: np.array(v[0].shape, np.int64),
    "Cast": _cast,
    "Identity": lambda v, _: v[0],
    "Dropout": lambda v, _: v[0],
}

"""Decompositions of rectifiers and their gradients: multiplications by the slope that holds at each value.

ONNX Runtime's ``Where`` and ``PRelu`` are several times slower on CPU than what is multiplied here: in an engine of depthwise
convolutions they took more time than the convolutions. The slope comes from a comparison, so a zero, a denormal or an infinity falls on
the side where torch puts it, and a forward and a backward pass share it.

Values are those of torch to rounding: with a slope in [0, 1] the positive side has a factor of exactly one. In one point the forms
differ: where a unit is closed, an infinite gradient gives NaN instead of zero (``sqrt(relu(x))`` at zero). Feature maps have no such
gradients, so relu and hardtanh multiply where tensors have three axes or more, and select elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table

aten = torch.ops.aten


def slopes(x: Tensor, negative: Tensor | float) -> Tensor:
    """1 where ``x`` is positive and ``negative`` elsewhere (so at zero and at NaN), by one multiplication and one addition."""
    return (x > 0).to(x.dtype) * (1.0 - negative) + negative


def prelu_kernel(x: Tensor, weight: Tensor) -> Tensor:
    """``x`` times its slope."""
    return x * slopes(x, weight)


def prelu_kernel_backward(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients to input and slope; the slope's holds at x <= 0."""
    return gradient * slopes(x, weight), torch.where(x > 0, 0.0, x * gradient)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """``x`` times its slope."""
    return x * slopes(x, negative_slope)


def leaky_relu_backward(gradient: Tensor, x: Tensor, negative_slope: float, self_is_result: bool) -> Tensor:
    """The slope at ``x``; a result has the sign of what it came from."""
    return gradient * slopes(x, negative_slope)


def threshold_backward(gradient: Tensor, x: Tensor, threshold: float) -> Tensor:
    """Of relu (threshold 0): nothing passes at the threshold itself."""
    if x.dim() < 3:
        return _torch(aten.threshold_backward.default)(gradient, x, threshold)
    return gradient * (x > threshold).to(gradient.dtype)


def hardtanh_backward(gradient: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """Of relu6 and clips: nothing passes at either bound."""
    if x.dim() < 3:
        return _torch(aten.hardtanh_backward.default)(gradient, x, low, high)
    return gradient * torch.logical_and(x > low, x < high).to(gradient.dtype)


def _torch(operator: Any) -> Callable[..., Tensor]:
    """What torch itself decomposes ``operator`` to."""
    return decomposition_table[operator]

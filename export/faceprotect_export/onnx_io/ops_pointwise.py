"""ONNX operators that compute each number from those at its place: arithmetic, comparisons, casts, activations (see ops.py)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceprotect_export.onnx_io.values import Attributes, Host, Operator, Value, as_tensor, both, given, host_type, is_float, is_host, text


def _tensor(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda inputs, _: function(as_tensor(inputs[0]))


def _many(host: Callable[[Host, Host], Any], tensor: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator of any number of inputs, one after the other."""
    return both(lambda *v: functools.reduce(host, v), lambda *v: functools.reduce(tensor, v))


def _mean(inputs: Sequence[Value], _: Attributes) -> Tensor:
    return functools.reduce(torch.add, inputs) / len(inputs)


def _divide_host(a: Host, b: Host) -> Host:
    """Integers are divided towards zero."""
    return np.asarray(np.abs(a) // np.abs(b) * np.sign(a) * np.sign(b))


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _remainder(inputs: Sequence[Value], attributes: Attributes) -> Value:
    """Mod: the sign is that of the divisor, or of the dividend with ``fmod``."""
    a, b = inputs
    if is_host(a) and is_host(b):
        return np.asarray(np.fmod(a, b) if attributes.get("fmod", 0) else np.mod(a, b))
    a, b = as_tensor(a), as_tensor(b)
    whole = a / b
    return a - b * (torch.sign(whole) * torch.floor(whole.abs()) if attributes.get("fmod", 0) else torch.floor(whole))


def _power(inputs: Sequence[Value], _: Attributes) -> Value:
    base, exponent = inputs
    if is_host(base) and is_host(exponent):
        return np.asarray(base**exponent)
    if is_host(base):  # integers to the power of a fraction stay integers
        return torch.trunc(as_tensor(base) ** exponent).long()
    number = float(exponent) if np.size(exponent) == 1 and np.ndim(exponent) <= base.dim() else None
    if number == 2.0:
        return base * base
    return base ** (as_tensor(exponent) if number is None else number)


def _cast_to(value: Value, kind: int) -> Value:
    """``value`` in the ONNX type ``kind``. Floats are float32 here, whatever their width was."""
    if is_float(kind):
        return as_tensor(value).float() if is_host(value) or not value.is_floating_point() else value
    if is_host(value):
        return value.astype(host_type(kind))
    return value != 0 if kind == 9 else value.long()


def _cast_like(inputs: Sequence[Value], _: Attributes) -> Value:
    value, like = inputs
    if is_host(like):
        return _cast_to(value, 9 if like.dtype == np.bool_ else 7)
    return _cast_to(value, 1 if like.is_floating_point() else 9 if like.dtype == torch.bool else 7)


def clip(inputs: Sequence[Value], attributes: Attributes) -> Value:
    """Clip; bounds as attributes (opset 6) or inputs (opset 11). Between two numbers it is hardtanh, of which relu6 is one."""
    low = given(inputs, 1) if len(inputs) > 1 else attributes.get("min")
    high = given(inputs, 2) if len(inputs) > 1 else attributes.get("max")
    if is_host(inputs[0]):
        return np.asarray(inputs[0] if low is None and high is None else np.clip(inputs[0], low, high))
    low_number = None if low is None else float(low)
    high_number = None if high is None else float(high)
    if low_number is None and high_number is None:
        return inputs[0]
    if low_number is not None and high_number is not None and -math.inf < low_number < high_number < math.inf:
        return F.hardtanh(inputs[0], low_number, high_number)
    return torch.clamp(inputs[0], low_number, high_number)


def prelu(inputs: Sequence[Value], _: Attributes) -> Tensor:
    """PRelu; the slope is one per channel where its shape allows (torch's own operator is faster)."""
    x, slope = inputs
    if slope.numel() == 1 or (x.dim() > 1 and slope.dim() == x.dim() - 1 and slope.numel() == slope.shape[0] == x.shape[1]):
        return F.prelu(x, slope.reshape(-1))
    if slope.dim() == x.dim() and slope.numel() == slope.shape[1] == x.shape[1]:
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


def _gelu(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    return F.gelu(inputs[0], approximate=text(attributes, "approximate", "none"))


def _selu(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    alpha, gamma = attributes.get("alpha", 1.6732632423543772), attributes.get("gamma", 1.0507009873554805)
    return F.elu(inputs[0], float(alpha)) * float(gamma)


def _celu(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    alpha = float(attributes.get("alpha", 1.0))
    return F.elu(inputs[0] / alpha) * alpha


def _shrink(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    x, edge, bias = inputs[0], float(attributes.get("lambd", 0.5)), float(attributes.get("bias", 0.0))
    return torch.where(x < -edge, x + bias, torch.where(x > edge, x - bias, 0.0))


POINTWISE: dict[str, Operator] = {
    "Add": both(np.add, torch.add),
    "Sub": both(np.subtract, torch.sub),
    "Mul": both(np.multiply, torch.mul),
    "Div": both(_divide_host, _divide),
    "Mod": _remainder,
    "Pow": _power,
    "Min": _many(np.minimum, torch.minimum),
    "Max": _many(np.maximum, torch.maximum),
    "Sum": _many(np.add, torch.add),
    "Mean": _mean,
    "Abs": both(np.abs, torch.abs),
    "Neg": both(np.negative, torch.neg),
    "Sign": both(np.sign, torch.sign),
    "Floor": _tensor(torch.floor),
    "Ceil": _tensor(torch.ceil),
    "Round": _tensor(torch.round),
    "Sqrt": _tensor(torch.sqrt),
    "Reciprocal": _tensor(torch.reciprocal),
    "Exp": _tensor(torch.exp),
    "Log": _tensor(torch.log),
    "Sin": _tensor(torch.sin),
    "Cos": _tensor(torch.cos),
    "Erf": _tensor(torch.erf),
    "Equal": both(np.equal, torch.eq),
    "Less": both(np.less, torch.lt),
    "LessOrEqual": both(np.less_equal, torch.le),
    "Greater": both(np.greater, torch.gt),
    "GreaterOrEqual": both(np.greater_equal, torch.ge),
    "And": both(np.logical_and, torch.logical_and),
    "Or": both(np.logical_or, torch.logical_or),
    "Xor": both(np.logical_xor, torch.ne),
    "Not": both(np.logical_not, torch.logical_not),
    "IsNaN": _tensor(lambda x: x != x),
    "Where": both(np.where, torch.where),
    "Cast": lambda v, a: _cast_to(v[0], int(a["to"])),
    "CastLike": _cast_like,
    "Clip": clip,
    "Relu": both(lambda x: np.maximum(x, 0), torch.relu),
    "PRelu": prelu,
    "LeakyRelu": lambda v, a: F.leaky_relu(v[0], float(a.get("alpha", 0.01))),
    "ThresholdedRelu": lambda v, a: torch.where(v[0] > float(a.get("alpha", 1.0)), v[0], 0.0),
    "Elu": lambda v, a: F.elu(v[0], float(a.get("alpha", 1.0))),
    "Selu": _selu,
    "Celu": _celu,
    "Sigmoid": _tensor(torch.sigmoid),
    "Tanh": _tensor(torch.tanh),
    "HardSigmoid": lambda v, a: torch.clamp(v[0] * a.get("alpha", 0.2) + a.get("beta", 0.5), 0.0, 1.0),
    "HardSwish": _tensor(F.hardswish),
    "Swish": lambda v, a: v[0] * torch.sigmoid(v[0] * float(a.get("alpha", 1.0))),
    "Mish": _tensor(F.mish),
    "Softplus": _tensor(F.softplus),
    "Softsign": _tensor(lambda x: x / (x.abs() + 1.0)),
    "Shrink": _shrink,
    "Gelu": _gelu,
    "Identity": lambda v, _: v[0],
    "Dropout": lambda v, _: v[0],
}

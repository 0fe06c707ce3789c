"""Fold per-channel arithmetic (batch norm in all its spellings) into the convolution or matrix product just before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from faceprotect_export.onnx_io.program import Step
from faceprotect_export.onnx_io.values import Value

Affine = tuple[Tensor, Tensor]


def _per_channel(value: Value, channels: int, rank: int) -> Tensor | None:
    """``value`` as one number per channel of a tensor of ``rank`` dimensions, or None if it is not of that form."""
    if not isinstance(value, Tensor):
        return None
    if value.numel() == 1 and value.dim() <= rank:
        return value.reshape(1).expand(channels)
    axis = value.dim() - rank + 1  # where broadcasting puts the channel dimension
    if axis >= 0 and value.numel() == channels == value.shape[axis]:
        return value.reshape(channels)
    return None


def _normalisation(step: Step, constants: dict[str, Value]) -> Affine | None:
    if any(n not in constants for n in step.inputs[1:5]):
        return None
    scale, shift, mean, variance = (constants[n] for n in step.inputs[1:5])
    factor = scale / torch.sqrt(variance + float(step.attributes.get("epsilon", 1e-5)))
    return factor, shift - mean * factor


def _affine_of(step: Step, source: str, constants: dict[str, Value], channels: int, layer: str) -> Affine | None:
    """(scale, shift) per channel if ``step`` maps ``source``, the result of a ``layer``, by them, else None."""
    one, zero = torch.ones(channels), torch.zeros(channels)
    if step.operator == "BatchNormalization":  # behind a product of any rank the channels may lie elsewhere than its columns
        return None if layer in ("MatMul", "Linear") else _normalisation(step, constants)
    if step.operator not in ("Add", "Sub", "Mul", "Div"):
        return None
    first = step.inputs[0] == source
    rank = {"Conv": 4, "Conv1": 3}.get(layer, 2)
    value = _per_channel(constants.get(step.inputs[1 if first else 0]), channels, rank)
    if value is None:
        return None
    if step.operator == "Add":
        return one, value
    if step.operator == "Mul":
        return value, zero
    if step.operator == "Sub":
        return (one, -value) if first else (-one, value)
    return (1.0 / value, zero) if first else None


def _as_linear(step: Step, constants: dict[str, Value]) -> Affine | None:
    """(weight with output channels first, bias) of a layer that an affine map can be folded into."""
    if step.operator not in ("Conv", "MatMul", "Gemm", "Linear") or not isinstance(constants.get(step.inputs[1]), Tensor):
        return None
    weight = constants[step.inputs[1]]
    if step.operator == "MatMul" or (step.operator == "Gemm" and not step.attributes.get("transB", 0)):
        weight = weight.T if weight.dim() == 2 else None
    if weight is None or any(step.attributes.get(k, 1.0) != 1.0 for k in ("alpha", "beta")):
        return None
    bias = constants.get(step.inputs[2]) if len(step.inputs) > 2 and step.inputs[2] else torch.zeros(weight.shape[0])
    if step.attributes.get("transA", 0) or bias is None or bias.numel() != weight.shape[0]:
        return None
    return weight, bias.reshape(-1)


def fold(steps: Sequence[Step], constants: dict[str, Value], outputs: set[str]) -> list[Step]:
    """``steps`` without the affine ones that could be folded; changes the layers before them and adds to ``constants``."""
    uses = Counter(name for step in steps for name in step.inputs)
    producer = {name: step for step in steps for name in step.outputs}
    kept: list[Step] = []
    for step in steps:
        source = next((n for n in step.inputs if n in producer), "")
        layer = producer.get(source)
        linear = _as_linear(layer, constants) if layer and uses[source] == 1 and source not in outputs else None
        affine = None
        if layer and linear:
            kind = "Conv1" if layer.operator == "Conv" and linear[0].dim() == 3 else layer.operator
            affine = _affine_of(step, source, constants, linear[0].shape[0], kind)
        if not (layer and linear and affine):
            kept.append(step)
            continue
        _replace(layer, linear, affine, step.outputs[0], constants)
        producer[step.outputs[0]] = layer
    return kept


def _replace(layer: Step, linear: Affine, affine: Affine, name: str, constants: dict[str, Value]) -> None:
    """Let ``layer`` give what the affine step behind it gave, under that name."""
    weight, bias = linear
    constants[f"{name}.weight"] = weight * affine[0].reshape(-1, *[1] * (weight.dim() - 1))
    constants[f"{name}.bias"] = bias * affine[0] + affine[1]
    layer.inputs, layer.outputs = [layer.inputs[0], f"{name}.weight", f"{name}.bias"], [name]
    if layer.operator == "MatMul":
        layer.operator, layer.attributes = "Linear", {}
    elif layer.operator == "Gemm":
        layer.attributes = {"transB": 1}

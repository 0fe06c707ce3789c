"""The steps of an ONNX graph: running them, and working out what is known without looking at the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from faceprotect_export.onnx_io.ops import OPERATORS, REFUSED
from faceprotect_export.onnx_io.values import Value, settled

#: They look at the shape of their input alone, which is known where its numbers are not.
_OF_SHAPE = ("Shape", "Size", "EyeLike")


class OnnxReadError(ValueError):
    """The ONNX file holds something this reader does not know."""


@dataclass
class Step:
    """One operator call: names of the values it takes and gives ("" where an input is left out)."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


def call(step: Step, values: dict[str, Value]) -> None:
    """Run one step: put what it gives into ``values``."""
    missing = [n for n in step.inputs if n and n not in values]
    if missing:
        raise OnnxReadError(f"{step.operator} (giving {step.outputs[0]}) needs {missing}, an output of an operator that is not read")
    try:
        result = OPERATORS[step.operator]([values[n] if n else None for n in step.inputs], step.attributes)
    except NotImplementedError as error:
        raise OnnxReadError(f"operator {step.operator} (giving {step.outputs[0]}) is not supported with this: {error}") from error
    if isinstance(result, tuple):
        values.update(zip(step.outputs, result, strict=False))
    else:
        values[step.outputs[0]] = result


def _last_uses(steps: Sequence[Step]) -> dict[str, int]:
    return {name: index for index, step in enumerate(steps) for name in step.inputs}


def execute(steps: Sequence[Step], values: dict[str, Value], output: str) -> Tensor:
    """Run every step; activations are dropped as soon as nothing needs them."""
    last = _last_uses(steps)
    for index, step in enumerate(steps):
        call(step, values)
        for name in step.inputs:
            if name != output and last[name] == index:
                values.pop(name, None)
    return values[output]


def propagate(steps: Sequence[Step], constants: dict[str, Value]) -> list[Step]:
    """Run every step whose inputs are all constants, adding what they give; return the others."""
    left: list[Step] = []
    for step in steps:
        if all(not name or name in constants for name in step.inputs):
            call(step, constants)
            constants.update({name: settled(constants[name]) for name in step.outputs if name in constants})
        else:
            left.append(step)
    return left


def propagate_shapes(steps: Sequence[Step], constants: dict[str, Value], name: str, image: Tensor) -> list[Step]:
    """As :func:`propagate`, for an input ``name`` of the shape of ``image``: what depends on shapes alone is constant, too."""
    values, last, left = {**constants, name: image}, _last_uses(steps), []
    for index, step in enumerate(steps):
        call(step, values)
        if step.operator in _OF_SHAPE or all(not n or n in constants for n in step.inputs):
            constants.update({n: settled(values[n]) for n in step.outputs if n in values})
            values.update({n: constants[n] for n in step.outputs if n in constants})
        else:
            left.append(step)
        for used in step.inputs:
            if used not in constants and last[used] == index:
                values.pop(used, None)
    return left


def reachable(steps: Sequence[Step], output: str) -> list[Step]:
    """The steps that ``output`` depends on; raises OnnxReadError where one of them has no gradient."""
    needed, kept = {output}, []
    for step in reversed(steps):
        if needed & set(step.outputs):
            needed |= set(step.inputs)
            kept.append(step)
    for step in kept:
        if step.operator in REFUSED:
            raise refused(step.operator, step.outputs[0])
    return kept[::-1]


def refused(operator: str, name: str) -> OnnxReadError:
    """What to say of an operator that no reading can have."""
    return OnnxReadError(f"operator {operator} (node {name}) {REFUSED[operator]}")

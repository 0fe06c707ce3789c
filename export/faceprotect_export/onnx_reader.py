"""Read a plain face recognition network from ONNX into a torch module, so that its gradient can be traced.

A small interpreter: constants are propagated, per-channel arithmetic behind a convolution (batch norm in all its spellings) is
folded into it, and what is left runs as a list of torch calls. Independent of the batch size wherever the graph is.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

from faceprotect_export.onnx_ops import OPERATORS, Value


class OnnxReadError(ValueError):
    """The ONNX file holds something this reader does not know."""


@dataclass
class Step:
    """One operator call: names of the values it takes and gives ("" where an input is left out)."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


def _constant(tensor: onnx.TensorProto, base: Path) -> Value:
    """Floats become float32 tensors, integers and booleans host arrays."""
    try:
        array = numpy_helper.to_array(tensor, str(base))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise OnnxReadError(f"tensor '{tensor.name}': {error}. External data has to lie whole in the folder of the graph") from error
    if np.issubdtype(array.dtype, np.floating):
        return torch.from_numpy(array.astype(np.float32))
    return array.astype(np.int64)


def _steps(model: onnx.ModelProto, base: Path) -> tuple[list[Step], dict[str, Value]]:
    constants: dict[str, Value] = {t.name: _constant(t, base) for t in model.graph.initializer}
    steps: list[Step] = []
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            constants[node.output[0]] = _constant_node(attributes, base)
        elif node.op_type not in OPERATORS:
            raise OnnxReadError(f"operator {node.op_type} (node {node.name or node.output[0]}) is not supported")
        else:
            steps.append(Step(node.op_type, list(node.input), list(node.output), attributes))
    return steps, constants


def _constant_node(attributes: dict[str, Any], base: Path) -> Value:
    for key, value in attributes.items():
        if key == "value":
            return _constant(value, base)
        if key in ("value_float", "value_floats"):
            return torch.tensor(value, dtype=torch.float32)
        if key in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    raise OnnxReadError("a Constant node holds neither a tensor nor numbers")


def _call(step: Step, values: dict[str, Value]) -> None:
    result = OPERATORS[step.operator]([values[n] if n else None for n in step.inputs], step.attributes)
    if isinstance(result, tuple):
        values.update(zip(step.outputs, result, strict=False))
    else:
        values[step.outputs[0]] = result


def _execute(steps: Sequence[Step], values: dict[str, Value], output: str) -> Tensor:
    """Run every step; activations are dropped as soon as nothing needs them."""
    last = {name: index for index, step in enumerate(steps) for name in step.inputs}
    for index, step in enumerate(steps):
        _call(step, values)
        for name in step.inputs:
            if name != output and last[name] == index:
                values.pop(name, None)
    return values[output]


def _propagate(steps: list[Step], constants: dict[str, Value]) -> list[Step]:
    """Run every step whose inputs are all constants; return the others."""
    left: list[Step] = []
    for step in steps:
        if all(not name or name in constants for name in step.inputs):
            _call(step, constants)
        else:
            left.append(step)
    return left


def _per_channel(value: Value, channels: int, rank: int) -> Tensor | None:
    """``value`` as one number per channel of a tensor of ``rank`` dimensions, or None if it is not of that form."""
    if not isinstance(value, Tensor):
        return None
    if value.numel() == 1:
        return value.reshape(1).expand(channels)
    axis = value.dim() - rank + 1  # where broadcasting puts the channel dimension
    if axis >= 0 and value.numel() == channels == value.shape[axis]:
        return value.reshape(channels)
    return None


def _affine_of(step: Step, source: str, constants: dict[str, Value], channels: int, rank: int) -> Any:
    """(scale, shift) per channel if ``step`` maps ``source`` by them, else None."""
    one, zero = torch.ones(channels), torch.zeros(channels)
    if step.operator == "BatchNormalization":
        scale, shift, mean, variance = (constants[n] for n in step.inputs[1:5])
        factor = scale / torch.sqrt(variance + float(step.attributes.get("epsilon", 1e-5)))
        return factor, shift - mean * factor
    if step.operator not in ("Add", "Sub", "Mul", "Div"):
        return None
    first = step.inputs[0] == source
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


def _as_linear(step: Step, constants: dict[str, Value]) -> tuple[Tensor, Tensor] | None:
    """(weight with output channels first, bias) of a layer that an affine map can be folded into."""
    if step.operator not in ("Conv", "MatMul", "Gemm") or not isinstance(constants.get(step.inputs[1]), Tensor):
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


def _fold(steps: list[Step], constants: dict[str, Value], outputs: set[str]) -> list[Step]:
    """Fold per-channel affine steps into the convolution or matrix product just before them."""
    uses = Counter(name for step in steps for name in step.inputs)
    producer = {name: step for step in steps for name in step.outputs}
    kept: list[Step] = []
    for step in steps:
        source = next((n for n in step.inputs if n in producer), "")
        layer = producer.get(source)
        linear = _as_linear(layer, constants) if layer and uses[source] == 1 and source not in outputs else None
        affine = None
        if layer and linear:
            rank = 2 if layer.operator != "Conv" else linear[0].dim()
            affine = _affine_of(step, source, constants, linear[0].shape[0], rank)
        if not (layer and linear and affine):
            kept.append(step)
            continue
        weight, bias = linear
        name = step.outputs[0]
        constants[f"{name}.weight"] = weight * affine[0].reshape(-1, *[1] * (weight.dim() - 1))
        constants[f"{name}.bias"] = bias * affine[0] + affine[1]
        layer.inputs = [layer.inputs[0], f"{name}.weight", f"{name}.bias"]
        layer.outputs = [name]
        if layer.operator != "Conv":
            layer.operator, layer.attributes = "Gemm", {"transB": 1}
        producer[name] = layer
    return kept


class OnnxModule(nn.Module):
    """An ONNX graph as a module of frozen float32 weights: image tensor in, one output out."""

    def __init__(self, steps: list[Step], constants: dict[str, Value], input_name: str, output_name: str) -> None:
        """Take the program as :func:`load_onnx` makes it."""
        super().__init__()
        self.steps, self.input_name, self.output_name = steps, input_name, output_name
        self._host: dict[str, Value] = {}
        self._names: dict[str, str] = {}
        used = {name for step in steps for name in step.inputs if name in constants}
        for index, name in enumerate(sorted(used)):
            if isinstance(constants[name], Tensor):
                self.register_buffer(f"c{index}", constants[name].detach().contiguous())
                self._names[name] = f"c{index}"
            else:
                self._host[name] = constants[name]

    def forward(self, image: Tensor) -> Tensor:
        """Run the graph on ``image`` (layout and range as the file wants them); returns its output."""
        values: dict[str, Value] = dict(self._host)
        values.update({name: getattr(self, buffer) for name, buffer in self._names.items()})
        return _execute(self.steps, {**values, self.input_name: image}, self.output_name)


@dataclass(frozen=True)
class OnnxProgram:
    """A graph as the file has it: its steps in order and its constants by name."""

    steps: list[Step]
    constants: dict[str, Value]
    input_name: str
    output_name: str

    def folded(self, weights: Mapping[str, Tensor]) -> tuple[list[Step], dict[str, Value]]:
        """Steps and constants with everything folded that can be; ``weights`` take the place of constants of their names."""
        steps, constants = copy.deepcopy(self.steps), {**self.constants, **weights}
        steps = _reachable(_propagate(steps, constants), self.output_name)
        return _fold(steps, constants, {self.output_name}), constants

    def run(self, image: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """The output for ``image`` with ``weights`` in place of the file's own, folding included: so it can be traced."""
        steps, constants = self.folded(weights)
        return _execute(steps, {**constants, self.input_name: image}, self.output_name)


def load_onnx(path: Path | str, output: str | None = None) -> OnnxModule:
    """Load an ONNX network with one image input as a torch module in eval mode; arguments and errors of :func:`read_onnx`."""
    program = read_onnx(path, output)
    return OnnxModule(*program.folded({}), program.input_name, program.output_name).eval()


def read_onnx(path: Path | str, output: str | None = None) -> OnnxProgram:
    """Read an ONNX network with one image input.

    Args:
        path: the .onnx file (external data beside it is read too).
        output: name of the output wanted; default the first.

    Raises:
        OnnxReadError: an operator is unknown, the graph has several inputs, or the file is no ONNX.

    """
    path = Path(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise OnnxReadError(f"{path} is not an ONNX file: {error}") from error
    steps, constants = _steps(model, path.parent)
    inputs = [i.name for i in model.graph.input if i.name not in constants]
    inputs = [n for n in inputs if any(n in step.inputs for step in steps)]
    if len(inputs) != 1:
        raise OnnxReadError(f"{path} takes the inputs {inputs}; a recogniser takes one image")
    outputs = [o.name for o in model.graph.output]
    if output is not None and output not in outputs:
        raise OnnxReadError(f"{path} has no output {output!r}; it has {outputs}")
    return OnnxProgram(steps, constants, inputs[0], output or outputs[0])


def _reachable(steps: list[Step], output: str) -> list[Step]:
    needed, kept = {output}, []
    for step in reversed(steps):
        if needed & set(step.outputs):
            needed |= set(step.inputs)
            kept.append(step)
    return kept[::-1]

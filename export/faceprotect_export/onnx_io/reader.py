"""Read a face recognition network from ONNX into a torch module, so that its gradient can be traced.

A small interpreter: constants are propagated, per-channel arithmetic behind a convolution (batch norm in all its spellings) is
folded into it, and what is left runs as a list of torch calls. Independent of the batch size wherever the graph is; for one shape
of the image, everything that depends on shapes alone (positions computed in the graph, say) can be made constant, too.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

from faceprotect_export.onnx_io.folding import fold
from faceprotect_export.onnx_io.ops import OPERATORS, REFUSED, spelling
from faceprotect_export.onnx_io.program import OnnxReadError, Step, execute, propagate, propagate_shapes, reachable, refused
from faceprotect_export.onnx_io.values import Value, host_type, is_float

__all__ = ["OPERATORS", "OnnxModule", "OnnxProgram", "OnnxReadError", "Step", "load_onnx", "read_onnx"]


def _constant(tensor: onnx.TensorProto, base: Path) -> Value:
    """Floats become float32 tensors, integers and booleans host arrays."""
    try:
        array = numpy_helper.to_array(tensor, str(base))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise OnnxReadError(f"tensor '{tensor.name}': {error}. External data has to lie whole in the folder of the graph") from error
    if is_float(tensor.data_type):
        return torch.from_numpy(array.astype(np.float32))
    return np.asarray(array.astype(host_type(tensor.data_type)))


def _steps(model: onnx.ModelProto, base: Path) -> tuple[list[Step], dict[str, Value]]:
    constants: dict[str, Value] = {t.name: _constant(t, base) for t in model.graph.initializer}
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    steps: list[Step] = []
    for node in model.graph.node:
        operator = spelling(node.op_type, opset)
        if operator not in OPERATORS and operator != "Constant":
            if operator in REFUSED:
                raise refused(operator, node.name or node.output[0])
            raise OnnxReadError(f"operator {node.op_type} (node {node.name or node.output[0]}) is not supported")
        attributes = {a.name: _attribute(a, base) for a in node.attribute}
        if operator == "Constant":
            constants[node.output[0]] = _constant_node(attributes)
            continue
        if operator == "Split":
            attributes.setdefault("num_outputs", len(node.output))
        steps.append(Step(operator, list(node.input), list(node.output), attributes))
    return steps, constants


def _attribute(attribute: onnx.AttributeProto, base: Path) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return _constant(value, base) if isinstance(value, onnx.TensorProto) else value


def _constant_node(attributes: dict[str, Any]) -> Value:
    for key, value in attributes.items():
        if key == "value":
            return value
        if key in ("value_float", "value_floats"):
            return torch.tensor(value, dtype=torch.float32)
        if key in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    raise OnnxReadError("a Constant node holds neither a tensor nor numbers")


class OnnxModule(nn.Module):
    """An ONNX graph as a module of frozen float32 weights: image tensor in, one output out.

    ``channels_last``: the image is wanted as [N, H, W, 3].
    """

    def __init__(
        self, steps: list[Step], constants: dict[str, Value], input_name: str, output_name: str, channels_last: bool = False
    ) -> None:
        """Take the program as :func:`load_onnx` makes it."""
        super().__init__()
        self.steps, self.input_name, self.output_name, self.channels_last = steps, input_name, output_name, channels_last
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
        return execute(self.steps, {**self._constants(), self.input_name: image}, self.output_name)

    def _constants(self) -> dict[str, Value]:
        return {**self._host, **{name: getattr(self, buffer) for name, buffer in self._names.items()}}

    def specialised(self, image: Tensor) -> OnnxModule:
        """The same network for inputs of the shape of ``image`` alone: what depends on shapes, but not on the image, is constant.

        Raises OnnxReadError: an operator is not supported as it is used, or the output does not depend on the image.
        """
        constants = self._constants()
        with torch.no_grad():
            steps = propagate_shapes(copy.deepcopy(self.steps), constants, self.input_name, image)
        if not steps or self.output_name in constants:
            raise OnnxReadError(f"output {self.output_name} does not depend on the image")
        steps = fold(reachable(steps, self.output_name), constants, {self.output_name})
        return OnnxModule(steps, constants, self.input_name, self.output_name, self.channels_last).eval()


@dataclass(frozen=True)
class OnnxProgram:
    """A graph as the file has it: its steps in order and its constants by name."""

    steps: list[Step]
    constants: dict[str, Value]
    input_name: str
    output_name: str
    channels_last: bool = False

    def folded(self, weights: Mapping[str, Tensor]) -> tuple[list[Step], dict[str, Value]]:
        """Steps and constants with everything folded that can be; ``weights`` take the place of constants of their names."""
        steps, constants = copy.deepcopy(self.steps), {**self.constants, **weights}
        steps = reachable(propagate(steps, constants), self.output_name)
        return fold(steps, constants, {self.output_name}), constants

    def run(self, image: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """The output for ``image`` with ``weights`` in place of the file's own, folding included: so it can be traced."""
        steps, constants = self.folded(weights)
        return execute(steps, {**constants, self.input_name: image}, self.output_name)


def load_onnx(path: Path | str, output: str | None = None) -> OnnxModule:
    """Load an ONNX network with one image input as a torch module in eval mode; arguments and errors of :func:`read_onnx`."""
    program = read_onnx(path, output)
    return OnnxModule(*program.folded({}), program.input_name, program.output_name, program.channels_last).eval()


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
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    steps, constants = _steps(model, path.parent)
    inputs = [i for i in model.graph.input if i.name not in constants]
    inputs = [i for i in inputs if any(i.name in step.inputs for step in steps)]
    if len(inputs) != 1:
        raise OnnxReadError(f"{path} takes the inputs {[i.name for i in inputs]}; a recogniser takes one image")
    outputs = [o.name for o in model.graph.output]
    if output is not None and output not in outputs:
        raise OnnxReadError(f"{path} has no output {output!r}; it has {outputs}")
    return OnnxProgram(steps, constants, inputs[0].name, output or outputs[0], _is_channels_last(inputs[0]))


def _is_channels_last(image: onnx.ValueInfoProto) -> bool:
    """True where the declared shape has the three colours last, as TensorFlow orders them."""
    sizes: Sequence[int] = [d.dim_value for d in image.type.tensor_type.shape.dim]
    return len(sizes) == 4 and sizes[3] == 3 and sizes[1] != 3

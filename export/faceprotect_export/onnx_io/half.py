"""Type an ONNX graph for float16 arithmetic (TensorRT 11 has no FP16 flag: precision is in the graph).

Convolutions and matrix products run in float16, and so does what only passes values on between them. Sums, norms, exponentials and
divisions stay float32, and so do inputs and outputs. So does a product with a matrix that float16 does not hold as it is: weights were
rounded before, but not the coefficients that resample a picture, and what is off there is seen by every layer behind it.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

_HEAVY = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
#: What gives the numbers of a constant in another order or shape.
_REORDERED = {"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Expand"}
_LIGHT = {
    "Relu",
    "PRelu",
    "LeakyRelu",
    "Add",
    "Sub",
    "Mul",
    "Neg",
    "Where",
    "Clip",
    "Concat",
    "Reshape",
    "Transpose",
    "Slice",
    "Pad",
    "Expand",
    "DepthToSpace",
    "MaxPool",
    "AveragePool",
    "Unsqueeze",
    "Gather",
    "Split",
    "Greater",
    "LessOrEqual",
    "Less",
    "GreaterOrEqual",
    "Equal",
    "Sign",
    "Max",
    "Min",
    "Sigmoid",
    "Tanh",
    "Abs",
}


class _Typist:
    """Rewrites nodes one by one, keeping for every float value the name of its other precision."""

    def __init__(self, model: onnx.ModelProto) -> None:
        inferred = shape_inference.infer_shapes(model)
        infos = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
        self.kinds = {i.name: i.type.tensor_type.elem_type for i in infos}
        self.constants = {t.name: t for t in model.graph.initializer}
        self.kinds.update({t.name: t.data_type for t in model.graph.initializer})
        self.half = {name for name, kind in self.kinds.items() if kind == TensorProto.FLOAT16}
        #: Values made of comparisons and constants, a rectifier's slopes: either precision holds them as well as the constants.
        self.slopes: set[str] = set()
        #: Constants that float16 does not hold as they are.
        self.inexact = {t.name for t in model.graph.initializer if _loses(t)}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers = list(model.graph.initializer)
        self._converted: dict[tuple[str, bool], str] = {}
        #: Weights stored as float16 and cast: the stored ones are what float16 arithmetic wants.
        self.stored = {
            node.output[0]: node.input[0]
            for node in model.graph.node
            if node.op_type == "Cast" and node.input[0] in self.constants and self.kinds[node.input[0]] == TensorProto.FLOAT16
        }

    def is_float(self, name: str) -> bool:
        return self.kinds.get(name) == TensorProto.FLOAT

    def as_type(self, name: str, half: bool) -> str:
        """Name of ``name``'s value in the wanted precision, adding a Cast or a converted constant."""
        if not name or not self.is_float(name) or (name in self.half) == half:
            return name
        if half and name in self.stored:
            return self.stored[name]
        if (name, half) not in self._converted:
            target = f"{name}.{'half' if half else 'float'}"
            constant = self.constants.get(name)
            if constant is not None and half and constant.data_location != TensorProto.EXTERNAL:
                limit = float(np.finfo(np.float16).max)
                array = np.clip(numpy_helper.to_array(constant), -limit, limit).astype(np.float16)
                self.initializers.append(numpy_helper.from_array(array, target))
            else:
                to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
                self.nodes.append(helper.make_node("Cast", [name], [target], name=f"{target}/n", to=to))
            self._converted[name, half] = target
        return self._converted[name, half]

    def wants_half(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Resize":
            return node.input[0] in self.half
        if node.op_type in _HEAVY:
            return node.op_type != "MatMul" or self.inexact.isdisjoint(node.input)
        data = [n for n in self._floats(node) if n not in self.slopes]
        return node.op_type in _LIGHT and bool(data) and all(n in self.half for n in data)

    def _floats(self, node: onnx.NodeProto) -> list[str]:
        return [n for n in node.input if n and self.is_float(n) and n not in self.constants]

    def _gives_slopes(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Cast":
            return self.kinds.get(node.input[0]) == TensorProto.BOOL
        data = self._floats(node)
        return node.op_type in ("Mul", "Add") and bool(data) and self.slopes.issuperset(data)

    def visit(self, node: onnx.NodeProto) -> None:
        half = self.wants_half(node)
        if self._gives_slopes(node):
            self.slopes |= set(node.output)
        if node.op_type in _REORDERED and node.input[0] in self.inexact:
            self.inexact |= set(node.output)
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:]
        if node.op_type == "Cast":
            copy.input.extend(node.input)
        else:
            # A Resize repeats samples by factors that stay float32.
            copy.input.extend([self.as_type(n, half and not (k and node.op_type == "Resize")) for k, n in enumerate(node.input)])
        self.nodes.append(copy)
        if half:
            self.half |= {n for n in node.output if self.is_float(n)}


def _loses(tensor: TensorProto) -> bool:
    """Whether float16 changes a number of a constant. One in another file would be float16 there if it did not."""
    if tensor.data_type != TensorProto.FLOAT or tensor.data_location == TensorProto.EXTERNAL:
        return tensor.data_type == TensorProto.FLOAT
    array = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        return not np.array_equal(array.astype(np.float16).astype(np.float32), array)


def half_arithmetic(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` whose heavy operators compute in float16; inputs and outputs keep their types."""
    typist = _Typist(model)
    for node in model.graph.node:
        typist.visit(node)
    wanted = {name for node in typist.nodes for name in node.input} | {output.name for output in model.graph.output}
    nodes = [node for node in typist.nodes if node.output[0] in wanted or node.output[0] not in typist.stored]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        list(model.graph.input),
        list(model.graph.output),
        [i for i in typist.initializers if i.name in used],
    )
    result = helper.make_model(graph, opset_imports=list(model.opset_import), producer_name=model.producer_name)
    result.ir_version = model.ir_version
    return result

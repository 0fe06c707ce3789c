"""Write a traced graph module as ONNX: opset 18, IR 10, static shapes, same bytes for the same graph.

Where weights live and in what precision they are stored is chosen here:

* ``weights="fp16"`` stores every float tensor that float16 holds *exactly* in two bytes, behind a Cast that the runtime folds when it
  loads the engine. Round the module first (:func:`round_weights`) and parity stays exact, because the reference is rounded too.
* ``weights="int8"`` stores matrices and kernels in one byte, with a power of two per row as their scale, where that holds them exactly
  (:func:`round_rows`); the rest as "fp16" does. Arithmetic stays in float32.
* Together larger than ``inline`` bytes, tensors go to a file beside the graph, one at a time: a model of any size is written in little
  memory, and past the 2 GB that a protobuf message holds.
* ``external`` lets an input of the traced function be a tensor of an installed package's file: its offset is written, not its values,
  and everything derived from it (flipped kernels, folded norms) is left as nodes that the runtime folds at load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from faceprotect_export.onnx_io import lowering_spatial  # noqa: F401 - registers its lowerings
from faceprotect_export.onnx_io.half import half_arithmetic
from faceprotect_export.onnx_io.lowering import LOWERINGS, tensor_of
from faceprotect_export.trace.simplify import fold_constants
from faceprotect_export.trace.vjp import input_names, output_names

OPSET, IR = 18, 10
PRODUCER = "faceprotect-export"
#: Tensors smaller than this are not worth a Cast node.
_SMALL = 256
#: Smaller ones than this are not worth rounding to a byte.
_FEW = 4096
#: A graph file of this many bytes at most holds its tensors itself; protobuf ends at 2 GB.
INLINE = 1_500_000_000
#: Of a data file: smaller tensors stay in the graph, and the others start at a page of their own, so that runtimes can map them.
_PAGE = 4096
#: Behind the name of a graph, that of its data file.
DATA = ".data"

_TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.float16: TensorProto.FLOAT16,
    torch.int64: TensorProto.INT64,
    torch.int32: TensorProto.INT32,
    torch.int16: TensorProto.INT16,
    torch.int8: TensorProto.INT8,
    torch.bool: TensorProto.BOOL,
}


class WriteError(ValueError):
    """The graph cannot be written as ONNX: an operator is unknown, or names do not match."""


@dataclass(frozen=True)
class ExternalTensor:
    """A tensor inside another file: the file's name, byte offset and byte length."""

    location: str
    offset: int
    length: int


class DataFile:
    """Tensors one after the other in a file beside the graph; equal ones once."""

    def __init__(self, location: str, file: BinaryIO) -> None:
        """``location``: the file's name as the graph shall have it; ``file``: open for writing."""
        self._location, self._file = location, file
        self._known: dict[bytes, ExternalTensor] = {}

    def add(self, array: NDArray[Any]) -> ExternalTensor:
        """Where the array now lies (little endian, C order)."""
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        key = hashlib.sha256(repr((little.dtype.str, little.shape)).encode() + little.data.cast("B")).digest()
        if key not in self._known:
            self._file.write(b"\0" * (-self._file.tell() % _PAGE))
            self._known[key] = ExternalTensor(self._location, self._file.tell(), little.nbytes)
            self._file.write(little.data.cast("B"))
        return self._known[key]


class _Builder:
    """Collects nodes and initializers while the fx graph is walked; large tensors go to ``data``, where there is one."""

    def __init__(self, data: DataFile | None = None) -> None:
        self._data = data
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.names: dict[Node, Any] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._casts: dict[tuple[str, torch.dtype], str] = {}
        self._taken: set[str] = set()
        self._prefix = ""

    def reserve(self, names: Sequence[str]) -> None:
        """Keep names for outputs: a node of the graph may be called the same."""
        self._taken.update(names)

    def at(self, node: Node) -> None:
        """Name what is emitted next after ``node``."""
        self._prefix = node.name

    def unique(self, name: str) -> str:
        candidate, number = name, 1
        while candidate in self._taken:
            candidate, number = f"{name}.{number}", number + 1
        self._taken.add(candidate)
        return candidate

    def emit(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        names = [self.unique(self._prefix) for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=self.unique(f"{names[0]}/n"), **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array: NDArray[Any]) -> str:
        array = np.asarray(array, order="C")
        where = self._data.add(array) if self._data and array.nbytes >= _PAGE else None
        key = (array.dtype.str, array.shape, repr(where).encode() if where else array.tobytes())
        if key not in self._constants:
            name = self.unique(f"constant{len(self._constants)}")
            made = external_initializer(name, array.shape, where, array.dtype) if where else numpy_helper.from_array(array, name)
            self.initializers.append(made)
            self._constants[key] = name
        return self._constants[key]

    def value(self, argument: Any, dtype: torch.dtype | None = None) -> str:
        if not isinstance(argument, Node):
            return self.constant(torch.tensor(argument, dtype=dtype).numpy())
        name = self.names[argument]
        if isinstance(name, list):
            raise WriteError(f"{argument.name} gives several values where one is expected")
        if dtype is None or tensor_of(argument).dtype == dtype:
            return str(name)
        if (name, dtype) not in self._casts:
            if tensor_of(argument).dtype == torch.int8 and dtype == torch.float32:
                # The same numbers as a Cast; TensorRT takes a constant of bytes in front of nothing else.
                self._casts[name, dtype] = self.emit(
                    "DequantizeLinear", [name, self.constant(np.array(1.0, np.float32)), self.constant(np.array(0, np.int8))]
                )
            else:
                self._casts[name, dtype] = self.emit("Cast", [name], to=_TYPES[dtype])
        return self._casts[name, dtype]

    def stored(self, tensor: Tensor, name: str, weights: str) -> str:
        """Initializer for a weight, as float16 behind a Cast where asked and exact."""
        array = tensor.detach().cpu().contiguous().numpy()
        if weights == "fp32" or array.dtype != np.float32 or array.size < _SMALL:
            return self.constant(array)
        if weights == "int8" and array.ndim > 1 and array.size >= _FEW:
            for axis in (0, 1):
                scale = row_scale(array, axis)
                rows = np.rint(array / scale)
                if np.array_equal(rows * scale, array):
                    self._prefix = f"{name}.float"
                    whole = [self.constant(rows.astype(np.int8)), self.constant(scale.ravel())]
                    return str(self.emit("DequantizeLinear", whole, axis=axis))
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), array):
            return self.constant(array)
        self._prefix = f"{name}.float"
        return str(self.emit("Cast", [self.constant(half)], to=TensorProto.FLOAT))


def round_weights(module: nn.Module) -> nn.Module:
    """Round every float weight of 256 numbers or more to what float16 holds, in place; returns the module."""
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.dtype == torch.float32 and tensor.numel() >= _SMALL:
                tensor.copy_(tensor.half().float())
    return module


def row_scale(array: NDArray[np.float32], axis: int = 0) -> NDArray[np.float32]:
    """Powers of two that bring the rows of ``array`` along ``axis`` into -127..127, shaped to divide it."""
    largest = np.abs(array).max(tuple(k for k in range(array.ndim) if k != axis), keepdims=True)
    return np.asarray(np.exp2(np.ceil(np.log2(np.maximum(largest, 1e-20) / 127))), np.float32)


def round_rows(module: nn.Module) -> nn.Module:
    """Round matrices and kernels of 4,096 numbers or more to what a byte and a power of two per row hold, in place; returns the module."""
    with torch.no_grad():
        for tensor in module.parameters():
            if tensor.ndim > 1 and tensor.numel() >= _FEW:
                scale = torch.from_numpy(row_scale(tensor.detach().numpy()))
                tensor.copy_((tensor / scale).round() * scale)
    return module


def _lower(builder: _Builder, graph_module: GraphModule, weights: str, external: Mapping[str, ExternalTensor]) -> None:
    import operator

    for node in graph_module.graph.nodes:
        builder.at(node)
        if node.op == "placeholder":
            builder.names[node] = builder.unique(str(node.target))
        elif node.op == "get_attr":
            builder.names[node] = builder.stored(getattr(graph_module, str(node.target)), node.name, weights)
        elif node.op == "call_function" and node.target is operator.getitem:
            builder.names[node] = builder.names[node.args[0]][node.args[1]]
        elif node.op == "call_function" and not node.all_input_nodes and node.target not in LOWERINGS:
            builder.names[node] = builder.constant(_evaluated(node))  # a range, say: depends on nothing
        elif node.op == "call_function":
            if node.target not in LOWERINGS:
                raise WriteError(f"no ONNX form of {node.target} (node {node.name}): add it to decompositions.py or lowering.py")
            builder.names[node] = LOWERINGS[node.target](builder, node)


def _evaluated(node: Node) -> NDArray[Any]:
    kwargs = {k: v for k, v in node.kwargs.items() if k != "pin_memory"}
    return node.target(*node.args, **kwargs).cpu().numpy()  # type: ignore[operator]


def external_initializer(name: str, shape: Sequence[int], where: ExternalTensor, dtype: Any = np.float32) -> TensorProto:
    """Initializer whose values lie in another file; raises WriteError where the length does not fit the shape."""
    kind = np.dtype(dtype)
    if where.length != kind.itemsize * int(np.prod(shape)):
        raise WriteError(f"{name}: {where.length} bytes at {where.location} do not hold {kind.name} {list(shape)}")
    proto = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(kind), dims=list(shape))
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", where.location), ("offset", where.offset), ("length", where.length)):
        proto.external_data.add(key=key, value=str(value))
    return proto


def _value_info(name: str, tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _TYPES[tensor.dtype], list(tensor.shape))


def to_onnx(
    graph_module: GraphModule,
    *,
    weights: Literal["fp32", "fp16", "int8"] = "fp32",
    arithmetic: Literal["fp32", "fp16"] = "fp32",
    fold: Literal["export", "load"] = "export",
    external: Mapping[str, ExternalTensor] | None = None,
    data: DataFile | None = None,
    name: str = "engine",
) -> onnx.ModelProto:
    """Turn a traced module into an ONNX model. See :func:`write` for the arguments."""
    external = dict(external or {})
    unknown = external.keys() - set(input_names(graph_module))
    if unknown:
        raise WriteError(f"external weights {sorted(unknown)} are not inputs of the traced function")
    if fold == "export":
        graph_module = fold_constants(_copied(graph_module))
    builder = _Builder(data)
    builder.reserve(output_names(graph_module))
    _lower(builder, graph_module, weights, external)
    inputs, initializers = [], list(builder.initializers)
    for node in graph_module.graph.nodes:
        if node.op != "placeholder":
            continue
        tensor = tensor_of(node)
        if str(node.target) in external:
            kind = helper.tensor_dtype_to_np_dtype(_TYPES[tensor.dtype])
            initializers.append(external_initializer(str(node.target), tensor.shape, external[str(node.target)], kind))
        else:
            inputs.append(_value_info(str(node.target), tensor))
    outputs = _outputs(builder, graph_module)
    graph = helper.make_graph(_needed(builder.nodes, outputs), name, inputs, outputs, _used(builder.nodes, initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name=PRODUCER)
    model.ir_version = IR
    return half_arithmetic(model) if arithmetic == "fp16" else model


def _copied(graph_module: GraphModule) -> GraphModule:
    """A shallow copy, so that folding does not change the caller's module."""
    import copy

    return GraphModule(graph_module, copy.deepcopy(graph_module.graph))


def _outputs(builder: _Builder, graph_module: GraphModule) -> list[onnx.ValueInfoProto]:
    """Give outputs their names; an output that is also an input or a constant passes through an Identity."""
    results: dict[str, Node] = graph_module.graph.output_node().args[0]  # type: ignore[assignment]
    infos = []
    for name, node in results.items():
        builder.nodes.append(helper.make_node("Identity", [builder.value(node)], [name], name=f"{name}/output"))
        infos.append(_value_info(name, tensor_of(node)))
    return infos


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Sequence[onnx.ValueInfoProto]) -> list[onnx.NodeProto]:
    """Nodes that some output depends on, in order (a fused Pad, say, is left over)."""
    wanted, kept = {o.name for o in outputs}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _used(nodes: Sequence[onnx.NodeProto], initializers: Sequence[TensorProto]) -> list[TensorProto]:
    used = {name for node in nodes for name in node.input}
    return [i for i in initializers if i.name in used]


def write(
    graph_module: GraphModule,
    path: Path | str,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    *,
    weights: Literal["fp32", "fp16", "int8"] = "fp32",
    arithmetic: Literal["fp32", "fp16"] = "fp32",
    fold: Literal["export", "load"] = "export",
    external: Mapping[str, ExternalTensor] | None = None,
    inline: int = INLINE,
) -> onnx.ModelProto:
    """Write a module traced by :func:`faceprotect_export.trace.vjp.trace` to ``path``.

    Args:
        graph_module: traced module; left unchanged.
        path: the .onnx file.
        inputs, outputs: the names expected, checked against the graph's; None: whatever it has.
        weights: storage of weights (module docstring). Arithmetic is not touched by it.
        arithmetic: "fp16" types convolutions and matrix products, and what lies between them, as float16; inputs and outputs stay
            float32. Trace with a ``gradient_scale`` then.
        fold: "export" evaluates weight-only subgraphs now; "load" leaves them to the runtime, which keeps the file half as large
            where a gradient uses each kernel a second time, flipped.
        external: inputs of the traced function that are tensors of another file (forces nothing to be folded from them).
        inline: if the tensors take more bytes than this, those of a page or more are written to ``path`` + ".data".

    Returns:
        The model as written (its tensors in the data file are named, not held).

    Raises:
        WriteError: names differ from the graph's, or an operator has no ONNX form.

    """
    external = dict(external or {})
    names = [n for n in input_names(graph_module) if n not in external]
    if inputs is not None and sorted(inputs) != sorted(names):
        raise WriteError(f"the graph takes {names}, not {list(inputs)}")
    if outputs is not None and sorted(outputs) != sorted(output_names(graph_module)):
        raise WriteError(f"the graph gives {output_names(graph_module)}, not {list(outputs)}")
    path = Path(path)
    if fold == "export":
        graph_module, fold = fold_constants(_copied(graph_module)), "load"
    with ExitStack() as stack:
        data = None
        if stored_bytes(graph_module, weights) > inline:
            aside = path.with_name(path.name + DATA)
            data = DataFile(aside.name, stack.enter_context(aside.open("wb")))
        model = to_onnx(graph_module, weights=weights, arithmetic=arithmetic, fold=fold, external=external, data=data, name=path.stem)
        path.write_bytes(model.SerializeToString(deterministic=True))
    return model


def stored_bytes(graph_module: GraphModule, weights: str) -> int:
    """About what the tensors of a traced module take as they are stored."""
    names = {str(node.target) for node in graph_module.graph.nodes if node.op == "get_attr"}
    tensors = {t.data_ptr(): t for t in (getattr(graph_module, name) for name in names)}
    share = {"fp32": 1.0, "fp16": 0.5, "int8": 0.25}[weights]
    return int(sum(t.numel() * t.element_size() * (share if t.dtype == torch.float32 else 1.0) for t in tensors.values()))

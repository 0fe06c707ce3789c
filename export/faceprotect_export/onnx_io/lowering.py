"""aten operators -> ONNX nodes (opset 18): the table behind :mod:`faceprotect_export.onnx_io.writer`.

Each entry takes the emitter and the fx node and returns the name of the ONNX value. Shapes are static, so every axis, shape and
pad is written as a constant. Only operators that are left after decomposition appear here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node

aten = torch.ops.aten


class Emitter(Protocol):
    """What a lowering needs from the writer."""

    def emit(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; returns the name of its output, or a list of names for several outputs."""

    def constant(self, array: NDArray[Any]) -> str:
        """Name of an initializer holding ``array``."""

    def value(self, argument: Any, dtype: torch.dtype | None = None) -> str:
        """Name of a node's value, or of a constant for a number; cast to ``dtype`` if given and different."""


Lowering = Callable[[Emitter, Node], Any]
LOWERINGS: dict[Any, Lowering] = {}


def lowers(*operators: Any) -> Callable[[Lowering], Lowering]:
    """Register a lowering for operators."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(operators, function))
        return function

    return register


def tensor_of(node: Any) -> Tensor:
    """The (fake) tensor that a node gives: its shape and dtype."""
    value = node.meta["val"]
    return value[0] if isinstance(value, list | tuple) else value


def ints(emitter: Emitter, numbers: Sequence[int]) -> str:
    """Constant int64 vector."""
    return emitter.constant(np.array([int(n) for n in numbers], np.int64))


def argument_of(node: Node, index: int, default: Any = None) -> Any:
    """Positional argument ``index`` of a node, or the default where it was left out."""
    return node.args[index] if len(node.args) > index else default


def _axes(node: Node, argument: Any) -> list[int]:
    rank = tensor_of(node.args[0]).dim()
    if argument is None or argument == []:
        return list(range(rank))
    return [a % rank for a in ([argument] if isinstance(argument, int) else argument)] if rank else []


def _promoted(node: Node) -> torch.dtype:
    """Common dtype of a comparison's operands."""
    operands = [tensor_of(a) if isinstance(a, Node) else a for a in node.args[:2]]
    return torch.result_type(*operands)  # type: ignore[arg-type]


def _unary(name: str, **attributes: Any) -> Lowering:
    return lambda e, n: e.emit(name, [e.value(n.args[0], tensor_of(n).dtype)], **attributes)


def _binary(name: str) -> Lowering:
    def lower(e: Emitter, n: Node) -> Any:
        dtype = tensor_of(n).dtype
        second: Any = n.args[1]
        alpha = n.kwargs.get("alpha", 1)
        if alpha != 1:
            second = second * alpha if not isinstance(second, Node) else second
        right = e.value(second, dtype)
        if alpha != 1 and isinstance(n.args[1], Node):
            right = e.emit("Mul", [right, e.value(alpha, dtype)])
        return e.emit(name, [e.value(n.args[0], dtype), right])

    return lower


def _comparison(name: str, negate: bool = False) -> Lowering:
    def lower(e: Emitter, n: Node) -> Any:
        dtype = _promoted(n)
        result = e.emit(name, [e.value(n.args[0], dtype), e.value(n.args[1], dtype)])
        return e.emit("Not", [result]) if negate else result

    return lower


for _names, _lowering in (
    ((aten.relu.default,), _unary("Relu")),
    ((aten.sigmoid.default,), _unary("Sigmoid")),
    ((aten.tanh.default,), _unary("Tanh")),
    ((aten.exp.default,), _unary("Exp")),
    ((aten.log.default,), _unary("Log")),
    ((aten.sqrt.default,), _unary("Sqrt")),
    ((aten.abs.default,), _unary("Abs")),
    ((aten.neg.default,), _unary("Neg")),
    ((aten.erf.default,), _unary("Erf")),
    ((aten.sign.default, aten.sgn.default), _unary("Sign")),
    ((aten.floor.default,), _unary("Floor")),
    ((aten.ceil.default,), _unary("Ceil")),
    ((aten.round.default,), _unary("Round")),
    ((aten.sin.default,), _unary("Sin")),
    ((aten.cos.default,), _unary("Cos")),
    ((aten.reciprocal.default,), _unary("Reciprocal")),
    ((aten.logical_not.default, aten.bitwise_not.default), _unary("Not")),
    ((aten.add.Tensor, aten.add.Scalar), _binary("Add")),
    ((aten.sub.Tensor, aten.sub.Scalar), _binary("Sub")),
    ((aten.mul.Tensor, aten.mul.Scalar), _binary("Mul")),
    ((aten.div.Tensor, aten.div.Scalar), _binary("Div")),
    ((aten.maximum.default,), _binary("Max")),
    ((aten.minimum.default,), _binary("Min")),
    ((aten.logical_and.default, aten.bitwise_and.Tensor), _binary("And")),
    ((aten.logical_or.default, aten.bitwise_or.Tensor), _binary("Or")),
    ((aten.eq.Tensor, aten.eq.Scalar), _comparison("Equal")),
    ((aten.ne.Tensor, aten.ne.Scalar), _comparison("Equal", negate=True)),
    ((aten.lt.Tensor, aten.lt.Scalar), _comparison("Less")),
    ((aten.le.Tensor, aten.le.Scalar), _comparison("LessOrEqual")),
    ((aten.gt.Tensor, aten.gt.Scalar), _comparison("Greater")),
    ((aten.ge.Tensor, aten.ge.Scalar), _comparison("GreaterOrEqual")),
    ((aten.clone.default, aten.alias.default, aten.detach.default), lambda e, n: e.value(n.args[0])),
    ((aten._to_copy.default,), lambda e, n: e.value(n.args[0], tensor_of(n).dtype)),
):
    lowers(*_names)(_lowering)


@lowers(aten.rsqrt.default)
def _rsqrt(e: Emitter, n: Node) -> Any:
    return e.emit("Reciprocal", [e.emit("Sqrt", [e.value(n.args[0])])])


@lowers(aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor)
def _pow(e: Emitter, n: Node) -> Any:
    dtype = tensor_of(n).dtype
    base, exponent = e.value(n.args[0], dtype), n.args[1]
    if exponent == 1:
        return base
    if exponent == 2:
        return e.emit("Mul", [base, base])
    if exponent == 3:
        return e.emit("Mul", [e.emit("Mul", [base, base]), base])
    if exponent == 0.5:
        return e.emit("Sqrt", [base])
    if exponent == -1:
        return e.emit("Reciprocal", [base])
    return e.emit("Pow", [base, e.value(exponent, dtype)])


@lowers(aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar)
def _where(e: Emitter, n: Node) -> Any:
    dtype = tensor_of(n).dtype
    return e.emit("Where", [e.value(n.args[0], torch.bool), e.value(n.args[1], dtype), e.value(n.args[2], dtype)])


@lowers(aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default, aten.hardtanh.default)
def _clamp(e: Emitter, n: Node) -> Any:
    low, high = argument_of(n, 1), argument_of(n, 2)
    if n.target is aten.clamp_max.default:
        low, high = None, n.args[1]
    dtype = tensor_of(n).dtype
    bounds = ["" if b is None else e.value(b, dtype) for b in (low, high)]
    return e.emit("Clip", [e.value(n.args[0], dtype), *(bounds if high is not None else bounds[:1])])


@lowers(aten.clamp.Tensor, aten.clamp_min.Tensor, aten.clamp_max.Tensor)
def _clamp_tensor(e: Emitter, n: Node) -> Any:
    low, high = argument_of(n, 1), argument_of(n, 2)
    if n.target is aten.clamp_max.Tensor:
        low, high = None, n.args[1]
    result = e.value(n.args[0])
    result = result if low is None else e.emit("Max", [result, e.value(low)])
    return result if high is None else e.emit("Min", [result, e.value(high)])


def _reduction(name: str) -> Lowering:
    def lower(e: Emitter, n: Node) -> Any:
        axes = _axes(n, argument_of(n, 1))
        keep = bool(argument_of(n, 2, False))
        x = e.value(n.args[0], tensor_of(n).dtype)
        if not axes:
            return x
        if name == "ReduceMean" and axes == [2, 3] and keep and tensor_of(n.args[0]).dim() == 4:
            return e.emit("GlobalAveragePool", [x])
        return e.emit(name, [x, ints(e, axes)], keepdims=int(keep))

    return lower


lowers(aten.sum.dim_IntList, aten.sum.default)(_reduction("ReduceSum"))
lowers(aten.mean.dim, aten.mean.default)(_reduction("ReduceMean"))
lowers(aten.amax.default)(_reduction("ReduceMax"))
lowers(aten.amin.default)(_reduction("ReduceMin"))


@lowers(aten.mm.default, aten.bmm.default, aten.matmul.default, aten.dot.default, aten.mv.default)
def _matmul(e: Emitter, n: Node) -> Any:
    return e.emit("MatMul", [e.value(n.args[0]), e.value(n.args[1])])


@lowers(aten._softmax.default, aten._log_softmax.default)
def _softmax(e: Emitter, n: Node) -> Any:
    axis: Any = n.args[1]
    name = "Softmax" if n.target is aten._softmax.default else "LogSoftmax"
    return e.emit(name, [e.value(n.args[0])], axis=int(axis))


@lowers(aten.reshape.default, aten.view.default, aten._unsafe_view.default)
def _reshape(e: Emitter, n: Node) -> Any:
    return e.emit("Reshape", [e.value(n.args[0]), ints(e, tensor_of(n).shape)])


@lowers(aten.permute.default, aten.transpose.int, aten.t.default)
def _permute(e: Emitter, n: Node) -> Any:
    rank = tensor_of(n).dim()
    order = list(range(rank))
    if n.target is aten.permute.default:
        order = _axes(n, n.args[1])
    elif rank > 1:
        a, b = (0, 1) if n.target is aten.t.default else _axes(n, list(n.args[1:3]))
        order[a], order[b] = order[b], order[a]
    moved = [a for a in order if tensor_of(n.args[0]).shape[a] != 1]
    if moved == sorted(moved):  # only axes of length one move: no data does
        return e.emit("Reshape", [e.value(n.args[0]), ints(e, tensor_of(n).shape)])
    return e.emit("Transpose", [e.value(n.args[0])], perm=order)


@lowers(aten.unsqueeze.default)
def _unsqueeze(e: Emitter, n: Node) -> Any:
    axis: Any = n.args[1]
    return e.emit("Unsqueeze", [e.value(n.args[0]), ints(e, [int(axis) % tensor_of(n).dim()])])


@lowers(aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default)
def _squeeze(e: Emitter, n: Node) -> Any:
    return e.emit("Reshape", [e.value(n.args[0]), ints(e, tensor_of(n).shape)])


@lowers(aten.expand.default)
def _expand(e: Emitter, n: Node) -> Any:
    return e.emit("Expand", [e.value(n.args[0]), ints(e, tensor_of(n).shape)])


@lowers(aten.repeat.default)
def _repeat(e: Emitter, n: Node) -> Any:
    source = tensor_of(n.args[0]).shape
    times: Any = n.args[1]
    x = e.emit("Reshape", [e.value(n.args[0]), ints(e, [1] * (len(times) - len(source)) + list(source))])
    return e.emit("Tile", [x, ints(e, times)])


@lowers(aten.slice.Tensor)
def _slice(e: Emitter, n: Node) -> Any:
    axis, start, end, step = (argument_of(n, i, d) for i, d in ((1, 0), (2, 0), (3, None), (4, 1)))
    limit = np.iinfo(np.int64).max if end is None else int(end)
    return e.emit("Slice", [e.value(n.args[0]), ints(e, [start or 0]), ints(e, [limit]), ints(e, [axis]), ints(e, [step])])


@lowers(aten.select.int)
def _select(e: Emitter, n: Node) -> Any:
    index: Any = n.args[2]
    x = e.value(n.args[0])
    return e.emit("Gather", [x, e.constant(np.array(int(index), np.int64))], axis=_axes(n, n.args[1])[0])


@lowers(aten.flip.default)
def _flip(e: Emitter, n: Node) -> Any:
    axes = _axes(n, n.args[1])
    count, lowest = len(axes), np.iinfo(np.int64).min
    ends = e.constant(np.full(count, lowest, np.int64))
    return e.emit("Slice", [e.value(n.args[0]), ints(e, [-1] * count), ends, ints(e, axes), ints(e, [-1] * count)])


@lowers(aten.cat.default)
def _cat(e: Emitter, n: Node) -> Any:
    parts: Any = n.args[0]
    dtype, rank = tensor_of(n).dtype, tensor_of(n).dim()
    parts = [p for p in parts if tensor_of(p).numel()]
    return e.emit("Concat", [e.value(p, dtype) for p in parts], axis=int(argument_of(n, 1, 0)) % rank)


@lowers(aten.split_with_sizes.default, aten.split.Tensor, aten.unbind.int)
def _split(e: Emitter, n: Node) -> Any:
    parts = n.meta["val"]
    axis = int(argument_of(n, 2 if n.target is not aten.unbind.int else 1, 0)) % tensor_of(n.args[0]).dim()
    sizes = [1] * len(parts) if n.target is aten.unbind.int else [p.shape[axis] for p in parts]
    names = e.emit("Split", [e.value(n.args[0]), ints(e, sizes)], outputs=len(parts), axis=axis)
    names = names if isinstance(names, list) else [names]
    if n.target is aten.unbind.int:
        return [e.emit("Reshape", [name, ints(e, p.shape)]) for name, p in zip(names, parts, strict=True)]
    return names


@lowers(operator.getitem)
def _getitem(e: Emitter, n: Node) -> Any:
    raise AssertionError("getitem is resolved by the writer")


@lowers(aten.index_select.default, aten.embedding.default)
def _index_select(e: Emitter, n: Node) -> Any:
    if n.target is aten.embedding.default:
        return e.emit("Gather", [e.value(n.args[0]), e.value(n.args[1])], axis=0)
    return e.emit("Gather", [e.value(n.args[0]), e.value(n.args[2])], axis=_axes(n, n.args[1])[0])


@lowers(aten.full.default, aten.full_like.default, aten.zeros_like.default, aten.ones_like.default)
def _full(e: Emitter, n: Node) -> Any:
    numbers = {aten.zeros_like.default: 0, aten.ones_like.default: 1}
    number: Any = numbers[n.target] if n.target in numbers else n.args[1]
    like = tensor_of(n)
    scalar = e.value(number, like.dtype)
    return scalar if like.dim() == 0 else e.emit("Expand", [scalar, ints(e, like.shape)])


@lowers(aten.scalar_tensor.default)
def _scalar(e: Emitter, n: Node) -> Any:
    return e.value(n.args[0], tensor_of(n).dtype)

"""Small passes over a traced graph: dead code, common subexpressions, no-ops, weight-only folding."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

aten = torch.ops.aten

_COPIES = {aten.clone.default, aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default, aten.lift_fresh.default}
_RESHAPES = {aten.reshape.default, aten.expand.default}


def simplify(graph_module: GraphModule) -> GraphModule:
    """Remove no-ops, share equal nodes, drop what no output needs. In place; returns the module."""
    _remove_noops(graph_module)
    _broadcast(graph_module)
    _share(graph_module)
    graph_module.graph.eliminate_dead_code(is_impure_node=lambda n: n.op in ("placeholder", "output"))
    graph_module.graph.lint()
    graph_module.recompile()
    _drop_unused_attributes(graph_module)
    return graph_module


def _same_meta(node: Node, other: Node) -> bool:
    a, b = node.meta.get("val"), other.meta.get("val")
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype


def _is_noop(node: Node) -> bool:
    """True where the node gives its first argument unchanged."""
    if not node.args or not isinstance(node.args[0], Node):
        return False
    if node.target in _COPIES:
        return True
    if not _same_meta(node, node.args[0]):
        return False
    if node.target in _RESHAPES or node.target in (aten._to_copy.default, aten.slice.Tensor):
        return True
    if node.target in (aten.mul.Tensor, aten.div.Tensor, aten.mul.Scalar):
        return bool(node.args[1] == 1)
    if node.target in (aten.add.Tensor, aten.sub.Tensor):
        return bool(node.args[1] == 0)
    return node.target is aten.constant_pad_nd.default and not any(node.args[1])  # type: ignore[arg-type]


def _remove_noops(graph_module: GraphModule) -> None:
    for node in list(graph_module.graph.nodes):
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default  # copies are dropped here, so strides may not allow a view
        if node.op == "call_function" and _is_noop(node):
            node.replace_all_uses_with(node.args[0])
            graph_module.graph.erase_node(node)


#: Operators whose operands broadcast, so that an expanded operand need not be expanded first.
_ELEMENTWISE = {
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.mul.Tensor,
    aten.div.Tensor,
    aten.where.self,
    aten.maximum.default,
    aten.minimum.default,
    aten.eq.Tensor,
    aten.ne.Tensor,
    aten.lt.Tensor,
    aten.le.Tensor,
    aten.gt.Tensor,
    aten.ge.Tensor,
    aten.logical_and.default,
    aten.logical_or.default,
}


def _shape(argument: Any) -> tuple[int, ...]:
    return tuple(argument.meta["val"].shape) if isinstance(argument, Node) else ()


def _broadcast(graph_module: GraphModule) -> None:
    """Let operators broadcast by themselves instead of writing out what is only repeated."""
    for node in list(graph_module.graph.nodes):
        if node.target in _ELEMENTWISE:
            _drop_expansions(graph_module, node)
        elif node.target is aten.bmm.default:
            _drop_batch_expansion(node)


def _drop_expansions(graph_module: GraphModule, node: Node) -> None:
    for index, argument in enumerate(node.args):
        if not isinstance(argument, Node):
            continue
        others = [_shape(a) for i, a in enumerate(node.args) if i != index]
        if argument.target is aten.expand.default:
            source: Any = argument.args[0]
            if torch.broadcast_shapes(_shape(source), *others) == _shape(node):
                node.update_arg(index, source)
        elif argument.target in (aten.full.default, aten.full_like.default) and _shape(argument):
            if torch.broadcast_shapes((), *others) != _shape(node):
                continue
            value = argument.meta["val"]
            with graph_module.graph.inserting_before(node):
                scalar = graph_module.graph.call_function(
                    aten.full.default, ([], argument.args[1]), {"dtype": value.dtype, "device": torch.device("cpu")}
                )
            scalar.meta["val"] = value.new_empty([])
            node.update_arg(index, scalar)


def _drop_batch_expansion(node: Node) -> None:
    """A matrix repeated over the batch of a bmm becomes one matrix that a matmul broadcasts."""
    for index in (0, 1):
        argument: Any = node.args[index]
        if argument.target is aten.reshape.default and _shape(argument.args[0])[-2:] == _shape(argument)[-2:]:
            argument = argument.args[0]
        if argument.target is not aten.expand.default:
            continue
        source = argument.args[0]
        batch, matrix = _shape(source)[:-2], _shape(source)[-2:]
        if len(matrix) == 2 and len(batch) <= 1 and set(batch) <= {1} and matrix == _shape(argument)[-2:]:
            node.update_arg(index, source)
            node.target = aten.matmul.default


def _key(value: Any) -> Any:
    if isinstance(value, Node):
        return ("node", id(value))
    if isinstance(value, list | tuple):
        return tuple(_key(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, _key(v)) for k, v in sorted(value.items()))
    return (type(value).__name__, str(value))


def _share(graph_module: GraphModule) -> None:
    """Common subexpression elimination: every operator left in a traced graph is pure."""
    seen: dict[Any, Node] = {}
    key: tuple[Any, ...]
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function":
            key = (node.target, _key(node.args), _key(node.kwargs))
        elif node.op == "get_attr":
            key = ("attribute", _identity(getattr(graph_module, str(node.target))))
        else:
            continue
        if key in seen:
            node.replace_all_uses_with(seen[key])
            graph_module.graph.erase_node(node)
        else:
            seen[key] = node


def _identity(tensor: Tensor) -> Any:
    """Small tensors are equal by value, large ones by where they lie."""
    if tensor.numel() <= 64:
        return tuple(tensor.shape), str(tensor.dtype), tuple(tensor.flatten().tolist())
    return tuple(tensor.shape), tensor.stride(), str(tensor.dtype), tensor.data_ptr()


def _drop_unused_attributes(graph_module: GraphModule) -> None:
    used = {str(n.target) for n in graph_module.graph.nodes if n.op == "get_attr"}
    for name in [*graph_module._buffers, *graph_module._parameters, *list(vars(graph_module))]:
        if name.startswith(("_param_constant", "_tensor_constant", "_folded")) and name not in used:
            delattr(graph_module, name)


_CREATION = {aten.full.default, aten.arange.start_step, aten.scalar_tensor.default}


def fold_constants(graph_module: GraphModule, keep: Callable[[Node], bool] = lambda node: False) -> GraphModule:
    """Evaluate every subgraph that depends on weights only, once. In place.

    ``keep`` names nodes to leave as they are (with whatever depends on them). A constant that fills a shape is not folded: the
    writer has a smaller form for it.
    """
    constant: dict[Node, Any] = {}
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            constant[node] = getattr(graph_module, str(node.target)).detach()
        elif node.op == "call_function" and not keep(node):
            if node.target in _CREATION and not node.all_input_nodes:
                constant[node] = node.target(*node.args, **{k: v for k, v in node.kwargs.items() if k != "pin_memory"})
            elif node.all_input_nodes and all(n in constant for n in node.all_input_nodes):
                constant[node] = _evaluate(node, constant)
    for index, (node, value) in enumerate(list(constant.items())):
        needed = node.op == "call_function" and any(user not in constant for user in node.users)
        if not needed or not isinstance(value, Tensor) or (node.target is aten.full.default and value.numel() > 64):
            continue
        name = f"_folded{index}"
        graph_module.register_buffer(name, value.contiguous())
        with graph_module.graph.inserting_before(node):
            replacement = graph_module.graph.get_attr(name)
        replacement.meta = dict(node.meta)
        node.replace_all_uses_with(replacement)
    return simplify(graph_module)


def _evaluate(node: Node, constant: dict[Node, Any]) -> Any:
    def value(argument: Node) -> Any:
        return constant[argument]

    args: Any = torch.fx.node.map_arg(node.args, value)
    kwargs = torch.fx.node.map_arg(node.kwargs, value)
    if node.target is operator.getitem:
        return args[0][args[1]]
    with torch.no_grad():
        return node.target(*args, **kwargs)  # type: ignore[operator]

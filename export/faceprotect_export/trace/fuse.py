"""Fuse resampling into the convolution next to it: exact rewrites of a traced graph.

* nearest upsampling, then a convolution: every output pixel sees only few different inputs, so the phases become channels;
* a convolution, then averaging whole blocks (the gradient of the former): one strided convolution with a summed kernel.

With 3x3 kernels and a factor of two either costs 16 multiplications instead of 36, and the large intermediate image is never made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from faceprotect_export.trace.conv_backward import convolve_pooled, convolve_upsampled
from faceprotect_export.trace.decompositions import table
from faceprotect_export.trace.simplify import simplify

aten = torch.ops.aten


def fuse(graph_module: GraphModule) -> GraphModule:
    """Apply both rewrites wherever they fit. In place; returns the module."""
    for node in list(graph_module.graph.nodes):
        if _is_plain_convolution(node):
            _fuse_upsampling(graph_module, node)
    for node in list(graph_module.graph.nodes):
        if node.target is aten.avg_pool2d.default:
            _fuse_pooling(graph_module, node)
    return simplify(graph_module)


def _is_plain_convolution(node: Any) -> bool:
    """Two-dimensional, stride 1, no dilation, one group, not transposed."""
    if not isinstance(node, Node) or node.target is not aten.convolution.default:
        return False
    arguments: Any = node.args
    stride, dilation, transposed, groups = arguments[3], arguments[5], arguments[6], arguments[8]
    return list(stride) == list(dilation) == [1, 1] and not transposed and bool(groups == 1)


def _fuse_upsampling(graph_module: GraphModule, node: Node) -> None:
    arguments: Any = node.args
    up, weight, bias, _, padding = arguments[:5]
    if not isinstance(up, Node) or up.target is not aten.upsample_nearest2d.default:
        return
    source: Any = up.args[0]
    (h, w), (kh, kw) = _size(source), _size(weight)
    factor = _size(up)[0] // h
    if _size(up) != (h * factor, w * factor) or kh < 2 or kw < 2 or max(padding) >= min(kh, kw):
        return
    _replace(graph_module, node, convolve_upsampled, (source, weight, bias), (list(padding), factor))


def _fuse_pooling(graph_module: GraphModule, node: Node) -> None:
    arguments: Any = node.args
    source, kernel = arguments[:2]
    stride = arguments[2] if len(node.args) > 2 and node.args[2] else kernel
    if len(node.args) > 3 or not _is_plain_convolution(source) or len(source.users) > 1:
        return
    if not list(kernel) == list(stride) == [kernel[0]] * 2:
        return
    factor = kernel[0]
    if any(n % factor for n in _size(source)):
        return
    x, weight, bias, _, padding = source.args[:5]
    _replace(graph_module, node, convolve_pooled, (x, weight, bias), (list(padding), factor))


def _size(node: Any) -> tuple[int, int]:
    h, w = node.meta["val"].shape[-2:]
    return int(h), int(w)


def _replace(
    graph_module: GraphModule, node: Node, function: Callable[..., Tensor], tensors: Sequence[Node | None], options: Sequence[Any]
) -> None:
    """Put the operators of ``function(*tensors, *options)`` in the place of ``node``."""
    given = [t for t in tensors if t is not None]

    def call(*values: Tensor) -> Tensor:
        rest = iter(values)
        return function(*[None if t is None else next(rest) for t in tensors], *options)

    examples = [torch.empty(n.meta["val"].shape, dtype=n.meta["val"].dtype) for n in given]
    part = make_fx(call, decomposition_table=table(), tracing_mode="fake")(*examples)
    names = dict(zip([n for n in part.graph.nodes if n.op == "placeholder"], given, strict=True))
    with graph_module.graph.inserting_before(node):
        for inner in part.graph.nodes:
            if inner.op == "call_function":
                names[inner] = graph_module.graph.node_copy(inner, lambda n: names[n])
            elif inner.op == "output":
                result = names[inner.args[0]]
    assert result.meta["val"].shape == node.meta["val"].shape
    node.replace_all_uses_with(result)
    graph_module.graph.erase_node(node)

"""aten operators on images -> ONNX nodes: convolutions, pools, pads, resizes. Joins the table of lowering.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from faceprotect_export.onnx_io.lowering import Emitter, argument_of, ints, lowers, tensor_of

aten = torch.ops.aten


@lowers(aten.constant_pad_nd.default)
def _pad(e: Emitter, n: Node) -> Any:
    pads: Any = n.args[1]
    x = tensor_of(n.args[0])
    pairs = [(0, 0)] * (x.dim() - len(pads) // 2) + list(zip(pads[::2], pads[1::2], strict=True))[::-1]
    order = [a for a, _ in pairs] + [b for _, b in pairs]
    value = e.value(argument_of(n, 2, 0.0), x.dtype)
    return e.emit("Pad", [e.value(n.args[0]), ints(e, order), value], mode="constant")


def _zero_padding(node: Any) -> list[int] | None:
    """[top, left, bottom, right] if ``node`` is zero padding in space, non-negative; else None."""
    if not isinstance(node, Node) or node.target is not aten.constant_pad_nd.default or argument_of(node, 2, 0) != 0:
        return None
    pads: Any = node.args[1]
    if len(pads) != 4 or min(pads) < 0:
        return None
    left, right, top, bottom = pads
    return [top, left, bottom, right]


@lowers(aten.convolution.default)
def _convolution(e: Emitter, n: Node) -> Any:
    arguments: Any = n.args
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = arguments[:9]
    inputs = [e.value(weight), *([e.value(bias)] if bias is not None else [])]
    stride, padding, dilation = list(stride), list(padding), list(dilation)
    kernel = list(tensor_of(weight).shape[2:])
    options: dict[str, Any] = {"strides": stride, "dilations": dilation, "group": groups, "kernel_shape": kernel}
    if transposed:
        pads, extra = padding * 2, list(output_padding)
        return e.emit("ConvTranspose", [e.value(x), *inputs], pads=pads, output_padding=extra, **options)
    pads, source = padding * 2, x
    explicit = _zero_padding(x) if len(kernel) == 2 else None
    if explicit is not None:  # a convolution pads for free, a Pad node copies
        pads, source = [a + b for a, b in zip(explicit, pads, strict=True)], x.args[0]
    return e.emit("Conv", [e.value(source), *inputs], pads=pads, **options)


@lowers(aten.avg_pool2d.default)
def _avg_pool(e: Emitter, n: Node) -> Any:
    kernel: Any = n.args[1]
    stride: Any = argument_of(n, 2) or kernel
    padding: Any = argument_of(n, 3) or [0, 0]
    divisor = argument_of(n, 6)
    y = e.emit(
        "AveragePool",
        [e.value(n.args[0])],
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=list(padding) * 2,
        ceil_mode=int(bool(argument_of(n, 4, False))),
        count_include_pad=int(bool(argument_of(n, 5, True))) if divisor is None else 1,
    )
    return y if divisor is None else e.emit("Mul", [y, e.value(math.prod(kernel) / divisor, tensor_of(n).dtype)])


@lowers(aten.max_pool2d_with_indices.default)
def _max_pool(e: Emitter, n: Node) -> Any:
    kernel: Any = n.args[1]
    stride: Any = argument_of(n, 2) or kernel
    padding: Any = argument_of(n, 3) or [0, 0]
    dilation: Any = argument_of(n, 4) or [1, 1]
    y = e.emit(
        "MaxPool",
        [e.value(n.args[0])],
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=list(padding) * 2,
        dilations=list(dilation),
        ceil_mode=int(bool(argument_of(n, 5, False))),
    )
    return [y, ""]  # the indices are never used: the backward recomputes where the maximum was


@lowers(aten.pixel_shuffle.default)
def _pixel_shuffle(e: Emitter, n: Node) -> Any:
    block: Any = n.args[1]
    return e.emit("DepthToSpace", [e.value(n.args[0])], blocksize=int(block), mode="CRD")


@lowers(aten.pixel_unshuffle.default)
def _pixel_unshuffle(e: Emitter, n: Node) -> Any:
    batch, c, h, w = tensor_of(n.args[0]).shape
    s: Any = n.args[1]
    x = e.emit("Reshape", [e.value(n.args[0]), ints(e, [batch, c, h // s, s, w // s, s])])
    x = e.emit("Transpose", [x], perm=[0, 1, 3, 5, 2, 4])
    return e.emit("Reshape", [x, ints(e, tensor_of(n).shape)])


@lowers(aten.upsample_nearest2d.default)
def _upsample(e: Emitter, n: Node) -> Any:
    scales = [a / b for a, b in zip(tensor_of(n).shape, tensor_of(n.args[0]).shape, strict=True)]
    x, factors = e.value(n.args[0]), e.constant(np.array(scales, np.float32))
    # "floor" and "asymmetric" together repeat each pixel, in every engine.
    return e.emit("Resize", [x, "", factors], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")

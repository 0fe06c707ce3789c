"""ONNX convolutions and pools as torch functions, one or two spatial dimensions: part of the table of ops.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceprotect_export.onnx_io.resize import resize, upsample
from faceprotect_export.onnx_io.values import Attributes, Operator, Value, given, text


def _flat(weight: Tensor) -> int:
    """Spatial dimensions of a kernel; more than two are refused."""
    rank = weight.dim() - 2
    if rank not in (1, 2):
        raise NotImplementedError(f"a kernel of {rank} spatial dimensions")
    return rank


def _spatial_padding(x: Tensor, attributes: Attributes, kernel: Sequence[int]) -> list[int]:
    """ONNX ``pads`` (all starts, then all ends), with ``auto_pad`` resolved."""
    rank = len(kernel)
    mode = text(attributes, "auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        return list(attributes.get("pads", [0] * 2 * rank)) if mode == "NOTSET" else [0] * 2 * rank
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    starts, ends = [], []
    for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small = total // 2
        starts.append(small if mode == "SAME_UPPER" else total - small)
        ends.append(total - starts[-1])
    return starts + ends


def _padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    rank = len(pads) // 2
    order = [n for pair in reversed(list(zip(pads[:rank], pads[rank:], strict=True))) for n in pair]
    return F.pad(x, order, value=value) if any(order) else x


def _symmetric(x: Tensor, pads: list[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """Padding that torch can take as an argument, after padding explicitly where start and end differ."""
    rank = len(pads) // 2
    if pads[:rank] == pads[rank:]:
        return x, pads[:rank]
    return _padded(x, pads, value), [0] * rank


def conv(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """Conv, one or two spatial dimensions."""
    x, weight = inputs[:2]
    rank = _flat(weight)
    x, padding = _symmetric(x, _spatial_padding(x, attributes, weight.shape[2:]))
    function = F.conv2d if rank == 2 else F.conv1d
    strides = list(attributes.get("strides", [1] * rank))
    dilations = list(attributes.get("dilations", [1] * rank))
    return function(x, weight, given(inputs, 2), strides, padding, dilations, int(attributes.get("group", 1)))


def conv_transpose(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """ConvTranspose, one or two spatial dimensions; where start and end pads differ, the whole result is cut."""
    x, weight = inputs[:2]
    rank = _flat(weight)
    strides, dilations = (list(attributes.get(key, [1] * rank)) for key in ("strides", "dilations"))
    extra, groups = list(attributes.get("output_padding", [0] * rank)), int(attributes.get("group", 1))
    sizes = zip(x.shape[2:], weight.shape[2:], strides, dilations, extra, strict=True)
    pads = _transposed_pads(attributes, [(n - 1) * s + d * (k - 1) + 1 + e for n, k, s, d, e in sizes], x.shape[2:], strides)
    function = F.conv_transpose2d if rank == 2 else F.conv_transpose1d
    if pads[:rank] == pads[rank:] and min(pads) >= 0:
        return function(x, weight, given(inputs, 2), strides, pads[:rank], extra, groups, dilations)
    y = function(x, weight, given(inputs, 2), strides, 0, extra, groups, dilations)
    return _padded(y, [-p for p in pads])


def _transposed_pads(attributes: Attributes, whole: Sequence[int], source: Sequence[int], strides: Sequence[int]) -> list[int]:
    """What is cut from the ``whole`` result: all starts, then all ends."""
    mode = text(attributes, "auto_pad", "NOTSET")
    shape = attributes.get("output_shape")
    if shape is None and mode in ("NOTSET", "VALID"):
        return list(attributes.get("pads", [0] * 2 * len(whole)))
    shape = [n * s for n, s in zip(source, strides, strict=True)] if shape is None else list(shape)[-len(whole) :]
    totals = [n - wanted for n, wanted in zip(whole, shape, strict=True)]
    starts = [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in totals]
    return starts + [t - s for t, s in zip(totals, starts, strict=True)]


def _pool(function: Operator) -> Operator:
    """Pools of one spatial dimension as those of two, with a height of one."""

    def run(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
        kernel = list(attributes["kernel_shape"])
        if len(kernel) == 2:
            return function(inputs, attributes)
        if len(kernel) != 1:
            raise NotImplementedError(f"a pool of {len(kernel)} spatial dimensions")
        pads = _spatial_padding(inputs[0], attributes, kernel)
        wide = {**attributes, "auto_pad": "NOTSET", "pads": [0, pads[0], 0, pads[1]], "kernel_shape": [1, *kernel]}
        wide.update({key: [1, *attributes[key]] for key in ("strides", "dilations") if key in attributes})
        return function([inputs[0].unsqueeze(2)], wide).squeeze(2)

    return run


def max_pool(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """MaxPool 2-d, without indices."""
    (x,) = inputs
    kernel = list(attributes["kernel_shape"])
    x, padding = _symmetric(x, _spatial_padding(x, attributes, kernel), float("-inf"))
    ceil = bool(attributes.get("ceil_mode", 0))
    strides = list(attributes.get("strides", [1, 1]))
    return F.max_pool2d(x, kernel, strides, padding, list(attributes.get("dilations", [1, 1])), ceil)


def average_pool(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """AveragePool 2-d."""
    (x,) = inputs
    kernel = list(attributes["kernel_shape"])
    pads = _spatial_padding(x, attributes, kernel)
    if set(attributes.get("dilations", [1])) != {1}:
        raise NotImplementedError("an average pool with dilation")
    include, ceil = bool(attributes.get("count_include_pad", 0)), bool(attributes.get("ceil_mode", 0))
    strides = list(attributes.get("strides", [1, 1]))
    if pads[:2] == pads[2:]:
        return F.avg_pool2d(x, kernel, strides, pads[:2], ceil, include)
    return _uneven_average(x, kernel, strides, pads, ceil, include)


def _uneven_average(x: Tensor, kernel: list[int], strides: list[int], pads: list[int], ceil: bool, include: bool) -> Tensor:
    """Average pool whose pads differ at start and end: sums of the padded image, divided by what was counted in each window."""
    shares, ends = [], []
    for size, k, s, start, end in zip(x.shape[2:], kernel, strides, pads[:2], pads[2:], strict=True):
        room = size + start + end - k
        first = np.arange((-(-room // s) if ceil else room // s) + 1) * s - start
        first = first[first < size]
        ends.append(int(first[-1]) + k - size)
        low, high = (-start, size + end) if include else (0, size)
        shares.append(k / (np.minimum(first + k, high) - np.maximum(first, low)))
    y = F.avg_pool2d(_padded(x, [*pads[:2], *ends]), kernel, strides)
    return y * torch.from_numpy(np.outer(*shares).astype(np.float32)).to(x.dtype)


def _global(function: Callable[[Tensor, list[int]], Tensor]) -> Operator:
    return lambda inputs, _: function(inputs[0], list(range(2, inputs[0].dim())))


IMAGE: dict[str, Operator] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": _pool(max_pool),
    "AveragePool": _pool(average_pool),
    "GlobalAveragePool": _global(lambda x, axes: x.mean(axes, keepdim=True)),
    "GlobalMaxPool": _global(lambda x, axes: x.amax(axes, keepdim=True)),
    "Resize": resize,
    "Resize-10": upsample,
    "Upsample": upsample,
}

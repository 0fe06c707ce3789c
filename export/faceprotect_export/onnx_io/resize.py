"""ONNX Resize (opset 10 to 19) and Upsample as constant matrices, one for each axis that changes.

The coordinate transformations, rounding rules and kernels are those of the operator specification of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from faceprotect_export.onnx_io.values import Attributes, Value, given, ints, text

Numbers = NDArray[np.float64]

#: Place in the source for a place in the target: (place, sizes of source and target, scale).
_COORDINATES: dict[str, Callable[[Numbers, int, int, float], Numbers]] = {
    "half_pixel": lambda x, _, __, scale: (x + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda x, _, target, scale: (x + 0.5) / scale - 0.5 if target > 1 else x * 0.0,
    "half_pixel_symmetric": lambda x, source, target, scale: source / 2 * (1 - target / (scale * source)) + (x + 0.5) / scale - 0.5,
    "align_corners": lambda x, source, target, _: x * (source - 1) / (target - 1) if target > 1 else x * 0.0,
    "asymmetric": lambda x, _, __, scale: x / scale,
    "tf_half_pixel_for_nn": lambda x, _, __, scale: (x + 0.5) / scale,
}
_ROUNDINGS: dict[str, Callable[[Numbers], Numbers]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True)
class Resampling:
    """How values between pixels are made."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float = -0.75
    outside: bool = False

    def matrix(self, source: int, target: int, scale: float) -> Numbers:
        """[target, source]."""
        place = _COORDINATES[self.coordinates](np.arange(target, dtype=np.float64), source, target, scale)
        matrix = np.zeros((target, source))
        for offset, weight in self._taps(place, source, target):
            np.add.at(matrix, (np.arange(target), np.clip(offset, 0, source - 1)), weight)
        return matrix / matrix.sum(1, keepdims=True)

    def _taps(self, place: Numbers, source: int, target: int) -> list[tuple[NDArray[np.int64], Numbers]]:
        if self.mode == "nearest":
            # Before opset 11 nothing was said of rounding: ONNX Runtime cuts off, or rounds up where it makes smaller.
            rule = self.rounding or ("floor" if target >= source else "ceil")
            return [(_ROUNDINGS[rule](place).astype(np.int64), np.ones(target))]
        base = np.floor(place)
        offsets = (0, 1) if self.mode == "linear" else (-1, 0, 1, 2)
        taps = []
        for offset in offsets:
            at = (base + offset).astype(np.int64)
            weight = self._kernel(np.abs(place - base - offset))
            taps.append((at, np.where((at < 0) | (at >= source), 0.0, weight) if self.outside else weight))
        return taps

    def _kernel(self, d: Numbers) -> Numbers:
        if self.mode == "linear":
            return 1.0 - d
        a = self.cubic
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        return np.where(d <= 1, near, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)


def _resampling(attributes: Attributes, old: bool) -> Resampling:
    if attributes.get("antialias", 0) or text(attributes, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotImplementedError("smoothing before making smaller (antialias), or keeping the aspect ratio")
    coordinates = "asymmetric" if old else text(attributes, "coordinate_transformation_mode", "half_pixel")
    mode = {"bilinear": "linear"}.get(text(attributes, "mode", "nearest"), text(attributes, "mode", "nearest"))
    if coordinates not in _COORDINATES or mode not in ("nearest", "linear", "cubic"):
        raise NotImplementedError(f"mode {mode} with coordinates {coordinates}")
    rounding = "" if old else text(attributes, "nearest_mode", "round_prefer_floor")
    outside = bool(attributes.get("exclude_outside", 0))
    return Resampling(mode, coordinates, rounding, float(attributes.get("cubic_coeff_a", -0.75)), outside)


def _multiply(x: Tensor, axis: int, matrix: Numbers) -> Tensor:
    constant = torch.from_numpy(matrix.astype(np.float32)).to(x.dtype)
    if axis == x.dim() - 1:
        return x @ constant.T
    if axis == x.dim() - 2:
        return constant @ x
    return (x.movedim(axis, -1) @ constant.T).movedim(-1, axis)


def _is_repetition(matrix: Numbers, source: int, target: int) -> bool:
    return target % source == 0 and np.array_equal(matrix, np.repeat(np.eye(source), target // source, 0))


def _apply(x: Tensor, sizes: Sequence[int], scales: Sequence[float], how: Resampling) -> Tensor:
    axes = [axis for axis, size in enumerate(sizes) if size != x.shape[axis] or scales[axis] != 1.0]
    matrices = {axis: how.matrix(x.shape[axis], sizes[axis], scales[axis]) for axis in axes}
    if axes and x.dim() == 4 and min(axes) >= 2 and all(_is_repetition(m, x.shape[a], sizes[a]) for a, m in matrices.items()):
        return F.interpolate(x, list(sizes[2:]), mode="nearest")  # one operator, which may fuse with a convolution
    for axis, matrix in matrices.items():
        x = _multiply(x, axis, matrix)
    return x


def _scales_of(value: Value) -> list[float]:
    return [float(v) for v in value.tolist()]  # read at once: while a trace is recorded, nothing may be computed of a constant


def _resize(inputs: Sequence[Value], attributes: Attributes, scales: Value, sizes: Value, old: bool) -> Tensor:
    x, rank = inputs[0], inputs[0].dim()
    axes = [a % rank for a in attributes.get("axes", range(rank))]
    if sizes is not None:
        target = dict(zip(axes, ints(sizes), strict=True))
        factors = {axis: size / x.shape[axis] for axis, size in target.items()}
    else:
        factors = dict(zip(axes, _scales_of(scales), strict=True))
        target = {axis: int(np.floor(x.shape[axis] * np.float32(f))) for axis, f in factors.items()}
    whole = [target.get(axis, x.shape[axis]) for axis in range(rank)]
    return _apply(x, whole, [factors.get(axis, 1.0) for axis in range(rank)], _resampling(attributes, old))


def resize(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """Resize of opset 11 and later: data, roi, scales, sizes."""
    scales, sizes = given(inputs, 2), given(inputs, 3)
    scales = None if sizes is not None or scales is None or not np.size(scales) else scales
    return _resize(inputs, attributes, scales, sizes, old=False)


def upsample(inputs: Sequence[Value], attributes: Attributes) -> Tensor:
    """Upsample (opset 7 and 9) and Resize of opset 10: data and scales, measured from the corner."""
    scales = np.array(attributes["scales"]) if given(inputs, 1) is None else inputs[1]
    return _resize(inputs, attributes, scales, None, old=True)

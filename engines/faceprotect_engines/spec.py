"""What an engine takes and gives: names, dtypes, shapes, layout, colour order and value range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.errors import EngineCorrupt, EngineInputError

Array = NDArray[Any]
DTYPES = ("float32", "float16", "float64", "int64", "int32", "uint8", "bool")


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor. `None` in `shape` is a dimension free at run time; `range` is inclusive, None if unbounded."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    layout: str = ""
    color: str = ""
    range: tuple[float, float] | None = None
    description: str = ""

    def __post_init__(self) -> None:
        """Raise EngineCorrupt for a dtype or a dimension that no engine can have."""
        if self.dtype not in DTYPES:
            raise EngineCorrupt(f"tensor '{self.name}': dtype '{self.dtype}' is none of {', '.join(DTYPES)}")
        if any(size is not None and size < 0 for size in self.shape):
            raise EngineCorrupt(f"tensor '{self.name}': negative dimension in shape {self.shape}")

    def zeros(self) -> Array:
        """Zeros of this dtype and shape; raises EngineInputError where a dimension is dynamic."""
        sizes = [size for size in self.shape if size is not None]
        if len(sizes) != len(self.shape):
            raise EngineInputError(f"tensor '{self.name}' has the dynamic shape {format_shape(self.shape)}: feed it")
        return np.zeros(sizes, dtype=self.dtype)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of `shape` fits (dynamic dimensions match anything)."""
        return len(shape) == len(self.shape) and all(want is None or want == got for want, got in zip(self.shape, shape, strict=True))

    def to_json(self) -> dict[str, Any]:
        """As the manifest stores it; empty optional fields are left out."""
        document: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        for key in ("layout", "color", "description"):
            if getattr(self, key):
                document[key] = getattr(self, key)
        if self.range is not None:
            document["range"] = list(self.range)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TensorSpec:
        """Inverse of `to_json`; raises EngineCorrupt when a field is missing or of the wrong kind."""
        try:
            bounds = document.get("range")
            return cls(
                name=str(document["name"]),
                dtype=str(document["dtype"]),
                shape=tuple(None if size is None else int(size) for size in document["shape"]),
                layout=str(document.get("layout", "")),
                color=str(document.get("color", "")),
                range=None if bounds is None else (float(bounds[0]), float(bounds[1])),
                description=str(document.get("description", "")),
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise EngineCorrupt(f"tensor description {document!r} is malformed: {error!r}") from error


@dataclass(frozen=True)
class EngineSpec:
    """Inputs and outputs of one engine, in the order of its graph."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        """The input called `name`; raises EngineInputError listing what there is."""
        return self._find(self.inputs, name, "input")

    def output(self, name: str) -> TensorSpec:
        """The output called `name`; raises EngineInputError listing what there is."""
        return self._find(self.outputs, name, "output")

    def has_input(self, name: str) -> bool:
        """Whether the engine takes an input called `name`."""
        return any(tensor.name == name for tensor in self.inputs)

    def has_output(self, name: str) -> bool:
        """Whether the engine gives an output called `name`."""
        return any(tensor.name == name for tensor in self.outputs)

    def _find(self, tensors: tuple[TensorSpec, ...], name: str, kind: str) -> TensorSpec:
        for tensor in tensors:
            if tensor.name == name:
                return tensor
        known = ", ".join(tensor.name for tensor in tensors)
        raise EngineInputError(f"engine '{self.name}' has no {kind} '{name}'; its {kind}s are: {known}")


def format_shape(shape: tuple[int | None, ...]) -> str:
    """`(1, None, 3)` as `[1, ?, 3]`."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def constant(array: Array) -> bool:
    """Whether an array is taken to stay as it is: read-only, and no view of another, which might not be."""
    return not array.flags.writeable and array.base is None


def fixed(array: Array) -> Array:
    """A copy that stays as it is."""
    copy = np.array(array)
    copy.setflags(write=False)
    return copy


def check_feeds(spec: EngineSpec, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """`feeds` in graph order, C-contiguous; raises EngineInputError naming the first wrong name, dtype or shape."""
    unknown = sorted(set(feeds) - {tensor.name for tensor in spec.inputs})
    if unknown:
        spec.input(unknown[0])
    return {tensor.name: _check_feed(spec.name, tensor, feeds) for tensor in spec.inputs}


def _check_feed(engine: str, tensor: TensorSpec, feeds: Mapping[str, Array]) -> Array:
    where = f"engine '{engine}', input '{tensor.name}'"
    expected = f"expected {tensor.dtype} {format_shape(tensor.shape)}"
    if tensor.name not in feeds:
        raise EngineInputError(f"{where} was not fed; {expected}")
    array = feeds[tensor.name]
    if not isinstance(array, np.ndarray):
        raise EngineInputError(f"{where}: {expected}, got a {type(array).__name__}; wrap it with numpy.asarray")
    if array.dtype != np.dtype(tensor.dtype):
        raise EngineInputError(f"{where}: {expected}, got {array.dtype}; convert with .astype('{tensor.dtype}')")
    if not tensor.accepts(array.shape):
        raise EngineInputError(f"{where}: {expected}, got shape {list(array.shape)}")
    return np.ascontiguousarray(array) if array.ndim else array

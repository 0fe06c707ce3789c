"""The Engine protocol and the part of it that every backend shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Protocol, TypeVar, runtime_checkable

from faceprotect_engines.errors import EngineError
from faceprotect_engines.spec import Array, EngineSpec, check_feeds

Self = TypeVar("Self")


@runtime_checkable
class Engine(Protocol):
    """Something that maps named arrays to named arrays.

    A gradient engine is an engine whose outputs include `loss` and `grad_<variable>`.
    """

    @property
    def spec(self) -> EngineSpec:
        """Names, dtypes and shapes of the inputs and outputs."""
        ...

    @property
    def device(self) -> str:
        """What really runs: "cpu", "cuda", "torch:cpu", ..."""
        ...

    def run(self, feeds: Mapping[str, Array], outputs: Collection[str] | None = None) -> dict[str, Array]:
        """The named `outputs`, all by default; raises EngineInputError when `feeds` or `outputs` do not fit `spec`."""
        ...

    def close(self) -> None:
        """Release the session; a closed engine refuses to run. Closing twice is allowed."""
        ...

    def __enter__(self: Self) -> Self:
        """The engine itself, closed on leaving the block."""
        ...

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Close, whether or not the block failed."""
        ...


class BaseEngine(ABC):
    """Feed checking, closing and the context manager; a backend adds `_execute` and `_release`."""

    def __init__(self, spec: EngineSpec, device: str) -> None:
        """Remember what the engine takes and what really runs it."""
        self._spec = spec
        self._device = device
        self._closed = False

    @property
    def spec(self) -> EngineSpec:
        """Names, dtypes and shapes of the inputs and outputs."""
        return self._spec

    @property
    def device(self) -> str:
        """What really runs: "cpu", "cuda", "torch:cpu", ..."""
        return self._device

    def run(self, feeds: Mapping[str, Array], outputs: Collection[str] | None = None) -> dict[str, Array]:
        """The named `outputs`, all by default.

        Raises EngineInputError when `feeds` or `outputs` do not fit `spec`, EngineError when closed.
        What is not named need not be computed, nor come back from a GPU. An array of `feeds` that is read-only and no view may be kept on
        one, so that it need not be sent again: do not change it by way of an older view.
        """
        if self._closed:
            raise EngineError(f"engine '{self._spec.name}' is closed; open it again with Store().open(...)")
        wanted = self._spec.outputs if outputs is None else [self._spec.output(name) for name in outputs]
        return self._execute(check_feeds(self._spec, feeds), [tensor.name for tensor in wanted])

    def close(self) -> None:
        """Release the session. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self: Self) -> Self:
        """The engine itself, closed on leaving the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Close, whether or not the block failed."""
        self.close()

    @abstractmethod
    def _execute(self, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        """Run on checked, contiguous feeds, and give the named outputs."""

    @abstractmethod
    def _release(self) -> None:
        """Drop the session."""

"""The end of a call that nobody waits for any more: asked about between the steps of a search."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType

from faceprotect_engines.engine import Engine
from faceprotect_engines.spec import Array, EngineSpec
from faceprotect_sdk.errors import Cancelled, UsageError

#: What an app ends a call with: an event that it sets, or a function that says whether to end.
Cancel = threading.Event | Callable[[], bool]
#: Raises Cancelled where the call is to end.
Check = Callable[[], None]


def check_of(cancel: Cancel | None, closing: threading.Event) -> Check:
    """A check that raises Cancelled once ``cancel`` says so, or the protector is ``closing``.

    Raises UsageError for what is neither an event nor a function.
    """
    asked = cancel.is_set if isinstance(cancel, threading.Event) else cancel
    if asked is not None and not callable(asked):
        raise UsageError(f"cancel must be a threading.Event or a function, got {cancel!r}")

    def check() -> None:
        if closing.is_set():
            raise Cancelled("the call was cancelled: its protector is being closed")
        if asked is not None and asked():
            raise Cancelled("the call was cancelled, as it was asked to be")

    return check


@dataclass(frozen=True)
class Watched:
    """An engine that asks before every run whether it is still wanted."""

    engine: Engine
    check: Check

    @property
    def spec(self) -> EngineSpec:
        """The engine's."""
        return self.engine.spec

    @property
    def device(self) -> str:
        """The engine's."""
        return self.engine.device

    def run(self, feeds: Mapping[str, Array], outputs: Collection[str] | None = None) -> dict[str, Array]:
        """As the engine does; raises Cancelled."""
        self.check()
        return self.engine.run(feeds, outputs)

    def close(self) -> None:
        """The engine."""
        self.engine.close()

    def __enter__(self) -> Watched:
        """The wrapper itself; leaving the block closes the engine."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Close the engine, whether or not the block failed."""
        self.close()

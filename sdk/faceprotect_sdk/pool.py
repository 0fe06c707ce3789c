"""Engines that are open: each is opened once, by name or folder, for all who use it, and closed together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from faceprotect_engines.backends import check_device
from faceprotect_engines.backends.cpu_count import bounded
from faceprotect_engines.engine import Engine
from faceprotect_engines.files.manifest import Manifest
from faceprotect_engines.store import Store
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.gate import Gate
from faceprotect_sdk.once import Once

#: Devices whose engines have fixed shapes.
ONE_SIZE = ("tensorrt", "rtx")
_CLOSED, _AGAIN = "this engine pool is closed", "Make another: EnginePool(...)"


class EnginePool:
    """Opens engines of a store on one device at first use and keeps them until ``close``.

    One pool may serve several protectors, and any number of threads: two that want the same engine wait for one opening of it, and others
    do not wait. The engines may be run from several threads at once (on a GPU they take turns).

    ``device``: "auto", "cpu", "cuda", "torch", ...; an explicit one that is not really active is an error of the engine
    floor, never a fallback. With "tensorrt" and "rtx", whose plans have one size, an engine that takes images of any size (the face
    detector) runs on the CPU, and :attr:`devices` says so.

    >>> with EnginePool() as pool:                                    # doctest: +SKIP
    ...     quick, thorough = Protector("fast", pool=pool), Protector("auto", pool=pool)
    """

    def __init__(self, store: Store | None = None, device: str = "auto", threads: int | None = None) -> None:
        """Open nothing yet; raises DeviceUnavailable for a device that is unknown, or whose runtime is not installed.

        ``store``: by default the engines that ship. ``threads``: cores that an engine may use, by default all.
        """
        check_device(device)
        self.store = store or Store()
        self.device = device
        self.threads = threads
        #: Whoever uses the engines is inside for as long as that takes: ``with pool.calls():``.
        self.calls = Gate(_CLOSED, _AGAIN)
        self._engines: Once[str, Engine] = Once()
        self._closed = False

    def __enter__(self) -> EnginePool:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the engines."""
        self.close()

    def __call__(self, engine: str | Path) -> Engine:
        """The open engine of that name or folder; raises what :meth:`Store.open` raises, and UsageError once the pool is closed."""
        return self.beside(engine, 1)

    def beside(self, engine: str | Path, others: int) -> Engine:
        """The same for one of ``others`` engines that run at once: opened now, it gets its share of the cores."""
        if self._closed:
            raise UsageError(_CLOSED, hint=_AGAIN)
        threads = self.threads if others <= 1 else max(1, self.cores // others)
        return self._engines(str(engine), lambda: self.store.open(engine, self._device_of(engine), threads, links=self))

    def warm(self, engines: Iterable[str | Path]) -> None:
        """Open these now rather than at first use; raises what opening them raises. ``Protector.warm`` knows which it needs."""
        with self.calls():
            for engine in engines:
                self(engine)

    @property
    def cores(self) -> int:
        """Cores that the engines may use."""
        return bounded(self.threads)

    def _device_of(self, engine: str | Path) -> str:
        if self.device in ONE_SIZE and any(None in tensor.shape for tensor in self.manifest(engine).inputs):
            return "cpu"
        return self.device

    def manifest(self, engine: str | Path) -> Manifest:
        """Manifest of an engine, without opening it."""
        return self.store.manifest(engine)

    @property
    def devices(self) -> dict[str, str]:
        """Engine name to the device that really runs it, for those open."""
        return {engine.spec.name: engine.device for engine in self._engines.values()}

    def close(self) -> None:
        """Wait for the calls in flight, of all protectors, and close every engine; what comes later is refused with UsageError.

        Closing again does nothing. Raises UsageError where it is called from within such a call.
        """
        self.calls.shut()
        self._closed = True
        for engine in self._engines.take():
            engine.close()

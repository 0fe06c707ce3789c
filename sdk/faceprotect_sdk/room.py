"""Engines that are open: each is opened once, by name or folder, and closed together."""

from __future__ import annotations

from pathlib import Path

from faceprotect_engines.backends.cores import bounded
from faceprotect_engines.engine import Engine
from faceprotect_engines.manifest import Manifest
from faceprotect_engines.store import Store

#: Devices whose engines have fixed shapes.
ONE_SIZE = ("tensorrt", "rtx")


class EngineRoom:
    """Opens engines of a store on one device at first use and keeps them until ``close``.

    ``device``: "auto", "cpu", "cuda", "torch", ...; an explicit one that is not really active is an error of the engine
    floor, never a fallback. With "tensorrt" and "rtx", whose plans have one size, an engine that takes images of any size (the face
    detector) runs on the CPU, and :attr:`devices` says so.
    """

    def __init__(self, store: Store, device: str, threads: int | None = None) -> None:
        """Open nothing yet."""
        self.store = store
        self.device = device
        self.threads = threads
        self._engines: dict[str, Engine] = {}

    def __call__(self, engine: str | Path) -> Engine:
        """The open engine of that name or folder; raises what :meth:`Store.open` raises."""
        return self.beside(engine, 1)

    def beside(self, engine: str | Path, others: int) -> Engine:
        """The same for one of ``others`` engines that run at once: opened now, it gets its share of the cores."""
        key = str(engine)
        if key not in self._engines:
            threads = self.threads if others <= 1 else max(1, self.cores // others)
            self._engines[key] = self.store.open(engine, self._device_of(engine), threads, links=self)
        return self._engines[key]

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
        """Close every engine; the room may be used again."""
        engines, self._engines = self._engines, {}
        for engine in engines.values():
            engine.close()

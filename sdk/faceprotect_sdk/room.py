"""Engines that are open: each is opened once, by name or folder, and closed together."""

from __future__ import annotations

from pathlib import Path

from faceprotect_engines.engine import Engine
from faceprotect_engines.manifest import Manifest
from faceprotect_engines.store import Store


class EngineRoom:
    """Opens engines of a store on one device at first use and keeps them until ``close``.

    ``device``: "auto", "cpu", "cuda", "torch", ...; an explicit one that is not really active is an error of the engine
    floor, never a fallback.
    """

    def __init__(self, store: Store, device: str, threads: int | None = None) -> None:
        """Open nothing yet."""
        self.store = store
        self.device = device
        self.threads = threads
        self._engines: dict[str, Engine] = {}

    def __call__(self, engine: str | Path) -> Engine:
        """The open engine of that name or folder; raises what :meth:`Store.open` raises."""
        key = str(engine)
        if key not in self._engines:
            self._engines[key] = self.store.open(engine, self.device, self.threads, links=self)
        return self._engines[key]

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

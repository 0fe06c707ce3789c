"""Recognisers that join a descent at run time, and what they say of one image, side by side where there are cores for it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from faceprotect_engines.engine import Engine
from faceprotect_engines.spec import Array


@dataclass(frozen=True)
class ExtraSurrogate:
    """A recogniser that joins at run time.

    engine: inputs image [1,3,S,S] float32 RGB in [0,1] and reference [1,E]; outputs similarity [1] and grad_image.
    reference: unit embedding [1,E] of the face to move away from.  limit: the similarity to get below.  origin: the
    similarity where the search starts.
    """

    name: str
    engine: Engine
    reference: Array
    limit: float
    origin: float = 1.0

    def look(self, image: Array) -> dict[str, Array]:
        """Its similarity and the gradient of that to the image."""
        return self.engine.run({"image": image, "reference": self.reference}, ["similarity", "grad_image"])


class Panel:
    """Joined recognisers, asked together; `close` ends the threads that this took.

    Engines on the CPU run in up to `workers` threads at once, others one after the other: they share one device.
    """

    def __init__(self, surrogates: Sequence[ExtraSurrogate], workers: int = 1) -> None:
        """Start no thread yet."""
        self.surrogates = tuple(surrogates)
        together = min(workers, len(self.surrogates)) if all(one.engine.device == "cpu" for one in self.surrogates) else 1
        self._pool = ThreadPoolExecutor(together, thread_name_prefix="faceprotect-panel") if together > 1 else None

    def look(self, image: Array) -> list[dict[str, Array]]:
        """What each says of the image, in their order; raises what the first of them that failed raised."""
        if self._pool is None:
            return [one.look(image) for one in self.surrogates]
        return list(self._pool.map(lambda one: one.look(image), self.surrogates))

    def close(self) -> None:
        """Wait for the threads and end them."""
        if self._pool is not None:
            self._pool.shutdown()

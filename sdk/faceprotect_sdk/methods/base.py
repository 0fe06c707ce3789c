"""What a protection method is to the rest of the package."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.judging.recognisers import EngineRecogniser, Recogniser

#: Of the way from a threshold to sameness, per unit of margin: how far past it a decoy is to be resembled.
TOWARDS = 0.15


@dataclass(frozen=True)
class Strength:
    """How far a search goes, and how much change it may spend on that.

    ``margin``: how far below its threshold each surrogate's similarity has to fall, in units of the recogniser's
    ``spread`` (one means: as unlike as two strangers are). More survives recompression and other recognisers.
    ``budget``: the largest penalty, in the method's own measure of the change; where the margin would cost more, the
    search gets as near to it as the budget allows.
    """

    margin: float
    budget: float

    def limit(self, recogniser: Recogniser) -> float:
        """The similarity that a surrogate has to fall below."""
        return recogniser.threshold - self.margin * recogniser.spread

    def likeness(self, recogniser: Recogniser) -> float:
        """The similarity to a decoy that a surrogate has to get above: past the threshold by a part of the way to sameness."""
        return recogniser.threshold + min(TOWARDS * self.margin, 1.0) * (1.0 - recogniser.threshold)

    @property
    def past_the_middle(self) -> float:
        """How far beyond being as like a decoy as oneself a surrogate has to be led, in parts of the way from there to the decoy."""
        return min(2 * TOWARDS * self.margin, 1.0)

    def beyond(self, margin: float) -> Strength:
        """Further by ``margin``, within the same budget."""
        return replace(self, margin=self.margin + margin)


@dataclass(frozen=True)
class SearchRequest:
    """One face to protect.

    ``crop``: canonical crop [1, 3, 256, 256] float32 RGB 0..1. ``mask``: [1, 1, 256, 256] float32 0..1. ``references``:
    surrogate name to the unit embedding [1, E] to move away from: the face's own, or the unit vector to it
    from a decoy's.
    ``limits``: surrogate name to the similarity to get below; ``origins``: to that of the photo as it is, where that is
    not 1. ``budget``: the largest penalty. ``progress``: called with (step, steps). ``decoy``: name of the face to be taken for, if
    there is one. ``deadline``: time.monotonic() after which the search ends with what it has. ``check``: called before every run of an
    engine; what it raises ends the search.
    """

    crop: NDArray[np.float32]
    mask: NDArray[np.float32]
    references: Mapping[str, NDArray[np.float32]]
    limits: Mapping[str, float]
    budget: float
    seed: int
    progress: Callable[[int, int], None] | None = None
    origins: Mapping[str, float] = field(default_factory=dict)
    decoy: str | None = None
    deadline: float = math.inf
    check: Callable[[], None] | None = None


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    ``difference``: [3, 256, 256] float32 RGB, photo scale 0..1, already weighted by the mask. ``passed``: whether every
    surrogate got below its limit (None: the method does not know). ``trace``: one row of figures per step. ``late``: whether the
    deadline ended it.
    """

    difference: NDArray[np.float32]
    passed: bool | None
    trace: tuple[Mapping[str, Any], ...]
    late: bool = False


class Method(Protocol):
    """A protection method: names its surrogates, and searches."""

    name: str

    @property
    def searches(self) -> bool:
        """Whether it looks for the smallest change by itself; if not, it is asked for one of a size."""
        ...

    @property
    def attempts(self) -> Sequence[float]:
        """Of the budget, what each attempt may spend, and so how many there are at most; empty: all of it, as often as wanted."""
        ...

    @property
    def beyond(self) -> str:
        """Name of a method that gets further, for advice; "" where none is known."""
        ...

    @property
    def undoes(self) -> float:
        """Share of a change (``undoing.share``) from which on it is taken to undo an earlier protection; infinite where none tells."""
        ...

    @property
    def mask(self) -> NDArray[np.float32]:
        """Where it may change the canonical crop, [1, 1, 256, 256] float32 in 0..1."""
        ...

    def surrogates(self) -> Sequence[EngineRecogniser]:
        """The recognisers that the search descends on; opened at first use."""
        ...

    def identities(self) -> Sequence[frozenset[str]]:
        """What the surrogates, and recognisers that the method has learnt from, are known by; read from manifests without opening them."""
        ...

    def engines(self) -> Sequence[str]:
        """Names of the engines that a search runs, beside the surrogates."""
        ...

    def search(self, request: SearchRequest) -> SearchResult:
        """The difference that protects a face; deterministic per seed."""
        ...

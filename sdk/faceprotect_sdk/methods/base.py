"""What a protection method is to the rest of the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.recognisers import EngineRecogniser

#: How far below its threshold each surrogate's similarity has to fall, in units of the recogniser's ``spread`` (one
#: means: as unlike as two strangers are). More survives recompression and other recognisers, at the price of a larger
#: change.
STRENGTHS: dict[str, float] = {"low": 2.0, "medium": 3.0, "high": 4.0}


@dataclass(frozen=True)
class SearchRequest:
    """One face to protect.

    ``crop``: canonical crop [1, 3, 256, 256] float32 RGB 0..1. ``mask``: [1, 1, 256, 256] float32 0..1. ``references``:
    surrogate name to the face's own unit embedding [1, E]. ``margin``: how far below its threshold every similarity has
    to fall, in units of the recogniser's spread. ``progress``: called with (step, steps).
    """

    crop: NDArray[np.float32]
    mask: NDArray[np.float32]
    references: Mapping[str, NDArray[np.float32]]
    margin: float
    seed: int
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    ``difference``: [3, 256, 256] float32 RGB, photo scale 0..1, already weighted by the mask. ``passed``: whether every
    surrogate got below its limit (None: the method does not know). ``timings``: seconds per stage.
    """

    difference: NDArray[np.float32]
    passed: bool | None
    trace: tuple[Mapping[str, Any], ...]
    timings: Mapping[str, float]
    stop: str


class Method(Protocol):
    """A protection method: names its surrogates, and searches."""

    name: str

    def surrogates(self) -> Sequence[EngineRecogniser]:
        """The recognisers that the search descends on; opened at first use."""
        ...

    def identities(self) -> Sequence[frozenset[str]]:
        """What the surrogates are known by, read from their manifests without opening them."""
        ...

    def search(self, request: SearchRequest) -> SearchResult:
        """The difference that protects a face; deterministic per seed."""
        ...

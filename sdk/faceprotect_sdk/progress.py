"""Progress of a call: a callback, the library knows no progress bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """``stage`` ("detect", "search", "score", "compare"), face ``face`` of ``faces``, step ``step`` of at most ``steps``.

    ``search``: which search of this face, of at most ``searches``; ``face`` and ``search`` count from 0.
    """

    stage: str
    face: int
    faces: int
    step: int
    steps: int
    search: int = 0
    searches: int = 1


ProgressCallback = Callable[[Progress], None]

"""Progress of a protection: a callback, the library knows no progress bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """``stage`` ("detect", "search", "score"), face ``face`` of ``faces``, step ``step`` of at most ``steps``."""

    stage: str
    face: int
    faces: int
    step: int
    steps: int


ProgressCallback = Callable[[Progress], None]

"""``Settings``: everything that a protector can be told, checked in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, get_args

from faceprotect_sdk.arguments import listed, whole
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.methods import DEFAULT, Strength
from faceprotect_sdk.photo.encode import DEFAULT_QUALITY
from faceprotect_sdk.result import Goal

if TYPE_CHECKING:
    from typing_extensions import Unpack

ATTEMPTS = 3


@dataclass(frozen=True)
class Settings:
    """How photos are protected; frozen, so that it may be kept, compared and shared.

    ``method``: a name among :func:`methods.methods_of` the store, the path of a recipe, or a folder with ``recipe.json`` and engines
    beside it, which are looked up there first.
    ``device``: auto, cpu, cuda, tensorrt, rtx, torch; an explicit one that is not really active raises DeviceUnavailable ("torch"
    needs engines built with their torch program; those that ship have none). ``threads``: cores that an engine may use, by default all.
    Both are of the engines: where protectors share a pool, the pool has them.
    ``goal``: dodge, away from the person's own identity, or decoy, towards a synthetic one that belongs to nobody;
    either way a face counts as protected once it is no longer matched with the original. ``decoy``: name of that
    identity, where all photos shall lead to one (default: each face to the one least like it).
    ``strength``: low, medium or high (their numbers stand in the recipe), or one of your own.
    ``look``: of a method that has looks, one that ships by its name (default: its first), or the folder of one of yours.
    ``surrogates``: folders of further recognisers to search on; ``without``: shipped ones to leave out of the search;
    they judge. ``judges``: ONNX files, folders, or "dlib", that score (on the CPU) beside the shipped judges and, with
    ``installed_judges``, dlib where it is installed. ``quality``: of JPEG, AVIF, HEIC and lossy WebP. ``attempts``: searches per
    face, each going further, for as long as the written bytes are still matched. ``time_budget``: seconds after which no
    search of a photo goes on: each face has had its share, and what it has by then is scored as ever. ``even_covered``: also change
    faces before which something is held or worn, which is painted over then.

    Making one raises UsageError for a value out of range or of the wrong kind. Which methods, strengths and looks there are depends on the
    store: the protector looks them up when it is made.
    """

    method: str | Path = DEFAULT
    device: str = "auto"
    goal: Goal = "dodge"
    decoy: str | None = None
    strength: str | Strength = "medium"
    look: str | Path | None = None
    surrogates: Sequence[str | Path] = ()
    without: Sequence[str] = ()
    judges: Sequence[str | Path] = ()
    installed_judges: bool = True
    quality: int = DEFAULT_QUALITY
    attempts: int = ATTEMPTS
    time_budget: float | None = None
    even_covered: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check, and make lists tuples."""
        if self.goal not in get_args(Goal):
            raise UsageError(f"there is no goal '{self.goal}'; choose one of: {', '.join(get_args(Goal))}")
        if self.decoy is not None and self.goal != "decoy":
            raise UsageError(f"decoy '{self.decoy}' needs the goal decoy, this is {self.goal}")
        for name in ("surrogates", "without", "judges"):
            object.__setattr__(self, name, listed(name, getattr(self, name)))
        object.__setattr__(self, "quality", whole("quality", self.quality, 1, 100))
        object.__setattr__(self, "attempts", whole("attempts", self.attempts, 1))
        if self.threads is not None:
            object.__setattr__(self, "threads", whole("threads", self.threads, 1))
        seconds("time_budget", self.time_budget)
        if not isinstance(self.method, (str, Path)):
            raise UsageError(f"method must be a name or a path, got {self.method!r}")
        if not isinstance(self.strength, (str, Strength)):
            raise UsageError(f"strength must be a name or a Strength, got {self.strength!r}")

    def but(self, **changes: Unpack[Changes]) -> Settings:
        """The same with some fields changed; raises UsageError like making one does."""
        return replace(self, **changes)


class Changes(TypedDict, total=False):
    """The fields of :class:`Settings`, as keyword arguments of calls."""

    method: str | Path
    device: str
    goal: Goal
    decoy: str | None
    strength: str | Strength
    look: str | Path | None
    surrogates: Sequence[str | Path]
    without: Sequence[str]
    judges: Sequence[str | Path]
    installed_judges: bool
    quality: int
    attempts: int
    time_budget: float | None
    even_covered: bool
    threads: int | None


def seconds(name: str, value: Any) -> None:
    """Raise UsageError for what is neither None nor a number of seconds above 0."""
    if value is not None and not (isinstance(value, Real) and float(value) > 0):
        raise UsageError(f"{name} must be above 0 seconds, got {value!r}")

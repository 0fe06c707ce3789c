"""Protection methods by name. A method turns a face crop into a difference; everything around it is shared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.methods.base import MAKEUP, STRENGTHS, Method, SearchRequest, SearchResult, Strength
from faceprotect_sdk.methods.search import Search
from faceprotect_sdk.room import EngineRoom

METHODS = tuple(STRENGTHS)
#: What the curves of success over visible change put first (``docs/diary.md``).
DEFAULT = "auto"

__all__ = [
    "DEFAULT", "MAKEUP", "METHODS", "STRENGTHS", "Method", "SearchRequest", "SearchResult", "Strength", "make_method", "strength_of",
]  # fmt: skip


def make_method(
    name: str, room: EngineRoom, surrogates: Sequence[Path] = (), without: Sequence[str] = (), look: str | None = None
) -> Method:
    """The method called ``name``, with the surrogates in further folders and without the named shipped ones; ``look`` of makeup.

    Raises UsageError for an unknown name.
    """
    if name not in METHODS:
        raise UsageError(f"there is no method '{name}'; choose one of: {', '.join(METHODS)}")
    if look is not None and name != MAKEUP:
        raise UsageError(f"'{name}' has no looks; use --method {MAKEUP} --look {look}")
    return Search(name, room, surrogates, without, look)


def strength_of(method: str, strength: str | Strength) -> Strength:
    """The numbers of a strength by name, or those given; raises UsageError for an unknown name."""
    if isinstance(strength, Strength):
        return strength
    if strength not in STRENGTHS[method]:
        raise UsageError(f"there is no strength '{strength}'; choose one of: {', '.join(STRENGTHS[method])}")
    return STRENGTHS[method][strength]

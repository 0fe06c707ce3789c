"""Protection methods by name. A method turns a face crop into a difference; everything around it is shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.methods.base import STRENGTHS, Method, SearchRequest, SearchResult, Strength
from faceprotect_sdk.methods.latent import Latent
from faceprotect_sdk.room import EngineRoom

METHODS: dict[str, Callable[[EngineRoom, Sequence[Path], Sequence[str]], Method]] = {"latent": Latent}

__all__ = ["METHODS", "STRENGTHS", "Method", "SearchRequest", "SearchResult", "Strength", "make_method"]


def make_method(
    name: str, room: EngineRoom, surrogates: Sequence[Path] = (), without: Sequence[str] = ()
) -> Method:
    """The method called ``name``, with the surrogates in further folders and without the named shipped ones.

    Raises UsageError for an unknown name.
    """
    if name not in METHODS:
        raise UsageError(f"there is no method '{name}'; choose one of: {', '.join(METHODS)}")
    return METHODS[name](room, surrogates, without)

"""What callers pass, checked before anything is done with it."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from os import PathLike
from typing import Any

from faceprotect_sdk.errors import UsageError


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """``value`` as an int; raises UsageError for what is no whole number (text, None, True, 1.5) or out of range."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise UsageError(f"{name} must be a whole number, got {value!r}")
    if number < low or (high is not None and number > high):
        raise UsageError(f"{name} must be {f'{low} to {high}' if high is not None else f'at least {low}'}, got {number}")
    return number


def listed(name: str, value: Any) -> tuple[Any, ...]:
    """``value`` as a tuple; raises UsageError for a single text or path, whose letters would be taken one by one, and for no list."""
    if isinstance(value, (str, bytes, PathLike)):
        raise UsageError(f"{name} must be a list, got {value!r}. Put it into one: {name}=[{str(value)!r}]")
    if not isinstance(value, Iterable):
        raise UsageError(f"{name} must be a list, got {value!r}")
    return tuple(value)

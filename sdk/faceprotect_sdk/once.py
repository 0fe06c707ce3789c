"""Values that are made at first use and shared from then on, whichever thread asks first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Once(Generic[Key, Value]):
    """A value per key, made once. Threads that want the same one wait for its making; those that want another do not.

    Where making fails, it is tried again by whoever asks next. Making one may ask for others.
    """

    def __init__(self) -> None:
        """Nothing is made yet."""
        self._guard = threading.Lock()
        self._making: dict[Key, threading.RLock] = {}
        self._made: dict[Key, Value] = {}

    def __call__(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of ``key``, made by ``make`` at need; raises what that raises."""
        with self._guard:
            if key in self._made:
                return self._made[key]
            turn = self._making.setdefault(key, threading.RLock())
        with turn:
            with self._guard:
                if key in self._made:
                    return self._made[key]
            value = make()
            with self._guard:
                return self._made.setdefault(key, value)

    def values(self) -> list[Value]:
        """What has been made so far, in the order in which it was."""
        with self._guard:
            return list(self._made.values())

    def take(self) -> list[Value]:
        """The same, and forget it."""
        with self._guard:
            made, self._made = list(self._made.values()), {}
            return made

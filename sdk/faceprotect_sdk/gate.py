"""Calls in flight, and an end that waits for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from faceprotect_sdk.errors import UsageError


class Gate:
    """Lets calls in until it is shut; shutting it waits for those that are inside."""

    def __init__(self, closed: str, hint: str) -> None:
        """``closed``, ``hint``: what is said to a call that comes too late."""
        self._closed, self._hint = closed, hint
        self._inside: list[int] = []
        self._changed = threading.Condition()
        self._shut = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """For as long as a call takes; raises UsageError once the gate is shut, or about to be."""
        own = threading.get_ident()
        with self._changed:
            if self._shut:
                raise UsageError(self._closed, hint=self._hint)
            self._inside.append(own)
        try:
            yield
        finally:
            with self._changed:
                self._inside.remove(own)
                self._changed.notify_all()

    def shut(self) -> None:
        """Let nobody in any more, and wait until the last is out.

        Raises UsageError in a thread that is inside: it would wait for itself.
        """
        with self._changed:
            if threading.get_ident() in self._inside:
                raise UsageError("close() was called from within a call that it would have to wait for", hint="Call it once that has ended")
            self._shut = True
            self._changed.wait_for(lambda: not self._inside)

"""Connections of slow clients, bounded where uvicorn leaves them be: headers that do not end, and answers that nobody takes."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def bounded(seconds: float) -> type[H11Protocol]:
    """A protocol for ``uvicorn.Config(http=...)`` that closes a connection whose headers, or whose taking of an answer, takes longer."""

    class Bounded(H11Protocol):
        _headers: asyncio.TimerHandle | None = None
        _answer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._headers = _stopped(self._headers)
            self._answer = _stopped(self._answer)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is h11.IDLE:
                self._watch_headers()
            else:
                self._headers = _stopped(self._headers)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._answer = self._answer or self.loop.call_later(seconds, self._abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._answer = _stopped(self._answer)

        def _watch_headers(self) -> None:
            self._headers = self._headers or self.loop.call_later(seconds, self._headers_late)

        def _headers_late(self) -> None:
            self._headers = None
            if self.conn.their_state is h11.IDLE:
                self.transport.close()

        def _abort(self) -> None:
            self.transport.abort()

    return Bounded


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel the timer, if there is one; there is none then."""
    if timer is not None:
        timer.cancel()
    return None

"""SIGTERM and SIGHUP end a run as Ctrl-C does: what is half written is removed on the way out."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType

_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")  # as far as the platform has them


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end. ``number``: which."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


def catch() -> None:
    """From now on those signals raise :class:`Stopped` in the main thread; one that was ignored before (``nohup``) stays so."""
    for number in _present():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _present() -> list[signal.Signals]:
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


def _stop(number: int, _: FrameType | None) -> None:
    for other in _present():  # a second one must not cut short the tidying up that the first began
        with contextlib.suppress(OSError, ValueError):
            signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)


def stop_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The interruption that an error came of; None for an error of its own.

    A signal in the middle of an extension's import leaves that as an ImportError, and this floor's errors are made of those.
    """
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, KeyboardInterrupt):
            return one
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
    return None


def exit_code_of_stop(error: BaseException) -> int:
    """128 and the signal's number: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP. ``error``: the interruption, or what it caused."""
    stopped = error if isinstance(error, Stopped) else error.__cause__
    return 128 + (stopped.number if isinstance(stopped, Stopped) else int(signal.SIGINT))

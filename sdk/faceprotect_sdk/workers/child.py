"""What runs in a worker: it is made ready, and then answers one task after the other until nobody asks any more.

It ends with the process that started it, however that ends: its pipe runs dry where it waits, and a thread looks out where it works.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

#: What makes a worker ready: called once in the process, and closed when that ends.
Make = Callable[[Any], AbstractContextManager[Callable[[Any], Any]]]
#: First words of what a worker sends.
READY, ANSWER = "ready", "answer"
#: Seconds that a step of a search may still take where its parent has gone.
_GRACE = 10.0


def work(tasks: Connection, answers: Connection, make: Make, given: Any, finishes: bool) -> None:
    """Answer tasks until the pipe ends; or, unless it ``finishes`` what it has begun, SIGTERM does, upon which it tidies up."""
    _listen_to_the_parent_alone(finishes)
    threading.Thread(target=_follow_the_parent, name="faceprotect-parent", daemon=True).start()
    with suppress(KeyboardInterrupt, EOFError, BrokenPipeError), make(given) as answer:
        answers.send((READY, None))
        while True:
            answers.send((ANSWER, answer(tasks.recv())))


def _listen_to_the_parent_alone(finishes: bool) -> None:
    """Ctrl-C, a closed terminal and a service's manager reach every process of a run: when workers end is the parent's to say."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if finishes else _stop)


def _stop(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not cut short the tidying up
    raise KeyboardInterrupt


def _follow_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(1)

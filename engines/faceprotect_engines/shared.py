"""State of the whole process that several threads want changed for a while.

Two overlapping blocks that each put back what they found leave the wrong value for good where the one that began first also ends first
(``threadpoolctl`` and ``warnings.catch_warnings`` both do): the second has found, and puts back, what the first had set.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from threadpoolctl import threadpool_limits


class Shared:
    """A context that the first thread inside puts in force, and the last one to leave takes back."""

    def __init__(self, start: Callable[[], Callable[[], object]]) -> None:
        """``start`` changes the state, and returns what puts it back, to be called by any thread."""
        self._start = start
        self._begin_anew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        """Nobody is inside; so it is in a forked child, too, which has none of the threads that were."""
        self._lock = threading.Lock()
        self._inside = 0
        self._restore: Callable[[], object] | None = None

    def __enter__(self) -> None:
        """Change the state, unless it is changed already."""
        with self._lock:
            if not self._inside:
                self._restore = self._start()
            self._inside += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Put it back, if nobody else is inside."""
        with self._lock:
            self._inside -= 1
            if not self._inside and self._restore is not None:
                restore, self._restore = self._restore, None
                restore()


class _Setting:
    """The one thread that sets how many BLAS has: threadpoolctl lets no other one do so for as long as the first that did is alive."""

    def __init__(self) -> None:
        """A forked child has none of its parent's threads, and would wait for this one for ever."""
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="faceprotect-blas")

    def limit(self, threads: int) -> Callable[[], object]:
        """Let BLAS have so many; returns what puts back what it had."""
        limits = self._thread.submit(threadpool_limits, threads, user_api="blas").result()
        return lambda: self._thread.submit(limits.restore_original_limits).result()


BLAS_THREADS = _Setting()


def _one_blas_thread() -> Callable[[], object]:
    return BLAS_THREADS.limit(1)


def _ignore_warnings() -> Callable[[], object]:
    caught = warnings.catch_warnings()
    caught.__enter__()
    warnings.simplefilter("ignore")
    return lambda: caught.__exit__(None, None, None)


#: What libraries warn of while they read a file that may be anything: what matters of it is said otherwise.
NO_WARNINGS = Shared(_ignore_warnings)
#: BLAS' threads spin after a product, on the cores that the engine's next run needs: a step took nearly twice as long.
ONE_BLAS_THREAD = Shared(_one_blas_thread)

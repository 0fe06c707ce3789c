"""The parent's end of a worker: a process that is asked one thing at a time, and whose loss is an error like any other."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from typing import Any

from faceprotect_engines.backends.cpu_count import bounded
from faceprotect_sdk.errors import WorkerLost
from faceprotect_sdk.workers.child import READY, Make, work

#: Seconds in which a worker that was told to end may tidy up.
PATIENCE = 10.0


def share(threads: int | None, workers: int) -> int:
    """Threads that each of several workers may use, where all together may use ``threads`` (None: every core); at least 1."""
    return max(1, bounded(threads) // workers)


class Worker:
    """A process of its own, started afresh (spawn), with simplex pipes to it and from it: no socket, no file.

    ``make`` and ``given`` go to the process: ``make(given)``, a function of a module, gives a context manager whose value answers tasks.
    ``finishes``: it is not SIGTERM that ends it, but the end of its tasks.
    """

    def __init__(self, make: Make, given: Any, *, finishes: bool = False) -> None:
        """Start it; it is :attr:`ready` once it has said so."""
        context = multiprocessing.get_context("spawn")
        its_tasks, self._tasks = context.Pipe(duplex=False)
        self.answers, its_answers = context.Pipe(duplex=False)
        self._process = context.Process(target=work, args=(its_tasks, its_answers, make, given, finishes), daemon=True)
        self._process.start()
        its_tasks.close()
        its_answers.close()  # or its end would never be seen
        self.ready = False

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid or 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def ask(self, task: Any) -> None:
        """Send a task, which is pickled; raises WorkerLost."""
        try:
            self._tasks.send(task)
        except OSError as error:
            raise self._lost() from error

    def answer(self) -> Any:
        """Wait for the answer to what was asked; raises WorkerLost."""
        word, answer = self._received()
        if word == READY:
            self.ready = True
            word, answer = self._received()
        return answer

    def wait_until_ready(self) -> None:
        """Wait until it is; raises WorkerLost where it ends before."""
        if not self.ready:
            self._received()
            self.ready = True

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()

    def stop(self, patience: float = PATIENCE) -> None:
        """End it: by SIGTERM, upon which it removes what is half written, and by force where that takes too long."""
        self.leave()
        self.join(patience)

    def leave(self) -> None:
        """Tell it to end, and do not wait."""
        with suppress(OSError):
            self._tasks.close()
        if self._process.is_alive():
            self._process.terminate()

    def join(self, patience: float = PATIENCE) -> None:
        """Wait until it has ended, and end it by force where that takes too long."""
        self._process.join(patience)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.answers.close()

    def _received(self) -> tuple[str, Any]:
        try:
            received: tuple[str, Any] = self.answers.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        return received

    def _lost(self) -> WorkerLost:
        self._process.join(PATIENCE)
        code = self._process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        return WorkerLost(
            f"the process that worked on it was ended {how}", hint="It may lack memory: give fewer jobs, or the photo by itself"
        )

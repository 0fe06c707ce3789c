"""The one thread that runs the networks: it takes the newest job of each kind, and what is older is dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Worker(Generic[Job, Result]):
    """Does jobs one after the other. There is one place to wait per key, so that what waits is never old, and never much.

    ``done``, ``dropped``: how many jobs have been done, and how many were replaced by a newer one before anybody took them.
    """

    def __init__(self, work: Callable[[Job], Result], *, synchronous: bool) -> None:
        """``synchronous``: no thread; a job is done where it is given."""
        self._work, self._synchronous = work, synchronous
        self._changed = threading.Condition()
        self._jobs: dict[Hashable, Job] = {}
        self._served: dict[Hashable, int] = {}
        self._running: Hashable | None = None
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        self.done = self.dropped = 0

    def give(self, key: Hashable, job: Job) -> None:
        """Put a job in its key's place; another one that waits there is dropped. Nothing happens while that key's job is being done."""
        if self._synchronous:
            self._results.append(self._work(job))
            self.done += 1
            return
        with self._changed:
            if self._closed or self._running == key:
                return
            self.dropped += key in self._jobs
            self._jobs[key] = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="faceprotect-stream", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def busy(self, key: Hashable) -> bool:
        """Whether that key's job is being done right now."""
        return self._running == key

    def take(self) -> list[Result]:
        """Results since the last call, oldest first; raises, once, what a job has raised."""
        with self._changed:
            error, self._error = self._error, None
            results, self._results = self._results, []
        if error is not None:
            raise error
        return results

    def forget(self) -> None:
        """Drop what waits; what is being done still comes."""
        with self._changed:
            self.dropped += len(self._jobs)
            self._jobs.clear()
            self._served.clear()

    def close(self) -> None:
        """Drop what waits, and wait for the job that is being done."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                result = self._work(job)
            except BaseException as error:  # noqa: BLE001 - a thread's error is raised where its work was asked for
                with self._changed:
                    self._error, self._running = error, None
                continue
            with self._changed:
                self._results.append(result)
                self._running = None
                self.done += 1

    def _next(self) -> Job | None:
        """The job of the key that has waited longest since it was served; None once the worker is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if self._closed:
                return None
            key = min(self._jobs, key=lambda one: self._served.get(one, -1))
            self._served[key] = max(self._served.values(), default=0) + 1
            self._running = key
            return self._jobs.pop(key)

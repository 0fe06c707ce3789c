"""The processes of a service and the queue before them: each order is answered once, by one process, or refused."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

from faceprotect_sdk.errors import WorkerLost
from faceprotect_sdk.serve.desk import Order, Reply
from faceprotect_sdk.serve.limits import Limits
from faceprotect_sdk.workers.child import Make
from faceprotect_sdk.workers.worker import Worker

#: Processes that an order is given to in turn, where they are lost over it.
_TRIES = 2
#: Seconds between starts of a process that does not get ready.
_PAUSE = 2.0
#: Seconds between looks at the processes that have nothing to do: one of them may be killed, and no order would tell.
_LOOK = 0.5


class Busy(Exception):
    """As many wait as may. ``seconds``: after which it may be otherwise."""

    def __init__(self, seconds: int) -> None:
        super().__init__("too many wait already")
        self.seconds = seconds


class TookTooLong(Exception):
    """An order whose process was ended, for it had had its time."""


class Crew:
    """Processes by number of ``limits.workers``; used within one event loop."""

    def __init__(self, make: Make, given: Any, limits: Limits, on_lost: Callable[[], None] = lambda: None) -> None:
        """Start nothing yet. ``make``, ``given``: of each process; ``on_lost``: called where one had to be replaced."""
        self._make, self._given, self._limits, self._on_lost = make, given, limits, on_lost
        self._numbers = itertools.count()
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(2 * limits.workers + 1, thread_name_prefix="faceprotect-worker")
        self._all: set[Worker] = set()
        self._hiring: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        self._mean = 1.0
        self.waiting = self.working = 0

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes that are ready."""
        return sorted(worker.pid for worker in self._all if worker.ready and worker.alive)

    async def start(self) -> None:
        """Start the processes and wait until they are ready; raises WorkerLost where one cannot be."""
        try:
            for worker in await asyncio.gather(*(self._in_thread(self._hire) for _ in range(self._limits.workers))):
                self._idle.put_nowait(worker)
        except BaseException:
            await self.close()
            raise
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """End the processes, with what they are working on."""
        self._closed = True
        for task in (*self._hiring, *([self._watching] if self._watching else ())):
            task.cancel()
        for worker in self._all:
            worker.leave()
        await asyncio.gather(*(asyncio.to_thread(worker.join) for worker in self._all))
        self._threads.shutdown(wait=False)

    def check(self) -> None:
        """Raise Busy where an order would be refused now."""
        if self.waiting >= self._limits.queue and self._idle.empty():
            raise Busy(max(1, math.ceil(self._mean * (self.waiting + 1) / self._limits.workers)))

    async def run(self, order: Order) -> Reply:
        """The reply to an order; raises Busy, TookTooLong, and WorkerLost where two processes were lost over it.

        Cancelling this takes the order out of the queue; a process that has begun it finishes, for nobody.
        """
        self.check()
        numbered = replace(order, number=next(self._numbers))
        begun = asyncio.Event()
        task = asyncio.create_task(self._run(numbered, begun))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not begun.is_set():
                task.cancel()
            task.add_done_callback(_forget)
            raise

    async def _run(self, order: Order, begun: asyncio.Event) -> Reply:
        lost: WorkerLost | None = None
        for _ in range(_TRIES):
            worker = await self._taken()
            begun.set()
            try:
                return await self._worked(worker, order)
            except WorkerLost as error:
                lost = error
        assert lost is not None  # noqa: S101 - the loop ends otherwise with a reply
        raise lost

    async def _taken(self) -> Worker:
        """A process that lives and has nothing to do."""
        self.waiting += 1
        try:
            while not (worker := await self._idle.get()).alive:
                self._replace(worker)
            return worker
        finally:
            self.waiting -= 1

    async def _worked(self, worker: Worker, order: Order) -> Reply:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.working += 1
        future = loop.run_in_executor(self._threads, _asked, worker, order)
        try:
            reply = await asyncio.wait_for(asyncio.shield(future), self._limits.work_seconds)
        except asyncio.TimeoutError as error:
            worker.kill()
            with suppress(WorkerLost):
                await future
            self._replace(worker)
            raise TookTooLong from error
        except WorkerLost:
            self._replace(worker)
            raise
        finally:
            self.working -= 1
        self._mean = 0.8 * self._mean + 0.2 * (loop.time() - began)
        self._idle.put_nowait(worker)
        return reply

    def _replace(self, worker: Worker) -> None:
        self._on_lost()
        self._all.discard(worker)
        task = asyncio.create_task(self._successor(worker))
        self._hiring.add(task)
        task.add_done_callback(self._hiring.discard)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            for _ in range(self._idle.qsize()):
                worker = self._idle.get_nowait()
                if worker.alive:
                    self._idle.put_nowait(worker)
                else:
                    self._replace(worker)

    async def _successor(self, gone: Worker) -> None:
        await self._in_thread(gone.join)
        while not self._closed:
            with suppress(WorkerLost):
                self._idle.put_nowait(await self._in_thread(self._hire))
                return
            sys.stderr.write("a process does not get ready; trying again\n")
            await asyncio.sleep(_PAUSE)

    def _hire(self) -> Worker:
        worker = Worker(self._make, self._given, finishes=True)
        self._all.add(worker)
        try:
            worker.wait_until_ready()
        except WorkerLost:
            self._all.discard(worker)
            worker.join()
            raise
        return worker

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _asked(worker: Worker, order: Order) -> Reply:
    worker.ask(order)
    reply: Reply = worker.answer()
    if reply.number != order.number:  # it cannot be; if it were, one person would get another's photo
        worker.kill()
        raise WorkerLost("a process gave the answer to another order")
    return reply


def _forget(task: asyncio.Task[Reply]) -> None:
    """Take note of how it ended, or the loop complains."""
    if not task.cancelled():
        task.exception()

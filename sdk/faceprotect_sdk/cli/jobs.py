"""Photos side by side: ``protect --jobs N`` hands them to processes, a protector each, and puts what comes back in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from faceprotect_engines.store import Store
from faceprotect_sdk.cli.batch import Done, Ledger, Task, one_by_one, settings_digest, work_on
from faceprotect_sdk.cli.files import ProtectFiles
from faceprotect_sdk.cli.manifest import Manifest
from faceprotect_sdk.cli.progress import ProgressLine
from faceprotect_sdk.errors import WorkerLost
from faceprotect_sdk.workers.worker import Worker, share

#: A photo whose process is lost gets another one: it may not have been to blame. It gets no third.
_TRIES = 2
#: Arguments of :class:`ProtectFiles` upon which it does not depend what becomes of a photo.
_APART = ("settings", "store", "photos", "output", "force")


@contextmanager
def ledger_of(manifest: Path | None, arguments: Mapping[str, Any]) -> Iterator[Ledger]:
    """What is known of the photos; raises what opening the manifest does. ``arguments``: of :class:`ProtectFiles`."""
    if manifest is None:
        yield Ledger(None)
        return
    others = {name: value for name, value in arguments.items() if name not in _APART}
    with Manifest(manifest, settings_digest(arguments["settings"], arguments["store"] or Store(), others)) as opened:
        yield Ledger(opened)


def worked(
    job: ProtectFiles, jobs: int, arguments: Mapping[str, Any], tasks: Sequence[Task], ledger: Ledger, line: ProgressLine
) -> Generator[Done, None, None]:
    """What became of every task, in their order: of ``job`` here, or of several processes that share its threads out."""
    jobs = min(jobs, len(tasks))
    with_sheet = arguments["sheet"] is not None
    if jobs <= 1:
        yield from one_by_one(job, tasks, with_sheet, ledger, line)
        return
    settings, store = arguments["settings"], arguments["store"] or Store()
    shared = {**arguments, "settings": settings.but(threads=share(settings.threads, jobs))}
    del shared["store"]
    with Crew(jobs, Given(shared, store.roots, store.cache, with_sheet), tasks, ledger, line) as crew:
        yield from crew.run()


@dataclass(frozen=True)
class Given:
    """What a process is made with: arguments of :class:`ProtectFiles` and its store's, and whether pictures are drawn."""

    arguments: Mapping[str, Any]
    roots: Sequence[Path]
    cache: Path
    with_sheet: bool


@contextmanager
def make(given: Given) -> Iterator[Callable[[Task], Done]]:
    """What a process answers tasks with (``workers.child.Make``)."""
    with ProtectFiles(**given.arguments, store=Store(given.roots, given.cache)) as job:
        yield lambda task: work_on(job, task, given.with_sheet)


@dataclass
class _Place:
    """A place in the crew: its process, once there is one, and what that works on."""

    worker: Worker | None = None
    number: int | None = None


class Crew:
    """At most so many processes over the tasks of a batch; they are started as they are needed, and end with the block."""

    def __init__(self, jobs: int, given: Given, tasks: Sequence[Task], ledger: Ledger, line: ProgressLine) -> None:
        """Start nothing yet."""
        self._given, self._tasks, self._ledger, self._line = given, list(tasks), ledger, line
        self._places = [_Place() for _ in range(jobs)]
        self._waiting = list(range(len(tasks)))
        self._tries = [0] * len(tasks)
        self._written: set[Path] = set()
        self._done: dict[int, Done] = {}

    def __enter__(self) -> Crew:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes: each removes what it has half written."""
        there = [place.worker for place in self._places if place.worker is not None]
        for worker in there:
            worker.leave()
        for worker in there:
            worker.join()

    def run(self) -> Iterator[Done]:
        """What became of every task, in their order; what is ready before its turn waits for it, and is in the manifest already."""
        for number in range(len(self._tasks)):
            while number not in self._done:
                if not self._hand_out():
                    self._take_in()
            yield self._done.pop(number)

    def _hand_out(self) -> bool:
        """Begin one task, or find that it was done before; False where no process or no task is free."""
        place = next((place for place in self._places if place.number is None), None)
        number = None if place is None else self._free()
        if place is None or number is None:
            return False
        self._waiting.remove(number)
        task = self._tasks[number]
        if self._tries[number] == 0:
            if (done := self._ledger.before(task)) is not None:
                self._done[number] = done
                return True
            self._line.start(str(task.photo))
            task = self._ledger.begin(task)
        self._ask(place, number, task)
        return True

    def _ask(self, place: _Place, number: int, task: Task) -> None:
        self._tries[number] += 1
        # an output that was not there, and is when the process is lost, is what that process has made
        fresh = not any(os.path.lexists(name) for name in task.places)
        self._tasks[number] = replace(task, ours=task.ours or fresh)
        if place.worker is not None and not place.worker.alive:
            place.worker.join()
            place.worker = None
        place.worker = place.worker or Worker(make, self._given)
        place.number = number
        try:
            place.worker.ask(replace(task, taken=tuple(self._written.intersection(task.places))))
        except WorkerLost as lost:
            self._lost(place, lost)

    def _free(self) -> int | None:
        """The first waiting task whose outputs no task before it, at work or waiting, might write too."""
        held = {name for place in self._places if place.number is not None for name in self._tasks[place.number].places}
        for number in self._waiting:
            names = self._tasks[number].places
            if held.isdisjoint(names):
                return number
            held.update(names)
        return None

    def _take_in(self) -> None:
        """Wait until a process has something to say."""
        busy = {place.worker.answers: place for place in self._places if place.worker is not None and place.number is not None}
        for answers in wait(list(busy)):
            place = busy[answers]  # type: ignore[index]
            try:
                self._take(place)
            except WorkerLost as lost:
                self._lost(place, lost)

    def _take(self, place: _Place) -> None:
        if place.worker is None or place.number is None:
            return
        if not place.worker.ready:
            place.worker.wait_until_ready()
            return
        number, place.number = place.number, None
        try:
            done: Done = place.worker.answer()
        except WorkerLost:
            place.number = number
            raise
        self._end(number, done)

    def _lost(self, place: _Place, lost: WorkerLost) -> None:
        """Its task is tried once more, by another process, before anything else; then it has failed."""
        number, worker = place.number, place.worker
        place.number = place.worker = None
        if worker is not None:
            worker.join()
        if number is None:
            return
        if self._tries[number] < _TRIES:
            self._waiting.insert(0, number)
        else:
            self._end(number, Done.failed(self._tasks[number].photo, lost))

    def _end(self, number: int, done: Done) -> None:
        if done.outcome is not None:
            self._written.update(Path(name) for name in done.outcome.files)
        self._ledger.end(self._tasks[number], done)
        self._done[number] = done

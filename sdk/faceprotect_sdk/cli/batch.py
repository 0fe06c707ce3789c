"""Photos worked through one by one or side by side, and what is known of each before and after."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from faceprotect_engines.store import Store
from faceprotect_sdk._version import __version__
from faceprotect_sdk.cli.files import Outcome, ProtectFiles
from faceprotect_sdk.cli.manifest import Key, Manifest
from faceprotect_sdk.cli.progress import ProgressLine
from faceprotect_sdk.cli.report import failure_json, failure_line, told_of
from faceprotect_sdk.errors import ReportError
from faceprotect_sdk.methods import find_recipe
from faceprotect_sdk.progress import ProgressCallback
from faceprotect_sdk.settings import Settings


@dataclass(frozen=True)
class Task:
    """A photo to be worked on. ``places``: every name that an output of it may get, that of the protected photo first.

    ``taken``, ``ours``: as ``ProtectFiles.expect`` has them.
    """

    photo: Path
    places: tuple[Path, ...]
    taken: tuple[Path, ...] = ()
    ours: bool = False


@dataclass(frozen=True)
class Done:
    """What became of a task: its exit code and JSON object; the outcome, without photos, or the failure in a line.

    ``before``: a run before has done it.
    """

    code: int
    document: dict[str, Any]
    outcome: Outcome | None = None
    failure: str = ""
    before: bool = False

    @classmethod
    def of(cls, photo: Path, outcome: Outcome, with_sheet: bool) -> Done:
        """A task that came to a result; ``with_sheet``: whether pictures are drawn."""
        result = outcome.result
        document = {"input": str(photo), "output": str(outcome.photo) if outcome.photo else None, **result.to_json()}
        if with_sheet:
            document["sheet"] = str(outcome.sheet) if outcome.sheet else None
        faces = tuple(replace(face, trace=()) for face in result.faces)
        light = replace(result, image=None, partial=None, unconfirmed=None, faces=faces, devices=dict(result.devices))
        return cls(int(result.exit_code), document, replace(outcome, result=light))

    @classmethod
    def failed(cls, photo: Path, error: Exception) -> Done:
        """A task that failed; raises the interruption that its error came of."""
        code, told = told_of(error)
        return cls(code, failure_json(str(photo), told, code), failure=failure_line(str(photo), told))


def work_on(job: ProtectFiles, task: Task, with_sheet: bool, progress: ProgressCallback | None = None) -> Done:
    """Protect the photo of a task; a failure ends it alone, so that a batch can go on."""
    job.expect(taken=task.taken, ours=task.ours)
    try:
        return Done.of(task.photo, job.protect(task.photo, progress), with_sheet)
    except ReportError:
        raise  # the photo is not to blame, and the next ones could not be reported either
    except Exception as error:  # noqa: BLE001 - it becomes the result of this photo
        return Done.failed(task.photo, error)


class Ledger:
    """Looks tasks up in the manifest, and writes them into it; without one it knows nothing."""

    def __init__(self, manifest: Manifest | None) -> None:
        """``manifest``: None where nobody wants one."""
        self._manifest = manifest
        self._keys: dict[Path, Key] = {}

    def before(self, task: Task) -> Done | None:
        """What a run before has made of it, where that still holds."""
        if self._manifest is None:
            return None
        key = self._keys[task.photo] = self._manifest.key(task.photo, task.places[0])
        document = self._manifest.done(key)
        return None if document is None else Done(int(document["exit_code"]), document, before=True)

    def begin(self, task: Task) -> Task:
        """The task, which now begins, with whether what is there of it was left by a run that was killed."""
        if self._manifest is None:
            return task
        return replace(task, ours=self._manifest.begin(self._keys[task.photo], task.places))

    def end(self, task: Task, done: Done) -> None:
        """Write down what became of it; raises WriteError."""
        if self._manifest is not None:
            self._manifest.end(self._keys.pop(task.photo), done.document, {} if done.outcome is None else done.outcome.files)


def one_by_one(job: ProtectFiles, tasks: Sequence[Task], with_sheet: bool, ledger: Ledger, line: ProgressLine) -> Iterator[Done]:
    """Work through the tasks in this process."""
    for task in tasks:
        if (done := ledger.before(task)) is None:
            line.start(str(task.photo))
            done = work_on(job, ledger.begin(task), with_sheet, line.update)
            ledger.end(task, done)
        yield done


def settings_digest(settings: Settings, store: Store, others: dict[str, Any]) -> str:
    """sha256 of all that decides what becomes of a photo: settings, options of the command, version, recipe, and engines that are there.

    Not of the number of threads, upon which no byte depends.
    """
    recipe, store = find_recipe(settings.method, store)
    engines = {
        name: {key: vars(file) for key, file in store.manifest(name).files.items()} for name in store.names() if store.has_weights(name)
    }
    known = {**asdict(settings), "threads": None, **others, "version": __version__, "dlib": find_spec("dlib") is not None}
    document = {"settings": known, "recipe": recipe.document, "engines": engines}
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()

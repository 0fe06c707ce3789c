"""What the command line prints: tables and JSON on stdout, failures on stderr."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from faceprotect_sdk.cli.hints import as_options, said_of
from faceprotect_sdk.cli.progress import ProgressLine
from faceprotect_sdk.cli.signals import stop_behind
from faceprotect_sdk.cli.streams import printable
from faceprotect_sdk.errors import FaceprotectError, ReportError, exit_code_of
from faceprotect_sdk.face.detect import Face
from faceprotect_sdk.result import LATE, CheckResult, FaceResult, ProtectResult, Verdict

_STATUS = {
    "protected": "protected",
    "partly_protected": "NOT protected: some faces are, others were left as they were",
    "still_matched": "NOT protected: changed, but still matched",
    "covered": "NOT protected: a face is covered",
    "no_face": "no face found. Pass a photo in which a face is larger or sharper",
}
_CHECK_STATUS = {
    "not_matched": "not matched by any recogniser here",
    "still_matched": "STILL MATCHED",
    "no_face": "no face to compare",
}


def emit(document: Any) -> None:
    """One JSON object on one line of stdout, in ASCII: it can be read back whatever the terminal's encoding is."""
    click.echo(json.dumps(document, allow_nan=False, default=str))


def failure_json(name: str, error: BaseException, code: int) -> dict[str, Any]:
    """The object that stands for an input that failed."""
    return {
        "input": name,
        "output": None,
        "status": "error",
        "exit_code": code,
        "error": {"type": type(error).__name__, "code": getattr(error, "code", "internal"), "message": said_of(error)},
    }


def left_out_json(photo: Path, why: str) -> dict[str, Any]:
    """The object that stands for an input that was not looked at."""
    return {"input": str(photo), "output": None, "status": "left_out", "exit_code": 0, "reason": why}


def show_left_out(photo: Path, why: str) -> None:
    """A line on stderr for an input that was not looked at."""
    click.echo(f"left out: {photo}: {why}", err=True)


def show_failure(name: str, error: BaseException) -> None:
    """A failure on stderr."""
    click.echo(failure_line(name, error), err=True)


def failure_line(name: str, error: BaseException) -> str:
    """A failure in a line; the message usually names its file already."""
    message = said_of(error) or type(error).__name__
    prefix = "" if not name or name in message else f"{name}: "
    return f"error: {printable(prefix + message)}"


def show_done_before(photo: Path, document: Mapping[str, Any]) -> None:
    """A line for an input that the manifest has already."""
    arrow = f" -> {printable(document['output'])}" if document.get("output") else ""
    click.echo(f"{printable(photo)}{arrow}: {_STATUS[document['status']]}; done by a run before")


def show_protect(photo: Path, written: Path | None, result: ProtectResult, sheet: Path | None = None, *, err: bool = False) -> None:
    """A protection as text; ``sheet``: where its picture is; ``err``: on stderr, where stdout takes the photo."""
    arrow = f" -> {printable(written)}" if written else ""
    nothing = "" if written else "; nothing was written"
    click.echo(f"{printable(photo)}{arrow}: {_STATUS[result.status]}{nothing}", err=err)
    if result.faces and not result.protected:
        for face in result.matched_faces:
            click.echo(f"  {lacking(result, face)}", err=err)
        click.echo(f"  {as_options(result.advice)}", err=err)
    for face in result.faces:
        towards = "" if face.decoy is None else f", towards decoy {face.decoy}"
        where = f" at {box(face.box)}" if len(result.faces) > 1 else ""
        click.echo(f"  face {face.index + 1}{where}: {face.status}{towards}, {face.steps} steps; {face.quality}", err=err)
        _show_verdicts(face.verdicts, err)
    if sheet is not None:
        click.echo(f"  before, after and difference: {printable(sheet)}", err=err)
    total = sum(result.timings.values())
    click.echo(f"  {result.method}, strength {result.strength}, seed {result.seed}, on {result.device}, {total:.1f} s", err=err)
    for note in result.notes:
        click.echo(f"  note: {note}", err=err)


def lacking(result: ProtectResult, face: FaceResult) -> str:
    """What keeps this face from being protected: which recogniser matches it by how much, within what was allowed."""
    which = f"face {face.index + 1} of {len(result.faces)} at {box(face.box)}" if len(result.faces) > 1 else f"face {face.index + 1}"
    if face.status == "covered":
        return f"{which} was left as it was: something covers nose and mouth, and there is no skin to change"
    worst = max((one for one in face.verdicts if one.matched), key=lambda one: one.excess)
    by = f"{worst.recogniser} still matches it by {worst.excess:.3f} of similarity"
    if not face.changed:
        return f"{which} was left as it was: {by}"
    within = "the time given" if LATE in result.notes else f"the change that strength {result.strength} allows"
    return f"{which} is not protected: within {within}, {by}"


def box(corners: Sequence[float]) -> str:
    """x0, y0, x1, y1 in whole pixels."""
    return f"({', '.join(f'{value:.0f}' for value in corners)})"


def show_check(original: Path, protected: Path, result: CheckResult) -> None:
    """A comparison as text."""
    click.echo(f"{printable(original)} against {printable(protected)}: {_CHECK_STATUS[result.status]}")
    if result.identical:
        click.echo("  the two photos have the same pixels")
    for face in result.faces:
        click.echo(f"  face {face.index + 1}: {face.quality}")
        _show_verdicts(face.verdicts)
    for note in result.notes:
        click.echo(f"  note: {note}")


def _show_verdicts(verdicts: Sequence[Verdict], err: bool = False) -> None:
    for one in verdicts:
        word = "matched" if one.matched else "not matched"
        towards = "" if one.decoy is None else f", to the decoy {one.decoy:+.3f}"
        click.echo(f"    {one.recogniser:<22} {one.figure:<42} {word:<12} ({one.part}{towards})", err=err)


def show_faces(photo: Path, faces: Sequence[Face]) -> None:
    """Detected faces as text."""
    click.echo(f"{printable(photo)}: {len(faces)} face{'' if len(faces) == 1 else 's'}")
    for index, face in enumerate(faces):
        click.echo(f"  {index + 1}: box {box(face.box)}, score {face.score:.2f}")


def guarded(name: str, work: Callable[[], tuple[int, dict[str, Any]]], as_json: bool, line: ProgressLine | None = None) -> int:
    """Run the work of one input; a failure becomes its exit code, so that a batch can go on."""
    try:
        code, document = work()
    except ReportError:
        raise  # the photo is not to blame, and the next ones could not be reported either
    except Exception as error:  # noqa: BLE001 - it becomes the result of this input
        code, told = told_of(error)
        document = failure_json(name, told, code)
        if line is not None:
            line.clear()
        show_failure(name, told)
    if as_json:
        emit(document)
    return code


def told_of(error: Exception) -> tuple[int, Exception]:
    """The exit code of an input that failed, and the error as it is to be told; raises the interruption that an error came of."""
    if (stopped := stop_behind(error)) is not None:
        raise stopped from error
    code = int(exit_code_of(error))
    if isinstance(error, MemoryError):
        return code, MemoryError("no memory left for this photo. Close other programs, or scale it down")
    return code, error if isinstance(error, FaceprotectError) else unforeseen(error)


def unforeseen(error: Exception) -> RuntimeError:
    """What to say of an error that nobody raised on purpose, and where it came from."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return RuntimeError(f"internal error, please report it: {type(error).__name__} at {where}: {error}")

"""What the command line prints: tables and JSON on stdout, progress and failures on stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from faceprotect_sdk.faces import Face
from faceprotect_sdk.progress import Progress
from faceprotect_sdk.result import LATE, CheckResult, ProtectResult, Verdict
from faceprotect_sdk.streams import printable

_STATUS = {
    "protected": "protected",
    "still_matched": "NOT protected: changed, but still matched",
    "no_face": "no face found. Pass a photo in which a face is larger or sharper",
}
_CHECK_STATUS = {
    "not_matched": "not matched by any recogniser here",
    "still_matched": "STILL MATCHED",
    "no_face": "no face to compare",
}


class ProgressLine:
    """One line on stderr that is rewritten; silent unless ``enabled`` (a terminal)."""

    def __init__(self, *, enabled: bool) -> None:
        """Draw nothing yet."""
        self._enabled = enabled
        self._name = ""
        self._width = 0

    def __enter__(self) -> ProgressLine:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave no half line behind."""
        self.clear()

    def start(self, name: str) -> None:
        """Name what the following updates are about."""
        self._name = printable(Path(name).name)

    def update(self, progress: Progress) -> None:
        """Draw the state of a protection."""
        if not self._enabled:
            return
        done = progress.step / max(progress.steps, 1)
        bar = "#" * round(20 * done)
        text = f"{self._name}  {progress.stage:<7} face {progress.face + 1}/{max(progress.faces, 1)}  [{bar:<20}]"
        text += f" {progress.step}/{progress.steps}"
        padding = " " * max(self._width - len(text), 0)
        self._width = len(text)
        click.echo(f"\r{text}{padding}", nl=False, err=True)

    def clear(self) -> None:
        """Wipe the line."""
        if self._enabled and self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)
            self._width = 0


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
        "error": {"type": type(error).__name__, "message": str(error)},
    }


def left_out_json(photo: Path, why: str) -> dict[str, Any]:
    """The object that stands for an input that was not looked at."""
    return {"input": str(photo), "output": None, "status": "left_out", "exit_code": 0, "reason": why}


def show_left_out(photo: Path, why: str) -> None:
    """A line on stderr for an input that was not looked at."""
    click.echo(f"left out: {photo}: {why}", err=True)


def show_failure(name: str, error: BaseException) -> None:
    """A failure on stderr; the message usually names its file already."""
    message = str(error) or type(error).__name__
    prefix = "" if not name or name in message else f"{name}: "
    click.echo(f"error: {printable(prefix + message)}", err=True)


def show_protect(photo: Path, written: Path | None, result: ProtectResult, sheet: Path | None = None, *, err: bool = False) -> None:
    """A protection as text; ``sheet``: where its picture is; ``err``: on stderr, where stdout takes the photo."""
    arrow = f" -> {printable(written)}" if written else ""
    nothing = "" if written else "; nothing was written"
    click.echo(f"{printable(photo)}{arrow}: {_STATUS[result.status]}{nothing}", err=err)
    if result.status == "still_matched":
        click.echo(f"  {missing(result)}. {result.advice}", err=err)
    for face in result.faces:
        towards = "" if face.decoy is None else f", towards decoy {face.decoy}"
        where = f" at {_box(face.box)}" if len(result.faces) > 1 else ""
        click.echo(f"  face {face.index + 1}{where}: {face.status}{towards}, {face.steps} steps; {face.quality}", err=err)
        _show_verdicts(face.verdicts, err)
    if sheet is not None:
        click.echo(f"  before, after and difference: {printable(sheet)}", err=err)
    total = sum(result.timings.values())
    click.echo(f"  {result.method}, strength {result.strength}, seed {result.seed}, on {result.device}, {total:.1f} s", err=err)
    for note in result.notes:
        click.echo(f"  note: {note}", err=err)


def missing(result: ProtectResult) -> str:
    """Which recogniser still matches by how much, within the change that this strength allows or the time that was given."""
    matched = [(one.excess, face, one.recogniser) for face in result.faces for one in face.verdicts if one.matched]
    excess, face, name = max(matched, key=lambda found: found[0])
    which = f"face {face.index + 1}, box {_box(face.box)}," if len(result.faces) > 1 else f"face {face.index + 1},"
    within = "the time given" if LATE in result.notes else f"the change that strength {result.strength} allows"
    return f"within {within}, {name} still matches {which} by {excess:.3f} of similarity"


def _box(box: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.0f}' for value in box)})"


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
        click.echo(f"  {index + 1}: box {_box(face.box)}, score {face.score:.2f}")

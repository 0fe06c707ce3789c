"""Photo files to protected photo files: what the command ``protect`` does, without the printing."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from faceprotect_engines.store import Store
from faceprotect_sdk.canvas import canvas_of
from faceprotect_sdk.cli.sheet import sheet_bytes, sheet_of
from faceprotect_sdk.cli.walk import STREAM
from faceprotect_sdk.errors import OutputError, UsageError
from faceprotect_sdk.face.detect import Face
from faceprotect_sdk.face.selection import Selection
from faceprotect_sdk.photo.mark import mark_of_file
from faceprotect_sdk.photo.reading import LargePhoto, Photo, open_photo
from faceprotect_sdk.photo.write import Destination, check_output, for_several, output_path, sheet_path, sweep, write_atomic
from faceprotect_sdk.progress import ProgressCallback
from faceprotect_sdk.protector import Protector
from faceprotect_sdk.result import ProtectResult
from faceprotect_sdk.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

TO_STDOUT = Destination(STREAM)


class Asked(TypedDict):
    """What every call of ``Protector.protect`` gets alike."""

    faces: Selection
    seed: int
    again: bool
    write_others: bool


@dataclass(frozen=True)
class Outcome:
    """What became of one photo: the result, where it and its picture were written (None: nowhere), and the sha256 of what was."""

    result: ProtectResult
    photo: Path | None
    sheet: Path | None
    files: Mapping[str, str] = field(default_factory=dict)


class ProtectFiles:
    """One protector over several files, with the rules for naming and replacing outputs."""

    def __init__(
        self,
        photos: Sequence[Path],
        settings: Settings,
        *,
        output: Destination | None,
        seed: int,
        force: bool,
        keep_unconfirmed: bool,
        again: bool,
        write_others: bool,
        sheet: Destination | None,
        faces: Selection,
        store: Store | None,
    ) -> None:
        """``photos``: all inputs, none of which may be an output. ``store``: None for the engines that ship. The rest are options."""
        self._inputs = {photo.absolute() for photo in photos}
        self._written: set[Path] = set()
        self._ours = False
        self._swept: set[Path] = set()
        self._output, self._force, self._keep_unconfirmed = output, force, keep_unconfirmed
        self._sheet = sheet
        self._asked = Asked(faces=faces, seed=seed, again=again, write_others=write_others)
        if sheet is not None and len(photos) > 1:
            for_several(sheet, "--sheet")
        self._protector = Protector(settings, store=store)

    def __enter__(self) -> ProtectFiles:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the engines."""
        self._protector.close()

    def expect(self, *, taken: Collection[Path], ours: bool) -> None:
        """What the next file will meet.

        ``taken``: outputs that other processes of this run have written. ``ours``: outputs that are there come from a process that was
        killed, and are replaced where their marks say the same.
        """
        self._written |= {place.absolute() for place in taken}
        self._ours = ours

    def protect(self, path: Path, progress: ProgressCallback | None = None) -> Outcome:
        """Result of one file, and what was written of it.

        The outputs are checked before the work begins. Raises what ``load``, ``Protector.protect`` and ``write_atomic``
        raise; a failure leaves no file.
        """
        photo = open_photo(sys.stdin.buffer.read() if path == STREAM else path)
        if self._output == TO_STDOUT:
            return self._to_stdout(photo, progress)
        target = output_path(photo, self._output)
        beside, partly = (named(target, word) for word in ("unconfirmed", "partly"))
        picture = None if self._sheet is None else sheet_path(path, self._sheet)
        candidates = [target] + [beside] * self._keep_unconfirmed + [partly] * self._asked["write_others"]
        for candidate in (*candidates, *(() if picture is None else (picture,))):
            self._check(candidate, path)
        if picture is not None and picture.absolute() in {one.absolute() for one in candidates}:
            raise OutputError(f"{picture}: is where the protected photo goes. Choose another --sheet")
        result = self._result(photo, progress)
        written = None
        if result.image is not None:
            written = self._write(target, result.image)
        elif result.partial is not None:
            written = self._write(partly, result.partial)
        elif result.unconfirmed is not None and self._keep_unconfirmed:
            written = self._write(beside, result.unconfirmed)
        data = result.image or result.partial or result.unconfirmed
        files = {} if written is None or data is None else {str(written): hashlib.sha256(data).hexdigest()}
        if picture is None or data is None:
            return Outcome(result, written, None, files)
        drawn = sheet_bytes(_sheet(photo, data, result), picture.suffix)
        return Outcome(result, written, self._write(picture, drawn), {**files, str(picture): hashlib.sha256(drawn).hexdigest()})

    def _to_stdout(self, photo: Photo | LargePhoto, progress: ProgressCallback | None) -> Outcome:
        """The same with the bytes on standard output, unless the photo is still matched."""
        if self._sheet is not None or self._keep_unconfirmed or self._asked["write_others"]:
            raise UsageError(
                "standard output takes a protected photo alone: leave out --sheet, --keep-unconfirmed and --write-others, or name a file "
                "with -o"
            )
        result = self._result(photo, progress)
        if result.image is None:
            return Outcome(result, None, None)
        sys.stdout.buffer.write(result.image)
        sys.stdout.buffer.flush()
        return Outcome(result, STREAM, None)

    def _result(self, photo: Photo | LargePhoto, progress: ProgressCallback | None) -> ProtectResult:
        return self._protector.protect(photo, progress=progress, **self._asked)

    def _check(self, target: Path, source: Path) -> None:
        """Raise OutputError for a target that cannot be written, or that would replace another photo of this run."""
        check_output(target, source, force=self._may_replace(target))
        if target.absolute() in self._written:
            raise OutputError(f"{target}: was written for another photo of this run. Give {source} a run of its own")
        if target.absolute() in self._inputs:
            raise OutputError(f"{target}: is itself a photo given in this run. Leave it out, or choose another -o")
        if target.parent not in self._swept:
            sweep(target.parent)
            self._swept.add(target.parent)

    def _write(self, target: Path, data: bytes) -> Path:
        write_atomic(target, data, force=self._may_replace(target))
        self._written.add(target.absolute())
        return target

    def _may_replace(self, target: Path) -> bool:
        """Whether an output of that name may be replaced: it may always, or it is what a run that was killed has left."""
        return self._force or (self._ours and (target.stem.endswith("_sheet") or mark_of_file(target) is not None))


def places_of(photo: Path, output: Destination | None, sheet: Destination | None) -> tuple[Path, ...]:
    """Every name that an output of ``photo`` may get, that of the protected photo first; none where it goes to standard output."""
    if output == TO_STDOUT:
        return ()
    name = f"{photo.stem}_protected{photo.suffix}"
    target = photo.parent / name if output is None else output.path / name if output.is_folder else output.path
    drawn = () if sheet is None else (sheet.path / f"{photo.stem}_sheet.png" if sheet.is_folder else sheet.path,)
    return (target, named(target, "unconfirmed"), named(target, "partly"), *drawn)


def named(target: Path, word: str) -> Path:
    """The output's name with another word in place of "protected"."""
    return target.with_name(f"{target.stem.removesuffix('_protected')}_{word}{target.suffix}")


def _sheet(photo: Photo | LargePhoto, data: bytes, result: ProtectResult) -> Image.Image:
    """The sheet of a result from the windows of its faces."""
    canvas = canvas_of(photo)
    places = [Face(face.box, np.array(face.points), face.score) for face in result.faces]
    windows = canvas.windows(places)
    views = zip(canvas.cuts(windows), canvas.cuts_of(data, windows), strict=True)
    local = [window.local(place).points.tolist() for window, place in zip(windows, places, strict=True)]
    return sheet_of([(*view, replace(face, points=points)) for view, face, points in zip(views, result.faces, local, strict=True)])


def store_of(engines: Path | None) -> Store | None:
    """Engines of the user's own before those that ship; raises UsageError for a folder that is none."""
    if engines is not None and not engines.is_dir():
        raise UsageError(f"{engines}: no such folder. Make engines: faceprotect-sdk export diffusion SOURCE -o {shlex.quote(str(engines))}")
    return None if engines is None else Store([engines, *Store().roots])

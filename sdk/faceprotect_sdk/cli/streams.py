"""Standard streams as a process may meet them: closed, full, left by their reader, or in an encoding without the letters of a name.

What cannot be printed on stdout ends the run with one sentence that blames no photo; what cannot be printed on stderr ends nothing.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from faceprotect_sdk.errors import ReportError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT, _STDERR = 1, 2


class _Report(io.FileIO):
    """Standard output. The first failure is a ReportError; what comes after it is dropped, or leaving would fail once more."""

    failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        if not self.failed:
            try:
                return super().write(data) or 0
            except OSError as error:
                self.failed = True
                raise ReportError(_said_of(error)) from error
        return memoryview(data).nbytes


class _Messages(io.FileIO):
    """Standard error: a message that nobody can be told is no reason to stop."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def _said_of(error: OSError) -> str:
    if error.errno == errno.EPIPE:
        return "nobody reads standard output any more, so the run stops here; what was written so far is complete"
    return (
        f"standard output cannot be written ({error.strerror or error}), so the run stops here; what was written so far is complete. "
        "Send it elsewhere: > FILE"
    )


def prepare() -> None:
    """Make the standard streams of this process ready, at its very start.

    A closed one becomes the null device, so that no file of ours can get its number and be written into by a library. A letter that the
    encoding has not is printed as its number.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # takes the lowest number that is free, which is this one; a closed stdout stays one that cannot be written
            os.open(os.devnull, os.O_WRONLY if number == _STDERR else os.O_RDONLY)
    sys.stdout = _stream(sys.stdout, _STDOUT, _Report)
    sys.stderr = _stream(sys.stderr, _STDERR, _Messages)


def _stream(given: TextIO | None, number: int, kind: type[io.FileIO]) -> TextIO:
    terminal = os.isatty(number)
    if sys.platform == "win32" and terminal and isinstance(given, io.TextIOWrapper):
        given.reconfigure(errors="backslashreplace")  # Python's own way to a console there has no number
        return given
    encoding = "utf-8" if given is None else given.encoding
    raw = io.BufferedWriter(kind(number, "wb", closefd=False))
    return io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", line_buffering=terminal or number == _STDERR)


def printable(text: object) -> str:
    """The text with every character that is none (a line feed or an escape in a file's name, half of a letter) as its number."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode("ascii") for letter in str(text)
    )

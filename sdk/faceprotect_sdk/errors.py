"""What can go wrong with a photo, and the exit code that each failure has on the command line.

All are :class:`FaceprotectError`, as those of the engine floor are (:mod:`faceprotect_engines.errors`), and have its ``code`` and
``hint``; :func:`exit_code_of` maps both families.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from faceprotect_engines.errors import EngineError, FaceprotectError

__all__ = [
    "SEVERITY",
    "AlreadyProtected",
    "Cancelled",
    "EngineError",
    "ExitCode",
    "FaceprotectError",
    "NoFace",
    "NotProtected",
    "OutputError",
    "RecogniserError",
    "ReportError",
    "UnreadableInput",
    "UsageError",
    "WorkerLost",
    "WriteError",
    "exit_code_of",
    "worst",
]


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    PROTECTED = 0
    INTERNAL = 1
    USAGE = 2
    NO_FACE = 3
    UNREADABLE = 4
    ENGINE = 5
    STILL_MATCHED = 6
    INTERRUPTED = 130


#: Worst first. What stops every input is worse than what stops one; a file that was not looked at (4) is worse than
#: one that was looked at and left alone (6, 3).
SEVERITY: tuple[ExitCode, ...] = (
    ExitCode.INTERRUPTED,
    ExitCode.INTERNAL,
    ExitCode.ENGINE,
    ExitCode.USAGE,
    ExitCode.UNREADABLE,
    ExitCode.STILL_MATCHED,
    ExitCode.NO_FACE,
    ExitCode.PROTECTED,
)


class UsageError(FaceprotectError):
    """The call cannot mean anything: a bad option, an array of the wrong shape, a wrong suffix."""

    code = "usage"
    exit_code = ExitCode.USAGE


class OutputError(UsageError):
    """The output cannot be written where it was asked for: it exists, is the input, or its folder refuses."""

    code = "output_refused"


class WriteError(FaceprotectError):
    """Writing failed half-way (disk full, device gone). Nothing was left behind."""

    code = "write_failed"
    exit_code = ExitCode.INTERNAL


class ReportError(FaceprotectError):
    """Standard output refuses what is to be printed: it is full, or its reader has gone. No photo is to blame."""

    code = "report_failed"
    exit_code = ExitCode.INTERNAL


class UnreadableInput(FaceprotectError):
    """The input is not a photo that can be protected: truncated, empty, mislabelled, animated, too large."""

    code = "unreadable_input"
    exit_code = ExitCode.UNREADABLE


class AlreadyProtected(FaceprotectError):
    """The photo has been protected before: a search away from that may end at the person again."""

    code = "already_protected"
    exit_code = ExitCode.UNREADABLE


class RecogniserError(FaceprotectError):
    """A recogniser given as a judge or surrogate cannot be used (file missing, no specification, package missing)."""

    code = "recogniser_unusable"
    exit_code = ExitCode.ENGINE


class NotProtected(FaceprotectError):
    """A result that is not protected was asked to be saved as if it were."""

    code = "not_protected"
    exit_code = ExitCode.STILL_MATCHED


class NoFace(NotProtected):
    """There is no face in a photo that needs one."""

    code = "no_face"
    exit_code = ExitCode.NO_FACE


class Cancelled(FaceprotectError):
    """The app asked for the end of a call that it had made; nothing was written, and the protector is as good as before."""

    code = "cancelled"
    exit_code = ExitCode.INTERRUPTED


class WorkerLost(FaceprotectError):
    """A process that worked on a photo has ended, killed from outside or by what it read; nothing was left half-written."""

    code = "worker_lost"
    exit_code = ExitCode.INTERNAL


def worst(codes: Iterable[int]) -> ExitCode:
    """The worst of several exit codes by :data:`SEVERITY`; ``PROTECTED`` for none."""
    present = {int(code) for code in codes}
    return next((code for code in SEVERITY if int(code) in present), ExitCode.PROTECTED)


def exit_code_of(error: BaseException) -> ExitCode:
    """Exit code for an error of either floor; ``INTERNAL`` for what nobody foresaw."""
    if isinstance(error, EngineError):
        return ExitCode.ENGINE
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return ExitCode(getattr(error, "exit_code", ExitCode.INTERNAL)) if isinstance(error, FaceprotectError) else ExitCode.INTERNAL

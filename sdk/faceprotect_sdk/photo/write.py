"""Files that are either whole or not there, and the one rule for folders: what is named as an output is made, folders included."""

from __future__ import annotations

import errno
import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from faceprotect_sdk.errors import OutputError, WriteError
from faceprotect_sdk.photo.reading import SUFFIXES, LargePhoto, Photo

ELSEWHERE = "Choose another path"


@dataclass(frozen=True)
class Destination:
    """What an option names as the place for what is written: a file, or a folder.

    ``slash``: the name ended with a slash, and so means a folder whatever it looks like.
    """

    path: Path
    slash: bool = False

    @classmethod
    def of(cls, text: str) -> Destination:
        """As typed."""
        return cls(Path(text), text.endswith(tuple(mark for mark in (os.sep, os.altsep) if mark)))

    @property
    def is_folder(self) -> bool:
        """Whether a folder is meant: one that is there, a name that ends with a slash, or one without a suffix."""
        return self.slash or is_folder(self.path) or not self.path.suffix

    def __str__(self) -> str:
        """As it is to be named in a message."""
        return f"{self.path}{os.sep if self.slash else ''}"


def for_several(given: Destination, option: str) -> None:
    """Raise :class:`OutputError` unless several files may go there."""
    if not given.is_folder:
        remedy = f"{option} {shlex.quote(str(given.path) + os.sep)}"
        raise OutputError(f"{given}: several photos need a folder. A slash at the end of the name says that it is one: {remedy}")


def output_path(photo: Photo | LargePhoto, output: Destination | None, *, marker: str = "protected") -> Path:
    """Where the result of ``photo`` goes: ``output``, or ``<stem>_<marker>.<ext>`` in that folder or beside the input.

    Raises :class:`OutputError` if the suffix of ``output`` is not one of the photo's container: the container is kept.
    """
    source = photo.path or Path(f"photo{SUFFIXES[photo.container][0]}")
    name = f"{source.stem}_{marker}{source.suffix}"
    if output is None:
        return source.with_name(name)
    if output.is_folder:
        return output.path / name
    check_suffix(output.path, photo.container)
    return output.path


def sheet_path(source: Path, given: Destination) -> Path:
    """Where the picture of a protection goes: ``given``, or ``<stem>_sheet.png`` in it where that is a folder.

    Raises :class:`OutputError` for a suffix that is neither PNG's nor JPEG's.
    """
    path = given.path / f"{source.stem}_sheet.png" if given.is_folder else given.path
    if path.suffix.lower() not in (*SUFFIXES["PNG"], *SUFFIXES["JPEG"]):
        raise OutputError(f"{path}: a sheet is a PNG or a JPEG. Name it {shlex.quote(str(path.with_suffix('.png')))}")
    return path


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; raises :class:`OutputError` where the rights do not even let one look."""
    try:
        return path.is_dir()
    except OSError as error:
        raise OutputError(f"{path}: cannot be reached ({error.strerror or error})", hint=ELSEWHERE) from error


def check_suffix(path: Path, container: str) -> None:
    """Raise :class:`OutputError` unless the name says what will be in the file."""
    if path.suffix.lower() not in SUFFIXES[container]:
        wanted = path.with_suffix(SUFFIXES[container][0])
        raise OutputError(f"{path}: the output keeps the input's container, {container}. Name it {shlex.quote(str(wanted))}")


def check_output(path: Path, source: Path | None, *, force: bool) -> None:
    """Raise :class:`OutputError` for what would fail after the work is done; writes nothing."""
    _check_name(path)
    if is_folder(path):
        raise OutputError(f"{path}: is a folder", hint=f"Name a file in it: {shlex.quote(str(path / 'NAME'))}")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise OutputError(f"{path}: is the input itself, and the original is never replaced", hint=ELSEWHERE)
    if path.exists() and not force:
        raise OutputError(f"{path}: already exists", hint="Pass force=True to replace it, or choose another path")
    folder = _nearest(path.parent)
    if not folder.is_dir():
        raise OutputError(f"{folder}: is a file, so that there can be no {path}", hint=ELSEWHERE)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: the folder is not writable", hint=ELSEWHERE)


def _nearest(folder: Path) -> Path:
    """The folder, or what there is of the way to it."""
    return next((there for there in (folder, *folder.parents) if there.exists()), folder)


def _check_name(path: Path) -> None:
    """Ask the file system itself whether it could have a file of that name: how long one may be differs from one to the other."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except ValueError as error:
        raise OutputError(f"{str(path)!r}: no file can be called so ({error})", hint=ELSEWHERE) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            size = len(os.fsencode(path.name))
            raise OutputError(f"{path}: the name is too long for this folder ({size} bytes)", hint="Choose a shorter path") from error
        raise OutputError(f"{path}: cannot be reached ({error.strerror or error})", hint=ELSEWHERE) from error


def write_atomic(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write ``data`` to ``path`` so that the file is either complete or absent.

    Folders on the way to it that are missing are made. A temporary file beside it is filled, flushed to the disk, and moved into place;
    whatever goes wrong, interruption included, removes it. Without ``force`` an existing file is never replaced, even one that appears
    meanwhile.
    Raises :class:`OutputError` or :class:`WriteError`.
    """
    _make_folder(path.parent)
    try:
        with _part(path.parent) as (stream, temporary):
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            _publish(stream, temporary, path, force)
    except FileExistsError as error:
        raise OutputError(f"{path}: already exists", hint="Pass force=True to replace it, or choose another path") from error
    except PermissionError as error:
        raise OutputError(f"{path.parent}: the folder is not writable", hint=ELSEWHERE) from error
    except OSError as error:
        raise WriteError(
            f"{path}: writing failed ({error.strerror or error}); nothing was left behind",
            hint="Free some space or choose another path, then run it again",
        ) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: this folder cannot be made ({error.strerror or error})", hint=ELSEWHERE) from error


#: Name of a file that is being written. It is short: that of the photo may be as long as the file system allows.
_PART = ".faceprotect-{}.part"


@contextmanager
def _part(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file for the data, locked for as long as it is written, so that :func:`sweep` lets it be; gone in the end under this name."""
    while True:
        temporary = folder / _PART.format(secrets.token_hex(6))
        try:
            with temporary.open("xb") as stream:
                if _lock(stream) is False:
                    continue  # another run has just swept it away
                yield stream, temporary
                return
        finally:
            temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a run that was killed outright has left half-written in the folder; what another run is writing now stays."""
    with suppress(OSError):
        for left in folder.glob(_PART.format("*")):
            with suppress(OSError):
                if os.name == "nt":
                    left.unlink()  # refused there for as long as it is open
                    continue
                with left.open("rb+") as stream:
                    if _lock(stream):
                        left.unlink(missing_ok=True)


def _lock(stream: BinaryIO) -> bool | None:
    """Lock the file for this process; False where another has it, or where it has lost its name meanwhile; None without locks."""
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None  # Windows, or a file system that knows none
    return os.fstat(stream.fileno()).st_nlink > 0


def _publish(stream: BinaryIO, temporary: Path, path: Path, force: bool) -> None:
    if force:
        _move(stream, temporary, path)
        return
    try:
        path.hardlink_to(temporary)  # fails if the name is taken: the only portable move that never replaces
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        if path.exists():  # a file system without hard links (FAT, some network shares)
            raise FileExistsError(path) from None
        _move(stream, temporary, path)


def _move(stream: BinaryIO, temporary: Path, path: Path) -> None:
    if os.name == "nt":
        stream.close()  # an open file cannot be moved there
    temporary.replace(path)

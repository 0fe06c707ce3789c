"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from faceprotect_sdk.errors import OutputError, WriteError
from faceprotect_sdk.photo import SUFFIXES, LargePhoto, Photo


def output_path(photo: Photo | LargePhoto, output: Path | None, *, marker: str = "protected") -> Path:
    """Where the result of ``photo`` goes: ``output``, or ``<stem>_<marker>.<ext>`` in that folder or beside the input.

    ``output`` that is an existing folder, or has no suffix, is a folder. Raises :class:`OutputError` if the suffix of
    ``output`` is not one of the photo's container: the container is kept.
    """
    source = photo.path or Path(f"photo{SUFFIXES[photo.container][0]}")
    name = f"{source.stem}_{marker}{source.suffix}"
    if output is None:
        return source.with_name(name)
    if is_folder(output) or not output.suffix:
        return output / name
    check_suffix(output, photo.container)
    return output


def sheet_path(source: Path, given: Path) -> Path:
    """Where the picture of a protection goes: ``given``, or ``<stem>_sheet.png`` in it where that is a folder.

    Raises :class:`OutputError` for a suffix that is neither PNG's nor JPEG's.
    """
    path = given / f"{source.stem}_sheet.png" if is_folder(given) else given
    if path.suffix.lower() not in (*SUFFIXES["PNG"], *SUFFIXES["JPEG"]):
        raise OutputError(f"{path}: a sheet is a PNG or a JPEG. Name it '{path.with_suffix('.png')}'")
    return path


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; raises :class:`OutputError` where the rights do not even let one look."""
    try:
        return path.is_dir()
    except OSError as error:
        raise OutputError(f"{path}: cannot be reached ({error.strerror or error}). Choose another with -o") from error


def check_suffix(path: Path, container: str) -> None:
    """Raise :class:`OutputError` unless the name says what will be in the file."""
    if path.suffix.lower() not in SUFFIXES[container]:
        wanted = path.with_suffix(SUFFIXES[container][0])
        raise OutputError(f"{path}: the output keeps the input's container, {container}. Name it '{wanted}'")


def check_output(path: Path, source: Path | None, *, force: bool) -> None:
    """Raise :class:`OutputError` for what would fail after the work is done; writes nothing."""
    _check_name(path)
    if is_folder(path):
        raise OutputError(f"{path}: is a folder. Name a file in it: -o '{path}/NAME'")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise OutputError(f"{path}: is the input itself, and the original is never replaced. Choose another -o")
    if path.exists() and not force:
        raise OutputError(f"{path}: already exists. Add --force to replace it, or choose another -o")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder. Create it first: mkdir -p '{folder}'")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: the folder is not writable. Choose another with -o")


def _check_name(path: Path) -> None:
    """Ask the file system itself whether it could have a file of that name: how long one may be differs from one to the other."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return
    except ValueError as error:
        raise OutputError(f"{str(path)!r}: no file can be called so ({error}). Choose another with -o") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            size = len(os.fsencode(path.name))
            raise OutputError(f"{path}: the name is too long for this folder ({size} bytes). Choose a shorter one with -o") from error
        raise OutputError(f"{path}: cannot be reached ({error.strerror or error}). Choose another with -o") from error


def write_atomic(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write ``data`` to ``path`` so that the file is either complete or absent.

    A temporary file beside it is filled, flushed to the disk, and moved into place; whatever goes wrong, interruption
    included, removes it. Without ``force`` an existing file is never replaced, even one that appears meanwhile.
    Raises :class:`OutputError` or :class:`WriteError`.
    """
    try:
        with _part(path.parent) as (stream, temporary):
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            _publish(stream, temporary, path, force)
    except FileExistsError as error:
        raise OutputError(f"{path}: already exists. Add --force to replace it, or choose another -o") from error
    except PermissionError as error:
        raise OutputError(f"{path.parent}: the folder is not writable. Choose another with -o") from error
    except OSError as error:
        raise WriteError(
            f"{path}: writing failed ({error.strerror or error}); nothing was left behind. "
            "Free some space or choose another -o, then run it again"
        ) from error


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

"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from faceprotect_sdk.errors import OutputError, WriteError
from faceprotect_sdk.photo import SUFFIXES, Photo


def output_path(photo: Photo, output: Path | None, *, marker: str = "protected") -> Path:
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


def write_atomic(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write ``data`` to ``path`` so that the file is either complete or absent.

    A temporary file beside it is filled, flushed to the disk, and moved into place; whatever goes wrong, interruption
    included, removes it. Without ``force`` an existing file is never replaced, even one that appears meanwhile.
    Raises :class:`OutputError` or :class:`WriteError`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        _publish(temporary, path, force)
    except FileExistsError as error:
        raise OutputError(f"{path}: already exists. Add --force to replace it, or choose another -o") from error
    except PermissionError as error:
        raise OutputError(f"{path.parent}: the folder is not writable. Choose another with -o") from error
    except OSError as error:
        raise WriteError(
            f"{path}: writing failed ({error.strerror or error}); nothing was left behind. "
            "Free some space or choose another -o, then run it again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path, force: bool) -> None:
    if force:
        temporary.replace(path)
        return
    try:
        path.hardlink_to(temporary)  # fails if the name is taken: the only portable move that never replaces
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        if path.exists():  # a file system without hard links (FAT, some network shares)
            raise FileExistsError(path) from None
        temporary.replace(path)

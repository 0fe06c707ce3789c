"""Temporary folders in the cache, and what becomes of those that a killed run has left half-filled.

Whoever fills one holds a lock on it (flock(2)), which the system takes back when the process ends, however it ends: so a folder whose lock
is free belongs to nobody. Where there are no such locks nothing is removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder ``<prefix>...`` in ``parent``, gone in the end unless it was renamed; those left by killed runs go first.

    Raises OSError where ``parent`` cannot be written.
    """
    sweep(parent, prefix)
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        lock = _lock(folder)
        if folder.is_dir():
            break
        _unlock(lock)  # another run has swept it away before it was locked
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def sweep(parent: Path, prefix: str) -> None:
    """Remove the folders ``<prefix>...`` in ``parent`` that nobody is filling."""
    for left in parent.glob(f"{prefix}*"):
        lock = _lock(left)
        if lock is not None:
            shutil.rmtree(left, ignore_errors=True)
            _unlock(lock)


def _lock(folder: Path) -> int | None:
    """An open descriptor that holds the lock; None where another has it, or nobody can have one."""
    descriptor: int | None = None
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows opens no folder; not every file system has locks
        _unlock(descriptor)
        return None
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        with suppress(OSError):
            os.close(descriptor)

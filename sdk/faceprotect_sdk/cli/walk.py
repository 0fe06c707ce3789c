"""What the names on a command line stand for: files, folders with photos in them, and "-" for standard input."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from faceprotect_sdk.cli.own_outputs import ENDINGS
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.photo.reading import SUFFIXES

#: Standard input, or output.
STREAM = Path("-")
_KNOWN = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)


def photos_in(names: Sequence[Path], *, recursive: bool) -> tuple[Path, ...]:
    """Every photo once, in order; with ``recursive`` a folder stands for the photos in it and below, sorted by name.

    Of a folder only photos by their suffix (``formats.SUFFIXES``) are taken, without hidden ones and without what a run before has written
    (``own_outputs.ENDINGS``). Links to folders are not followed. Raises UsageError where folders hold no photo at all.
    """
    found: list[Path] = []
    for name in names:
        found += _below(name) if recursive and name.is_dir() else [name]
    if not found:
        raise UsageError(f"no JPEG, PNG, WebP, AVIF or HEIC photo in: {', '.join(str(name) for name in names)}")
    return tuple(dict.fromkeys(found))


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(files) if _is_photo(Path(name)))


def _is_photo(name: Path) -> bool:
    return name.suffix.lower() in _KNOWN and not name.stem.endswith(ENDINGS) and not name.name.startswith(".")

"""Whether a file or folder is there, as far as the rights let one see.

``Path.is_file`` raises PermissionError below a folder that may not be entered, on every Python before 3.14.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether there is a regular file, reached through links or not."""
    found = _status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: Path) -> bool:
    """Whether there is a folder, reached through links or not."""
    found = _status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_there(path: Path) -> bool:
    """Whether there is anything."""
    return _status(path) is not None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None

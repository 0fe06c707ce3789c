"""Which of several files given to ``protect`` are outputs of it: a pattern like ``*.jpg`` finds those of the run before, too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faceprotect_sdk.errors import AlreadyProtected
from faceprotect_sdk.photo.mark import mark_of_file

#: Why a marked photo is left out: its name is that of an output of ours, and may be replaced.
MARKED = "it has been protected before"
#: How names of outputs end (``write.output_path``, ``write.sheet_path``).
ENDINGS = ("_protected", "_unconfirmed", "_partly", "_sheet")


def without_outputs(photos: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """The photos to protect, and of those left out why.

    Of a single photo nothing is left out: whoever names it means it, and it is refused if it is marked. Raises
    AlreadyProtected where nothing is left.
    """
    if len(photos) < 2:
        return list(photos), {}
    left_out = {photo: why for photo in photos if (why := _why(photo)) is not None}
    if len(left_out) == len(set(photos)):
        raise AlreadyProtected(
            "every photo given has been protected before, or has the name of an output. Give the originals, or insist: --again"
        )
    return [photo for photo in photos if photo not in left_out], left_out


def _why(photo: Path) -> str | None:
    if mark_of_file(photo) is not None:
        return MARKED
    if photo.stem.endswith(ENDINGS):
        return "its name is that of an output; protect it by itself if it is none"
    return None

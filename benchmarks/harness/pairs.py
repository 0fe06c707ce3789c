"""Pairs of photos: ``train_align/`` holds the photo to protect, ``test_align/`` another photo of the same person, by number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import UnreadableInput, UsageError
from faceprotect_sdk.photo.reading import SUFFIXES, load

PHOTO, PARTNER = "train_align", "test_align"
_KNOWN = tuple(suffix for group in SUFFIXES.values() for suffix in group)


@dataclass(frozen=True)
class Pair:
    """Two photos of one person; ``number`` is what both names have in common."""

    number: str
    photo: Path
    partner: Path


def read_pairs(folder: Path) -> list[Pair]:
    """Pairs of a folder in the order of their numbers, every file decoded once.

    Raises UsageError for a missing or empty folder, a missing partner or two files of one number, UnreadableInput for a
    file that is no photo.
    """
    photos, partners = numbered(folder / PHOTO), numbered(folder / PARTNER)
    if alone := sorted(photos.keys() ^ partners.keys(), key=int):
        raise UsageError(f"{folder}: without a partner in the other folder: {', '.join(alone)}. Add it, or remove the photo")
    pairs = [Pair(number, photos[number], partners[number]) for number in sorted(photos, key=int)]
    for pair in pairs:
        load(pair.photo)
        load(pair.partner)
    return pairs


def numbered(folder: Path) -> dict[str, Path]:
    """Photos of a folder by the last number in their names; raises UsageError where that does not name one each."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder. --pairs needs the folders {PHOTO}/ and {PARTNER}/")
    found: dict[str, Path] = {}
    for path in photos_of(folder):
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise UsageError(f"{path}: its name has no number to pair it by. Rename it, for example to photo_1{path.suffix}")
        if (first := found.setdefault(str(int(numbers[-1])), path)) != path:
            raise UsageError(f"{folder}: {first.name} and {path.name} have the same number. Rename one")
    if not found:
        raise UsageError(f"{folder}: no photos in it ({', '.join(_KNOWN)}). Check the path given to --pairs")
    return found


def target_pixels(path: Path) -> NDArray[np.uint8]:
    """uint8 RGB of a target, whatever its name says: the papers' own decoy is a JPEG that is called PNG."""
    try:
        return load(path.read_bytes()).rgb8()
    except UnreadableInput as error:
        raise UnreadableInput(f"{path}: {error}") from error


def photos_of(folder: Path) -> list[Path]:
    """Files of a folder with a photo's suffix, by name."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix.lower() in _KNOWN]

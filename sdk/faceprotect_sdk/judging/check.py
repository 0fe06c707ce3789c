"""Compare an original with its protected version on the pixels as decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk._version import __version__
from faceprotect_sdk.face.align import tilt
from faceprotect_sdk.face.detect import Face, overlap, scaled, shift, turned
from faceprotect_sdk.face.mesh import Network
from faceprotect_sdk.face.selection import Detect, Selection, select
from faceprotect_sdk.judging.judge import anchor, similarity_at, verdict
from faceprotect_sdk.judging.quality import measure
from faceprotect_sdk.judging.recognisers import Recogniser
from faceprotect_sdk.photo.reading import Photo
from faceprotect_sdk.progress import Progress, ProgressCallback
from faceprotect_sdk.result import CheckResult, FaceCheck, Verdict

_SAME_PLACE = 0.5
_SAME_ASPECT = 0.02
_SAME_TILT = 45.0


def check_photos(
    original: Photo,
    protected: Photo,
    selection: Selection,
    panel: Sequence[Recogniser],
    dependent: AbstractSet[str],
    detect: Detect,
    notes: tuple[str, ...] = (),
    mesh: Network | None = None,
    progress: ProgressCallback | None = None,
) -> CheckResult:
    """Verdicts of ``panel`` on every selected face; ``dependent`` names those that took part in the search.

    ``mesh``: the network of ``Quality.mesh_moved``, where there is one.

    Either photo may lie on its side: every face is aligned in the turn in which it is found.
    The face is looked for in the protected photo too, and each recogniser gets the better of the two cuts: a shift of
    the detector's points must not pass for protection.
    """
    first, second = original.rgb8(), protected.rgb8()
    chosen, _ = select(first, selection, detect)
    others = detect(second)
    checks = []
    for index, face in enumerate(chosen):
        asking = partial(_report, progress, index, len(chosen), len(panel))
        checks.append(_check_face(index, face, first, second, others, panel, dependent, mesh, asking))
    faces = tuple(check for check in checks if check is not None)
    if len(faces) < len(chosen):
        notes += (f"{len(chosen) - len(faces)} of the original's faces are not in the protected photo: not compared",)
    independent = sum(recogniser.name not in dependent for recogniser in panel)
    if not independent:
        notes += ("no recogniser here is independent of the search; add one: pip install 'faceprotect-sdk[judge]'",)
    matched = any(face.matched for face in faces)
    return CheckResult(
        status="no_face" if not faces else "still_matched" if matched else "not_matched",
        faces=faces,
        independent=independent,
        identical=first.shape == second.shape and bool((first == second).all()),
        version=__version__,
        notes=notes,
    )


def _check_face(
    index: int,
    face: Face,
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    others: Sequence[Face],
    panel: Sequence[Recogniser],
    dependent: AbstractSet[str],
    mesh: Network | None,
    asking: Callable[[int], None],
) -> FaceCheck | None:
    places, seen = _places(face, first.shape, second.shape, others)
    if not places:
        return None
    verdicts: list[Verdict] = []
    for number, recogniser in enumerate(panel):
        asking(number)
        similarity = similarity_at(anchor(recogniser, first, face), second, places, same_place=False)
        verdicts.append(verdict(recogniser, similarity, took_part=recogniser.name in dependent))
    moved = None if seen is None else shift(places[0], seen)
    figures = measure(first, face.points, second, places[0].points, points_moved=moved, mesh=mesh)
    return FaceCheck(index, face.box, tuple(verdicts), figures)


def _report(progress: ProgressCallback | None, face: int, faces: int, recognisers: int, number: int) -> None:
    if progress is not None:
        progress(Progress("compare", face, faces, number, recognisers))


def _places(face: Face, first: tuple[int, ...], second: tuple[int, ...], others: Sequence[Face]) -> tuple[list[Face], Face | None]:
    """Where the face may lie in the second photo: the same place (scaled), and where the detector finds it.

    The second photo may be the first in another of four turns: the place is carried along. Where the detector does not find
    the face there, or the second photo is cut otherwise, every face of that photo: the recognisers get the best of them, and
    a face that has only become hard to detect does not pass for protected. Also returns the face that the detector finds at
    the same place, if any.
    """
    for turns in range(4):
        moved = _carried(face, turns, first, second)
        nearest = None if moved is None else max(others, key=partial(overlap, moved), default=None)
        if moved is not None and nearest is not None and overlap(moved, nearest) >= _SAME_PLACE and _tilted_alike(moved, nearest):
            return [moved, nearest], nearest
    moved = _carried(face, 0, first, second)
    return ([*others] if moved is None else [moved, *others]), None


def _carried(face: Face, turns: int, first: tuple[int, ...], second: tuple[int, ...]) -> Face | None:
    """The face in the second photo, where that is the first in another size and after so many ``np.rot90``; else None."""
    height, width = first[:2] if turns % 2 == 0 else (first[1], first[0])
    ratio_y, ratio_x = second[0] / height, second[1] / width
    if abs(ratio_x / ratio_y - 1) >= _SAME_ASPECT:
        return None
    return scaled(turned(face, turns, first[1], first[0]), ratio_x, ratio_y)


def _tilted_alike(one: Face, other: Face) -> bool:
    return abs((tilt(one.points) - tilt(other.points) + 180) % 360 - 180) < _SAME_TILT

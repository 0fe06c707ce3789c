"""What a call found out: frozen, and ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import ExitCode, NoFace, NotProtected
from faceprotect_sdk.judging.quality import Quality

Status = Literal["protected", "partly_protected", "still_matched", "covered", "no_face"]
Measure = Literal["cosine", "distance"]
Goal = Literal["dodge", "decoy"]

#: The note of a result whose search the time budget has ended.
LATE = "the time budget ended a search: give it more time for more protection, or a smaller change"
_EXIT = {
    "protected": ExitCode.PROTECTED,
    "partly_protected": ExitCode.STILL_MATCHED,
    "still_matched": ExitCode.STILL_MATCHED,
    "covered": ExitCode.STILL_MATCHED,
    "no_face": ExitCode.NO_FACE,
}


@dataclass(frozen=True)
class Verdict:
    """One recogniser's opinion on one face, measured on decoded files.

    ``similarity``: original against protected; higher is more alike. ``before``: the same for the original written with
    the same settings, or None where there was nothing to write (``check``). ``decoy``: similarity of the protected face
    to the decoy, where there is one. ``matched``: ``similarity >= threshold``.
    ``measure``: "cosine", or "distance" where the recogniser's own figure is a distance; then ``distance`` and
    ``distance_threshold`` hold it, and the similarity is one minus it. ``took_part``: the search descended on this
    recogniser, or a network in it was trained against it, so that its verdict proves little.
    """

    recogniser: str
    similarity: float
    threshold: float
    matched: bool
    took_part: bool
    before: float | None = None
    decoy: float | None = None
    measure: Measure = "cosine"
    distance: float | None = None
    distance_threshold: float | None = None

    @property
    def excess(self) -> float:
        """How far above its threshold the similarity is; negative when it is not matched."""
        return self.similarity - self.threshold

    @property
    def figure(self) -> str:
        """The recogniser's own figure and threshold, in words."""
        if self.distance is not None:
            return f"distance {self.distance:.3f}, threshold {self.distance_threshold:.3f}"
        return f"similarity {self.similarity:+.3f}, threshold {self.threshold:.3f}"

    @property
    def part(self) -> str:
        """What the verdict proves, in words."""
        return "took part in the search: proves little" if self.took_part else "independent"


@dataclass(frozen=True)
class FaceResult:
    """One face. ``box`` x0, y0, x1, y1 and ``points`` five (x, y), both in pixels of the upright photo.

    ``status``: "protected" when no recogniser matches on the written bytes, "covered" where something before nose and mouth leaves nothing
    to change, else "still_matched". ``attempts``: number
    of searches; beyond the first, the verdicts on the one before decided that there is another. ``search_passed``: the
    search met its own margin. ``steps``: runs of gradient engines in all, those that refine an
    inversion or fit the budget too. ``decoy``: name of the face to be taken for. ``changed``: whether the bytes hold a change of this face;
    one that stays matched is left as it is in ``ProtectResult.partial``.
    """

    index: int
    box: tuple[float, float, float, float]
    points: tuple[tuple[float, float], ...]
    score: float
    status: Literal["protected", "still_matched", "covered"]
    verdicts: tuple[Verdict, ...]
    quality: Quality
    attempts: int
    search_passed: bool | None
    steps: int
    decoy: str | None = None
    changed: bool = True
    trace: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    @property
    def matched_by(self) -> list[str]:
        """Names of the recognisers that match it on the written bytes."""
        return [one.recogniser for one in self.verdicts if one.matched]

    def to_json(self) -> dict[str, Any]:
        """JSON object; without the per-step trace."""
        document = asdict(self)
        del document["trace"]
        return finite(document)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ProtectResult:
    """The outcome of ``Protector.protect``.

    ``image``: the protected photo as bytes of ``container``, present only if ``status`` is "protected".
    ``partial``: the photo in which some faces are protected and the others as they were; only where it was asked for, with the status
    "partly_protected", and no protected photo.
    ``unconfirmed``: the bytes of a photo that was changed but is still matched; never to be handed on as protected.
    ``timings``: seconds per stage. ``device``: what really ran, e.g. "cpu". ``devices``: the same per engine.
    ``searches``: whether the method searches, and ``beyond`` the name of one that gets further, if there is one; both are for advice.
    """

    status: Status
    faces: tuple[FaceResult, ...]
    faces_found: int
    image: bytes | None = field(repr=False)
    unconfirmed: bytes | None = field(repr=False)
    container: str
    size: tuple[int, int]
    method: str
    goal: Goal
    strength: str
    seed: int
    device: str
    devices: Mapping[str, str]
    timings: Mapping[str, float]
    version: str
    notes: tuple[str, ...] = ()
    partial: bytes | None = field(default=None, repr=False)
    searches: bool = True
    beyond: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """The command line's exit code for this result."""
        return _EXIT[self.status]

    @property
    def protected(self) -> bool:
        """Whether every selected face is protected and confirmed."""
        return self.status == "protected"

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """Upright uint8 RGB [H, W, 3] as decoded from ``image``, anew at every access; None where that is None.

        These are for showing: encode them otherwise, and no verdict holds. :meth:`Protector.encode` makes and scores other bytes.
        """
        if self.image is None:
            return None
        from faceprotect_sdk.photo.reading import load

        return load(self.image).rgb8()

    @property
    def matched_faces(self) -> tuple[FaceResult, ...]:
        """The faces that are not protected."""
        return tuple(face for face in self.faces if face.status != "protected")

    @property
    def advice(self) -> str:
        """What to try next where the photo is not protected, as arguments of calls; empty where it is."""
        if self.protected:
            return ""
        others = len(self.matched_faces) < len(self.faces) and self.status != "partly_protected"
        return self._advice + ("; or write it with the other faces protected: write_others=True" if others else "")

    @property
    def _advice(self) -> str:
        if all(face.status == "covered" for face in self.matched_faces) and self.faces:
            return "Give a photo without mask or hand before the face; where there is neither, insist: even_covered=True"
        if self.status == "no_face":
            return "Pass a photo in which a face is larger or sharper"
        if LATE in self.notes:
            return "The search ended with its time: give it more, time_budget=SECONDS, or leave it out"
        if not self.searches:
            return f"'{self.method}' does not search; method='{self.beyond}' does, and gets further"
        higher = "No strength is higher" if self.strength == "high" else "Try strength='high', which may be seen"
        matched = [one for face in self.faces for one in face.verdicts if one.matched]
        if not all(one.took_part for one in matched):
            return f"{higher}; more recognisers to search on help against those outside the search: faceprotect-sdk engines fetch all"
        if self.strength == "high" and self.beyond:
            return f"{higher}; method='{self.beyond}' searches longer"
        return higher

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the protected photo atomically; never replaces a file without ``force``.

        Raises :class:`NotProtected` if the status is anything but "protected" (:class:`NoFace` where there is none), OutputError for a
        suffix that is not the container's, and what :func:`faceprotect_sdk.photo.write.write_atomic` raises.
        """
        from faceprotect_sdk.photo.write import check_output, check_suffix, write_atomic

        if self.image is None:
            kind = NoFace if self.status == "no_face" else NotProtected
            raise kind(f"the photo is not protected (status {self.status}), so nothing is written to {path}", hint=self.advice)
        check_suffix(Path(path), self.container)
        check_output(Path(path), None, force=force)
        write_atomic(Path(path), self.image, force=force)
        return Path(path)

    def to_json(self) -> dict[str, Any]:
        """JSON object without the image bytes."""
        return {
            "status": self.status,
            "exit_code": int(self.exit_code),
            "faces_found": self.faces_found,
            "faces": [face.to_json() for face in self.faces],
            "faces_not_protected": [
                {"index": face.index, "box": list(face.box), "status": face.status, "matched_by": face.matched_by}
                for face in self.matched_faces
            ],
            "container": self.container,
            "size": list(self.size),
            "method": self.method,
            "goal": self.goal,
            "strength": self.strength,
            "seed": self.seed,
            "device": self.device,
            "devices": dict(self.devices),
            "timings": {stage: round(seconds, 4) for stage, seconds in self.timings.items()},
            "version": self.version,
            "notes": list(self.notes),
        }


def status_of(faces: Sequence[FaceResult], *, partly: bool) -> Status:
    """What is to be said of a photo with these faces; ``partly``: those that are not protected were left as they were."""
    statuses = {face.status for face in faces}
    if not statuses:
        return "no_face"
    if statuses == {"protected"}:
        return "protected"
    if partly and "protected" in statuses:
        return "partly_protected"
    return "still_matched" if "still_matched" in statuses else "covered"


@dataclass(frozen=True)
class FaceCheck:
    """Verdicts on one face of the original against the protected photo."""

    index: int
    box: tuple[float, float, float, float]
    verdicts: tuple[Verdict, ...]
    quality: Quality

    @property
    def matched(self) -> bool:
        """Whether any recogniser still matches."""
        return any(verdict.matched for verdict in self.verdicts)


@dataclass(frozen=True)
class CheckResult:
    """The outcome of ``Protector.check``. ``independent``: how many recognisers took no part in the search."""

    status: Literal["not_matched", "still_matched", "no_face"]
    faces: tuple[FaceCheck, ...]
    independent: int
    identical: bool
    version: str
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """The command line's exit code for this result."""
        return {
            "not_matched": ExitCode.PROTECTED,
            "still_matched": ExitCode.STILL_MATCHED,
            "no_face": ExitCode.NO_FACE,
        }[self.status]

    def to_json(self) -> dict[str, Any]:
        """JSON object."""
        return finite({**asdict(self), "exit_code": int(self.exit_code)})  # type: ignore[no-any-return]


def finite(value: Any) -> Any:
    """The same document with None for every number that is not finite: JSON has no word for those."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value

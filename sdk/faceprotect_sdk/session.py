"""One face on its way through a protection: search, paste, score on the written bytes, search again if need be."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.cancel import Check
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.covered import is_covered
from faceprotect_sdk.face.detect import Face, shift
from faceprotect_sdk.face.mesh import Network
from faceprotect_sdk.face.paste import paste_into
from faceprotect_sdk.face.window import Window
from faceprotect_sdk.judging import undoing
from faceprotect_sdk.judging.judge import Anchor, anchor, similarity_at, verdict
from faceprotect_sdk.judging.quality import measure
from faceprotect_sdk.judging.recognisers import EngineRecogniser, Recogniser
from faceprotect_sdk.methods.base import Method, SearchRequest, SearchResult, Strength
from faceprotect_sdk.methods.decoys import Decoy, Decoys
from faceprotect_sdk.photo.picture import Pixels
from faceprotect_sdk.progress import Progress, ProgressCallback
from faceprotect_sdk.result import FaceResult, Verdict

#: Beyond what was missing, so that the next attempt does not end at the threshold again; in spreads.
_STEP = 0.2
_LARGEST_STEP = 0.4
#: A photo that is still matched by less than this, in spreads, may not be with other draws: its search is worth another seed.
_NEAR = 0.1
#: A shift that no recogniser's alignment feels, as a part of the face's width.
_MOVED = 0.005


#: Finds a given face in a photo of the same size, or None.
Look = Callable[[NDArray[np.uint8], Face], Face | None]


class Stopwatch:
    """Adds up seconds per stage."""

    def __init__(self) -> None:
        """Nothing measured yet."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure a block as part of ``stage``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


@dataclass
class FaceSession:
    """The state of one face between attempts.

    ``window``: what is looked at of the photo. ``face`` and all that is said of places here are in its pixels.
    ``seen``: the detector's near view of the original face; ``moved``: how far its points went, as a part of the
    face's width. ``anchors``: every recogniser's view of the original face. ``references``: the unit embeddings [1, E]
    that the search moves away from, at similarities ``origins`` to begin with (1 if not named). ``decoy``: the face to be
    taken for, if there is one, and how every recogniser sees it. ``dependent``: names of the recognisers that the search
    touches, or that it has learnt from. ``before``: similarity of the merely re-encoded photo. ``left_out``: the face stays as it is in
    the photo, and is scored all the same. ``covered``: something is before nose and mouth, which is why it is left out.
    """

    index: int
    window: Window
    face: Face
    seen: Face | None
    crop: NDArray[np.float32]
    anchors: Sequence[Anchor]
    references: Mapping[str, NDArray[np.float32]]
    origins: Mapping[str, float]
    dependent: AbstractSet[str]
    before: Mapping[str, float]
    strength: Strength
    decoy: Decoy | None = None
    decoy_anchors: Mapping[str, Anchor] = field(default_factory=dict)
    covered: bool = False
    left_out: bool = False
    attempts: int = 0
    moved: float | None = None
    found: SearchResult | None = None
    verdicts: tuple[Verdict, ...] = ()
    trace: list[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        index: int,
        face: Face,
        window: Window,
        pixels: NDArray[np.uint8],
        written: NDArray[np.uint8] | None,
        panel: Sequence[Recogniser],
        searched: Sequence[EngineRecogniser],
        dependent: AbstractSet[str],
        strength: Strength,
        look: Look,
        decoys: Decoys | None = None,
        even_covered: bool = False,
    ) -> FaceSession:
        """Embed the original. ``face``: in the photo. ``pixels``, ``written``: its ``window`` as it is and as it is written, uint8 RGB.

        ``decoys``: one of them becomes the goal; None: away from oneself. ``even_covered``: a covered face is searched like any other.
        """
        face = window.local(face)
        crop = aligned_crop(pixels, face.points)
        covered = not even_covered and is_covered(crop)
        anchors = [anchor(recogniser, pixels, face) for recogniser in panel]
        embeddings = {one.recogniser.name: one.embedding for one in anchors}
        before = {one.recogniser.name: similarity_at(one, written if written is not None else pixels) for one in anchors}
        references = {one.name: _unit(embeddings[one.name]) for one in searched}
        origins: dict[str, float] = {}
        decoy, decoy_anchors = None, {}
        if decoys is not None:
            decoy = decoys.least_alike(embeddings, searched)
            references, origins = _towards({one.name: _unit(decoys.embedding(decoy, one)) for one in searched}, references)
            # At the face's own place, so that a photo is compared with the decoy where it is compared with itself.
            decoy_anchors = {one.recogniser.name: replace(one, embedding=decoys.embedding(decoy, one.recogniser)) for one in anchors}
        return cls(
            index=index,
            window=window,
            face=face,
            seen=look(pixels, face),
            crop=crop,
            anchors=anchors,
            references=references,
            origins=origins,
            decoy=decoy,
            decoy_anchors=decoy_anchors,
            dependent=dependent,
            before=before,
            strength=strength,
            covered=covered,
            left_out=covered,
        )

    @property
    def wants_search(self) -> bool:
        """Whether the written bytes are not, or not yet, found unmatched, and there is something left to try within the budget."""
        if self.left_out:
            return False
        if self.found is None or not self.verdicts:
            return True
        return self.matched and (self.found.passed is not False or self._missing < _NEAR)

    @property
    def _missing(self) -> float:
        """How far above its threshold the most stubborn recogniser is, in its spreads; 0 where none matches, infinite for no number."""
        spreads = {one.recogniser.name: one.recogniser.spread for one in self.anchors}
        lacks = [one.excess / spreads[one.recogniser] for one in self.verdicts if one.matched]
        return max((lack if np.isfinite(lack) else np.inf for lack in lacks), default=0.0)

    def search(
        self,
        method: Method,
        mask: NDArray[np.float32],
        seed: int,
        progress: ProgressCallback | None,
        faces: int,
        deadline: float = math.inf,
        searches: int = 1,
        check: Check | None = None,
    ) -> None:
        """Search once, of at most ``searches`` times; beyond the first with a margin widened by what was missing.

        The budget stays: it is what people see.
        """
        if self.verdicts:
            self.strength = self.strength.beyond(float(np.clip(self._missing, 0.0, _LARGEST_STEP)) + _STEP)
        search = self.attempts
        share = method.attempts[min(search, len(method.attempts) - 1)] if method.attempts else 1.0

        def report(step: int, steps: int) -> None:
            if progress is not None:
                progress(Progress("search", self.index, faces, step, steps, search, searches))

        limits = {one.name: self._limit(one) for one in method.surrogates()}
        decoy = self.decoy.name if self.decoy else None
        request = SearchRequest(
            self.crop, mask, self.references, limits, share * self.strength.budget, seed, report, self.origins, decoy, deadline, check
        )
        self.found = method.search(request)
        self.attempts += 1
        self.trace += [{**row, "attempt": self.attempts} for row in self.found.trace]
        self.verdicts = ()

    def undone(self, mask: NDArray[np.float32]) -> float:
        """Part of the last search's change that takes away what stands in the face; 0 before there was one."""
        return 0.0 if self.found is None else undoing.share(self.crop, self.found.difference, mask)

    def _limit(self, surrogate: EngineRecogniser) -> float:
        """To get below: similarity to oneself, or with a decoy the part of the embedding along the way from there to oneself."""
        if self.decoy is None:
            return self.strength.limit(surrogate)
        return -self.strength.past_the_middle * self.origins[surrogate.name]

    def paste(self, pixels: Pixels, mask: NDArray[np.float32], grey: bool) -> None:
        """Add this face's difference to the photo, in place; nothing where it is left out."""
        if self.found is not None and not self.left_out:
            paste_into(pixels, self.found.difference, mask, self.window.back(self.face).points, grey=grey)

    def score(self, written: NDArray[np.uint8], look: Look) -> None:
        """Verdicts on the decoded bytes, at the original's place and, where the detector's points moved, at theirs.

        ``written``: the window of the written photo. ``look``: finds the face there.
        """
        after = look(written, self.face)
        places = [self.face]
        if self.seen is not None and after is not None:
            self.moved = shift(self.seen, after)
            if self.moved > _MOVED:
                places = [Face(self.face.box, self.face.points + after.points - self.seen.points, self.face.score)]
        else:
            self.moved = None
        self.verdicts = tuple(
            verdict(
                one.recogniser,
                similarity_at(one, written, self._places(one, places)),
                took_part=one.recogniser.name in self.dependent,
                before=self.before[one.recogniser.name],
                decoy=similarity_at(self.decoy_anchors[one.recogniser.name], written) if self.decoy else None,
            )
            for one in self.anchors
        )

    def _places(self, one: Anchor, places: Sequence[Face]) -> Sequence[Face]:
        """Further places to embed at; the original's own is embedded anyway."""
        return places if places[0] is not self.face or one.recogniser.own_landmarks else ()

    @property
    def matched(self) -> bool:
        """Whether a recogniser matches the written bytes, or none has been asked."""
        return not self.verdicts or any(one.matched for one in self.verdicts)

    def result(self, pixels: NDArray[np.uint8], written: NDArray[np.uint8], mesh: Network | None = None) -> FaceResult:
        """What is reported of the face as written, in pixels of the photo.

        ``pixels``, ``written``: the window of the original and of the written photo, uint8 RGB; ``mesh``: for the way of its points.
        """
        place = self.window.back(self.face)
        return FaceResult(
            index=self.index,
            box=place.box,
            points=tuple((float(x), float(y)) for x, y in place.points),
            score=self.face.score,
            status="covered" if self.covered else "still_matched" if self.matched else "protected",
            changed=self.found is not None and not self.left_out,
            decoy=self.decoy.name if self.decoy else None,
            verdicts=self.verdicts,
            quality=measure(pixels, self.face.points, written, self.face.points, points_moved=self.moved, mesh=mesh),
            attempts=self.attempts,
            search_passed=self.found.passed if self.found else None,
            steps=len(self.trace),
            trace=tuple(self.trace),
        )


def _towards(
    goals: Mapping[str, NDArray[np.float32]], own: Mapping[str, NDArray[np.float32]]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """References to move away from that lead to the ``goals``, and the similarities to them to begin with; all [1, E], of unit length.

    From oneself to the decoy: less of the one and more of the other count alike.
    """
    way = {name: own[name] - goal for name, goal in goals.items()}
    lengths = {name: max(float(np.linalg.norm(step)), 1e-6) for name, step in way.items()}
    origins = {name: float(np.vdot(own[name], step)) / lengths[name] for name, step in way.items()}
    return {name: np.asarray(step / lengths[name], np.float32) for name, step in way.items()}, origins


def _unit(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(embedding / max(float(np.linalg.norm(embedding)), 1e-12), np.float32)[None]

"""One face that is followed: where it is, what lies on it, and what that counts for.

All of a face's places are kept in the frame at which it was first seen: its points, and where its changes lie. ``moved`` brings them
to the present frame. So a look that comes back late says something of a frame that has passed, and is still put in the right place, and
points that are corrected do not push a change about that lies well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from faceprotect_sdk.face.align import Matrix, Points, similarity_transform
from faceprotect_sdk.stream.layer import Layer, crop_to_frame, square
from faceprotect_sdk.stream.settings import StreamSettings

#: "waiting": nothing is known of it yet; "fading": its first change is coming in; "matched": the judge still knows the face; "covered":
#: something is before nose and mouth; "stale": its change is too old; "lost": nobody knows where it is.
Status = Literal["waiting", "fading", "protected", "matched", "covered", "stale", "lost"]
#: How far a look at the whole frame, and one from near, draws the points to where it sees them; the rest is what tracking says.
FAR, NEAR = 0.3, 0.5
#: Looks in a row that did not see a face before it is forgotten.
UNSEEN = 3


@dataclass(frozen=True)
class StreamFace:
    """What a stream says of a face. ``number``: its own as long as it is followed. ``points``: [5, 2] (x, y) in the last frame.

    ``age``: frames since the picture was taken that its change was made for; None without one.
    """

    number: int
    points: Points
    status: Status
    age: int | None


@dataclass(frozen=True)
class Found:
    """What came of one face's refresh. ``seen``: its points in the frame that was looked at; None where no face was there.

    ``layer``: what is to lie on it, if anything was found; ``doubt``: why that does not count, "" where it does.
    """

    seen: Points | None
    layer: Layer | None
    doubt: Literal["", "matched", "covered"]


@dataclass
class Followed:
    """The state of one face between frames; indices are those of frames."""

    number: int
    points: Points
    born: int
    moved: Matrix = field(default_factory=lambda: np.eye(3))
    lost_at: int | None = None
    unseen: int = 0
    refreshed: int | None = None
    shown: Layer | None = None
    before: Layer | None = None
    waiting: Layer | None = None
    began: int = 0
    counted: int | None = None
    doubt: Literal["", "matched", "covered"] = ""

    @property
    def now(self) -> Points:
        """The five points in the present frame."""
        return at(self.moved, self.points)

    @property
    def place(self) -> Matrix:
        """Matrix [3, 3] from canonical pixels to the present frame."""
        return crop_to_frame(self.now)

    def move(self, motion: Matrix | None, index: int) -> None:
        """Go along with the face; where nobody could tell how it moved, it is lost from here on."""
        if motion is None:
            self.lost_at = index if self.lost_at is None else self.lost_at
        else:
            self.moved = square(motion) @ self.moved

    def correct(self, seen: Points, moved: Matrix, share: float) -> None:
        """Draw the points to where a look has seen them, in a frame to which ``moved`` brought the face."""
        there = at(np.asarray(np.linalg.inv(moved), np.float64), seen)
        self.points = np.asarray(self.points + share * (there - self.points), np.float64)
        self.unseen = 0

    def find_again(self, points: Points) -> None:
        """A lost face is at these points of the present frame: whatever lies on it comes along."""
        jump = square(similarity_transform(self.now, points))
        self.moved, self.lost_at, self.unseen = jump @ self.moved, None, 0

    def take(self, found: Found, moved: Matrix, index: int, settings: StreamSettings) -> None:
        """What came of a refresh that was asked for at frame ``index``, to which ``moved`` had brought the face.

        A change that does not count takes no place from one that does; without one, it is shown only where faces are passed.
        """
        self.refreshed = index
        if found.seen is None:
            self.unseen += 1
            return
        self.correct(found.seen, moved, NEAR)
        self.doubt = found.doubt
        if found.layer is None:
            return
        if not found.doubt:
            self.counted = index
        if not found.doubt or (settings.unprotected == "pass" and not self._counts(index, settings)):
            self.waiting = replace(found.layer, place=np.linalg.inv(moved) @ found.layer.place)

    def step(self, index: int, settings: StreamSettings) -> None:
        """Begin the next fading as soon as the last one is over; a face that nobody has seen bare begins with its change."""
        if self.before is not None and self._share(index, settings) >= 1:
            self.before = None
        if self.waiting is not None and (self.shown is None or self._share(index, settings) >= 1):
            at_once = self.shown is None and self.born == index
            self.before, self.shown, self.waiting = self.shown, self.waiting, None
            self.began = index - settings.fade if at_once else index

    def layers(self, index: int, settings: StreamSettings) -> Iterator[tuple[float, Layer]]:
        """What lies on the face, each with its share. The first one lies there in full from the beginning where a blur fades above it."""
        share = self._share(index, settings)
        if self.lost_at is not None:
            return
        if self.before is None and settings.unprotected == "blur":
            share = 1.0
        if self.before is not None:
            yield 1 - share, self.before
        if self.shown is not None:
            yield share, self.shown

    def bare(self, index: int, settings: StreamSettings) -> float:
        """How unprotected the face is, 0..1: what is to be covered of it."""
        if self.lost_at is not None or self.shown is None or not self._counts(index, settings):
            return 1.0
        return 0.0 if self.before is not None else 1.0 - self._share(index, settings)

    def status(self, index: int, settings: StreamSettings) -> Status:
        """In a word."""
        if self.lost_at is not None:
            return "lost"
        if self.shown is not None and self._counts(index, settings):
            return "protected" if self.bare(index, settings) == 0 else "fading"
        if self.doubt:
            return self.doubt
        return "stale" if self.counted is not None and self.shown is not None else "waiting"

    def gone(self, index: int, settings: StreamSettings, height: int, width: int) -> bool:
        """Whether to forget it: lost for too long, not seen by several looks, or all of it outside of the frame."""
        if self.lost_at is not None and index - self.lost_at >= settings.forget:
            return True
        now = self.now
        return self.unseen >= UNSEEN or bool((now.max(0) < 0).any() or (now.min(0) > [width, height]).any())

    def _counts(self, index: int, settings: StreamSettings) -> bool:
        return self.counted is not None and index - self.counted <= settings.stale

    def _share(self, index: int, settings: StreamSettings) -> float:
        """How far the fading is, 0..1: over after so many frames."""
        return min((index - self.began + 1) / (settings.fade + 1), 1.0)


def at(transform: Matrix, points: Points) -> Points:
    """Points [n, 2] moved by a matrix [3, 3]."""
    return np.asarray(points @ transform[:2, :2].T + transform[:2, 2], np.float64)


def nearest(points: Points, others: dict[int, Points]) -> int | None:
    """The key of those of ``others`` that may be the same face: their middles lie within the spread of the points; None: there is none."""
    middle = points.mean(0)
    spread = float(np.sqrt(((points - middle) ** 2).sum(1).mean()))
    distances = {key: float(np.linalg.norm(one.mean(0) - middle)) for key, one in others.items()}
    best = min(distances, key=lambda key: distances[key], default=None)
    return best if best is not None and distances[best] <= spread else None

"""What a stream asks of the networks: where faces are, and what protects one of them. It runs in the worker, not in the caller's thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.align import CANONICAL_POINTS, CROP, Matrix, Points, aligned_crop, crop_transform, invert
from faceprotect_sdk.face.covered import is_covered
from faceprotect_sdk.face.detect import Face, detect, face_in_place
from faceprotect_sdk.judging.judge import shipped_judges
from faceprotect_sdk.judging.recognisers import EngineRecogniser, Recogniser
from faceprotect_sdk.methods import SearchRequest
from faceprotect_sdk.once import Once
from faceprotect_sdk.parts import DETECTOR, Parts
from faceprotect_sdk.photo.tone import monochrome
from faceprotect_sdk.stream.followed import NEAR, Found
from faceprotect_sdk.stream.layer import Layer, crop_to_frame
from faceprotect_sdk.stream.motion import Small
from faceprotect_sdk.stream.settings import Order, StreamSettings

#: Longest side in which a frame is looked through: faces from 4 % of it on are found.
LOOKED = 512
#: The detector's box of an upright face in the canonical crop.
_BOX = np.array([[61.0, 56.0], [195.0, 226.0]])
#: So much more than the crop is cut out around a face, as a part of its side: where the detector looks from near.
_AROUND = 0.25
#: Points that moved by less than that, as a part of the crop, are those that tracking had, seen with a tremble.
_TREMBLE = 0.03


@dataclass(frozen=True)
class Look:
    """Look through a frame. ``pixels``: uint8 [h, w, 3], made smaller by ``scale`` (x, y); ``poses``: how each face had moved by then."""

    scene: int
    index: int
    pixels: NDArray[np.uint8]
    scale: NDArray[np.float64]
    small: Small
    poses: dict[int, Matrix]


@dataclass(frozen=True)
class Refresh:
    """Renew a face's change. ``pixels``: uint8 [h, w, 3], cut out of the frame at ``corner`` (x, y); ``points``: in the frame."""

    scene: int
    index: int
    number: int
    pixels: NDArray[np.uint8]
    corner: NDArray[np.float64]
    points: Points
    moved: Matrix


Job = Look | Refresh


@dataclass(frozen=True)
class Done:
    """A job and what came of it: points of faces in the frame for a :class:`Look`, :class:`Found` for a :class:`Refresh`."""

    job: Job
    faces: tuple[Points, ...] = ()
    found: Found | None = None


def cut_out(frame: NDArray[np.uint8], points: Points) -> tuple[NDArray[np.uint8], NDArray[np.float64]] | None:
    """A copy of what is around a face, and its corner (x, y); None where that is outside of the frame."""
    height, width = frame.shape[:2]
    edge = np.array([-_AROUND, 1 + _AROUND]) * CROP
    corners = np.array([[x, y] for x in edge for y in edge])
    back = invert(crop_transform(points))
    there = corners @ back[:, :2].T + back[:, 2]
    low = np.clip(np.floor(there.min(0)).astype(int), 0, [width, height])
    high = np.clip(np.ceil(there.max(0)).astype(int), 0, [width, height])
    if (high - low < 8).any():
        return None
    return frame[low[1] : high[1], low[0] : high[0]].copy(), low.astype(np.float64)


class Work:
    """The networks of a stream, opened at first use. One thread at a time."""

    def __init__(self, parts: Parts, settings: StreamSettings) -> None:
        """Raises UsageError where changes are to be confirmed and the store has no judge."""
        self._parts, self._settings = parts, settings
        self._judges: Once[str, list[Recogniser]] = Once()
        store = parts.pool.store
        if settings.confirm and not any(store.manifest(name).role == "judge" for name in store.names()):
            raise UsageError("changes are to be confirmed, and there is no judge", hint="Go without: confirm=False")

    def warm(self) -> None:
        """Open all engines, and run each once."""
        parts = self._parts
        parts.pool.warm([DETECTOR, *parts.method.engines()])
        grey = np.full((CROP, CROP, 3), 128, np.uint8)
        with parts.pool.calls():
            detect(grey, parts.pool(DETECTOR), longest_side=CROP)
            self._confirmed(*[self._change(aligned_crop(grey, CANONICAL_POINTS))] * 2)

    def __call__(self, job: Job) -> Done:
        """Do it; raises what the engines raise."""
        with self._parts.pool.calls():
            return self._look(job) if isinstance(job, Look) else self._refresh(job)

    def _look(self, job: Look) -> Done:
        pixels = _rgb(job.pixels, self._settings.channel_order)
        faces = detect(pixels, self._parts.pool(DETECTOR), longest_side=max(pixels.shape[:2]))
        return Done(job, faces=tuple((face.points + 0.5) / job.scale - 0.5 for face in faces))

    def _refresh(self, job: Refresh) -> Done:
        pixels = _rgb(job.pixels, self._settings.channel_order)
        given = job.points - job.corner
        seen = face_in_place(pixels, Face(_box_of(given), given, 1.0), self._parts.pool(DETECTOR))
        if seen is None:
            return Done(job, found=Found(None, None, ""))
        points = _steadied(given, seen.points)
        crop = aligned_crop(pixels, points)
        if is_covered(crop):
            return Done(job, found=Found(points + job.corner, None, "covered"))
        change = self._change(crop)
        doubt: Literal["", "matched"] = "" if self._confirmed(crop, change) else "matched"
        drawn = np.ascontiguousarray(change[0].transpose(1, 2, 0)) * np.float32(255)
        if self._settings.channel_order == "bgr":
            drawn = np.ascontiguousarray(drawn[..., ::-1])
        return Done(job, found=Found(points + job.corner, Layer(drawn, crop_to_frame(points + job.corner)), doubt))

    def _change(self, crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the method finds for a crop, with all of the budget that the strength allows: [1, 3, 256, 256] on the scale 0..1."""
        method, strength = self._parts.method, self._parts.strength
        surrogates = method.surrogates()
        references = {one.name: _unit(one.embed_crop(crop)) for one in surrogates} if method.searches else {}
        limits = {one.name: strength.limit(one) for one in surrogates}
        change = method.search(SearchRequest(crop, method.mask, references, limits, strength.budget, seed=0)).difference[None]
        middle = (crop[0, :, 64:192, 64:192].transpose(1, 2, 0) * 255).astype(np.uint8)
        if monochrome(middle):
            change = np.repeat(np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), change[0], 1)[None, None], 3, 1)
        return np.asarray(change, np.float32)

    def _confirmed(self, crop: NDArray[np.float32], change: NDArray[np.float32]) -> bool:
        """Whether no judge that ships matches the changed crop with the crop; True where that is not asked."""
        if not self._settings.confirm:
            return True
        changed = np.clip(crop + change, 0, 1)
        judges: Sequence[Recogniser] = self._judges("", lambda: shipped_judges(self._parts.pool))
        engines = [one for one in judges if isinstance(one, EngineRecogniser)]
        return all(one.similarity(one.embed_crop(crop), one.embed_crop(changed)) < one.threshold for one in engines)


def _rgb(pixels: NDArray[np.uint8], order: Order) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels[..., ::-1]) if order == "bgr" else pixels


def _box_of(points: Points) -> tuple[float, float, float, float]:
    """The box that the detector would give a face at five points."""
    back = invert(crop_transform(points))
    corners = np.array([[x, y] for x in _BOX[:, 0] for y in _BOX[:, 1]]) @ back[:, :2].T + back[:, 2]
    (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
    return float(x0), float(y0), float(x1), float(y1)


def _steadied(followed: Points, seen: Points) -> Points:
    """Where to cut: as seen from near; where that differs by no more than a tremble, half way to what tracking says."""
    side = CROP / float(np.hypot(*crop_transform(followed)[:, 0]))
    apart = float(np.linalg.norm(seen - followed, axis=1).max()) / side
    return followed + (NEAR if apart < _TREMBLE else 1.0) * (seen - followed)


def _unit(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(embedding / max(float(np.linalg.norm(embedding)), 1e-12), np.float32)[None]

"""``Stream``: a frame goes in, the same frame comes out, with every face that is followed in it protected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.store import Store
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.align import Points
from faceprotect_sdk.methods import QUICK, find_recipe
from faceprotect_sdk.parts import Parts
from faceprotect_sdk.pool import EnginePool
from faceprotect_sdk.settings import Settings
from faceprotect_sdk.stream.followed import FAR, Followed, StreamFace, at, nearest
from faceprotect_sdk.stream.layer import cover, cover_all, mix
from faceprotect_sdk.stream.motion import Small, motion_of
from faceprotect_sdk.stream.settings import StreamChanges, StreamSettings, frames_only
from faceprotect_sdk.stream.work import LOOKED, Done, Job, Look, Refresh, Work, cut_out
from faceprotect_sdk.stream.worker import Worker

if TYPE_CHECKING:
    from typing_extensions import Unpack

Frame = NDArray[np.uint8]
_LOOK = "look"


@dataclass(frozen=True)
class StreamCounts:
    """Of a stream so far. ``looks``: through whole frames; ``refreshes``: of single faces; ``dropped``: crops that a newer one replaced.

    ``covered``: frames that were blurred all over, because nobody had looked for faces in that scene yet, or there were too many.
    """

    frames: int
    looks: int
    refreshes: int
    dropped: int
    covered: int


class Stream:
    """Protects frames of a camera or a video, one after the other.

    >>> with Stream("fast", channel_order="bgr") as stream:            # doctest: +SKIP
    ...     while True:
    ...         show(stream.next(camera.read()[1]))

    The networks run in a thread of their own. ``next`` itself follows the faces, and adds to each the change that was last found for
    it. It belongs to one thread at a time. What is counted as protected has been seen by one judge in the crop, not on the frame as
    somebody encodes it: a stream confirms less than a :class:`faceprotect_sdk.Protector` does.
    """

    def __init__(
        self,
        method: str | Path = QUICK,
        settings: StreamSettings | None = None,
        /,
        *,
        store: Store | None = None,
        pool: EnginePool | None = None,
        **changes: Unpack[StreamChanges],
    ) -> None:
        """Remember the settings; engines are opened at the first frame, or by :meth:`warm`.

        ``method``: by its name, or the folder of a recipe or bundle; its goal is dodge. Methods that search take seconds for a face.
        ``settings``, and fields of it as ``changes``. ``store``: where engines are; ``pool``: open engines that are shared and stay
        open, whose store, device and threads are used. Raises UsageError, DeviceUnavailable, and what :func:`methods.find_recipe` raises.
        """
        self.settings = (settings or StreamSettings()).but(**changes)
        if pool is not None and store is not None:
            raise UsageError("store belongs to the pool that was given", hint="Give it to EnginePool(...)")
        recipe, found = find_recipe(method, pool.store if pool is not None else store or Store())
        self.pool, self._owned = pool or EnginePool(found, self.settings.device, self.settings.threads), pool is None
        asked = Settings(method, strength=self.settings.strength, installed_judges=False)
        self._work = Work(Parts(asked, self.pool, recipe, self.settings.look), self.settings)
        self._worker: Worker[Job, Done] = Worker(lambda job: self._work(job), synchronous=self.settings.synchronous)
        self._faces: dict[int, Followed] = {}
        self._small: Small | None = None
        self._index, self._scene, self._numbers = -1, 0, 0
        self._looked: int | None = None
        self._crowd = self._closed = False
        self._looks = self._refreshes = self._covered = 0

    def __enter__(self) -> Stream:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the worker once it is done with what it is at, and release the engines, but those of a pool that was given."""
        self._closed = True
        self._worker.close()
        if self._owned:
            self.pool.close()

    def warm(self) -> None:
        """Open the engines now, in this thread, and run each once; raises what that raises."""
        self._work.warm()

    @property
    def faces(self) -> tuple[StreamFace, ...]:
        """The faces that are followed, as they are in the last frame."""
        return tuple(
            StreamFace(
                face.number, face.now, face.status(self._index, self.settings), None if face.counted is None else self._index - face.counted
            )
            for face in self._faces.values()
        )

    @property
    def looked(self) -> bool:
        """Whether the scene of the last frame has been looked through for faces."""
        return self._looked is not None

    @property
    def counts(self) -> StreamCounts:
        """What has been done so far."""
        return StreamCounts(self._index + 1, self._looks, self._refreshes, self._worker.dropped, self._covered)

    def next(self, frame: Frame) -> Frame:
        """The next frame, protected: a new array of the same shape and order.

        ``frame``: uint8 [H, W, 3], in the settings' ``channel_order``; not modified. Raises UsageError for another kind of array and
        for a stream that is closed, and what the worker has raised since the last call; the stream may be used on after that.
        """
        if self._closed:
            raise UsageError("this stream is closed", hint="Open another: Stream(...)")
        frames_only(frame)
        self._index += 1
        small = Small.of(frame, self.settings.channel_order)
        self._follow(small, frame.shape[:2])
        self._take(small)
        self._ask_for_look(frame, small)
        self._take(small)
        self._ask_for_refreshes(frame)
        self._take(small)
        return self._drawn(frame)

    def reset(self) -> None:
        """Forget all faces: the next frame shows another scene. A cut is seen without it."""
        self._faces.clear()
        self._worker.forget()
        self._scene += 1
        self._small, self._looked, self._crowd = None, None, False

    def _follow(self, small: Small, size: tuple[int, ...]) -> None:
        """Every face goes where its pixels went; in a new scene there are none."""
        before = self._small
        if before is not None:
            found = {face.number: motion_of(face.now, before, small) for face in self._faces.values() if face.lost_at is None}
            if before.is_cut(small) and all(motion is None for motion in found.values()):
                self.reset()
            for number in found.keys() & self._faces.keys():
                self._faces[number].move(found[number], self._index)
        gone = [face.number for face in self._faces.values() if face.gone(self._index, self.settings, size[0], size[1])]
        for number in gone:
            del self._faces[number]
        self._small = small

    def _ask_for_look(self, frame: Frame, small: Small) -> None:
        import cv2

        due = self._looked is None or self._index - self._looked >= self.settings.detect_every
        if not (due or any(face.lost_at is not None for face in self._faces.values())) or self._worker.busy(_LOOK):
            return
        height, width = frame.shape[:2]
        ratio = min(LOOKED / max(height, width), 1.0)
        size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
        pixels = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if ratio < 1 else frame.copy(), np.uint8)
        poses = {face.number: face.moved for face in self._faces.values()}
        scale = np.array([size[0] / width, size[1] / height])
        self._worker.give(_LOOK, Look(self._scene, self._index, pixels, scale, small, poses))

    def _ask_for_refreshes(self, frame: Frame) -> None:
        """The newest crop of every face whose turn it is; the worker drops the one before."""
        for face in self._faces.values():
            due = face.refreshed is None or self._index - face.refreshed >= self.settings.refresh_every
            if not due or face.lost_at is not None or self._worker.busy(face.number):
                continue
            points = face.now
            if (cut := cut_out(frame, points)) is not None:
                job = Refresh(self._scene, self._index, face.number, cut[0], cut[1], points, face.moved)
                self._worker.give(face.number, job)

    def _take(self, small: Small) -> None:
        """Whatever the worker has ready; what belongs to another scene is nothing any more."""
        for done in self._worker.take():
            if isinstance(done.job, Look):
                self._looks += 1
                if done.job.scene == self._scene:
                    self._seen(done.job, done.faces, small)
            else:
                self._refreshes += 1
                if done.job.scene == self._scene and done.job.number in self._faces and done.found is not None:
                    self._faces[done.job.number].take(done.found, done.job.moved, done.job.index, self.settings)

    def _seen(self, look: Look, faces: tuple[Points, ...], small: Small) -> None:
        """Match what a look has seen with the faces that were followed at its frame: they are corrected, found again, or new."""
        self._looked = look.index
        known = {face.number: at(look.poses.get(face.number, face.moved), face.points) for face in self._faces.values()}
        self._crowd = False
        for points in faces:
            number = nearest(points, known)
            if number is not None:
                known.pop(number)
                face = self._faces[number]
                if face.lost_at is None:
                    face.correct(points, look.poses.get(number, face.moved), FAR)
                else:
                    face.find_again(self._since(look, points, small))
            elif len(self._faces) < self.settings.most_faces:
                self._numbers += 1
                self._faces[self._numbers] = Followed(self._numbers, self._since(look, points, small), self._index)
            else:
                self._crowd = True
        for number in known.keys() & look.poses.keys():
            self._faces[number].unseen += 1

    def _since(self, look: Look, points: Points, small: Small) -> Points:
        """Where points of the frame that was looked at are by now; where nobody can tell, where they were."""
        motion = motion_of(points, look.small, small) if look.index != self._index else None
        return points if motion is None else points @ motion[:, :2].T + motion[:, 2]

    def _drawn(self, frame: Frame) -> Frame:
        """A copy of the frame with what lies on the faces, and what is bare covered where that was asked."""
        drawn, index, settings = frame.copy(), self._index, self.settings
        blur = settings.unprotected == "blur"
        for face in self._faces.values():
            face.step(index, settings)
            mix(drawn, list(face.layers(index, settings)), face.moved)
        if blur and (self._looked is None or self._crowd):
            self._covered += 1
            cover_all(drawn)
        elif blur:
            for face in self._faces.values():
                if (bare := face.bare(index, settings)) > 0:
                    cover(drawn, frame, face.place, bare)
        return drawn

"""One call of ``Protector.protect``: search, paste, write, score, and search again for as long as that may help."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.recipes.philox import Purpose, philox
from faceprotect_sdk._version import __version__
from faceprotect_sdk.arguments import listed
from faceprotect_sdk.cancel import Check
from faceprotect_sdk.canvas import Canvas, Cuts, canvas_of
from faceprotect_sdk.errors import AlreadyProtected
from faceprotect_sdk.face.detect import Face
from faceprotect_sdk.face.selection import Selection
from faceprotect_sdk.face.window import Window
from faceprotect_sdk.parts import Parts
from faceprotect_sdk.photo.picture import Pixels
from faceprotect_sdk.photo.reading import ChannelOrder, LargePhoto, Photo, PhotoLike, open_photo
from faceprotect_sdk.progress import Progress, ProgressCallback
from faceprotect_sdk.result import LATE, FaceResult, ProtectResult, status_of
from faceprotect_sdk.session import FaceSession, Stopwatch


@dataclass(frozen=True)
class Call:
    """What one call was asked. ``check``: raises Cancelled; ``end``: time.monotonic() after which no search goes on."""

    faces: Selection
    channel_order: ChannelOrder
    seed: int
    again: bool
    write_others: bool
    progress: ProgressCallback | None
    check: Check
    end: float = math.inf
    watch: Stopwatch = field(default_factory=Stopwatch)

    def report(self, stage: str, face: int, faces: int) -> None:
        """Tell the app that a stage without steps begins; raises Cancelled."""
        self.check()
        if self.progress is not None:
            self.progress(Progress(stage, face, faces, 1, 1))


def protect_photo(parts: Parts, call: Call, photo: PhotoLike) -> ProtectResult:
    """The result of one photo; raises what ``Protector.protect`` does."""
    with call.watch("decode"):
        source = open_photo(photo, channel_order=call.channel_order)
        _refuse_marked(source, call.again)
        canvas = canvas_of(source)
    call.check()
    with call.watch("detect"):
        faces = call.faces if isinstance(call.faces, str) else listed("faces", call.faces)
        chosen, found = canvas.select(faces, parts.detect)
    call.report("detect", 0, len(chosen))
    protection = Protection(parts, call, canvas, found)
    if not chosen:
        return protection.result((), None)
    notes: tuple[str, ...] = ()
    if not isinstance(faces, str) and len(chosen) < len(faces):
        notes = (f"{len(faces)} faces were given, and are {len(chosen)}: one given twice, or in two boxes, was changed once",)
    return protection.of(chosen, notes)


@dataclass(frozen=True)
class Protection:
    """A photo on its way through one call. ``found``: how many faces it has in all."""

    parts: Parts
    call: Call
    canvas: Canvas
    found: int

    def of(self, chosen: tuple[Face, ...], notes: tuple[str, ...] = ()) -> ProtectResult:
        """Protect these faces."""
        call, settings = self.call, self.parts.settings
        sessions, windows, pixels = self._start(chosen)
        end = call.end if settings.time_budget is None else min(call.end, time.monotonic() + settings.time_budget)
        data, written = b"", pixels
        for attempt in range(self._attempts):
            began = time.monotonic()
            self._search(sessions, attempt, end)
            call.report("score", len(chosen) - 1, len(chosen))
            written = ()  # those of the attempt before are let go
            data, written = self._written(windows, sessions)
            now, took = time.monotonic(), time.monotonic() - began
            if not any(session.wants_search for session in sessions) or now + took > end:
                break  # a search that has not the time of the one before would take its place with less
        partial = call.write_others and any(not session.matched for session in sessions)
        while partial and _leave_out_matched(sessions):  # where faces overlap, leaving one out may undo another
            written = ()
            data, written = self._written(windows, sessions)
        call.check()
        with call.watch("quality"):
            network = self.parts.mesh()
            results = tuple(one.result(first, second, network) for one, first, second in zip(sessions, pixels, written, strict=True))
        late = any(session.found is not None and session.found.late for session in sessions)
        return self.result(results, data, (*notes, LATE) if late else notes, partial)

    @property
    def _attempts(self) -> int:
        """Searches per face, at most: those asked for, but no more than the method states."""
        wanted = self.parts.settings.attempts
        return min(wanted, len(self.parts.method.attempts) or wanted)

    def _start(self, chosen: tuple[Face, ...]) -> tuple[list[FaceSession], Sequence[Window], Cuts]:
        """Every face's state, its window of the photo, and the pixels there."""
        parts, call = self.parts, self.call
        with call.watch("load"):
            searched = list(parts.method.surrogates())
            panel = parts.panel()
            dependent = parts.dependent(panel)
        decoys = parts.decoys()
        with call.watch("embed"):
            windows = self.canvas.windows(chosen)
            pixels, before = self.canvas.cuts(windows), self._written_original(windows)
            sessions = []
            for index, (face, window) in enumerate(zip(chosen, windows, strict=True)):
                call.check()
                sessions.append(
                    FaceSession.start(
                        index,
                        face,
                        window,
                        pixels[index],
                        before[index],
                        panel,
                        searched,
                        dependent,
                        parts.strength,
                        parts.look,
                        decoys,
                        parts.settings.even_covered,
                    )
                )
        return sessions, windows, pixels

    def _search(self, sessions: Sequence[FaceSession], attempt: int, end: float) -> None:
        """Search once for every face that wants it, each with its share of the time."""
        method, call = self.parts.method, self.call
        mask = method.mask
        wanting = [session for session in sessions if session.wants_search]
        for place, session in enumerate(wanting):
            seed, share = _face_seed(call.seed, session.index, attempt), _share(end, len(wanting) - place)
            with call.watch("search"):
                session.search(method, mask, seed, call.progress, len(sessions), share, self._attempts, call.check)
            if not call.again and session.undone(mask) > method.undoes:
                raise AlreadyProtected(
                    f"face {session.index + 1} looks as if it had been protected before: the change that was found takes away a pattern "
                    "that stands in it, and may lead back to the person",
                    hint="Protect the original; if this is it, insist: again=True",
                )

    def _written(self, windows: Sequence[Window], sessions: Sequence[FaceSession]) -> tuple[bytes, Cuts]:
        """The bytes with every face's change, and their pixels in each window, uint8 RGB, on which the faces have been scored."""
        method, watch = self.parts.method, self.call.watch
        with watch("encode"):
            change = _pasted(sessions, method.mask, self.canvas.frame.grey)
            data = self.canvas.write(change, self.parts.settings.quality, method.name)
        with watch("score"):
            written = self.canvas.cuts_of(data, windows)
            for session, view in zip(sessions, written, strict=True):
                self.call.check()
                session.score(view, self.parts.look)
        return data, written

    def _written_original(self, windows: Sequence[Window]) -> Cuts | Sequence[None]:
        """The original as these settings would write it, in each window; None where writing changes nothing."""
        if self.canvas.frame.lossless:
            return [None] * len(windows)
        return self.canvas.cuts_of(self.canvas.write(None, self.parts.settings.quality, None), windows)

    def result(
        self, faces: tuple[FaceResult, ...], data: bytes | None, notes: tuple[str, ...] = (), partial: bool = False
    ) -> ProtectResult:
        """What is said of the photo with these faces."""
        status, settings, devices = status_of(faces, partly=partial), self.parts.settings, self.parts.pool.devices
        changed = status == "still_matched" or (status == "covered" and any(face.changed for face in faces))
        return ProtectResult(
            status=status,
            faces=faces,
            faces_found=self.found,
            image=data if status == "protected" else None,
            partial=data if status == "partly_protected" else None,
            unconfirmed=data if changed else None,
            container=self.canvas.frame.container,
            size=self.canvas.size,
            method=self.parts.method.name,
            goal=settings.goal,
            strength=str(settings.strength),
            seed=self.call.seed,
            device="+".join(sorted(set(devices.values()))),
            devices=devices,
            timings=self.call.watch.seconds,
            version=__version__,
            searches=self.parts.method.searches,
            beyond=self.parts.method.beyond,
            notes=(*self.canvas.frame.notes, *notes),
        )


def _face_seed(seed: int, face: int, attempt: int) -> int:
    """A seed of its own for every face and attempt."""
    low, high = philox((face, attempt, int(Purpose.FACE), 0), (seed % 2**32, seed // 2**32)).ravel()[:2].tolist()
    return int(low + (high << 32)) >> 1


def _leave_out_matched(sessions: Sequence[FaceSession]) -> bool:
    """Leave every matched face as it is from now on; whether there was one more to leave out."""
    matched = [session for session in sessions if session.matched and not session.left_out]
    for session in matched:
        session.left_out = True
    return bool(matched)


def _share(end: float, faces: int) -> float:
    """When the next of so many faces has to be ready: the time left is shared evenly."""
    now = time.monotonic()
    return now + (end - now) / faces


def _pasted(sessions: Sequence[FaceSession], mask: NDArray[np.float32], grey: bool) -> Callable[[Pixels], None]:
    def change(pixels: Pixels) -> None:
        for session in sessions:
            session.paste(pixels, mask, grey)

    return change


def _refuse_marked(photo: Photo | LargePhoto, again: bool) -> None:
    if photo.mark is not None and not again:
        raise AlreadyProtected(
            f"{photo.path or 'the photo given'}: has been protected before ({photo.mark}), and protecting it again may lead back to the "
            "person",
            hint="Protect the original, or insist: again=True",
        )

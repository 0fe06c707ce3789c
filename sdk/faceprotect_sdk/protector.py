"""``Protector``: what an app holds. It opens engines at first use and closes them together."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.manifest import is_name
from faceprotect_engines.philox import Purpose, philox
from faceprotect_engines.store import Store
from faceprotect_sdk import judge, mesh
from faceprotect_sdk._version import __version__
from faceprotect_sdk.arguments import listed, whole
from faceprotect_sdk.canvas import Canvas, Cuts, canvas_of
from faceprotect_sdk.check import check_photos
from faceprotect_sdk.decoys import Decoys
from faceprotect_sdk.encode import DEFAULT_QUALITY
from faceprotect_sdk.errors import AlreadyProtected, UsageError
from faceprotect_sdk.faces import Face, face_in_place, find_faces
from faceprotect_sdk.methods import DEFAULT, Method, Strength, find_recipe, make_method, strength_of
from faceprotect_sdk.photo import ChannelOrder, LargePhoto, Photo, PhotoLike, load, open_photo
from faceprotect_sdk.picture import Pixels
from faceprotect_sdk.progress import Progress, ProgressCallback
from faceprotect_sdk.recognisers import Recogniser
from faceprotect_sdk.result import LATE, CheckResult, FaceResult, Goal, ProtectResult, status_of
from faceprotect_sdk.room import EngineRoom
from faceprotect_sdk.selection import Selection
from faceprotect_sdk.session import FaceSession, Stopwatch
from faceprotect_sdk.window import Window

DETECTOR = "face-detector"
ATTEMPTS = 3
_SEED_LIMIT = 2**63


class Protector:
    """Protects photos on this machine, offline.

    >>> with Protector(strength="medium") as protector:      # doctest: +SKIP
    ...     result = protector.protect("me.jpg")
    ...     result.save("me_protected.jpg")
    """

    def __init__(
        self,
        method: str | Path = DEFAULT,
        device: str = "auto",
        *,
        goal: Goal = "dodge",
        decoy: str | None = None,
        strength: str | Strength = "medium",
        look: str | Path | None = None,
        surrogates: Sequence[str | Path] = (),
        without: Sequence[str] = (),
        judges: Sequence[str | Path] = (),
        installed_judges: bool = True,
        quality: int = DEFAULT_QUALITY,
        attempts: int = ATTEMPTS,
        time_budget: float | None = None,
        even_covered: bool = False,
        threads: int | None = None,
        store: Store | None = None,
    ) -> None:
        """Remember the settings; engines are opened at first use.

        ``method``: a name among :func:`methods.methods_of` the store, the path of a recipe, or a folder with ``recipe.json`` and engines
        beside it, which are looked up there first.
        ``device``: auto, cpu, cuda, torch; an explicit one that is not really active raises DeviceUnavailable ("torch"
        needs engines built with their torch program; those that ship have none).
        ``goal``: dodge, away from the person's own identity, or decoy, towards a synthetic one that belongs to nobody;
        either way a face counts as protected once it is no longer matched with the original. ``decoy``: name of that
        identity, where all photos shall lead to one (default: each face to the one least like it).
        ``strength``: low, medium or high (their numbers stand in the recipe), or one of your own.
        ``look``: of a method that has looks, one that ships by its name (default: its first), or the folder of one of yours.
        ``surrogates``: folders of further recognisers to search on; ``without``: shipped ones to leave out of the search;
        they judge. ``judges``: ONNX files, folders, or "dlib", that score (on the CPU) beside the shipped judges and, with
        ``installed_judges``, dlib where it is installed. ``quality``: of JPEG, AVIF, HEIC and lossy WebP. ``attempts``: searches per
        face, each going further, for as long as the written bytes are still matched. ``time_budget``: seconds after which no
        search of a photo goes on: each face has had its share, and what it has by then is scored as ever. ``even_covered``: also change
        faces before which something is held or worn, which is painted over then. Raises UsageError for a
        value out of range.
        """
        if goal not in get_args(Goal):
            raise UsageError(f"there is no goal '{goal}'; choose one of: {', '.join(get_args(Goal))}")
        if decoy is not None and goal != "decoy":
            raise UsageError(f"decoy '{decoy}' needs the goal decoy, this is {goal}")
        quality, attempts = whole("quality", quality, 1, 100), whole("attempts", attempts, 1)
        threads = None if threads is None else whole("threads", threads, 1)
        surrogates, without, judges = listed("surrogates", surrogates), listed("without", without), listed("judges", judges)
        if time_budget is not None and not (isinstance(time_budget, Real) and time_budget > 0):
            raise UsageError(f"time_budget must be above 0 seconds, got {time_budget!r}")
        self.strength, self._even_covered, self._time_budget = str(strength), even_covered, time_budget
        self.quality, self.attempts, self.goal = quality, attempts, goal
        store = store or Store()
        if look is not None and is_name(method) and (Path(look) / "recipes" / f"{method}.json").is_file():
            store, look = Store([Path(look), *store.roots], store.cache), None
        recipe, store = find_recipe(method, store)
        self._room = EngineRoom(store, device, threads)
        look, folders = None if look is None else str(look), [Path(folder) for folder in surrogates]
        self._method: Method = make_method(recipe, self._room, folders, without, look)
        self._strength = strength_of(recipe, strength)
        self._surrogates = tuple(surrogates)
        self._given, self._installed = tuple(judges), installed_judges
        self._judges: list[Recogniser] | None = None
        self._decoy, self._closed = decoy, False
        self._read_decoys: Decoys | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Protector:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the engines."""
        self.close()

    def close(self) -> None:
        """Release every engine. What is asked of the protector afterwards is refused with UsageError; closing it again does nothing."""
        with self._lock:
            self._closed = True
            for recogniser in self._judges or ():
                release = getattr(recogniser, "close", None)
                if release is not None:
                    release()
            self._judges = None
            self._room.close()

    @property
    def devices(self) -> Mapping[str, str]:
        """Engine name to the device that really runs it, for the engines opened so far."""
        return self._room.devices

    def faces(self, photo: PhotoLike, *, channel_order: ChannelOrder = "rgb") -> tuple[Face, ...]:
        """Faces of a photo, largest first, in pixels of the upright photo. Raises like :func:`photo.load`."""
        with self._lock:
            self._check_open()
            return canvas_of(open_photo(photo, channel_order=channel_order)).select("all", self._detect)[0]

    def protect(
        self,
        photo: PhotoLike,
        *,
        faces: Selection = "all",
        channel_order: ChannelOrder = "rgb",
        seed: int = 0,
        progress: ProgressCallback | None = None,
        again: bool = False,
        write_others: bool = False,
    ) -> ProtectResult:
        """Protect the faces of a photo and score the bytes that would be written.

        ``photo``: a path, bytes, PIL image, or uint8 array [H, W, 3|4] or [H, W] (``channel_order`` "rgb" or "bgr").
        ``faces``: "all", "largest", or the app's own: Face, five (x, y) points [5, 2] or boxes (x0, y0, x1, y1), in
        pixels of the upright photo. Same photo, settings and ``seed`` give the same bytes on one machine, unless a time budget
        ends a search. ``again``: protect a photo, too, that is marked as protected before, though that may lead back to the person.
        ``write_others``: where some faces are protected and others stay matched, also give the photo in which those are left as they
        were (``ProtectResult.partial``, status "partly_protected").

        Always returns a result; its ``status`` is "protected" only if no recogniser, searched on or not, matches any
        selected face on the encoded bytes. Raises UnreadableInput, AlreadyProtected, UsageError, and errors of the engine floor.
        """
        seed = whole("seed", seed, 0, _SEED_LIMIT - 1)
        watch = Stopwatch()
        with self._lock:
            self._check_open()
            with watch("decode"):
                source = open_photo(photo, channel_order=channel_order)
                _refuse_marked(source, again)
                canvas = canvas_of(source)
            with watch("detect"):
                faces = faces if isinstance(faces, str) else listed("faces", faces)
                chosen, found = canvas.select(faces, self._detect)
            _report(progress, Progress("detect", 0, len(chosen), 1, 1))
            if not chosen:
                return self._result(canvas, (), found, None, seed, watch)
            notes: tuple[str, ...] = ()
            if not isinstance(faces, str) and len(chosen) < len(faces):
                notes = (f"{len(faces)} faces were given, and are {len(chosen)}: one given twice, or in two boxes, was changed once",)
            return self._protect_faces(canvas, chosen, found, seed, progress, watch, write_others, notes)

    def check(
        self, original: PhotoLike, protected: PhotoLike, *, faces: Selection = "all", progress: ProgressCallback | None = None
    ) -> CheckResult:
        """Ask every recogniser at hand whether the two photos show the same faces.

        Measured on the pixels as decoded; each verdict says whether the recogniser is one that this protector searches
        on. Raises like :meth:`protect`.
        """
        with self._lock:
            self._check_open()
            notes: list[str] = []
            searched = judge.shipped_surrogates(self._room, notes) + judge.given_judges(self._surrogates, self._room)
            panel = judge.unique([*searched, *self._panel()])
            first, second = load(original), load(protected)
            notes += _marks(first, second)
            dependent = self._dependent(panel)
            return check_photos(first, second, faces, panel, dependent, self._detect, tuple(notes), self._mesh(), progress)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("this protector is closed. Open another: Protector(...), or move the call into its with block")

    def _protect_faces(
        self,
        canvas: Canvas,
        chosen: tuple[Face, ...],
        found: int,
        seed: int,
        progress: ProgressCallback | None,
        watch: Stopwatch,
        write_others: bool,
        notes: tuple[str, ...],
    ) -> ProtectResult:
        with watch("load"):
            searched = list(self._method.surrogates())
            left_out = judge.shipped_surrogates(self._room, [])
            panel = judge.unique([*searched, *left_out, *self._panel()])
            dependent = self._dependent(panel)
        decoys = self._decoys() if self.goal == "decoy" else None
        with watch("embed"):
            windows = canvas.windows(chosen)
            pixels, before = canvas.cuts(windows), self._written_original(canvas, windows)
            sessions = [
                FaceSession.start(
                    index, face, window, pixels[index], before[index], panel, searched, dependent, self._strength, self._look, decoys,
                    self._even_covered,
                )
                for index, (face, window) in enumerate(zip(chosen, windows, strict=True))
            ]
            del before
        mask = self._method.mask
        data, written = b"", pixels
        end = math.inf if self._time_budget is None else time.monotonic() + self._time_budget
        attempts = min(self.attempts, len(self._method.attempts) or self.attempts)
        for attempt in range(attempts):
            began = time.monotonic()
            wanting = [session for session in sessions if session.wants_search]
            for place, session in enumerate(wanting):
                own_seed = _face_seed(seed, session.index, attempt)
                with watch("search"):
                    session.search(self._method, mask, own_seed, progress, len(chosen), _share(end, len(wanting) - place), attempts)
            _report(progress, Progress("score", len(chosen) - 1, len(chosen), 1, 1))
            written = ()  # those of the attempt before are let go
            data, written = self._written(canvas, windows, sessions, watch)
            now, took = time.monotonic(), time.monotonic() - began
            if not any(session.wants_search for session in sessions) or now + took > end:
                break  # a search that has not the time of the one before would take its place with less
        partial = write_others and any(not session.matched for session in sessions)
        while partial and _leave_out_matched(sessions):  # where faces overlap, leaving one out may undo another
            written = ()
            data, written = self._written(canvas, windows, sessions, watch)
        with watch("quality"):
            network = self._mesh()
            results = tuple(one.result(first, second, network) for one, first, second in zip(sessions, pixels, written, strict=True))
        late = any(session.found is not None and session.found.late for session in sessions)
        return self._result(canvas, results, found, data, seed, watch, (*notes, LATE) if late else notes, partial)

    def _written(
        self, canvas: Canvas, windows: Sequence[Window], sessions: Sequence[FaceSession], watch: Stopwatch
    ) -> tuple[bytes, Cuts]:
        """The bytes with every face's change, and their pixels in each window, uint8 RGB, on which the faces have been scored."""
        with watch("encode"):
            data = canvas.write(_pasted(sessions, self._method.mask, canvas.frame.grey), self.quality, self._method.name)
        with watch("score"):
            written = canvas.cuts_of(data, windows)
            for session, view in zip(sessions, written, strict=True):
                session.score(view, self._look)
        return data, written

    def _written_original(self, canvas: Canvas, windows: Sequence[Window]) -> Cuts | Sequence[None]:
        """The original as these settings would write it, in each window; None where writing changes nothing."""
        if canvas.frame.lossless:
            return [None] * len(windows)
        return canvas.cuts_of(canvas.write(None, self.quality, None), windows)

    def _result(
        self,
        canvas: Canvas,
        faces: tuple[FaceResult, ...],
        found: int,
        data: bytes | None,
        seed: int,
        watch: Stopwatch,
        notes: tuple[str, ...] = (),
        partial: bool = False,
    ) -> ProtectResult:
        status = status_of(faces, partly=partial)
        devices = self._room.devices
        return ProtectResult(
            status=status,
            faces=faces,
            faces_found=found,
            image=data if status == "protected" else None,
            partial=data if status == "partly_protected" else None,
            unconfirmed=data if status == "still_matched" or (status == "covered" and any(face.changed for face in faces)) else None,
            container=canvas.frame.container,
            size=canvas.size,
            method=self._method.name,
            goal=self.goal,
            strength=self.strength,
            seed=seed,
            device="+".join(sorted(set(devices.values()))),
            devices=devices,
            timings=watch.seconds,
            version=__version__,
            searches=self._method.searches,
            beyond=self._method.beyond,
            notes=(*canvas.frame.notes, *notes),
        )

    def _decoys(self) -> Decoys:
        if self._read_decoys is None:
            self._read_decoys = Decoys.read(self._room.store.roots, self._decoy)
        return self._read_decoys

    def _detect(self, pixels: NDArray[np.uint8], reduction: int = 1) -> tuple[Face, ...]:
        return find_faces(pixels, self._room(DETECTOR), reduction)

    def _look(self, pixels: NDArray[np.uint8], face: Face) -> Face | None:
        return face_in_place(pixels, face, self._room(DETECTOR))

    def _mesh(self) -> mesh.Network | None:
        """The face mesh of the store, where it holds one with its weights."""
        store = self._room.store
        return self._room(mesh.ENGINE).run if mesh.ENGINE in store.names() and store.has_weights(mesh.ENGINE) else None

    def _dependent(self, panel: Sequence[Recogniser]) -> frozenset[str]:
        """Names of those that the method searches on or has learnt from, by their weights."""
        identities = self._method.identities()
        return frozenset(one.name for one in panel if judge.took_part(one, identities))

    def _panel(self) -> list[Recogniser]:
        """Recognisers that score without being searched on (or are found to share weights with one that is)."""
        if self._judges is None:
            found = judge.shipped_judges(self._room)
            found += judge.given_judges(self._given, self._room)
            self._judges = judge.unique(found + (judge.installed_judges() if self._installed else []))
        return self._judges


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
            "person. Protect the original, or insist: --again (in Python: again=True)"
        )


def _marks(original: Photo, protected: Photo) -> list[str]:
    """What the marks of two photos that are compared say."""
    notes = []
    if original.mark is not None:
        notes.append(f"the first photo is no original, it has been protected before ({original.mark}): compare with the original")
    if protected.mark is not None:
        notes.append(f"the second photo says that it has been protected ({protected.mark})")
    return notes


def _report(progress: ProgressCallback | None, event: Progress) -> None:
    if progress is not None:
        progress(event)

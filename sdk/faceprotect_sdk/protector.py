"""``Protector``: what an app holds. Its engines are opened at first use, shared by all its calls, and closed with it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from faceprotect_engines.files.manifest import is_name
from faceprotect_engines.recipes.recipe import Recipe
from faceprotect_engines.shared import ONE_BLAS_THREAD
from faceprotect_engines.store import Store
from faceprotect_sdk.arguments import whole
from faceprotect_sdk.cancel import Cancel, check_of
from faceprotect_sdk.canvas import canvas_of
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.detect import Face
from faceprotect_sdk.face.selection import Selection
from faceprotect_sdk.gate import Gate
from faceprotect_sdk.judging.check import check_photos
from faceprotect_sdk.mapping import Outcome, in_order
from faceprotect_sdk.methods import find_recipe
from faceprotect_sdk.parts import Parts
from faceprotect_sdk.photo.encode import DEFAULT_QUALITY
from faceprotect_sdk.photo.reading import ChannelOrder, Photo, PhotoLike, load, open_photo
from faceprotect_sdk.pool import EnginePool
from faceprotect_sdk.progress import ProgressCallback
from faceprotect_sdk.protection import Call, protect_photo
from faceprotect_sdk.reencode import encode_again
from faceprotect_sdk.result import CheckResult, ProtectResult
from faceprotect_sdk.settings import Changes, Settings, seconds

if TYPE_CHECKING:
    from typing_extensions import Unpack

_SEED_LIMIT = 2**63


class Protector:
    """Protects photos on this machine, offline.

    >>> with Protector(strength="medium") as protector:      # doctest: +SKIP
    ...     result = protector.protect("me.jpg")
    ...     result.save("me_protected.jpg")

    One protector serves any number of threads: calls run side by side, and wait only where two want the same engine opened. A call gives
    the same bytes whatever runs beside it, unless time ends its search.
    """

    def __init__(
        self,
        settings: Settings | str | Path | None = None,
        device: str | None = None,
        /,
        *,
        store: Store | None = None,
        pool: EnginePool | None = None,
        **changes: Unpack[Changes],
    ) -> None:
        """Remember the settings; engines are opened at first use.

        ``settings``: a :class:`Settings`, or a method by its name or folder; ``changes``: fields of Settings by their names, in place of
        those: ``Protector("fast", strength="low")``, ``Protector(method="fast", device="cpu")``, ``Protector(settings, quality=90)``.
        ``store``: where engines are, by default those that ship.
        ``pool``: open engines that are shared with other protectors, and stay open when this one closes; store, device and threads are
        then the pool's. Raises UsageError for a value out of range, DeviceUnavailable for a device that cannot be, and for a recipe what
        :func:`methods.find_recipe` raises.
        """
        self.settings = _settings(settings, device, changes)
        look = None if self.settings.look is None else str(self.settings.look)
        owned = pool is None
        if pool is None:
            pool, recipe, look = _own_pool(self.settings, store, look)
        elif store is not None or self.settings.device not in ("auto", pool.device) or self.settings.threads not in (None, pool.threads):
            raise UsageError("store, device and threads belong to the pool that was given", hint="Give them to EnginePool(...)")
        else:
            recipe = _recipe_in(pool.store, self.settings.method)
        self.pool, self._owned = pool, owned
        self._parts = Parts(self.settings, pool, recipe, look)
        self._calls = Gate("this protector is closed", "Open another: Protector(...), or move the call into its with block")
        self._closing = threading.Event()

    def __enter__(self) -> Protector:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close; where an exception ends the block, calls that other threads have in flight are cancelled."""
        self.close(cancel=error is not None)

    def close(self, *, cancel: bool = False) -> None:
        """Wait for the calls in flight, and release every engine, but those of a pool that was given.

        ``cancel``: they end with Cancelled at their next step, rather than when they are done. What is asked of the protector afterwards
        is refused with UsageError; closing it again does nothing. Raises UsageError where it is called from within such a call.
        """
        if cancel:
            self._closing.set()
        self._calls.shut()
        self._parts.close()
        if self._owned:
            self.pool.close()

    @property
    def devices(self) -> Mapping[str, str]:
        """Engine name to the device that really runs it, for the engines opened so far."""
        return self.pool.devices

    def warm(self) -> None:
        """Open now what the first photo would otherwise wait for; raises what opening the engines raises."""
        with self._call():
            self._parts.warm()

    def faces(self, photo: PhotoLike, *, channel_order: ChannelOrder = "rgb") -> tuple[Face, ...]:
        """Faces of a photo, largest first, in pixels of the upright photo. Raises like :func:`photo.load`."""
        with self._call():
            return canvas_of(open_photo(photo, channel_order=channel_order)).select("all", self._parts.detect)[0]

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
        deadline: float | None = None,
        cancel: Cancel | None = None,
    ) -> ProtectResult:
        """Protect the faces of a photo and score the bytes that would be written.

        ``photo``: a path, bytes, PIL image, or uint8 array [H, W, 3|4] or [H, W] (``channel_order`` "rgb" or "bgr").
        ``faces``: "all", "largest", or the app's own: Face, five (x, y) points [5, 2] or boxes (x0, y0, x1, y1), in
        pixels of the upright photo. Same photo, settings and ``seed`` give the same bytes on one machine, unless time
        ends a search. ``again``: protect a photo, too, that is marked as protected before, though that may lead back to the person.
        ``write_others``: where some faces are protected and others stay matched, also give the photo in which those are left as they
        were (``ProtectResult.partial``, status "partly_protected").
        ``deadline``: seconds from the beginning of this call after which no search goes on, as with ``Settings.time_budget``, which counts
        from the first search; whichever is over first. What was found by then is written and scored, which takes a moment more.
        ``cancel``: an event, or a function that says whether to stop, asked between steps; the call then raises Cancelled.
        ``progress`` is called in the thread that calls this; what it raises ends the call.

        Always returns a result; its ``status`` is "protected" only if no recogniser, searched on or not, matches any
        selected face on the encoded bytes. Raises FaceprotectError alone: UnreadableInput, AlreadyProtected, Cancelled, UsageError, and
        errors of the engine floor (EngineError).
        """
        began = time.monotonic()
        seconds("deadline", deadline)
        call = Call(
            faces=faces,
            channel_order=channel_order,
            seed=whole("seed", seed, 0, _SEED_LIMIT - 1),
            again=again,
            write_others=write_others,
            progress=progress,
            check=check_of(cancel, self._closing),
            end=math.inf if deadline is None else began + deadline,
        )
        with self._call():
            return protect_photo(self._parts, call, photo)

    def map(
        self,
        photos: Iterable[PhotoLike],
        *,
        workers: int = 1,
        faces: Selection = "all",
        seed: int = 0,
        again: bool = False,
        write_others: bool = False,
        deadline: float | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[Outcome]:
        """Protect many photos: one :class:`Outcome` each, in their order, as they become ready; one that fails does not end the run.

        ``photos`` are taken one by one, a few ahead of what has been handed out, so that there may be any number of them. ``workers``: how
        many are worked on at once. On the CPU an engine takes all cores for itself: two keep them busy while one decodes or writes, more
        only cost memory. The rest is as in :meth:`protect`, for every photo alike. Leaving the loop early cancels what was begun.
        """

        def one(photo: PhotoLike, stop: threading.Event) -> ProtectResult:
            asked = cancel.is_set if isinstance(cancel, threading.Event) else cancel
            either = stop if asked is None else lambda: stop.is_set() or asked()
            return self.protect(photo, faces=faces, seed=seed, again=again, write_others=write_others, deadline=deadline, cancel=either)

        return in_order(one, photos, whole("workers", workers, 1))

    def encode(self, result: ProtectResult, original: PhotoLike, container: str, quality: int = DEFAULT_QUALITY) -> ProtectResult:
        """A protected photo in another container or quality, scored anew: verdicts belong to the bytes that they were made on.

        ``result``: of :meth:`protect`, protected; ``original``: the photo that it was made from, with which the new bytes are compared.
        ``container``: "JPEG", "PNG", "WEBP", "AVIF" or "HEIC"; ``quality``: of the lossy ones. Nothing is searched: where a recogniser
        matches the new bytes, the status of what comes back is "still_matched", and its ``image`` None; the result that was given stays
        as good as it was. Encoding twice loses a little: to go out in that container anyway, give the original in it.

        Raises NotProtected for a result that is none, UsageError for another original or a container that cannot have the photo.
        """
        with self._call():
            return encode_again(self._parts, result, open_photo(original), container, quality)

    def check(
        self, original: PhotoLike, protected: PhotoLike, *, faces: Selection = "all", progress: ProgressCallback | None = None
    ) -> CheckResult:
        """Ask every recogniser at hand whether the two photos show the same faces.

        Measured on the pixels as decoded; each verdict says whether the recogniser is one that this protector searches
        on. Raises like :meth:`protect`.
        """
        with self._call():
            notes: list[str] = []
            panel = self._parts.wide_panel(notes)
            first, second = load(original), load(protected)
            notes += _marks(first, second)
            dependent, mesh = self._parts.dependent(panel), self._parts.mesh()
            return check_photos(first, second, faces, panel, dependent, self._parts.detect, tuple(notes), mesh, progress)

    @contextmanager
    def _call(self) -> Iterator[None]:
        """For as long as a call uses the engines; raises UsageError once they are closed.

        All of it with one BLAS thread: with another number a product rounds otherwise, and a call would give other bytes beside another
        call than alone.
        """
        with self._calls(), self.pool.calls(), ONE_BLAS_THREAD:
            yield


def _settings(given: Settings | str | Path | None, device: str | None, changes: Changes) -> Settings:
    """Those of a call; raises UsageError."""
    base = given if isinstance(given, Settings) else Settings()
    named: Changes = {}
    if isinstance(given, (str, Path)):
        named["method"] = given
    if device is not None:
        named["device"] = device
    if twice := sorted(named.keys() & changes.keys()):
        raise UsageError(f"{twice[0]} is given twice: by its place and by its name")
    named.update(changes)
    return base.but(**named) if named else base


def _own_pool(settings: Settings, store: Store | None, look: str | None) -> tuple[EnginePool, Recipe, str | None]:
    """The pool of one protector, its recipe, and the name of its look; a look in a folder of its own comes before the store."""
    store, method = store or Store(), settings.method
    if look is not None and is_name(method) and (Path(look) / "recipes" / f"{method}.json").is_file():
        store, look = Store([Path(look), *store.roots], store.cache), None
    recipe, store = find_recipe(method, store)
    return EnginePool(store, settings.device, settings.threads), recipe, look


def _recipe_in(store: Store, method: str | Path) -> Recipe:
    """The recipe of a method whose engines are all in ``store``; raises UsageError for a folder that the store does not have."""
    recipe, needed = find_recipe(method, store)
    if list(dict.fromkeys(needed.roots)) != list(dict.fromkeys(store.roots)):
        roots = ", ".join(repr(str(root)) for root in dict.fromkeys(needed.roots))
        said = f"the pool that was given has not the engines of '{method}'"
        raise UsageError(said, hint=f"Make it of them: EnginePool(Store([{roots}]))")
    return recipe


def _marks(original: Photo, protected: Photo) -> list[str]:
    """What the marks of two photos that are compared say."""
    notes = []
    if original.mark is not None:
        notes.append(f"the first photo is no original, it has been protected before ({original.mark}): compare with the original")
    if protected.mark is not None:
        notes.append(f"the second photo says that it has been protected ({protected.mark})")
    return notes

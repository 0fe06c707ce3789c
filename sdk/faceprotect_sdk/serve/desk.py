"""What a process of the service does with an order: photos come and go as bytes, and everything that can be wrong becomes a reply."""

from __future__ import annotations

import hashlib
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from faceprotect_engines.errors import OutOfMemory
from faceprotect_engines.shared import NO_WARNINGS
from faceprotect_engines.store import Store
from faceprotect_sdk.errors import EngineError, FaceprotectError, UsageError
from faceprotect_sdk.photo.formats import open_image
from faceprotect_sdk.protector import Protector
from faceprotect_sdk.settings import Changes, Settings

#: Protectors over one pool of engines that are kept, one for every set of settings that was asked for.
_KEPT = 8


@dataclass(frozen=True)
class Given:
    """What a process is made with: settings, where engines are, and pixels that a photo may have."""

    settings: Settings
    roots: Sequence[Path]
    cache: Path
    pixels: int
    search_seconds: float


@dataclass(frozen=True)
class Order:
    """What is to be done with one photo, or with two. ``number`` comes back with the reply; ``changes`` are settings of this call."""

    number: int
    kind: Literal["protect", "check"]
    photos: tuple[bytes, ...] = field(repr=False)
    changes: Changes = field(default_factory=lambda: Changes())
    seed: int = 0
    faces: Literal["all", "largest"] = "all"


@dataclass(frozen=True)
class Reply:
    """``code``: "protected", the status of a result that is none, or that of an error; ``photo``: only with the code "protected"."""

    number: int
    status: int
    code: str
    message: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    photo: bytes | None = field(default=None, repr=False)
    log: str = ""


@contextmanager
def make(given: Given) -> Iterator[Callable[[Order], Reply]]:
    """What a process answers orders with (``workers.child.Make``); its engines are open once it is ready."""
    desk = Desk(given)
    try:
        yield desk.reply
    finally:
        desk.close()


class Desk:
    """Protectors over one pool of engines, by their settings."""

    def __init__(self, given: Given) -> None:
        """Open the engines; raises what that raises."""
        self._given = given
        self._first = Protector(given.settings, store=Store(given.roots, given.cache))
        self._first.warm()
        self._others: OrderedDict[Settings, Protector] = OrderedDict()

    def close(self) -> None:
        """Release the engines."""
        for protector in self._others.values():
            protector.close()
        self._first.close()

    def reply(self, order: Order) -> Reply:
        """What becomes of an order; raises nothing but what ends the process."""
        digests = [hashlib.sha256(photo).hexdigest() for photo in order.photos]
        facts: dict[str, Any] = {"input_sha256": digests[0], **({"protected_sha256": digests[1]} if len(digests) > 1 else {})}
        try:
            for photo in order.photos:
                if (large := self._too_large(photo)) is not None:
                    return Reply(order.number, 413, "too_many_pixels", large, facts)
            protector = self._protector(order.changes)
            return self._protected(order, protector, facts) if order.kind == "protect" else self._checked(order, protector, facts)
        except Exception as error:  # noqa: BLE001 - it becomes the reply to this photo
            return Reply(order.number, *_said_of(error), facts=facts, log=_place_of(error))

    def _too_large(self, photo: bytes) -> str | None:
        """What is wrong with a photo of too many pixels by its header; what is wrong otherwise is said where it is read."""
        from PIL import Image

        try:
            with NO_WARNINGS, open_image(photo, "the photo") as image:
                pixels = image.width * image.height
        except Image.DecompressionBombError:
            return "far more pixels than are taken here"
        except Exception:  # noqa: BLE001 - foreign bytes: read again, and complained about, by the protector
            return None
        limit = self._given.pixels
        return None if pixels <= limit else f"{pixels / 1e6:.0f} megapixels are more than the {limit / 1e6:.0f} that are taken here"

    def _protector(self, changes: Changes) -> Protector:
        settings = self._given.settings.but(**changes)
        if settings == self._given.settings:
            return self._first
        if settings not in self._others:
            self._others[settings] = Protector(settings, pool=self._first.pool)
            while len(self._others) > _KEPT:
                self._others.popitem(last=False)[1].close()
        self._others.move_to_end(settings)
        return self._others[settings]

    def _protected(self, order: Order, protector: Protector, facts: dict[str, Any]) -> Reply:
        result = protector.protect(order.photos[0], faces=order.faces, seed=order.seed, deadline=self._given.search_seconds)
        facts |= result.to_json()
        if result.image is None or not result.protected:
            return Reply(order.number, 422, result.status, result.advice, facts)
        facts["output_sha256"] = hashlib.sha256(result.image).hexdigest()
        return Reply(order.number, 200, "protected", "", facts, result.image)

    def _checked(self, order: Order, protector: Protector, facts: dict[str, Any]) -> Reply:
        result = protector.check(order.photos[0], order.photos[1], faces=order.faces)
        facts |= result.to_json()
        return Reply(order.number, 422 if result.status == "no_face" else 200, result.status, "", facts)


def _said_of(error: Exception) -> tuple[int, str, str]:
    """HTTP status, code and message."""
    if isinstance(error, (MemoryError, OutOfMemory)):
        return 503, "out_of_memory", "no memory left for this photo"
    if isinstance(error, EngineError):
        return 503, error.code, "this machine cannot do it; its log says more"
    if isinstance(error, UsageError):
        return 400, error.code, str(error)
    if isinstance(error, FaceprotectError):
        return 422, error.code, str(error)
    return 500, "internal", "internal error"


def _place_of(error: Exception) -> str:
    """For the log: what went wrong where; no words of an unforeseen error, which may hold some of the photo."""
    if isinstance(error, EngineError):
        return f"{error.code}: {error}"
    if isinstance(error, FaceprotectError):
        return ""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"

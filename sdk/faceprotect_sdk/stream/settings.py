"""What a stream can be told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from faceprotect_sdk.arguments import whole
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.methods import Strength

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: What is done with a face that has no change to carry yet.
Unprotected = Literal["blur", "pass"]
#: Order of a frame's three channels.
Order = Literal["bgr", "rgb"]


@dataclass(frozen=True)
class StreamSettings:
    """How a stream is protected; frozen. Whatever is counted here is counted in frames, so that a stream may have any rate.

    ``channel_order``: of the frames, "bgr" as OpenCV delivers them, or "rgb". ``strength``, ``look``, ``device``: as in
    :class:`faceprotect_sdk.Settings`. ``threads``: cores that an engine may use; one leaves the others to the caller.
    ``unprotected``: a face that is not protected yet is blurred, and so is the whole frame as long as nobody has looked for faces in
    this scene; or it is passed as it is. ``confirm``: a change counts only if the judge that ships does not match the changed face with
    the face as it was; else every change that is found counts.

    ``detect_every``: a frame is looked through for faces each so many frames: for so long at most, and the fraction of a second that
    the look takes, a face that comes in is not known. ``refresh_every``: a face's change is renewed after so many frames at the earliest.
    ``fade``: frames in which one change takes the place of another. ``stale``: a change that has not been renewed for so many
    frames counts no more. ``forget``: a face that has been lost for so many frames is forgotten. ``most_faces``: that are followed at once;
    where there are more, the others are treated as unprotected: the whole frame is blurred, or they are passed.
    ``synchronous``: all work is done within ``next``, which then takes as long as it takes, and gives the same frames every time.

    Raises UsageError for a value out of range.
    """

    channel_order: Order = "bgr"
    strength: str | Strength = "medium"
    look: str | None = None
    device: str = "auto"
    threads: int = 1
    unprotected: Unprotected = "blur"
    confirm: bool = True
    detect_every: int = 10
    refresh_every: int = 6
    fade: int = 6
    stale: int = 90
    forget: int = 15
    most_faces: int = 8
    synchronous: bool = False

    def __post_init__(self) -> None:
        """Check."""
        for name, allowed in (("channel_order", get_args(Order)), ("unprotected", get_args(Unprotected))):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("threads", "detect_every", "refresh_every", "stale", "forget", "most_faces"):
            object.__setattr__(self, name, whole(name, getattr(self, name), 1))
        object.__setattr__(self, "fade", whole("fade", self.fade, 0))

    def but(self, **changes: Unpack[StreamChanges]) -> StreamSettings:
        """The same with some fields changed; raises UsageError like making one does."""
        try:
            return replace(self, **changes)
        except TypeError as error:
            raise UsageError(f"a stream has no such setting: {error}") from error


class StreamChanges(TypedDict, total=False):
    """The fields of :class:`StreamSettings`, as keyword arguments of calls."""

    channel_order: Order
    strength: str | Strength
    look: str | None
    device: str
    threads: int
    unprotected: Unprotected
    confirm: bool
    detect_every: int
    refresh_every: int
    fade: int
    stale: int
    forget: int
    most_faces: int
    synchronous: bool


def frames_only(frame: Any) -> None:
    """Raise UsageError for what is no frame: uint8 [H, W, 3]."""
    shape, dtype = getattr(frame, "shape", None), getattr(frame, "dtype", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or min(shape) < 1 or dtype != "uint8":
        raise UsageError(f"a frame is a uint8 array [height, width, 3], got {dtype} {shape if shape is not None else type(frame).__name__}")

"""The base of every error that is raised on purpose, and the errors of the engines floor.

A message says what happened and where; ``hint``, where there is one, what to do next. Where that is an argument of a call, the hint
names it as Python does (``device='cpu'``): the command line makes its own options of that.
"""

from __future__ import annotations

from typing import ClassVar


class FaceprotectError(Exception):
    """Base of every error that faceprotect raises on purpose, on either floor.

    ``code``: a short word for the kind of error, which stays the same whatever the message says. ``hint``: what to do next; "" where the
    message says it, or nothing can be done. ``str()`` gives both.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        """``message`` has no full stop at its end where there is a ``hint``."""
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """What happened and where, without the hint."""
        return super().__str__()

    def __str__(self) -> str:
        """Message and hint."""
        return f"{self.message}. {self.hint}" if self.hint else self.message


class EngineError(FaceprotectError):
    """Base of everything the engines floor raises on purpose; itself: an engine that fails while it is built or run."""

    code = "engine_failed"


class EngineNotFound(EngineError):
    """No engine (or no file of it that the chosen device needs) under that name or folder."""

    code = "engine_not_found"


class EngineCorrupt(EngineError):
    """A file differs from its manifest (sha256, size, tensor names), or the manifest itself is bad."""

    code = "engine_corrupt"


class WeightsMissing(EngineError):
    """The engine takes its weights from a package that is not installed, or from a file that has not been fetched."""

    code = "weights_missing"


class CacheUnwritable(EngineError):
    """Weights had to be written into the cache and could not be."""

    code = "cache_unwritable"


class DeviceUnavailable(EngineError):
    """The device asked for is not there, or is not what would really run."""

    code = "device_unavailable"


class GradientMissing(EngineError):
    """The graph gives everything that the manifest names but gradients, which only the torch program has."""

    code = "gradient_missing"


class OutOfMemory(EngineError):
    """The machine has not the memory that an engine needs."""

    code = "out_of_memory"


class EngineInputError(EngineError):
    """An engine was fed a wrong name, dtype or shape."""

    code = "bad_engine_input"


class RecipeError(EngineError):
    """A recipe is malformed, names an array that is not there, or its numbers stopped being finite."""

    code = "bad_recipe"

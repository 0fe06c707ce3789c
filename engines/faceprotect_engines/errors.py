"""Errors of the engines floor; every message says what, where, and the next command to type."""


class EngineError(Exception):
    """Base of everything this floor raises on purpose."""


class EngineNotFound(EngineError):
    """No engine (or no file of it that the chosen device needs) under that name or folder."""


class EngineCorrupt(EngineError):
    """A file differs from its manifest (sha256, size, tensor names), or the manifest itself is bad."""


class WeightsMissing(EngineError):
    """The engine takes its weights from a package that is not installed, or from a file that has not been fetched."""


class CacheUnwritable(EngineError):
    """Weights had to be written into the cache and could not be."""


class DeviceUnavailable(EngineError):
    """The device asked for is not there, or is not what would really run."""


class GradientMissing(EngineError):
    """The graph gives everything that the manifest names but gradients, which only the torch program has."""


class OutOfMemory(EngineError):
    """The machine has not the memory that an engine needs."""


class EngineInputError(EngineError):
    """An engine was fed a wrong name, dtype or shape."""


class RecipeError(EngineError):
    """A recipe is malformed, names an array that is not there, or its numbers stopped being finite."""

"""faceprotect-sdk: a photo goes in, the same photo comes out, and face recognition no longer matches it.

Everything runs on this machine. Importing the package loads neither torch nor ONNX Runtime, and touches neither the
disk nor the network; that happens when a :class:`Protector` first works.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from faceprotect_sdk._version import __version__

if TYPE_CHECKING:
    from faceprotect_sdk.errors import (
        AlreadyProtected,
        Cancelled,
        EngineError,
        ExitCode,
        FaceprotectError,
        NoFace,
        NotProtected,
        OutputError,
        RecogniserError,
        UnreadableInput,
        UsageError,
        WriteError,
    )
    from faceprotect_sdk.face.detect import Face
    from faceprotect_sdk.judging.quality import Quality
    from faceprotect_sdk.mapping import Outcome
    from faceprotect_sdk.methods.base import Strength
    from faceprotect_sdk.photo.reading import Photo
    from faceprotect_sdk.pool import EnginePool
    from faceprotect_sdk.progress import Progress
    from faceprotect_sdk.protector import Protector
    from faceprotect_sdk.result import CheckResult, FaceCheck, FaceResult, ProtectResult, Verdict
    from faceprotect_sdk.settings import Settings
    from faceprotect_sdk.stream.settings import StreamSettings
    from faceprotect_sdk.stream.stream import Stream

__all__ = [
    "AlreadyProtected",
    "Cancelled",
    "CheckResult",
    "EngineError",
    "EnginePool",
    "ExitCode",
    "Face",
    "FaceCheck",
    "FaceResult",
    "FaceprotectError",
    "NoFace",
    "NotProtected",
    "Outcome",
    "OutputError",
    "Photo",
    "Progress",
    "ProtectResult",
    "Protector",
    "Quality",
    "RecogniserError",
    "Settings",
    "Strength",
    "Stream",
    "StreamSettings",
    "UnreadableInput",
    "UsageError",
    "Verdict",
    "WriteError",
    "__version__",
]

_HOME = {
    "EnginePool": "pool",
    "Face": "face.detect",
    "Outcome": "mapping",
    "Photo": "photo.picture",
    "Progress": "progress",
    "Protector": "protector",
    "Quality": "judging.quality",
    "Settings": "settings",
    "Strength": "methods.base",
    "Stream": "stream.stream",
    "StreamSettings": "stream.settings",
    **dict.fromkeys(("CheckResult", "FaceCheck", "FaceResult", "ProtectResult", "Verdict"), "result"),
    **dict.fromkeys(
        (
            "AlreadyProtected",
            "Cancelled",
            "EngineError",
            "ExitCode",
            "FaceprotectError",
            "NoFace",
            "NotProtected",
            "OutputError",
            "RecogniserError",
            "UnreadableInput",
            "UsageError",
            "WriteError",
        ),
        "errors",
    ),
}


def __getattr__(name: str) -> Any:
    """Public names are loaded at first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'faceprotect_sdk' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"faceprotect_sdk.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names."""
    return sorted(__all__)

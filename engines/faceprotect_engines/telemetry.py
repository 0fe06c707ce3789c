"""ONNX Runtime's reports to its vendor, off.

From 1.29 on its wheels keep an identifier of the device under the user's cache folder and report, unless ``ORT_DISABLE_TELEMETRY`` is 1
when they are first imported. Nothing may leave this machine, so that importing this module sets the variable where nobody has set it.
"""

from __future__ import annotations

import os
import re
import sys

VARIABLE = "ORT_DISABLE_TELEMETRY"
_SINCE = (1, 29)


def _reports() -> bool:
    """Whether ONNX Runtime has been imported already, in a version that reports."""
    if "onnxruntime" not in sys.modules:
        return False
    version = re.match(r"(\d+)\.(\d+)", str(getattr(sys.modules["onnxruntime"], "__version__", "")))
    return version is None or (int(version[1]), int(version[2])) >= _SINCE


#: Whether ONNX Runtime was there before the variable was: then it has not been told.
TOO_LATE = VARIABLE not in os.environ and _reports()
os.environ.setdefault(VARIABLE, "1")


def complaint() -> str | None:
    """What to tell the user; None where ONNX Runtime has been told to keep quiet."""
    remedy = f"Set it before Python starts: export {VARIABLE}=1"
    if TOO_LATE:
        return (
            f"onnxruntime was imported before faceprotect_sdk, and without {VARIABLE}=1 it may report to its vendor. "
            f"Import faceprotect_sdk first. {remedy}"
        )
    if os.environ.get(VARIABLE) != "1":
        return f"{VARIABLE} is {os.environ.get(VARIABLE)!r} and not '1', so that onnxruntime may report to its vendor. {remedy}"
    return None

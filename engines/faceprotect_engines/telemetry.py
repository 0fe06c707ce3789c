"""ONNX Runtime's reports to its vendor, off.

From 1.29 on its wheels keep an identifier of the device under the user's cache folder and report, unless ``ORT_DISABLE_TELEMETRY`` is 1
when they are first imported. Nothing may leave this machine, so that importing this module sets the variable where nobody has set it.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "ORT_DISABLE_TELEMETRY"
#: Whether ONNX Runtime was there before the variable was: then it has not been told.
TOO_LATE = VARIABLE not in os.environ and "onnxruntime" in sys.modules
os.environ.setdefault(VARIABLE, "1")


def complaint() -> str | None:
    """What to tell the user; None where ONNX Runtime has been told to keep quiet."""
    remedy = f"Set it before Python starts: export {VARIABLE}=1"
    if TOO_LATE:
        return (
            "onnxruntime was imported before faceprotect_sdk, and without ORT_DISABLE_TELEMETRY=1 it may report to its vendor. "
            f"Import faceprotect_sdk first. {remedy}"
        )
    if os.environ.get(VARIABLE) != "1":
        return f"{VARIABLE} is {os.environ.get(VARIABLE)!r} and not '1', so that onnxruntime may report to its vendor. {remedy}"
    return None

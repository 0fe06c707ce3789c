"""Importing the package is light: no runtimes, no folders, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import socket, sys, time, json
def refuse(*a, **k): raise AssertionError("network")
socket.socket = refuse
import numpy
start = time.perf_counter()
import faceprotect_sdk
from faceprotect_sdk import {names}
seconds = time.perf_counter() - start
heavy = [m for m in ("torch", "onnxruntime", "cv2", "PIL", "onnx", "dlib", "skimage", "scipy", "ssimulacra2") if m in sys.modules]
print(json.dumps([seconds, heavy]))
"""


def _probe(tmp_path: Path, names: str) -> tuple[float, list[str]]:
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "c"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    code = PROBE.format(names=names)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    seconds, heavy = json.loads(done.stdout)
    return seconds, heavy


def test_import_is_light(tmp_path: Path) -> None:
    seconds, heavy = _probe(tmp_path, "__version__")
    assert heavy == []
    assert seconds < 0.3
    assert list(tmp_path.iterdir()) == []


def test_the_public_names_are_light_too(tmp_path: Path) -> None:
    _, heavy = _probe(tmp_path, "Protector, ProtectResult, UnreadableInput")
    assert heavy == []
    assert list(tmp_path.iterdir()) == []


def test_every_public_name_exists() -> None:
    import faceprotect_sdk

    for name in faceprotect_sdk.__all__:
        assert getattr(faceprotect_sdk, name) is not None
    assert set(faceprotect_sdk.__all__) <= set(dir(faceprotect_sdk))


@pytest.mark.parametrize("module", ["protector", "doctor", "benchmark", "judging.check", "judging.recognisers"])
def test_onnx_runtime_is_told_to_keep_quiet_before_it_is_imported(tmp_path: Path, module: str) -> None:
    """Its wheels report to their vendor from 1.29 on, unless this stands in the environment at their import."""
    code = f"import faceprotect_sdk.{module}, os, sys; assert 'onnxruntime' not in sys.modules; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    given = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment = {**given, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"

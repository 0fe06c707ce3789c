"""The tests of the JavaScript package and of the page, as ``npm test`` runs them; what is missing for them is said.

A true bundle in them (``FACEPROTECT_BUNDLE=DIR``) is for those who have the minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "web"
FOLDER = WEB / "test"
NODE = shutil.which("node")
BROWSERS = ("FACEPROTECT_CHROMIUM", "chromium", "chromium-browser", "google-chrome")

needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
needs_modules = pytest.mark.skipif(not (WEB / "node_modules").is_dir(), reason="web/node_modules is not there: cd web && npm ci")


def has_browser() -> bool:
    return bool(os.environ.get(BROWSERS[0])) or any(shutil.which(name) for name in BROWSERS[1:])


def run(*names: str) -> None:
    """Run test files; fails with what node says, and skips where all of them were skipped."""
    command = [str(NODE), "--import", "tsx", "--test", "--test-reporter=tap", *(f"test/{name}" for name in names)]
    environment = {**os.environ, "FACEPROTECT_PYTHON": sys.executable, "ORT_DISABLE_TELEMETRY": "1"}
    ended = subprocess.run(command, cwd=WEB, env=environment, capture_output=True, text=True, check=False, timeout=3000)
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr[-5_000:]
    counts = {name: int(number) for name, number in re.findall(r"^# (pass|skipped|tests) (\d+)$", ended.stdout, re.M)}
    reasons = sorted(set(re.findall(r"# SKIP (.+)$", ended.stdout, re.M)))
    if not counts.get("pass") and reasons:
        pytest.skip("; ".join(reasons))


@needs_node
@needs_modules
def test_the_types_agree() -> None:
    ended = subprocess.run([str(NODE), "node_modules/typescript/bin/tsc", "--noEmit"], cwd=WEB, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


@needs_node
@needs_modules
def test_the_package() -> None:
    run(*sorted(path.name for path in FOLDER.glob("*.test.ts") if not path.name.startswith("e2e-")))


@needs_node
@needs_modules
@pytest.mark.skipif(not has_browser(), reason="no Chromium: install it, or name it in FACEPROTECT_CHROMIUM")
@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("e2e-*.test.ts")))
def test_in_a_browser(name: str) -> None:
    run(name)

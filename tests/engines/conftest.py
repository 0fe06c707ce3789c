"""Fixtures: a bench of toy engines that runs recipes."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipe_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "zoo")

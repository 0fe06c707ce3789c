"""Golden tensors: an engine passes its own, and a changed engine fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_models

from faceprotect_engines import EngineCorrupt, Store, TensorSpec, read_manifest, write_manifest
from faceprotect_engines.files.golden import check_golden, golden_input, make_golden

WAVE = {"shape": [2, 3], "wave": {"step": 0.37, "low": -1.0, "high": 1.0}}


def with_golden(folder: Path, scale: float, golden: dict[str, Any] | None = None) -> dict[str, Any]:
    toy_models.affine(folder, scale)
    store = Store([folder.parent], folder.parent)
    made = make_golden(store.open("affine"), {"x": WAVE}, folder) if golden is None else golden
    write_manifest(folder, replace(read_manifest(folder), golden=made))
    return made


def check(folder: Path) -> dict[str, float]:
    store = Store([folder.parent], folder.parent)
    return check_golden(store.open("affine"), store.manifest("affine"), folder)


def test_an_engine_passes_its_own_and_another_fails(tmp_path: Path) -> None:
    golden = with_golden(tmp_path / "affine", 2.0)
    assert check(tmp_path / "affine") == {"y": 0.0}
    with_golden(tmp_path / "affine", 2.01, golden)
    with pytest.raises(EngineCorrupt, match="golden"):
        check(tmp_path / "affine")


def test_an_engine_without_golden_tensors_reports_nothing(tmp_path: Path) -> None:
    toy_models.affine(tmp_path / "affine")
    assert check(tmp_path / "affine") == {}


def test_files_are_compared_in_full(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((5, 3), dtype=np.float32)
    expected = 2 * x + 1
    golden = {"inputs": {"x": {"file": "x.npy"}}, "outputs": {"y": {"file": "y.npy"}}}
    with_golden(tmp_path / "affine", 2.0, golden)
    np.save(tmp_path / "affine" / "x.npy", x)
    np.save(tmp_path / "affine" / "y.npy", expected)
    assert check(tmp_path / "affine")["y"] < 1e-6
    expected[4, 2] += 0.1
    np.save(tmp_path / "affine" / "y.npy", expected)
    with pytest.raises(EngineCorrupt, match="golden"):
        check(tmp_path / "affine")


def test_formulas_are_as_documented(tmp_path: Path) -> None:
    wave = golden_input(TensorSpec("x", "float32", (None, 3)), WAVE, tmp_path)
    expected = [[np.sin(0.37 * i) for i in range(3)], [np.sin(0.37 * i) for i in range(3, 6)]]
    np.testing.assert_allclose(wave, expected, atol=1e-6)
    eye = golden_input(TensorSpec("rows", "float32", (1, 3, 3)), {"shape": [1, 3, 3], "eye": 1.0}, tmp_path)
    np.testing.assert_array_equal(eye, np.eye(3)[None])


@pytest.mark.parametrize("recipe", [{}, {"shape": [2, 3]}, {"shape": [2, 4], "eye": 1}, {"file": "../x.npy"}, {"file": "none.npy"}])
def test_malformed_golden_input_is_corrupt(tmp_path: Path, recipe: dict[str, Any]) -> None:
    with pytest.raises(EngineCorrupt):
        golden_input(TensorSpec("x", "float32", (None, 3)), recipe, tmp_path)

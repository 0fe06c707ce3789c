"""Beside optimum-onnx: the whole comparison where its environment is named, and without it what the script refuses and computes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import optimum_parity

#: The Python of an environment with the extra [optimum].
PYTHON = os.environ.get("OPTIMUM_PYTHON")


def test_another_python_is_asked_for_in_words(tmp_path: Path) -> None:
    words = ["--out", str(tmp_path / "out.json"), "--python"]
    missing = CliRunner().invoke(optimum_parity.main, [*words, str(tmp_path / "nowhere")])
    assert missing.exit_code == 1 and "first lines" in missing.output
    ours = CliRunner().invoke(optimum_parity.main, [*words, sys.executable])
    assert ours.exit_code == 1 and "ended with 1" in ours.output and "optimum" in ours.output
    assert not list(tmp_path.iterdir())


def test_ours_is_compared_in_optimums_units() -> None:
    ones = np.ones((1, 4), np.float32)
    assert (optimum_parity.result("vae-encoder", {"latent": ones}, 0.5) == 2 * ones).all()
    assert (optimum_parity.result("vae-decoder", {"decoded": 0 * ones}, 0.5) == -ones).all()
    assert (optimum_parity.result("clip-image", {"embedding": ones, "loss": 0 * ones}, 1.0) == ones).all()


def test_graphs_run_in_turn() -> None:
    order: list[str] = []
    found = optimum_parity.medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3
    assert found.keys() == {"a", "b"}


@pytest.mark.skipif(PYTHON is None, reason="OPTIMUM_PYTHON names no environment with the extra [optimum]")
def test_both_exports_give_the_same(tmp_path: Path) -> None:
    done = CliRunner().invoke(optimum_parity.main, ["--python", str(PYTHON), "--out", str(tmp_path / "out.json"), "--repeat", "1"])
    assert done.exit_code == 0, done.output
    networks = json.loads((tmp_path / "out.json").read_text())["networks"]
    assert networks.keys() == optimum_parity.NETWORKS.keys()
    for name, row in networks.items():
        for pair, found in row["agreement"].items():
            assert found["relative_error"] < 1e-4, (name, pair)
        assert row["bytes"].keys() == row["p50_ms"].keys() == ({"optimum", "forward"} | ({"gradient"} if name != "vae-encoder" else set()))

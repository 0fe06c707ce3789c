"""Which engines the builder of TensorRT-RTX is given, and what an entry says of those that it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy_models
from click.testing import CliRunner
from onnx import helper

import rtx_builds
from faceprotect_engines.files.manifest import ExternalWeights
from faceprotect_engines.store import Store
from faceprotect_export.onnx_io.writer import ExternalTensor, external_initializer


def engine(folder: Path, width: int | None = 3, *, external: bool = False) -> None:
    """y = x @ w, whose w is in the graph, or nowhere to be found."""
    toy_models.save(
        folder,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (1, width)},
        {"y": (1, 4)},
        {} if external else {"w": np.full((3, 4), 0.5, np.float32)},
        external=[external_initializer("w", [3, 4], ExternalTensor("w.bin", 8, 48))] if external else [],
        weights=[ExternalWeights("", "w.bin", "0" * 64, 57, "w.bin", "https://example.invalid/w.bin")] if external else [],
    )


def test_every_engine_of_fixed_size_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine(tmp_path / "zoo" / "any-size", None)
    engine(tmp_path / "zoo" / "away", external=True)
    engine(tmp_path / "zoo" / "plain")
    monkeypatch.setattr(rtx_builds, "Store", lambda: Store([tmp_path / "zoo"], tmp_path / "cache"))
    done = CliRunner().invoke(rtx_builds.main, ["--out", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    rows = {row["engine"]: row for row in json.loads((tmp_path / "out.json").read_text())["entries"]}
    assert rows["any-size"]["status"] == "not built" and "any size" in rows["any-size"]["reason"]
    assert "random" in rows["away"]["weights"] and "weights" not in rows["plain"]
    for name in ("away", "plain"):  # without the library the reason says so
        row = rows[name]
        assert row["layers"]["FLOAT"] > 0 if row["status"] == "accepted" else (row["status"], "rtx" in row["reason"]) == ("not built", True)
    assert str(tmp_path) not in (tmp_path / "out.json").read_text()


def test_a_damaged_engine_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine(tmp_path / "zoo" / "plain")
    (tmp_path / "zoo" / "plain" / "manifest.json").write_text("{}")
    monkeypatch.setattr(rtx_builds, "Store", lambda: Store([tmp_path / "zoo"], tmp_path / "cache"))
    done = CliRunner().invoke(rtx_builds.main, ["--out", str(tmp_path / "out.json"), "--only", "plain"])
    assert done.exit_code == 1 and "manifest" in done.output

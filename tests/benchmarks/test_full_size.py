"""Networks of true size: what an entry holds, what a rerun leaves out, and that refusals and crashes are entries, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import full_size
from faceprotect_export.build.folder import EngineRecipe


def test_an_entry_holds_parity_size_and_memory_and_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, scratch = tmp_path / "out.json", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (entry,) = full_size.run(("mobilefacenet",), ("fp32",), out, scratch)
    assert json.loads(out.read_text())["entries"] == [entry]
    assert (entry["network"], entry["precision"], entry["parameters_m"]) == ("mobilefacenet", "fp32", 1.2)
    assert "crashed" not in entry
    assert 0.1 < entry["peak_gb"] < 4
    (engine,) = entry["engines"]
    assert "refused" not in engine
    assert engine["gradients"] == ["grad_image"]
    assert engine["gradient_cosine"] == engine["parity"]["outputs"]["grad_image"]["cosine"] > 0.9999
    assert engine["onnx_checker"] == "passed"
    assert engine["bytes"] > 4e6 * entry["parameters_m"]
    plan = engine["rtx"]
    assert plan["status"] == "not built" or (plan["status"] == "accepted" and plan["layers"]["FLOAT"] > 0 and plan["bytes"] > 0)
    assert not list(scratch.iterdir())

    def started(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(full_size, "started", started)
    before = out.read_bytes()
    assert list(full_size.run(("mobilefacenet",), ("fp32",), out, scratch)) == []
    assert out.read_bytes() == before


def test_entries_of_another_commit_are_no_reason_to_leave_something_out(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    rows = [{"network": name, "precision": "fp16", "commit": commit} for name, commit in {"vae": "a", "clip": "a+", "unet": "b"}.items()]
    out.write_text(json.dumps({"entries": rows}))
    assert full_size.same_commit(out, "a+").keys() == {("vae", "fp16"), ("clip", "fp16")}


def toy(function: Any) -> EngineRecipe:
    """An engine that asks for more than there is."""
    return EngineRecipe("toy", "surrogate", function, [{"x": torch.linspace(0.5, 1.5, 8)[None]}], ("x",), cosine=2.0)


def test_what_is_refused_is_measured_nonetheless(tmp_path: Path) -> None:
    def cubes(x: Tensor) -> dict[str, Tensor]:
        return {"loss": (x**3).sum().reshape(1)}

    row = full_size.export_engine(toy(cubes), tmp_path / "toy")
    assert "relative error" in row["refused"]
    assert row["gradient_cosine"] > 0.9999
    assert (row["onnx_checker"], row["parity"]["tolerance"], row["parity"]["least_cosine"]) == ("passed", 1e-4, 2.0)


def test_an_engine_without_finite_numbers_has_no_graph_to_compile(tmp_path: Path) -> None:
    def logarithm(x: Tensor) -> dict[str, Tensor]:
        return {"loss": torch.log(-x).sum().reshape(1)}

    row = full_size.export_engine(toy(logarithm), tmp_path / "toy")
    assert row.keys() == {"engine", "gradients", "refused", "seconds"}
    assert full_size.planned(tmp_path / "toy") == {"status": "not built", "reason": "the export was refused"}


def test_how_a_process_ended_is_part_of_its_row(tmp_path: Path) -> None:
    row = full_size.started(["--one", "resnet", "fp32"], tmp_path / "out.json")
    assert row["crashed"].startswith("exit code 2") and "no network is called resnet" in row["crashed"]

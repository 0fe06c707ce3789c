"""Weights that two engines hold are stored once, and give the same results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from faceprotect_engines.store import Store
from faceprotect_export.build.folder import EngineRecipe, build_engine
from faceprotect_export.build.sharing import share
from faceprotect_export.onnx_io.writer import round_weights


def test_what_another_engine_holds_is_taken_from_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    common, own = (round_weights(nn.Linear(40, 40).requires_grad_(False)) for _ in range(2))
    sample = {"x": torch.rand(1, 40)}

    def both(x: Tensor) -> dict[str, Tensor]:
        return {"loss": own(common(x)).square().sum().reshape(1)}

    build_engine(EngineRecipe("part", "step", lambda x: {"y": common(x)}, [sample], weights="fp16", fold="load"), tmp_path / "zoo/part")
    build_engine(EngineRecipe("whole", "step", both, [sample], ("x",), weights="fp16", fold="load"), tmp_path / "zoo/whole")
    store = Store([tmp_path / "zoo"], tmp_path / "cache")
    feeds = {"x": sample["x"].numpy()}

    def run() -> dict[str, np.ndarray]:
        with store.open("whole", "cpu") as engine:
            return dict(engine.run(feeds))

    before, size = run(), (tmp_path / "zoo/whole/model.onnx").stat().st_size
    assert not store.manifest("whole").weights
    for _ in range(2):  # once more takes nothing more
        manifest = share(tmp_path / "zoo/whole", [tmp_path / "zoo/part"])
        assert [weights.file for weights in manifest.weights] == ["part/model.onnx"]
    assert size - (tmp_path / "zoo/whole/model.onnx").stat().st_size > 0.9 * 40 * 40 * 2
    after = run()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)

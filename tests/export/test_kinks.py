"""Parity is measured where the gradient is well defined, and the choice of such a point is sound."""

from __future__ import annotations

import torch
from torch import Tensor

from faceprotect_export.build.smooth_points import away_from_kinks
from faceprotect_export.trace.vjp import gradient_function


def test_a_sample_on_a_kink_is_moved_off_it_and_a_smooth_one_is_kept() -> None:
    def steep(x: Tensor) -> dict[str, Tensor]:
        return {"loss": torch.relu(x - 0.5).sum() + 0.1 * (x * x).sum()}

    run = gradient_function(steep, ["x"])
    on_kink = {"x": torch.tensor([0.5] * 6 + [0.1, 0.9, -0.3]), "other": torch.ones(1)}  # six: some nudge goes either way

    def call(sample: dict[str, Tensor]) -> dict[str, Tensor]:
        return run({"x": sample["x"]})

    moved = away_from_kinks(call, on_kink, ["x"])["x"]
    assert float((moved[:6] - 0.5).abs().min()) > 2e-6
    assert float((moved - on_kink["x"]).abs().max()) < 1e-2
    smooth = {"x": torch.tensor([0.6, 0.1, 0.9, -0.3])}
    assert torch.equal(away_from_kinks(call, smooth, ["x"])["x"], smooth["x"])

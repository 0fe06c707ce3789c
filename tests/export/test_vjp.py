"""Tracing: names, several variables, the gradient scale, and what cannot be traced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from export_tools import parity_of, weighted
from torch import Tensor, nn

from faceprotect_export.trace.vjp import TraceError, gradient_function, input_names, output_names, trace


def step(x: Tensor, y: Tensor, unused: Tensor) -> dict[str, Tensor]:
    product = torch.tanh(x @ y)
    return {"product": product, "loss": weighted(product)}


INPUTS = {"y": torch.randn(4, 2), "x": torch.randn(3, 4), "unused": torch.randn(2)}


def test_names_and_order_are_those_of_the_function() -> None:
    graph = trace(step, INPUTS, ["x", "y"])
    assert input_names(graph) == ["y", "x", "unused"]
    assert output_names(graph) == ["product", "loss", "grad_x", "grad_y"]


def test_traced_module_computes_other_inputs_than_it_was_traced_with() -> None:
    graph = trace(step, INPUTS, ["x", "y"])
    other = {name: torch.randn_like(value) for name, value in INPUTS.items()}
    expected = gradient_function(step, ["x", "y"])(other)
    for name, value in graph(**other).items():
        assert torch.allclose(value, expected[name], atol=1e-6), name


def test_gradient_agrees_with_finite_differences() -> None:
    graph = trace(step, INPUTS, ["x"])
    inputs = {name: value.clone() for name, value in INPUTS.items()}
    gradient = graph(**inputs)["grad_x"][1, 2]
    inputs["x"][1, 2] += 1e-2
    above = graph(**inputs)["loss"]
    inputs["x"][1, 2] -= 2e-2
    below = graph(**inputs)["loss"]
    assert torch.allclose((above - below) / 2e-2, gradient, rtol=1e-2)


def test_gradient_scale_changes_nothing_but_rounding() -> None:
    plain, scaled = trace(step, INPUTS, ["x"]), trace(step, INPUTS, ["x"], gradient_scale=1024.0)
    assert torch.allclose(plain(**INPUTS)["grad_x"], scaled(**INPUTS)["grad_x"], rtol=1e-5)
    assert torch.equal(plain(**INPUTS)["loss"], scaled(**INPUTS)["loss"])


def test_without_variables_only_the_forward_pass_is_traced(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).requires_grad_(False)
    parity, model = parity_of(lambda x: {"y": net(x)}, {"x": torch.randn(1, 3, 8, 8)}, [], tmp_path)
    assert [o.name for o in model.graph.output] == ["y"]
    assert parity.relative_error < 1e-6


def test_fake_tracing_gives_the_same_gradients() -> None:
    net = nn.Conv2d(3, 4, 3, 2, 1).requires_grad_(False)
    inputs = {"x": torch.randn(1, 3, 8, 8)}

    def loss(x: Tensor) -> dict[str, Tensor]:
        return {"loss": weighted(net(x))}

    real, fake = (trace(loss, inputs, ["x"], tracing_mode=mode) for mode in ("real", "fake"))
    assert torch.allclose(real(**inputs)["grad_x"], fake(**inputs)["grad_x"])


def test_unknown_variable_and_missing_loss_are_named() -> None:
    with pytest.raises(TraceError, match="'z'"):
        trace(step, INPUTS, ["z"])
    with pytest.raises(TraceError, match="'cost'"):
        trace(step, INPUTS, ["x"], loss="cost")

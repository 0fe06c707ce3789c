"""Optimisers against their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faceprotect_engines import RecipeError
from faceprotect_engines.recipes.optimise import OPTIMISERS, AdamW, SignMomentum, make_optimiser


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"betas": (0.5, 0.9), "eps": 1e-3}])
def test_adamw_is_torchs(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    ours = generator.standard_normal((2, 3)).astype(np.float32)
    theirs = torch.nn.Parameter(torch.tensor(ours))
    oracle = torch.optim.AdamW([theirs], lr=0.05, **{"weight_decay": 0.0, **options})
    optimiser = AdamW(0.05, **options)
    for _ in range(30):
        gradient = generator.standard_normal((2, 3)).astype(np.float32)
        theirs.grad = torch.tensor(gradient)
        oracle.step()
        ours = optimiser.step(ours, gradient)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=2e-6, atol=2e-6)
    assert ours.dtype == np.float32


def test_annealed_adamw_is_torchs_with_its_cosine() -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(2)
    ours = generator.standard_normal((2, 3)).astype(np.float32)
    theirs = torch.nn.Parameter(torch.tensor(ours))
    oracle = torch.optim.AdamW([theirs], lr=0.05, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(oracle, 20, eta_min=0.1 * 0.05)
    optimiser = make_optimiser({"name": "adamw", "learning_rate": 0.05, "weight_decay": 0.1, "anneal": 0.1}, 20)
    for _ in range(20):
        gradient = generator.standard_normal((2, 3)).astype(np.float32)
        theirs.grad = torch.tensor(gradient)
        oracle.step()
        schedule.step()
        ours = optimiser.step(ours, gradient)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=2e-6, atol=2e-6)
    assert optimiser.learning_rate == pytest.approx(0.005)
    optimiser.step(ours, gradient)
    assert optimiser.learning_rate == pytest.approx(0.005)  # and does not rise again


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_sign_momentum_is_algorithm_1(norm: str) -> None:
    generator = np.random.default_rng(1)
    variable = expected = generator.standard_normal(6).astype(np.float32)
    momentum, optimiser = np.zeros(6), SignMomentum(0.01, 0.9, norm)
    for _ in range(5):
        gradient = generator.standard_normal(6).astype(np.float32)
        size = np.abs(gradient).sum() if norm == "l1" else np.sqrt(np.square(gradient).sum())
        momentum = 0.9 * momentum + gradient / size
        expected = expected - 0.01 * np.sign(momentum)
        variable = optimiser.step(variable, gradient)
    np.testing.assert_allclose(variable, expected, atol=1e-6)


def test_sign_momentum_survives_a_zero_gradient() -> None:
    optimiser = SignMomentum(0.5)
    np.testing.assert_array_equal(optimiser.step(np.ones(2, np.float32), np.zeros(2, np.float32)), [1, 1])


@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_optimisers_descend_and_modify_nothing(name: str) -> None:
    # with its default decay of 1 the momentum never dies, and the variable swings around the minimum
    decay = {"decay": 0.5} if name == "sign_momentum" else {}
    optimiser = make_optimiser({"name": name, "learning_rate": 0.01, **decay}, 500)
    variable = np.array([1.0, -2.0], np.float32)
    start = variable.copy()
    for _ in range(500):
        kept = variable.copy()
        following = optimiser.step(variable, gradient := 2 * variable)
        np.testing.assert_array_equal(variable, kept)
        np.testing.assert_array_equal(gradient, 2 * kept)
        variable = following
    assert np.abs(variable).max() < 0.2 * np.abs(start).max()
    assert variable.dtype == np.float32


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "adam"},
        {},
        {"name": "adamw"},
        {"name": "adamw", "learning_rate": 0},
        {"name": "adamw", "learning_rate": float("nan")},
        {"name": "adamw", "learning_rate": 1, "betas": [0.9, 1.0]},
        {"name": "adamw", "learning_rate": 1, "betas": 0.9},
        {"name": "adamw", "learning_rate": "much"},
        {"name": "adamw", "learning_rate": 1, "momentum": 1},
        {"name": "sign_momentum", "learning_rate": 1, "norm": "l3"},
        {"name": "adamw", "learning_rate": 1, "anneal": 1.0},
        {"name": "adamw", "learning_rate": 1, "anneal": "slowly"},
    ],
)
def test_wrong_options_are_recipe_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="optimiser"):
        make_optimiser(settings, 10)

"""What trainings have in common: the loop, which logs and saves, the rate, the update with its running average, and the kept state."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from faceprotect_export.train import checkpoint
from faceprotect_export.train.critic import Critic

#: Seconds between two savings: about what an interrupted run loses.
SAVED_EVERY = 240.0
#: Of the running average of the weights, what a step leaves, once there have been many.
AVERAGED = 0.998
Report = Callable[[int, int], None]


def train(
    out: Path,
    first: int,
    steps: int,
    step: Callable[[int], Mapping[str, float]],
    save: Callable[[int], Mapping[str, float]],
    *,
    every: int = 25,
    report: Report | None = None,
) -> None:
    """Steps ``first`` to ``steps`` - 1, with a curve in ``out/curve.jsonl``.

    ``step``: called with the number of a step, gives figures of it, whose means are logged ``every`` so many steps. ``save``: called with
    the number of steps that are done, now and then and at the end, gives figures to log. ``report``: called with that number and ``steps``.
    """
    began = saved = time.monotonic()
    recent: list[Mapping[str, float]] = []
    for number in range(first, steps):
        recent.append(step(number))
        done, now = number + 1, time.monotonic()
        if report is not None:
            report(done, steps)
        if done % every == 0 or done == steps:
            keys = sorted({key for row in recent for key in row})
            means = {key: round(float(np.mean([row[key] for row in recent if key in row])), 5) for key in keys}
            checkpoint.log(out / "curve.jsonl", step=done, seconds=round(now - began), **means)
            recent.clear()
        if now - saved > SAVED_EVERY or done == steps:
            saved = now
            if figures := save(done):
                checkpoint.log(out / "curve.jsonl", step=done, **figures)


def scheduled(optimiser: torch.optim.Optimizer, rate: float, number: int, steps: int, warm: int = 100) -> None:
    """Set the rate of a step: up over ``warm`` steps, and down along a cosine to a fiftieth."""
    for group in optimiser.param_groups:
        group["lr"] = rate * min(1.0, (number + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * number / steps)))


def updated(
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    trained: Mapping[str, Tensor],
    average: Mapping[str, Tensor],
    number: int,
    averaged: float = AVERAGED,
) -> None:
    """One step of the optimiser on a loss, with its gradient's length held to 1, and of the running average."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([one for one in trained.values() if one.requires_grad], 1.0)
    optimiser.step()
    with torch.no_grad():
        decay = min(averaged, (number + 1) / (number + 10))
        for key, value in trained.items():
            average[key].lerp_(value, 1 - decay)


def save_state(
    out: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: Mapping[str, Tensor],
    critic: Critic,
    facts: Mapping[str, object],
) -> None:
    """What a stopped training goes on from, as ``out/state.safetensors``; ``facts`` has its ``step``."""
    state = checkpoint.training_state(model, optimiser, average) | critic.kept()
    checkpoint.save(out / "state.safetensors", state, dict(facts))


def resume_state(out: Path, model: nn.Module, optimiser: torch.optim.Optimizer, critic: Critic) -> tuple[int, dict[str, Tensor] | None]:
    """The step to go on with, and the average; 0 and None where nothing was kept."""
    if not (out / "state.safetensors").exists():
        return 0, None
    tensors, facts = checkpoint.load(out / "state.safetensors")
    critic.restore(tensors)
    return int(facts["step"]), checkpoint.restore(tensors, model, optimiser)

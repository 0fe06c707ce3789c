"""The loop of trainings that log the means of what their steps report, and save every few minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from faceprotect_export.train import checkpoint

#: Seconds between two savings: about what an interrupted run loses.
SAVED_EVERY = 240.0
Report = Callable[[int, int], None]


def train(
    out: Path, first: int, steps: int, step: Callable[[int], Mapping[str, float]], save: Callable[[int], Mapping[str, float]], *,
    every: int = 25, report: Report | None = None,
) -> None:  # fmt: skip
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

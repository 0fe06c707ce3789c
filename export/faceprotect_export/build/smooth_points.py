"""Points where a gradient is well defined in float32, to measure parity at.

In a network of rectifiers and max pools some unit of a million always lies within rounding of its kink. Two correct implementations
then take different sides, and the gradient differs by thousandths (torch in float32 from torch in float64 by up to a tenth, on photos
with flat areas). So a sample is moved by a thousandth until its gradient no longer changes under a nudge of the size of rounding. The
choice looks at torch alone, never at the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

NUDGE = 1e-5
MOVE = 1e-3
STABLE = 3e-5

Runner = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def _moved(sample: Mapping[str, Tensor], variables: Sequence[str], size: float, seed: int) -> dict[str, Tensor]:
    """The sample with noise of ``size`` standard deviations on each variable."""
    random = torch.Generator().manual_seed(seed)
    result = dict(sample)
    for name in variables:
        value = sample[name]
        scale = size * max(float(value.std()), 1e-3)
        result[name] = value + scale * torch.randn(value.shape, generator=random)
    return result


def _change(a: Mapping[str, Tensor], b: Mapping[str, Tensor], variables: Sequence[str]) -> float:
    worst = 0.0
    for name in variables:
        first, second = a[f"grad_{name}"], b[f"grad_{name}"]
        worst = max(worst, float((first - second).abs().max() / first.abs().max().clamp(min=1e-30)))
    return worst


def away_from_kinks(run: Runner, sample: Mapping[str, Tensor], variables: Sequence[str], tries: int = 16) -> dict[str, Tensor]:
    """``sample`` itself, or the first of ``tries`` small moves of it, where the gradients that ``run`` gives are stable.

    If none is, the stablest. ``run`` maps inputs to outputs that include ``grad_<variable>``.
    """
    best, least = dict(sample), float("inf")
    for attempt in range(tries if variables else 0):
        candidate = _moved(sample, variables, MOVE, attempt) if attempt else dict(sample)
        change = _change(run(candidate), run(_moved(candidate, variables, NUDGE, 1000 + attempt)), variables)
        if change < least:
            best, least = candidate, change
        if change < STABLE:
            break
    return best

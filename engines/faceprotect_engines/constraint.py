"""The law by which a search finds the smallest change that passes every surrogate, per face.

A penalty weight walks: up while everything passes (press the change smaller), down while something does not. Each
surrogate's own weight falls once it is past its limit, so that effort goes to those still matching. Pure functions on a
frozen state: this is the one place to tune.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.errors import RecipeError

Vector = NDArray[np.float32]


#: No cosine exceeds 1: a surrogate with this limit or a higher one is not in use.
UNUSED = 1.0


@dataclass(frozen=True)
class ConstraintSettings:
    """Numbers of the law.

    start, grow, shrink: the penalty weight's first value and its factors after a clean step that passes or fails by
    `ramp` or more, kept within [lowest, highest].  patience: clean steps without an improvement of the best by more than `improvement`
    before stopping, counted from the first pass (0: never).  ramp, floor: a surrogate's weight is
    clip(excess / ramp + 0.5, floor, 1) / way, with excess in units of its `way`.  bisect: runs at the end that scale the best variable down towards its start
    as far as it still passes.
    """

    start: float = 1.0
    grow: float = 1.3
    shrink: float = 0.8
    lowest: float = 1e-6
    highest: float = 1e9
    patience: int = 0
    improvement: float = 0.01
    ramp: float = 0.1
    floor: float = 0.05
    bisect: int = 0

    def __post_init__(self) -> None:
        """Raise RecipeError for a law that cannot work."""
        if not (self.start > 0 and self.grow >= 1 and 0 < self.shrink <= 1):
            raise RecipeError("constraint: give start > 0, grow >= 1 and 0 < shrink <= 1")
        if not (0 < self.lowest <= self.highest and min(self.patience, self.bisect) >= 0 and 0 <= self.improvement < 1):
            raise RecipeError("constraint: give 0 < lowest <= highest, patience, bisect >= 0, 0 <= improvement < 1")
        if not (self.ramp > 0 and 0 <= self.floor <= 1):
            raise RecipeError("constraint: give ramp > 0 and floor in [0, 1]")


@dataclass(frozen=True)
class ConstraintState:
    """What the next step uses (penalty_weight, weights [K]) and what was best so far among clean steps.

    `anchor` is the best penalty when it last improved by enough; `waited` counts clean steps since then.
    """

    penalty_weight: float
    weights: Vector
    passed: bool = False
    best_penalty: float = float("inf")
    best_excess: float = float("inf")
    anchor: float = float("inf")
    waited: int = 0


@dataclass(frozen=True)
class Verdict:
    """keep: this step is the best so far.  stop: patience is used up.  excess [K]: similarity above the limit."""

    keep: bool
    passed: bool
    stop: bool
    excess: Vector


def start_constraint(settings: ConstraintSettings, limit: Vector) -> ConstraintState:
    """State before the first step: full weight for every surrogate in use (`limit` [K] below 1), 0 for the others."""
    return ConstraintState(settings.start, surrogate_weights(settings, np.ones_like(limit), limit))


def observe(
    settings: ConstraintSettings, state: ConstraintState, similarity: Vector, limit: Vector, penalty: float
) -> tuple[ConstraintState, Verdict]:
    """Next state and verdict of one clean step: similarity and limit [K], penalty >= 0.

    A step passes when similarity_k <= limit_k for all k. Until one passes, the smallest worst excess is the best.
    """
    excess = np.asarray(similarity - limit, np.float32)
    worst = float((excess / way(limit))[limit < UNUSED].max(initial=-1.0))
    passes = worst <= 0
    keep = penalty < state.best_penalty if passes else (not state.passed and worst < state.best_excess)
    better = passes and penalty < state.anchor * (1 - settings.improvement)
    passed = state.passed or passes
    waited = 0 if better or not passed else state.waited + 1
    # Far from the limit the weight moves by the whole factor, close to it hardly at all: no ringing around the limit.
    factor = (settings.grow if passes else settings.shrink) ** min(1.0, abs(worst) / settings.ramp)
    following = replace(
        state,
        penalty_weight=float(np.clip(state.penalty_weight * factor, settings.lowest, settings.highest)),
        weights=surrogate_weights(settings, excess, limit),
        passed=passed,
        best_penalty=penalty if passes and keep else state.best_penalty,
        best_excess=min(worst, state.best_excess),
        anchor=penalty if better else state.anchor,
        waited=waited,
    )
    return following, Verdict(keep, passes, bool(settings.patience) and waited >= settings.patience, excess)


def way(limit: Vector) -> Vector:
    """How far each similarity has to fall from 1, [K]: the unit in which surrogates of different scale are compared.

    dlib calls strangers 0.85 alike, ArcFace-like recognisers 0: without a common unit the one with the wider scale gets
    the whole gradient.
    """
    return np.maximum(1.0 - limit, 0.05).astype(np.float32)


def surrogate_weights(settings: ConstraintSettings, excess: Vector, limit: Vector) -> Vector:
    """Weight [K] per surrogate: 1 / way while matching, falling to `floor` of that past the limit, 0 if not in use."""
    ramp = np.clip(excess / way(limit) / settings.ramp + 0.5, settings.floor, 1.0)
    return np.asarray(ramp / way(limit) * (limit < UNUSED), np.float32)

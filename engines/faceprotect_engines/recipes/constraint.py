"""The law by which a search finds the smallest change that passes every surrogate, per face.

A penalty is aimed at, first the budget, then less while everything passes and more while something does not, and the
penalty's weight is steered so that the search stays at that aim. Each surrogate's own weight falls once it is past its
limit, so that effort goes to those still matching. Pure functions on a frozen state: this is the one place to tune.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.errors import RecipeError

Vector = NDArray[np.float32]


#: A step this little above the budget still counts as within.
BUDGET_SLACK = 1.1

#: No cosine exceeds 1: a surrogate with this limit or a higher one is not in use.
UNUSED = 1.0


@dataclass(frozen=True)
class ConstraintSettings:
    """Numbers of the law.

    budget: the largest penalty allowed, whether or not everything passes within it (without one: what it takes).
    grow, shrink: factors of the penalty that is aimed at (first the budget, never above it) after a clean step that
    fails or passes by `ramp` or more.
    start: the penalty weight's first value.  gain, damping: after each step the weight's logarithm moves by
    gain * (e + damping * change of e), e = log(penalty / aim) within [-1, 1]; kept within [lowest, highest].
    patience: clean steps without an improvement of the best by more than `improvement` before stopping, counted from
    the first pass (0: never).  ramp, floor: a surrogate's weight is clip(excess / ramp + 0.5, floor, 1) / way, with
    excess in units of its way from start to limit.  bisect: runs at the end that scale the best variable down towards zero as far as
    it still passes.  fit: where nothing passed, runs at the end that scale the last variable to the budget, which the
    walk only swings around.  accept_start: 1 looks at the start itself first, as it is; the search ends there where it passes.
    """

    budget: float = float("inf")
    start: float = 1.0
    grow: float = 1.03
    shrink: float = 0.95
    gain: float = 0.08
    damping: float = 8.0
    lowest: float = 1e-6
    highest: float = 1e9
    patience: int = 0
    improvement: float = 0.01
    ramp: float = 0.1
    floor: float = 0.05
    bisect: int = 0
    fit: int = 0
    accept_start: int = 0

    def __post_init__(self) -> None:
        """Raise RecipeError for a law that cannot work."""
        if not (min(self.budget, self.start) > 0 and self.grow >= 1 and 0 < self.shrink <= 1):
            raise RecipeError("constraint: give budget > 0, start > 0, grow >= 1 and 0 < shrink <= 1")
        if not (self.gain > 0 and self.damping >= 0):
            raise RecipeError("constraint: give gain > 0 and damping >= 0")
        if not (0 < self.lowest <= self.highest and min(self.patience, self.bisect, self.fit) >= 0 and 0 <= self.improvement < 1):
            raise RecipeError("constraint: give 0 < lowest <= highest, patience, bisect, fit >= 0, 0 <= improvement < 1")
        if self.accept_start not in (0, 1):
            raise RecipeError(f"constraint: accept_start is {self.accept_start!r}; give 0 or 1")
        if not (self.ramp > 0 and 0 <= self.floor <= 1):
            raise RecipeError("constraint: give ramp > 0 and floor in [0, 1]")


@dataclass(frozen=True)
class ConstraintState:
    """What the next step uses (penalty_weight, weights [K]) and what was best so far among clean steps.

    `unit` [K]: each surrogate's way (see `way`).  `aim`: the penalty that the weight is steering to.  `error`:
    log(penalty / aim) of the step before, within [-1, 1].  `best_lack`: the smallest sum of what is still missing, until
    a step passes, and `best_within` whether that was within the budget.  `anchor`: the best penalty when it last
    improved by enough; `waited` counts clean steps since then.
    """

    penalty_weight: float
    weights: Vector
    unit: Vector
    aim: float
    error: float = -1.0
    passed: bool = False
    best_penalty: float = float("inf")
    best_lack: float = float("inf")
    best_within: bool = False
    anchor: float = float("inf")
    waited: int = 0


@dataclass(frozen=True)
class Verdict:
    """keep: this step is the best so far.  stop: patience is used up."""

    keep: bool
    passed: bool
    stop: bool


def start_constraint(settings: ConstraintSettings, limit: Vector, origin: Vector | None = None) -> ConstraintState:
    """State before the first step: full weight for every surrogate in use (`limit` [K] below 1), 0 for the others.

    `origin` [K]: the similarities where the search starts; those of a face to itself if not given.
    """
    unit = way(limit, np.ones_like(limit) if origin is None else origin)
    return ConstraintState(settings.start, surrogate_weights(settings, unit, limit, unit), unit, settings.budget)


def steer(settings: ConstraintSettings, state: ConstraintState, penalty: float) -> ConstraintState:
    """Next state after any step, clean or not: the penalty weight moves so that the penalty comes to the aim.

    The optimiser has momentum, so that the penalty answers to its weight late; without damping it would swing around
    the aim for the whole search and spend most of its steps too far out or too far in.
    """
    error = float(np.clip(np.log(max(penalty / state.aim, 1e-30)), -1.0, 1.0))
    change = settings.gain * (error + settings.damping * (error - state.error))
    weight = float(np.clip(state.penalty_weight * np.exp(change), settings.lowest, settings.highest))
    return replace(state, penalty_weight=weight, error=error)


def judge(
    settings: ConstraintSettings, state: ConstraintState, similarity: Vector, limit: Vector, penalty: float
) -> tuple[ConstraintState, Verdict]:
    """Next state and verdict of one clean step: similarity and limit [K], penalty >= 0.

    A step passes when similarity_k <= limit_k for all k, at a penalty within the budget (and a tenth more, for the walk
    swings around it). Until one does, the step within the budget that misses the least is the best: a face for which
    the budget is too small gets as far as it can.
    """
    excess = np.asarray(similarity - limit, np.float32)
    relative = (excess / state.unit)[limit < UNUSED]
    worst = float(relative.max(initial=-1.0))
    lack = float(np.maximum(relative, 0).sum())
    within = penalty <= settings.budget * BUDGET_SLACK
    passes = worst <= 0 and within
    # A step within the budget beats any that is not; of equals, the one that misses less.
    nearer = not state.passed and (not within, lack) < (not state.best_within, state.best_lack)
    keep = penalty < state.best_penalty if passes else nearer
    better = passes and penalty < state.anchor * (1 - settings.improvement)
    passed = state.passed or passes
    waited = 0 if better or not passed else state.waited + 1
    # Far from the limit by the whole factor, close to it hardly at all: no ringing around the limit.
    share = min(1.0, abs(worst) / settings.ramp)
    aim = min(state.aim, penalty) * settings.shrink**share if worst <= 0 else state.aim * settings.grow**share
    following = replace(
        state,
        aim=min(aim, settings.budget),
        weights=surrogate_weights(settings, excess, limit, state.unit),
        passed=passed,
        best_penalty=penalty if passes and keep else state.best_penalty,
        best_lack=lack if keep else state.best_lack,
        best_within=within if keep else state.best_within,
        anchor=penalty if better else state.anchor,
        waited=waited,
    )
    return following, Verdict(keep, passes, bool(settings.patience) and waited >= settings.patience)


def fitting(settings: ConstraintSettings, penalty: float) -> float:
    """Factor of the variable at which a penalty that grows with its square meets the budget; within 1/2 to 2."""
    if not np.isfinite(settings.budget) or penalty <= 0:
        return 1.0
    return float(np.clip(np.sqrt(settings.budget / penalty), 0.5, 2.0))


def way(limit: Vector, origin: Vector) -> Vector:
    """How far each similarity has to fall from its `origin` [K]: the unit in which surrogates of different scale are compared.

    dlib calls strangers 0.85 alike, ArcFace-like recognisers 0: without a common unit the one with the wider scale gets
    the whole gradient.
    """
    return np.asarray(np.maximum(origin - limit, 0.05), np.float32)


def surrogate_weights(settings: ConstraintSettings, excess: Vector, limit: Vector, unit: Vector) -> Vector:
    """Weight [K] per surrogate: 1 / unit while matching, falling to `floor` of that past the limit, 0 if not in use."""
    ramp = np.clip(excess / unit / settings.ramp + 0.5, settings.floor, 1.0)
    return np.asarray(ramp / unit * (limit < UNUSED), np.float32)

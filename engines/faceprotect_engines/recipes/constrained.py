"""A descent under a constraint: the smallest change that passes, found by a walk and then made smaller, or as near as the budget allows.

Clean steps, those under no draw, decide: of those that pass, the one of the smallest penalty is what remains. A walk over the steps comes
first; if it passed, `bisect` scales the best variable down, else `fit` scales the last one to the budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from faceprotect_engines.errors import RecipeError
from faceprotect_engines.recipes.constraint import ConstraintState, Verdict, fitting, judge, start_constraint, steer
from faceprotect_engines.recipes.evaluate import Evaluator, Look
from faceprotect_engines.recipes.optimise import make_optimiser
from faceprotect_engines.recipes.schema import ConstraintPlan
from faceprotect_engines.spec import Array

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Found:
    """Where a search stands: the law's state, the best look, the last one, and why the walk ended."""

    state: ConstraintState
    best: Look
    last: Look
    stop: str


@dataclass(frozen=True)
class Law:
    """The plan, and the limits [K] of all surrogates, joined ones at the end."""

    plan: ConstraintPlan
    limit: Array

    def judge(self, state: ConstraintState, seen: Look) -> tuple[ConstraintState, Verdict]:
        """Next state and verdict of a clean look."""
        return judge(self.plan.settings, state, seen.similarity, self.limit, seen.penalty)

    def look(self, evaluator: Evaluator, state: ConstraintState, variable: Array) -> Look:
        """A clean look from which no update is made."""
        return evaluator.look(self.plan, state, self.limit, variable, evaluator.plain(), last=True)


def constrained(evaluator: Evaluator, plan: ConstraintPlan) -> tuple[Found, Rows]:
    """The whole search: where it ended, and a row of the trace for each look."""
    law = Law(plan, _limit(evaluator, plan))
    state = start_constraint(plan.settings, law.limit, _origin(evaluator, plan, law.limit))
    rows: Rows = []
    first: Look | None = None
    if plan.settings.accept_start:
        first = law.look(evaluator, state, evaluator.start())
        judged, verdict = law.judge(state, first)
        rows.append({"stage": evaluator.index, "step": -1, "clean": True, **first.row, "passed": verdict.passed})
        if verdict.passed:
            evaluator.tell(evaluator.stage.steps - 1, True, first.row["worst_excess"])
            return Found(replace(state, passed=True), first, first, "start"), rows
        state = replace(state, best_lack=judged.best_lack, best_within=judged.best_within)
    elif evaluator.panel.surrogates:
        law.look(evaluator, state, evaluator.nudged())  # for what they pull at the first step
    found, walked = walk(evaluator, law, state, first)
    rows += walked
    if found.stop != "time":
        found, scaled = (bisect if found.state.passed else fit)(evaluator, law, found)
        rows += [{**row, "step": len(rows) + number} for number, row in enumerate(scaled)]
    return found, rows


def walk(evaluator: Evaluator, law: Law, state: ConstraintState, best: Look | None) -> tuple[Found, Rows]:
    """At most the stage's steps; each run is judged before its update, and the last of them is clean."""
    stage, variable = evaluator.stage, evaluator.nudged()
    rows: Rows = []
    optimiser = make_optimiser(stage.optimiser, stage.steps)
    for step in range(stage.steps):
        last, stop = step == stage.steps - 1, "steps"
        if evaluator.late:
            last, stop = True, "time" if not last else stop
        drawn = evaluator.plain() if last else evaluator.draw(step)
        seen = evaluator.look(law.plan, state, law.limit, variable, drawn, last)
        row = {"stage": evaluator.index, "step": step, "clean": seen.clean, **seen.row}
        rows.append(row)
        if seen.clean:
            state, verdict = law.judge(state, seen)
            row["passed"] = verdict.passed
            best = seen if verdict.keep else best
            stop = "patience" if verdict.stop and stop != "time" else stop
        state = steer(law.plan.settings, state, seen.penalty)
        evaluator.tell(step, state.passed, row["worst_excess"])
        if last or stop != "steps":
            break
        variable = evaluator.bounded(optimiser.step(variable, evaluator.gradient(seen.outputs, step)))
    if best is None:
        raise RecipeError(f"{evaluator.where}: no step gave finite numbers; see: faceprotect-sdk engines verify")
    return Found(state, best, seen, stop), rows


def bisect(evaluator: Evaluator, law: Law, found: Found) -> tuple[Found, Rows]:
    """The best variable scaled down towards zero, no change, as far as it still passes with a smaller penalty.

    The walk rarely stops exactly on the limit; halving the remaining interval does, at one run a halving.
    """
    low, high, farthest, best = 0.0, 1.0, found.best.variable, found.best
    rows: Rows = []
    for _ in range(int(law.plan.settings.bisect)):
        if evaluator.late:
            break
        scale = (low + high) / 2
        seen = law.look(evaluator, found.state, evaluator.bounded(np.asarray(scale * farthest, farthest.dtype)))
        rows.append({"stage": evaluator.index, "clean": True, "scale": scale, "passed": seen.passes, **seen.row})
        low, high = (low, scale) if seen.passes else (scale, high)
        best = seen if seen.passes and seen.penalty < best.penalty else best
    return replace(found, best=best), rows


def fit(evaluator: Evaluator, law: Law, found: Found) -> tuple[Found, Rows]:
    """The last variable scaled to the budget, where that misses less than the best did.

    The walk swings around the budget, and few of its steps are clean: the best of those may lie far inside.
    """
    rows: Rows = []
    for _ in range(int(law.plan.settings.fit)):
        if evaluator.late:
            break
        scale = fitting(law.plan.settings, found.last.penalty)
        variable = evaluator.bounded(np.asarray(scale * found.last.variable, found.last.variable.dtype))
        seen = law.look(evaluator, found.state, variable)
        state, verdict = law.judge(found.state, seen)
        rows.append({"stage": evaluator.index, "clean": True, "scale": scale, "passed": verdict.passed, **seen.row})
        found = Found(state, seen if verdict.keep else found.best, seen, found.stop)
    return found, rows


def _limit(evaluator: Evaluator, plan: ConstraintPlan) -> Array:
    if plan.limit not in evaluator.arrays:
        raise RecipeError(f"{evaluator.where}: the constraint needs the array '{plan.limit}' [K]")
    own = np.ravel(evaluator.arrays[plan.limit])
    count = evaluator.engine.spec.output(plan.similarity).shape[0]
    if count is not None and own.size != count:
        raise RecipeError(f"{evaluator.where}: '{plan.limit}' has {own.size} values, the engine has {count} surrogates")
    return np.concatenate([own, [surrogate.limit for surrogate in evaluator.panel.surrogates]]).astype(np.float32)


def _origin(evaluator: Evaluator, plan: ConstraintPlan, limit: Array) -> Array | None:
    if plan.origin not in evaluator.arrays:
        return None
    joined = [surrogate.origin for surrogate in evaluator.panel.surrogates]
    origin = np.concatenate([np.ravel(evaluator.arrays[plan.origin]), joined]).astype(np.float32)
    if origin.shape != limit.shape:
        raise RecipeError(f"{evaluator.where}: '{plan.origin}' has {origin.size - len(joined)} values, '{plan.limit}' has others")
    return origin


def arrays_of(evaluator: Evaluator, found: Found) -> Mapping[str, Array]:
    """The best variable and what the recipe keeps of its look."""
    return {evaluator.stage.array: found.best.variable, **evaluator.kept(found.best.outputs)}

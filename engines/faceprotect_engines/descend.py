"""The `descend` stage: one gradient engine, one variable, an optimiser, draws, and a constraint.

Each step runs the gradient engine once. With a constraint, steps with the identity draw ("clean") decide: the passing
one of smallest penalty is what remains.

Recognisers that join at run time judge the image of every step, and add their gradient through `image_cotangent`: the
gradient of <image, c> with respect to the variable, at constant c. The image is known only once the step has run, so c
is that of the step before; to be exact there would have to be a second decoding in every step. The first step runs twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from faceprotect_engines.constraint import UNUSED, ConstraintState, fitting, judge, start_constraint, steer
from faceprotect_engines.draws import Draw, draw, identity_draw
from faceprotect_engines.engine import Engine
from faceprotect_engines.errors import RecipeError
from faceprotect_engines.joined import ExtraSurrogate, Panel
from faceprotect_engines.optimise import make_optimiser
from faceprotect_engines.philox import Purpose, Stream
from faceprotect_engines.recipe_schema import ConstraintPlan, DescendStage
from faceprotect_engines.spec import Array


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    `worst_excess`: largest similarity minus limit at this step, in units of the way there; `passed`: some step passed.
    """

    stage: int
    kind: str
    engine: str
    step: int
    steps: int
    passed: bool | None = None
    worst_excess: float | None = None


@dataclass(frozen=True)
class Descent:
    """Arrays to store, scalars per step, why it ended, whether the constraint was met.

    `stop`: "steps", "until", "patience", "start" (that passed as it was) or "time".
    """

    arrays: Mapping[str, Array]
    trace: Sequence[Mapping[str, Any]]
    stop: str
    passed: bool | None


@dataclass(frozen=True)
class _Best:
    variable: Array
    kept: Mapping[str, Array]


@dataclass(frozen=True)
class _Look:
    outputs: Mapping[str, Array]
    similarity: Array
    penalty: float
    clean: bool
    row: Mapping[str, Any]


def gather(inputs: Mapping[str, str], arrays: Mapping[str, Array], where: str) -> dict[str, Array]:
    """Feeds of an engine: `inputs` is engine input -> array name; raises RecipeError for an array that is not there."""
    for name, array in inputs.items():
        if array not in arrays:
            known = ", ".join(sorted(arrays))
            raise RecipeError(f"{where}: input '{name}' needs the array '{array}'; there are: {known}")
    return {name: arrays[array] for name, array in inputs.items()}


def descend(
    stage: DescendStage,
    engines: Callable[[str], Engine],
    arrays: Mapping[str, Array],
    stream: Stream,
    surrogates: Sequence[ExtraSurrogate] = (),
    progress: Callable[[Progress], None] | None = None,
    index: int = 0,
    deadline: float = math.inf,
    workers: int = 1,
) -> Descent:
    """Run the stage; `arrays` is left unchanged. Raises RecipeError and whatever the engines raise.

    `deadline`: no step begins after it (time.monotonic); the one that ends the descent, on the clean image, does. `workers`: surrogates
    that run at once.
    """
    with closing(Panel(surrogates, workers)) as panel:
        run = _Run(stage, engines, arrays, stream, panel, index, deadline)
        return run.free(progress) if stage.constraint is None else run.constrained(stage.constraint, progress)


class _Run:
    """One descent's fixed parts: engines, constant feeds, limits."""

    def __init__(
        self,
        stage: DescendStage,
        engines: Callable[[str], Engine],
        arrays: Mapping[str, Array],
        stream: Stream,
        panel: Panel,
        index: int,
        deadline: float,
    ) -> None:
        self.stage, self.arrays, self.stream, self.index, self.deadline = stage, arrays, stream, index, deadline
        self.where = f"stage {index} (descend {stage.engine})"
        self.engine = engines(stage.engine)
        self.panel, self.surrogates = panel, panel.surrogates
        others = {name: array for name, array in stage.inputs.items() if name != stage.variable}
        self.constant = gather(others, arrays, self.where)
        self.bounds = self._bounds()
        self.start = self._start()
        self.variable = self._bounded(self._nudged(self.start))
        self.pulls: list[Array] = []  # gradients [1,3,S,S] of the joined surrogates at the last image
        self.optimiser = make_optimiser(stage.optimiser, stage.steps)
        constraint = stage.constraint
        if not self.engine.spec.has_output(stage.gradient):
            raise RecipeError(
                f"{self.where}: the engine brings no '{stage.gradient}', which the descent needs. Export it with that variable, or with "
                "its torch program, which the extra [export] runs"
            )
        for name in (*stage.keep, *stage.until, *((constraint.similarity, constraint.penalty) if constraint else ())):
            self.engine.spec.output(name)
        if self.surrogates:
            if stage.join is None or constraint is None:
                raise RecipeError(f'{self.where}: surrogates at run time need a constraint and "join" in the recipe\'s stage')
            self.engine.spec.output(stage.join.difference)
            self.engine.spec.input(stage.join.cotangent)

    def free(self, progress: Callable[[Progress], None] | None) -> Descent:
        """`steps` updates without a constraint, then one clean run for what is kept."""
        stage, trace, stop = self.stage, [], "steps"
        for step in range(stage.steps):
            drawn = self._draw(step)
            outputs = self.engine.run(self._feeds(drawn, None, None), self._asked((stage.gradient, *stage.until)))
            clean = drawn is None or drawn.clean
            trace.append({"stage": self.index, "step": step, "clean": clean, **_scalars(outputs)})
            self._report(progress, step, None, None)
            if stage.until and all(float(np.max(outputs[name])) <= goal for name, goal in stage.until.items()):
                stop = "until"
                break
            self._update(outputs, step)
            if self._late():
                stop = "time"
                break
        kept = self._kept(self.engine.run(self._feeds(self._plain_draw(), None, None), list(stage.keep))) if stage.keep else {}
        return Descent({stage.array: self.variable, **kept}, trace, stop, None)

    def constrained(self, plan: ConstraintPlan, progress: Callable[[Progress], None] | None) -> Descent:
        """Smallest change that passes; each of the at most `steps` runs is judged before its update."""
        steps, limit = self.stage.steps, self._limit(plan)
        state = start_constraint(plan.settings, limit, self._origin(plan, limit))
        best: _Best | None = None
        trace: list[Mapping[str, Any]] = []
        stop = "steps"
        if plan.settings.accept_start:
            self.variable = self._bounded(self.start)
            seen = self._look(plan, state, limit, self._plain_draw(), last=True)
            judged, verdict = judge(plan.settings, state, seen.similarity, limit, seen.penalty)
            trace.append({"stage": self.index, "step": -1, "clean": True, **seen.row, "passed": verdict.passed})
            best = _Best(self.variable, self._kept(seen.outputs))
            if verdict.passed:
                self._report(progress, steps - 1, True, seen.row["worst_excess"])
                return Descent({self.stage.array: best.variable, **best.kept}, trace, "start", True)
            state = replace(state, best_lack=judged.best_lack, best_within=judged.best_within)
            self.variable = self._bounded(self._nudged(self.start))
        elif self.surrogates:
            self._look(plan, state, limit, self._plain_draw(), last=True)
        for step in range(steps):
            last = step == steps - 1 or self._late()
            seen = self._look(plan, state, limit, self._plain_draw() if last else self._draw(step), last)
            row = {"stage": self.index, "step": step, "clean": seen.clean, **seen.row}
            trace.append(row)
            if seen.clean:
                state, verdict = judge(plan.settings, state, seen.similarity, limit, seen.penalty)
                row["passed"] = verdict.passed
                best = _Best(self.variable, self._kept(seen.outputs)) if verdict.keep else best
                stop = "patience" if verdict.stop else stop
            state = steer(plan.settings, state, seen.penalty)
            self._report(progress, step, state.passed, row["worst_excess"])
            if last and step < steps - 1:
                stop = "time"
            if stop != "steps":
                break
            if not last:
                self._update(seen.outputs, step)
        if best is None:
            raise RecipeError(f"{self.where}: no step gave finite numbers; see: faceprotect-sdk engines verify")
        if stop == "time":
            rows: list[dict[str, Any]] = []
        elif state.passed:
            best, rows = self._bisect(plan, state, limit, best)
        else:
            best, state, rows = self._fit(plan, state, limit, best, seen.penalty)
        done = len(trace)
        trace.extend({**row, "step": done + number} for number, row in enumerate(rows))
        return Descent({self.stage.array: best.variable, **best.kept}, trace, stop, state.passed)

    def _bisect(
        self, plan: ConstraintPlan, state: ConstraintState, limit: Array, best: _Best
    ) -> tuple[_Best, list[dict[str, Any]]]:
        """The best variable scaled down towards zero, no change, as far as it still passes with a smaller penalty.

        The walk rarely stops exactly on the limit; halving the remaining interval does, at one run a halving.
        """
        low, high, penalty, farthest = 0.0, 1.0, state.best_penalty, best.variable
        rows: list[dict[str, Any]] = []
        for _ in range(int(plan.settings.bisect)):
            if self._late():
                break
            scale = (low + high) / 2
            self.variable = np.asarray(scale * farthest, farthest.dtype)
            seen = self._look(plan, state, limit, self._plain_draw(), last=True)
            passed = seen.row["worst_excess"] <= 0
            rows.append({"stage": self.index, "clean": True, "scale": scale, "passed": passed, **seen.row})
            low, high = (low, scale) if passed else (scale, high)
            if passed and seen.penalty < penalty:
                penalty, best = seen.penalty, _Best(self.variable, self._kept(seen.outputs))
        return best, rows

    def _fit(
        self, plan: ConstraintPlan, state: ConstraintState, limit: Array, best: _Best, penalty: float
    ) -> tuple[_Best, ConstraintState, list[dict[str, Any]]]:
        """The last variable scaled to the budget, where that misses less than the best did.

        The walk swings around the budget, and few of its steps are clean: the best of those may lie far inside.
        """
        rows: list[dict[str, Any]] = []
        for _ in range(int(plan.settings.fit)):
            if self._late():
                break
            scale = fitting(plan.settings, penalty)
            self.variable = np.asarray(scale * self.variable, self.variable.dtype)
            seen = self._look(plan, state, limit, self._plain_draw(), last=True)
            state, verdict = judge(plan.settings, state, seen.similarity, limit, seen.penalty)
            rows.append({"stage": self.index, "clean": True, "scale": scale, "passed": verdict.passed, **seen.row})
            best = _Best(self.variable, self._kept(seen.outputs)) if verdict.keep else best
            penalty = seen.penalty
        return best, state, rows

    def _look(
        self, plan: ConstraintPlan, state: ConstraintState, limit: Array, drawn: Draw | None, last: bool = False
    ) -> _Look:
        """One run of the gradient engine at the current variable, then of the joined surrogates on its image.

        `last`: no update is made from it, so that nobody asks for the gradient.
        """
        names = [plan.similarity, plan.penalty, *self.stage.keep, *([] if last else [self.stage.gradient])]
        if self.surrogates and self.stage.join is not None:
            names.append(self.stage.join.difference)
        outputs = self.engine.run(self._feeds(drawn, state, self._cotangent(plan, state)), self._asked(names))
        joined = self._joined(outputs, drawn)
        similarity = np.concatenate([np.ravel(outputs[plan.similarity]), joined]).astype(np.float32)
        row: dict[str, Any] = {"penalty_weight": state.penalty_weight, **_scalars(outputs)}
        row["worst_excess"] = float(((similarity - limit) / state.unit)[limit < UNUSED].max(initial=-1.0))
        row.update({f"similarity_{k}": float(value) for k, value in enumerate(similarity)})
        penalty = float(np.ravel(outputs[plan.penalty])[0])
        return _Look(outputs, similarity, penalty, drawn is None or drawn.clean, row)

    def _asked(self, names: Iterable[str]) -> list[str]:
        """These outputs, and the numbers that a trace has."""
        wanted = {*names, *(tensor.name for tensor in self.engine.spec.outputs if tensor.shape in ((), (1,)))}
        return [tensor.name for tensor in self.engine.spec.outputs if tensor.name in wanted]

    def _start(self) -> Array:
        spec = self.engine.spec.input(self.stage.variable)
        start = self.arrays.get(self.stage.array)
        return np.asarray(spec.zeros() if start is None else start, dtype=spec.dtype)

    def _nudged(self, start: Array) -> Array:
        """Start plus noise: the gradient of a similarity to oneself is zero at the start itself."""
        if not self.stage.start_std:
            return start
        noise = self.stage.start_std * self.stream.normal(start.shape, 0, Purpose.START)
        return np.asarray(start + noise, dtype=start.dtype)

    def _limit(self, plan: ConstraintPlan) -> Array:
        if plan.limit not in self.arrays:
            raise RecipeError(f"{self.where}: the constraint needs the array '{plan.limit}' [K]")
        own = np.ravel(self.arrays[plan.limit])
        count = self.engine.spec.output(plan.similarity).shape[0]
        if count is not None and own.size != count:
            raise RecipeError(f"{self.where}: '{plan.limit}' has {own.size} values, the engine has {count} surrogates")
        return np.concatenate([own, [surrogate.limit for surrogate in self.surrogates]]).astype(np.float32)

    def _origin(self, plan: ConstraintPlan, limit: Array) -> Array | None:
        if plan.origin not in self.arrays:
            return None
        joined = [surrogate.origin for surrogate in self.surrogates]
        origin = np.concatenate([np.ravel(self.arrays[plan.origin]), joined]).astype(np.float32)
        if origin.shape != limit.shape:
            raise RecipeError(f"{self.where}: '{plan.origin}' has {origin.size - len(joined)} values, '{plan.limit}' has others")
        return origin

    def _bounds(self) -> tuple[Any, Any] | None:
        if self.stage.bounds is None:
            return None
        low, high = (
            gather({"bounds": side}, self.arrays, self.where)["bounds"] if isinstance(side, str) else side
            for side in self.stage.bounds
        )
        return low, high

    def _draw(self, step: int) -> Draw | None:
        plan = self.stage.draws
        if plan is None:
            return None
        size = self.engine.spec.input(plan.rows).shape[-1]
        channels = self.engine.spec.input(plan.noise).shape[1]
        if size is None or channels is None:
            raise RecipeError(f"{self.where}: draws need a fixed size of the inputs '{plan.rows}' and '{plan.noise}'")
        return draw(plan.settings, size, self.stream, step, channels)

    def _plain_draw(self) -> Draw | None:
        """The identity, where the stage draws at all."""
        plan = self.stage.draws
        if plan is None:
            return None
        size, channels = self.engine.spec.input(plan.rows).shape[-1], self.engine.spec.input(plan.noise).shape[1]
        return identity_draw(int(size or 0), int(channels or 0))

    def _feeds(self, drawn: Draw | None, state: ConstraintState | None, cotangent: Array | None) -> dict[str, Array]:
        stage, spec = self.stage, self.engine.spec
        feeds = {**self.constant, stage.variable: self.variable}
        if drawn is not None and stage.draws is not None:
            feeds.update({stage.draws.rows: drawn.rows, stage.draws.cols: drawn.cols, stage.draws.noise: drawn.noise})
        if state is not None and stage.constraint is not None:
            own = state.weights[: state.weights.size - len(self.surrogates)]
            feeds[stage.constraint.weights] = own
            feeds[stage.constraint.penalty_weight] = np.array([state.penalty_weight], np.float32)
        name = stage.join.cotangent if stage.join else "image_cotangent"
        if cotangent is not None:
            feeds[name] = cotangent
        elif spec.has_input(name) and name not in feeds:
            feeds[name] = spec.input(name).zeros()
        return feeds

    def _joined(self, outputs: Mapping[str, Array], drawn: Draw | None) -> Array:
        """Similarities [J] that the joined surrogates find in the image just run; their gradients to it are kept for the next step."""
        plan = self.stage.join
        if not self.surrogates or plan is None:
            return np.zeros(0, np.float32)
        drawn = None if drawn is None or drawn.clean else drawn
        image = self.arrays[plan.original] + outputs[plan.difference]
        seen = image if drawn is None else drawn.apply(image)
        found = self.panel.look(seen)
        pulls = [one["grad_image"] for one in found]
        self.pulls = pulls if drawn is None else [drawn.pull_back(pull) for pull in pulls]
        return np.array([np.ravel(one["similarity"])[0] for one in found], np.float32)

    def _cotangent(self, plan: ConstraintPlan, state: ConstraintState) -> Array | None:
        """What the joined surrogates pull at the image, at today's weights; None before they have seen one."""
        if not self.pulls:
            return None
        own = state.weights.size - len(self.pulls)
        share = 1.0 / own if plan.reduction == "mean" else 1.0
        total = np.zeros_like(self.pulls[0])
        for weight, pull in zip(state.weights[own:], self.pulls, strict=True):
            total += np.float32(share * weight) * pull
        return total

    def _late(self) -> bool:
        return time.monotonic() > self.deadline

    def _update(self, outputs: Mapping[str, Array], step: int) -> None:
        gradient = outputs[self.stage.gradient]
        if not np.isfinite(gradient).all():
            raise RecipeError(f"{self.where}: the gradient is no longer finite at step {step}; lower the learning rate")
        self.variable = self._bounded(self.optimiser.step(self.variable, gradient))

    def _bounded(self, variable: Array) -> Array:
        return variable if self.bounds is None else np.clip(variable, *self.bounds).astype(variable.dtype)

    def _kept(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        return {array: outputs[output].copy() for output, array in self.stage.keep.items()}

    def _report(
        self, progress: Callable[[Progress], None] | None, step: int, passed: bool | None, excess: float | None
    ) -> None:
        if progress is not None:
            steps = self.stage.steps
            progress(Progress(self.index, "descend", self.stage.engine, step + 1, steps, passed, excess))


def _scalars(outputs: Mapping[str, Array]) -> dict[str, float]:
    return {name: float(value.ravel()[0]) for name, value in outputs.items() if value.size == 1 and value.ndim <= 1}

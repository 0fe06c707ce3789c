"""One look of a descent: the gradient engine at a variable, then the recognisers that joined, on the image that comes out.

Those judge the image of every step, and add their gradient through `image_cotangent`: the gradient of <image, c> with respect to the
variable, at constant c. The image is known only once the step has run, so c is that of the step before; to be exact there would have to
be a second decoding in every step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from faceprotect_engines.engine import Engine
from faceprotect_engines.errors import RecipeError
from faceprotect_engines.recipes.constraint import UNUSED, ConstraintState
from faceprotect_engines.recipes.input_diversity import Draw, draw, identity_draw
from faceprotect_engines.recipes.joined import Panel
from faceprotect_engines.recipes.philox import Purpose, Stream
from faceprotect_engines.recipes.schema import ConstraintPlan, DescendStage
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
class Look:
    """What was seen of `variable`: the engine's outputs, similarities [K] with those of the joined at the end, the penalty.

    `clean`: under no draw. `row`: the numbers for the trace.
    """

    variable: Array
    outputs: Mapping[str, Array]
    similarity: Array
    penalty: float
    clean: bool
    row: Mapping[str, Any]

    @property
    def passes(self) -> bool:
        """Whether every surrogate in use is below its limit, whatever the penalty."""
        return bool(self.row["worst_excess"] <= 0)


@dataclass
class Evaluator:
    """What stays the same in one descent: engine, constant feeds, bounds, random numbers, joined recognisers; and their last pull.

    `deadline`: no step begins after it (time.monotonic). `pulls`: gradients [1,3,S,S] of the joined recognisers at what they saw last, and
    `through`: the draw through which they saw the image.
    """

    stage: DescendStage
    engine: Engine
    arrays: Mapping[str, Array]
    stream: Stream
    panel: Panel
    index: int = 0
    deadline: float = math.inf
    report: Callable[[Progress], None] | None = None
    pulls: list[Array] = field(default_factory=list)
    through: Draw | None = None

    def __post_init__(self) -> None:
        """Raise RecipeError for an array, an input or an output that is not there."""
        self.where = f"stage {self.index} (descend {self.stage.engine})"
        others = {name: array for name, array in self.stage.inputs.items() if name != self.stage.variable}
        self.constant = gather(others, self.arrays, self.where)
        self._bounds = self._read_bounds()
        self._check()

    def _check(self) -> None:
        stage, spec, constraint = self.stage, self.engine.spec, self.stage.constraint
        spec.input(stage.variable)
        if not spec.has_output(stage.gradient):
            raise RecipeError(
                f"{self.where}: the engine brings no '{stage.gradient}', which the descent needs. Export it with that variable, or with "
                "its torch program, which the extra [export] runs"
            )
        for name in (*stage.keep, *stage.until, *((constraint.similarity, constraint.penalty) if constraint else ())):
            spec.output(name)
        if self.panel.surrogates:
            if stage.join is None or constraint is None:
                raise RecipeError(f'{self.where}: surrogates at run time need a constraint and "join" in the recipe\'s stage')
            spec.output(stage.join.difference)
            spec.input(stage.join.cotangent)

    def start(self) -> Array:
        """The variable as the recipe has it."""
        spec = self.engine.spec.input(self.stage.variable)
        given = self.arrays.get(self.stage.array)
        return self.bounded(np.asarray(spec.zeros() if given is None else given, dtype=spec.dtype))

    def nudged(self) -> Array:
        """The start plus noise: the gradient of a similarity to oneself is zero at the start itself."""
        start = self.start()
        if not self.stage.start_std:
            return start
        noise = self.stage.start_std * self.stream.normal(start.shape, 0, Purpose.START)
        return self.bounded(np.asarray(start + noise, dtype=start.dtype))

    def bounded(self, variable: Array) -> Array:
        """Within the recipe's bounds."""
        return variable if self._bounds is None else np.clip(variable, *self._bounds).astype(variable.dtype)

    def draw(self, step: int) -> Draw | None:
        """The draw of a step; None where the stage has none."""
        plan = self.stage.draws
        if plan is None:
            return None
        size, channels = self._drawn_size(plan.rows, plan.noise)
        return draw(plan.settings, size, self.stream, step, channels)

    def plain(self) -> Draw | None:
        """The identity, where the stage draws at all."""
        plan = self.stage.draws
        return None if plan is None else identity_draw(*self._drawn_size(plan.rows, plan.noise))

    def run(self, variable: Array, drawn: Draw | None, outputs: Iterable[str]) -> Mapping[str, Array]:
        """The engine alone: these outputs, and the numbers that a trace has."""
        return self.engine.run(self._feeds(variable, drawn), self._asked(outputs))

    def look(self, plan: ConstraintPlan, state: ConstraintState, limit: Array, variable: Array, drawn: Draw | None, last: bool) -> Look:
        """One run of the gradient engine, then of the joined recognisers; `last`: no update is made from it, so no gradient is asked for.

        `limit` [K]: to get below, of all surrogates.
        """
        names = [plan.similarity, plan.penalty, *self.stage.keep, *([] if last else [self.stage.gradient])]
        if self.panel.surrogates and self.stage.join is not None:
            names.append(self.stage.join.difference)
        feeds = {**self._feeds(variable, drawn), **self._weighed(plan, state)}
        outputs = self.engine.run(feeds, self._asked(names))
        joined = self._joined(outputs, drawn)
        similarity = np.concatenate([np.ravel(outputs[plan.similarity]), joined]).astype(np.float32)
        row: dict[str, Any] = {"penalty_weight": state.penalty_weight, **scalars(outputs)}
        row["worst_excess"] = float(((similarity - limit) / state.unit)[limit < UNUSED].max(initial=-1.0))
        row.update({f"similarity_{k}": float(value) for k, value in enumerate(similarity)})
        return Look(variable, outputs, similarity, float(np.ravel(outputs[plan.penalty])[0]), drawn is None or drawn.clean, row)

    def kept(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the recipe keeps of these outputs, under its names."""
        return {array: outputs[output].copy() for output, array in self.stage.keep.items()}

    def gradient(self, outputs: Mapping[str, Array], step: int) -> Array:
        """The gradient of a step; raises RecipeError for one that is not finite."""
        gradient = outputs[self.stage.gradient]
        if not np.isfinite(gradient).all():
            raise RecipeError(f"{self.where}: the gradient is no longer finite at step {step}; lower the learning rate")
        return gradient

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.deadline

    def tell(self, step: int, passed: bool | None = None, excess: float | None = None) -> None:
        """Report a step."""
        if self.report is not None:
            self.report(Progress(self.index, "descend", self.stage.engine, step + 1, self.stage.steps, passed, excess))

    def _read_bounds(self) -> tuple[Any, Any] | None:
        if self.stage.bounds is None:
            return None
        low, high = (
            gather({"bounds": side}, self.arrays, self.where)["bounds"] if isinstance(side, str) else side for side in self.stage.bounds
        )
        return low, high

    def _drawn_size(self, rows: str, noise: str) -> tuple[int, int]:
        """Side and channels of what is drawn."""
        size, channels = self.engine.spec.input(rows).shape[-1], self.engine.spec.input(noise).shape[1]
        if size is None or channels is None:
            raise RecipeError(f"{self.where}: draws need a fixed size of the inputs '{rows}' and '{noise}'")
        return size, channels

    def _asked(self, names: Iterable[str]) -> list[str]:
        wanted = {*names, *(tensor.name for tensor in self.engine.spec.outputs if tensor.shape in ((), (1,)))}
        return [tensor.name for tensor in self.engine.spec.outputs if tensor.name in wanted]

    def _feeds(self, variable: Array, drawn: Draw | None) -> dict[str, Array]:
        """What the engine is fed but for weights; nothing pulls at the image unless said so."""
        stage, spec = self.stage, self.engine.spec
        feeds = {**self.constant, stage.variable: variable}
        if drawn is not None and stage.draws is not None:
            feeds.update({stage.draws.rows: drawn.rows, stage.draws.cols: drawn.cols, stage.draws.noise: drawn.noise})
        if spec.has_input(self._pulled) and self._pulled not in feeds:
            feeds[self._pulled] = spec.input(self._pulled).zeros()
        return feeds

    @property
    def _pulled(self) -> str:
        return self.stage.join.cotangent if self.stage.join else "image_cotangent"

    def _weighed(self, plan: ConstraintPlan, state: ConstraintState) -> dict[str, Array]:
        """The state's weights, and what the joined recognisers pull at the image with theirs, once they have seen one."""
        own = state.weights.size - len(self.panel.surrogates)
        feeds = {plan.weights: state.weights[:own], plan.penalty_weight: np.array([state.penalty_weight], np.float32)}
        if self.pulls:
            share = 1.0 / own if plan.reduction == "mean" else 1.0
            total = np.zeros_like(self.pulls[0])
            for weight, pull in zip(state.weights[own:], self.pulls, strict=True):
                total += np.float32(share * weight) * pull
            feeds[self._pulled] = total if self.through is None else self.through.pull_back(total)
        return feeds

    def _joined(self, outputs: Mapping[str, Array], drawn: Draw | None) -> Array:
        """Similarities [J] that the joined recognisers find in the image just run; their gradients are kept for the next step."""
        plan = self.stage.join
        if not self.panel.surrogates or plan is None:
            return np.zeros(0, np.float32)
        self.through = None if drawn is None or drawn.clean else drawn
        image = self.arrays[plan.original] + outputs[plan.difference]
        found = self.panel.look(image if self.through is None else self.through.apply(image))
        self.pulls = [one["grad_image"] for one in found]
        return np.array([np.ravel(one["similarity"])[0] for one in found], np.float32)


def gather(inputs: Mapping[str, str], arrays: Mapping[str, Array], where: str) -> dict[str, Array]:
    """Feeds of an engine: `inputs` is engine input -> array name; raises RecipeError for an array that is not there."""
    for name, array in inputs.items():
        if array not in arrays:
            known = ", ".join(sorted(arrays))
            raise RecipeError(f"{where}: input '{name}' needs the array '{array}'; there are: {known}")
    return {name: arrays[array] for name, array in inputs.items()}


def scalars(outputs: Mapping[str, Array]) -> dict[str, float]:
    """Outputs of one number, for the trace."""
    return {name: float(value.ravel()[0]) for name, value in outputs.items() if value.size == 1 and value.ndim <= 1}

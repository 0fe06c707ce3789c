"""The `descend` stage: one gradient engine, one variable, an optimiser, draws, and a constraint or none.

Each step runs the gradient engine once (evaluate.py). Under a constraint the search of constrained.py decides what remains; without one
the steps are taken as they come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceprotect_engines.engine import Engine
from faceprotect_engines.recipes.constrained import arrays_of, constrained
from faceprotect_engines.recipes.evaluate import Evaluator, Progress, scalars
from faceprotect_engines.recipes.joined import ExtraSurrogate, Panel
from faceprotect_engines.recipes.optimise import make_optimiser
from faceprotect_engines.recipes.philox import Stream
from faceprotect_engines.recipes.schema import DescendStage
from faceprotect_engines.spec import Array


@dataclass(frozen=True)
class Descent:
    """Arrays to store, scalars per step, why it ended, whether the constraint was met.

    `stop`: "steps", "until", "patience", "start" (that passed as it was) or "time".
    """

    arrays: Mapping[str, Array]
    trace: Sequence[Mapping[str, Any]]
    stop: str
    passed: bool | None


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
        evaluator = Evaluator(stage, engines(stage.engine), arrays, stream, panel, index, deadline, progress)
        if stage.constraint is None:
            return free(evaluator)
        found, trace = constrained(evaluator, stage.constraint)
        return Descent(arrays_of(evaluator, found), trace, found.stop, found.state.passed)


def free(evaluator: Evaluator) -> Descent:
    """`steps` updates without a constraint, then one clean run for what is kept."""
    stage, variable, stop = evaluator.stage, evaluator.nudged(), "steps"
    optimiser = make_optimiser(stage.optimiser, stage.steps)
    trace: list[Mapping[str, Any]] = []
    for step in range(stage.steps):
        drawn = evaluator.draw(step)
        outputs = evaluator.run(variable, drawn, (stage.gradient, *stage.until))
        trace.append({"stage": evaluator.index, "step": step, "clean": drawn is None or drawn.clean, **scalars(outputs)})
        evaluator.tell(step)
        if stage.until and all(float(np.max(outputs[name])) <= goal for name, goal in stage.until.items()):
            stop = "until"
            break
        variable = evaluator.bounded(optimiser.step(variable, evaluator.gradient(outputs, step)))
        if evaluator.late:
            stop = "time"
            break
    kept = evaluator.kept(evaluator.run(variable, evaluator.plain(), stage.keep)) if stage.keep else {}
    return Descent({stage.array: variable, **kept}, trace, stop, None)

"""Runs a recipe: stages of engine calls over a dictionary of named arrays. Same recipe, any backend."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faceprotect_engines.engine import Engine
from faceprotect_engines.errors import RecipeError
from faceprotect_engines.recipes.descend import Descent, descend
from faceprotect_engines.recipes.evaluate import Progress, gather
from faceprotect_engines.recipes.joined import ExtraSurrogate
from faceprotect_engines.recipes.philox import Stream
from faceprotect_engines.recipes.schema import DescendStage, InputZeros, MapStage, Recipe, parse_recipe
from faceprotect_engines.shared import ONE_BLAS_THREAD
from faceprotect_engines.spec import Array, fixed

__all__ = ["ExtraSurrogate", "Progress", "Recipe", "RecipeResult", "load_recipe", "read_recipe", "run_recipe"]


@dataclass(frozen=True)
class RecipeResult:
    """What a recipe left behind.

    arrays: the caller's arrays and every array that a stage stored, read-only.  trace: one dict of scalars per descend step.
    timings: seconds per stage, keyed "0 map face-encoder".  stop: why the last descent ended ("" without one).
    passed: whether the last descent with a constraint met it (None without one): what comes after a search may make up for it.
    devices: engine name -> what really ran it.
    """

    arrays: Mapping[str, Array]
    trace: Sequence[Mapping[str, Any]]
    timings: Mapping[str, float]
    stop: str
    passed: bool | None
    devices: Mapping[str, str]


def load_recipe(path: Path) -> dict[str, Any]:
    """Recipe document of a JSON file, checked with its default parameters; raises RecipeError."""
    return dict(read_recipe(path).document)


def read_recipe(path: Path) -> Recipe:
    """Recipe of a JSON file, to be run as often as wanted; raises RecipeError, which names the file and the field."""
    try:
        return parse_recipe(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from error
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def run_recipe(
    recipe: Mapping[str, Any] | Recipe,
    engines: Callable[[str], Engine],
    arrays: Mapping[str, Array],
    *,
    seed: int,
    parameters: Mapping[str, float] | None = None,
    surrogates: Sequence[ExtraSurrogate] = (),
    progress: Callable[[Progress], None] | None = None,
    deadline: float = math.inf,
    workers: int = 1,
) -> RecipeResult:
    """Run every stage in order; the same inputs and `seed` give the same result on one device.

    recipe: JSON document (schema.py), or what has been read of one, with `parameters` applied to it.  engines: name -> open
    engine; engines stay open, the caller closes them.
    arrays: named inputs, left unchanged; they go before the recipe's constants.  surrogates: recognisers that join, at
    run time, the descents with "join".  progress: called after every map and every descend step; what it raises ends the run.
    deadline: time.monotonic() after which descents end with what they have found.  workers: joined recognisers on the CPU that run at
    once; the numbers do not depend on it.
    Raises RecipeError (recipe, missing array, numbers no longer finite) and whatever the engines raise.
    """
    plan = recipe.applied(parameters) if isinstance(recipe, Recipe) else parse_recipe(recipe, parameters)
    given = {**_constants(plan, engines, arrays), **arrays}
    left = _Left({name: fixed(array) if isinstance(array, np.ndarray) else array for name, array in given.items()})

    def opened(name: str) -> Engine:
        engine = engines(name)
        left.devices[name] = engine.device
        return engine

    if surrogates and not any(isinstance(stage, DescendStage) and stage.join is not None for stage in plan.stages):
        raise RecipeError('surrogates at run time need a descent with a constraint and "join" in the recipe')
    for index, stage in enumerate(plan.stages):
        started = time.perf_counter()
        kind = "map" if isinstance(stage, MapStage) else "descend"
        if isinstance(stage, MapStage):
            made: Mapping[str, Array] = _run_map(stage, opened, left.arrays, index)
            if progress is not None:
                progress(Progress(index, "map", stage.engine, 1, 1))
        else:
            joining = surrogates if stage.join is not None else ()
            with ONE_BLAS_THREAD:
                descent = descend(stage, opened, left.arrays, Stream(seed, index), joining, progress, index, deadline, workers)
            left.descents.append(descent)
            made = descent.arrays
        left.store(made)
        left.timings[f"{index} {kind} {stage.engine}"] = time.perf_counter() - started
    left.devices.update({surrogate.name: surrogate.engine.device for surrogate in surrogates})
    return left.result()


@dataclass
class _Left:
    """What the stages have left behind so far."""

    arrays: dict[str, Array]
    devices: dict[str, str] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    descents: list[Descent] = field(default_factory=list)

    def store(self, made: Mapping[str, Array]) -> None:
        """Keep a stage's arrays, read-only: what cannot change need not be sent to a GPU twice."""
        for array in made.values():
            array.setflags(write=False)
        self.arrays.update(made)

    def result(self) -> RecipeResult:
        """All of it: the last descent says how the run ended, the last with a constraint whether it was met."""
        trace = [row for descent in self.descents for row in descent.trace]
        verdicts = [descent.passed for descent in self.descents if descent.passed is not None]
        stop = self.descents[-1].stop if self.descents else ""
        return RecipeResult(self.arrays, trace, self.timings, stop, verdicts[-1] if verdicts else None, self.devices)


def _constants(plan: Recipe, engines: Callable[[str], Engine], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The constants that the caller has not given; those of an engine's shape open that engine."""
    return {
        name: engines(value.engine).spec.input(value.input).zeros() if isinstance(value, InputZeros) else value
        for name, value in plan.constants.items()
        if name not in arrays
    }


def _run_map(stage: MapStage, engines: Callable[[str], Engine], arrays: Mapping[str, Array], index: int) -> dict[str, Array]:
    engine = engines(stage.engine)
    for output in stage.outputs:
        engine.spec.output(output)
    where = f"stage {index} (map {stage.engine})"
    outputs = engine.run(gather(stage.inputs, arrays, where), list(stage.outputs))
    low, high = stage.within or (-np.inf, np.inf)
    for output in stage.outputs:
        least, most = float(outputs[output].min()), float(outputs[output].max())
        if not (np.isfinite([least, most]).all() and low <= least and most <= high):
            allowed = f"the recipe allows {low:g} to {high:g}" if stage.within else "which are no numbers to go on with"
            raise RecipeError(f"{where}: '{output}' holds {least:g} to {most:g}, {allowed}. Is the input a face?")
    return {array: outputs[output] for output, array in stage.outputs.items()}

"""The recipe's JSON, checked and turned into dataclasses.

`"constants"` are named arrays that the caller need not give, float32: lists of numbers; `{"zeros": [1, 3, 256, 256]}` of that shape; or
`{"zeros": {"engine": "diffusion-step", "input": "offset"}}` of the shape that an engine's input has.

A number may be written `"$name"`: the value then comes from the caller's parameters, or from the default in the
recipe's own `"parameters"`.

What else stands at the top is for the caller who offers the recipe as a method: plan.py.

    {"schema": 2, "name": "latent", "parameters": {"steps": 60}, "constants": {"shares": [0.5, 0.008]},
     "strengths": {"low": {"margin": 1.5, "budget": 0.0003}, ...},
     "stages": [
       {"kind": "map", "engine": "face-encoder", "inputs": {"image": "original"}, "outputs": {"latent": "latent"}},
       {"kind": "descend", "engine": "latent-step", "variable": "offset", "inputs": {"latent": "latent", ...},
        "optimiser": {"name": "adamw", "learning_rate": 0.05}, "steps": "$steps", "start_std": 0.01,
        "draws": {"probability": 0.5, "rows": "rows", "cols": "cols", "noise": "noise", "zoom": [0.9, 1.2]},
        "constraint": {"similarity": "similarity", "limit": "limit", "weights": "weights", "penalty": "penalty",
                       "penalty_weight": "penalty_weight", "budget": "$budget", "start": 1000.0},
        "join": {"original": "original", "difference": "difference", "cotangent": "image_cotangent", "further": 0.9},
        "keep": {"difference": "difference"}, "bounds": [-1, 1]}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from faceprotect_engines.errors import RecipeError
from faceprotect_engines.recipes import checks as check
from faceprotect_engines.recipes.checks import Names
from faceprotect_engines.recipes.constraint import ConstraintSettings
from faceprotect_engines.recipes.input_diversity import DrawSettings
from faceprotect_engines.recipes.plan import FIELDS, MethodPlan, parse_method
from faceprotect_engines.spec import Array

#: What this version reads.
SCHEMA = 2


@dataclass(frozen=True)
class MapStage:
    """Run `engine` once: `inputs` is engine input -> array name, `outputs` engine output -> array name.

    Outputs have to be finite, and in the interval `within` where there is one.
    """

    engine: str
    inputs: Names
    outputs: Names
    within: tuple[float, float] | None = None


@dataclass(frozen=True)
class DrawPlan:
    """Engine inputs that take a draw, and how far it may go."""

    rows: str
    cols: str
    noise: str
    settings: DrawSettings


@dataclass(frozen=True)
class ConstraintPlan:
    """The law, and the names it works on.

    Engine outputs `similarity` [K] and `penalty` [1], inputs `weights` [K] and `penalty_weight` [1], array `limit` [K],
    and array `origin` [K] of the similarities at the start, if it is given (else all are 1: a face is itself).
    `reduction` says how the engine's loss combines the K weighted similarities ("sum" or "mean"), so that surrogates
    that join at run time weigh as much as the shipped ones.
    """

    similarity: str
    penalty: str
    weights: str
    penalty_weight: str
    limit: str
    origin: str
    reduction: str
    settings: ConstraintSettings


@dataclass(frozen=True)
class JoinPlan:
    """Where surrogates that join at run time find the image, and where their gradient goes.

    The image is the array `original` plus the engine's output `difference`; `cotangent` is the engine's input. `further`, for the caller
    who sets the budget: what is left of it for each one that joins beyond the first, as a share.
    """

    original: str = "original"
    difference: str = "difference"
    cotangent: str = "image_cotangent"
    further: float = 1.0


@dataclass(frozen=True)
class DescendStage:
    """Repeat the gradient engine on one variable.

    The variable is the engine input `variable`; its array is `inputs[variable]` (default: the same name), zeros where
    that array is not given, plus Gaussian noise of `start_std`. `steps` updates at most; without a constraint, no more once the engine
    outputs that `until` names have fallen to the numbers given there.
    """

    engine: str
    variable: str
    inputs: Names
    optimiser: Mapping[str, Any]
    steps: int
    start_std: float = 0.0
    draws: DrawPlan | None = None
    constraint: ConstraintPlan | None = None
    join: JoinPlan | None = None
    keep: Names = field(default_factory=dict)
    bounds: tuple[float | str, float | str] | None = None
    until: Mapping[str, float] = field(default_factory=dict)

    @property
    def array(self) -> str:
        """Name of the array that holds the variable."""
        return self.inputs.get(self.variable, self.variable)

    @property
    def gradient(self) -> str:
        """Engine output that holds the gradient."""
        return f"grad_{self.variable}"


@dataclass(frozen=True)
class InputZeros:
    """A constant: zeros of the shape of an engine's input."""

    engine: str
    input: str


@dataclass(frozen=True)
class Recipe:
    """A named list of stages over a dictionary of named arrays, checked once and run as often as wanted.

    `parameters`: those filled in. `method`: what the recipe says of itself as a method. `document`: what it was read from.
    """

    name: str
    stages: tuple[MapStage | DescendStage, ...]
    parameters: Mapping[str, float]
    constants: Mapping[str, Array | InputZeros] = field(default_factory=dict)
    method: MethodPlan = field(default_factory=MethodPlan)
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def applied(self, parameters: Mapping[str, float] | None) -> Recipe:
        """The same with other values of its parameters; those not named stay. Raises RecipeError for a parameter that it has not."""
        return parse_recipe(self.document, {**self.parameters, **parameters}) if parameters else self

    @property
    def descents(self) -> tuple[DescendStage, ...]:
        """Its searches, in order."""
        return tuple(stage for stage in self.stages if isinstance(stage, DescendStage))

    @property
    def asked(self) -> frozenset[str]:
        """Names of the arrays that its stages read, whoever makes them."""
        read = {array for stage in self.stages for array in stage.inputs.values()}
        for stage in self.descents:
            read |= {side for side in stage.bounds or () if isinstance(side, str)}
            read |= {stage.constraint.limit, stage.constraint.origin} if stage.constraint else set()
            read |= {stage.join.original} if stage.join else set()
        return frozenset(read)

    @property
    def made(self) -> frozenset[str]:
        """Names of the arrays that its stages store."""
        return frozenset(
            array for stage in self.stages for array in (stage.outputs if isinstance(stage, MapStage) else stage.keep).values()
        ).union(stage.array for stage in self.descents)


def parse_recipe(document: Any, parameters: Mapping[str, float] | None = None) -> Recipe:
    """Recipe of a JSON document with `parameters` filled in; raises RecipeError saying which field is wrong."""
    _check_schema(document)
    check.only(document, ("schema", "name", *FIELDS, "parameters", "constants", "stages"), "recipe")
    defaults = check.mapping(document.get("parameters", {}), "recipe, parameters")
    unknown = sorted(set(parameters or {}) - set(defaults))
    if unknown:
        known = ", ".join(defaults) or "none"
        raise RecipeError(f"recipe has no parameter '{unknown[0]}'; its parameters are: {known}")
    values = {**defaults, **(parameters or {})}
    stages = document.get("stages")
    if not isinstance(stages, list) or not stages:
        raise RecipeError("recipe, stages: give a list of at least one stage")
    parsed = tuple(_stage(check.fill(stage, values), f"recipe, stage {index}") for index, stage in enumerate(stages))
    constants = _constants(check.fill(document.get("constants", {}), values))
    return Recipe(str(document.get("name", "")), parsed, values, constants, parse_method(document), dict(document))


def _check_schema(document: Any) -> None:
    if not isinstance(document, Mapping):
        raise RecipeError(f"recipe: schema is {type(document).__name__!r}, expected an object of JSON")
    found = document.get("schema")
    if found == 1:
        raise RecipeError(
            f'recipe: schema is 1, this version reads {SCHEMA}. Export it again, or write "schema": {SCHEMA} and state in the recipe '
            'what the program knew before: "strengths"; "budgets" (budget, unseen_budget); "attempts" of what does not search; '
            '"further" of a "join"; zero_offset among the "constants"'
        )
    if found != SCHEMA:
        raise RecipeError(f"recipe: schema is {found!r}, this version reads {SCHEMA}; upgrade faceprotect-sdk")


def _stage(stage: Any, where: str) -> MapStage | DescendStage:
    stage = check.mapping(stage, where)
    kind = stage.get("kind")
    if kind == "map":
        check.only(stage, ("kind", "description", *(item.name for item in fields(MapStage))), where)
        return MapStage(
            engine=check.text(stage, "engine", where),
            inputs=check.names(stage, "inputs", where),
            outputs=check.names(stage, "outputs", where),
            within=check.interval(stage["within"], f"{where}, within") if stage.get("within") is not None else None,
        )
    if kind == "descend":
        return _descend(stage, where)
    raise RecipeError(f"{where}: kind is {kind!r}; give 'map' or 'descend'")


def _descend(stage: Mapping[str, Any], where: str) -> DescendStage:
    check.only(stage, ("kind", "description", *(item.name for item in fields(DescendStage))), where)
    return DescendStage(
        engine=check.text(stage, "engine", where),
        variable=check.text(stage, "variable", where),
        inputs=check.names(stage, "inputs", where),
        optimiser=check.mapping(stage.get("optimiser"), f"{where}, optimiser"),
        steps=check.count(stage.get("steps"), f"{where}, steps"),
        start_std=check.number(stage.get("start_std", 0.0), f"{where}, start_std"),
        draws=_draws(stage["draws"], f"{where}, draws") if stage.get("draws") else None,
        constraint=_constraint(stage["constraint"], f"{where}, constraint") if stage.get("constraint") else None,
        join=_join(stage["join"], f"{where}, join") if stage.get("join") is not None else None,
        keep=check.names(stage, "keep", where, optional=True),
        bounds=_bounds(stage.get("bounds"), f"{where}, bounds"),
        until=_until(stage, where),
    )


def _until(stage: Mapping[str, Any], where: str) -> dict[str, float]:
    goals = check.mapping(stage.get("until", {}), f"{where}, until")
    if goals and stage.get("constraint"):
        raise RecipeError(f'{where}: "until" ends a descent without a constraint; a constraint has its "patience"')
    return {name: check.number(value, f"{where}, until, {name}") for name, value in goals.items()}


def _constants(document: Any) -> dict[str, Array | InputZeros]:
    return {name: _constant(value, f"recipe, constants, {name}") for name, value in check.mapping(document, "recipe, constants").items()}


def _constant(value: Any, where: str) -> Array | InputZeros:
    if not isinstance(value, Mapping):
        return np.array([check.number(item, where) for item in check.numbers(value, where)], np.float32)
    check.only(value, ("zeros",), where)
    shape = value.get("zeros")
    if isinstance(shape, Mapping):
        check.only(shape, ("engine", "input"), f"{where}, zeros")
        return InputZeros(check.text(shape, "engine", f"{where}, zeros"), check.text(shape, "input", f"{where}, zeros"))
    return np.zeros([check.count(size, f"{where}, zeros") for size in check.numbers(shape, where)], np.float32)


def _draws(plan: Any, where: str) -> DrawPlan:
    plan = check.mapping(plan, where)
    names = {key: str(plan.get(key, key)) for key in ("rows", "cols", "noise")}
    return DrawPlan(**names, settings=_settings(DrawSettings, plan, tuple(names), where))


def _constraint(plan: Any, where: str) -> ConstraintPlan:
    plan = check.mapping(plan, where)
    keys = ("similarity", "penalty", "weights", "penalty_weight", "limit", "origin")
    names = {key: str(plan.get(key, key)) for key in keys}
    reduction = str(plan.get("reduction", "sum"))
    if reduction not in ("sum", "mean"):
        raise RecipeError(f"{where}: reduction is {reduction!r}; give 'sum' or 'mean'")
    settings = _settings(ConstraintSettings, plan, (*keys, "reduction"), where)
    return ConstraintPlan(**names, reduction=reduction, settings=settings)


def _join(plan: Any, where: str) -> JoinPlan:
    plan = check.mapping(plan, where)
    names = ("original", "difference", "cotangent")
    check.only(plan, (*names, "further"), where)
    given = {name: check.text(plan, name, where) for name in names if name in plan}
    return JoinPlan(**given, further=check.share(plan.get("further", 1.0), f"{where}, further"))


def _settings(kind: Any, plan: Mapping[str, Any], besides: tuple[str, ...], where: str) -> Any:
    """Dataclass of numbers and number pairs from what `plan` has besides the named fields."""
    known = tuple(item.name for item in fields(kind))
    check.only(plan, (*besides, *known), where)
    numbers: dict[str, Any] = {}
    for key in known:
        if key in plan:
            numbers[key] = check.number_or_pair(plan[key], f"{where}, {key}")
    try:
        return kind(**numbers)
    except TypeError as error:
        raise RecipeError(f"{where}: a number where a [low, high] pair belongs, or the reverse: {error}") from error
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _bounds(value: Any, where: str) -> tuple[float | str, float | str] | None:
    """Each side a number, or the name of an array of the variable's shape."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise RecipeError(f"{where}: expected [low, high], found {value!r}")
    low, high = (side if isinstance(side, str) else check.number(side, where) for side in value)
    return low, high

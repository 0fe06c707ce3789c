"""The recipe's JSON, checked and turned into dataclasses.

`"constants"` are named arrays that the caller need not give, float32: lists of numbers, or `{"zeros": [1, 3, 256, 256]}` of that shape.

`"region"` is for the caller alone: where a method may change what it is given.

A number may be written `"$name"`: the value then comes from the caller's parameters, or from the default in the
recipe's own `"parameters"`.

    {"schema": 1, "name": "latent", "parameters": {"steps": 60}, "constants": {"shares": [0.5, 0.008]},
     "stages": [
       {"kind": "map", "engine": "face-encoder", "inputs": {"image": "original"}, "outputs": {"latent": "latent"}},
       {"kind": "descend", "engine": "latent-step", "variable": "offset", "inputs": {"latent": "latent", ...},
        "optimiser": {"name": "adamw", "learning_rate": 0.05}, "steps": "$steps", "start_std": 0.01,
        "draws": {"probability": 0.5, "rows": "rows", "cols": "cols", "noise": "noise", "zoom": [0.9, 1.2]},
        "constraint": {"similarity": "similarity", "limit": "limit", "weights": "weights", "penalty": "penalty",
                       "penalty_weight": "penalty_weight", "budget": "$budget", "start": 1000.0},
        "join": {"original": "original", "difference": "difference", "cotangent": "image_cotangent"},
        "keep": {"difference": "difference"}, "bounds": [-1, 1]}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from faceprotect_engines.constraint import ConstraintSettings
from faceprotect_engines.draws import DrawSettings
from faceprotect_engines.errors import RecipeError
from faceprotect_engines.spec import Array

SCHEMA = 1
Names = Mapping[str, str]


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

    The image is the array `original` plus the engine's output `difference`; `cotangent` is the engine's input.
    """

    original: str = "original"
    difference: str = "difference"
    cotangent: str = "image_cotangent"


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
class Recipe:
    """A named list of stages over a dictionary of named arrays."""

    name: str
    stages: tuple[MapStage | DescendStage, ...]
    parameters: Mapping[str, float]
    constants: Mapping[str, Array] = field(default_factory=dict)


def parse_recipe(document: Any, parameters: Mapping[str, float] | None = None) -> Recipe:
    """Recipe of a JSON document with `parameters` filled in; raises RecipeError saying which field is wrong."""
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, Mapping) else type(document).__name__
        raise RecipeError(f"recipe: schema is {found!r}, this version reads {SCHEMA}; upgrade faceprotect-sdk")
    _only(document, ("schema", "name", "description", "parameters", "constants", "region", "stages"), "recipe")
    defaults = _mapping(document.get("parameters", {}), "recipe, parameters")
    unknown = sorted(set(parameters or {}) - set(defaults))
    if unknown:
        known = ", ".join(defaults) or "none"
        raise RecipeError(f"recipe has no parameter '{unknown[0]}'; its parameters are: {known}")
    values = {**defaults, **(parameters or {})}
    stages = document.get("stages")
    if not isinstance(stages, list) or not stages:
        raise RecipeError("recipe, stages: give a list of at least one stage")
    parsed = tuple(_stage(_fill(stage, values), f"recipe, stage {index}") for index, stage in enumerate(stages))
    return Recipe(str(document.get("name", "")), parsed, values, _constants(_fill(document.get("constants", {}), values)))


def _stage(stage: Any, where: str) -> MapStage | DescendStage:
    stage = _mapping(stage, where)
    kind = stage.get("kind")
    if kind == "map":
        _only(stage, ("kind", "description", *(item.name for item in fields(MapStage))), where)
        return MapStage(
            engine=_text(stage, "engine", where),
            inputs=_names(stage, "inputs", where),
            outputs=_names(stage, "outputs", where),
            within=_interval(stage["within"], f"{where}, within") if stage.get("within") is not None else None,
        )
    if kind == "descend":
        return _descend(stage, where)
    raise RecipeError(f"{where}: kind is {kind!r}; give 'map' or 'descend'")


def _descend(stage: Mapping[str, Any], where: str) -> DescendStage:
    _only(stage, ("kind", "description", *(item.name for item in fields(DescendStage))), where)
    return DescendStage(
        engine=_text(stage, "engine", where),
        variable=_text(stage, "variable", where),
        inputs=_names(stage, "inputs", where),
        optimiser=_mapping(stage.get("optimiser"), f"{where}, optimiser"),
        steps=_count(stage.get("steps"), f"{where}, steps"),
        start_std=_number(stage.get("start_std", 0.0), f"{where}, start_std"),
        draws=_draws(stage["draws"], f"{where}, draws") if stage.get("draws") else None,
        constraint=_constraint(stage["constraint"], f"{where}, constraint") if stage.get("constraint") else None,
        join=_join(stage["join"], f"{where}, join") if stage.get("join") is not None else None,
        keep=_names(stage, "keep", where, optional=True),
        bounds=_bounds(stage.get("bounds"), f"{where}, bounds"),
        until=_until(stage, where),
    )


def _until(stage: Mapping[str, Any], where: str) -> dict[str, float]:
    goals = _mapping(stage.get("until", {}), f"{where}, until")
    if goals and stage.get("constraint"):
        raise RecipeError(f'{where}: "until" ends a descent without a constraint; a constraint has its "patience"')
    return {name: _number(value, f"{where}, until, {name}") for name, value in goals.items()}


def _constants(document: Any) -> dict[str, Array]:
    constants: dict[str, Array] = {}
    for name, values in _mapping(document, "recipe, constants").items():
        where = f"recipe, constants, {name}"
        if isinstance(values, Mapping):
            _only(values, ("zeros",), where)
            constants[name] = np.zeros([_count(size, f"{where}, zeros") for size in _list(values.get("zeros"), where)], np.float32)
        else:
            constants[name] = np.array([_number(value, where) for value in _list(values, where)], np.float32)
    return constants


def _list(values: Any, where: str) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise RecipeError(f"{where}: expected a list of numbers, found {values!r}")
    return values


def _draws(plan: Any, where: str) -> DrawPlan:
    plan = _mapping(plan, where)
    names = {key: str(plan.get(key, key)) for key in ("rows", "cols", "noise")}
    return DrawPlan(**names, settings=_settings(DrawSettings, plan, tuple(names), where))


def _constraint(plan: Any, where: str) -> ConstraintPlan:
    plan = _mapping(plan, where)
    keys = ("similarity", "penalty", "weights", "penalty_weight", "limit", "origin")
    names = {key: str(plan.get(key, key)) for key in keys}
    reduction = str(plan.get("reduction", "sum"))
    if reduction not in ("sum", "mean"):
        raise RecipeError(f"{where}: reduction is {reduction!r}; give 'sum' or 'mean'")
    settings = _settings(ConstraintSettings, plan, (*keys, "reduction"), where)
    return ConstraintPlan(**names, reduction=reduction, settings=settings)


def _join(plan: Any, where: str) -> JoinPlan:
    plan = _mapping(plan, where)
    names = tuple(item.name for item in fields(JoinPlan))
    _only(plan, names, where)
    return JoinPlan(**{name: _text(plan, name, where) for name in names if name in plan})


def _settings(kind: Any, plan: Mapping[str, Any], besides: tuple[str, ...], where: str) -> Any:
    """Dataclass of numbers and number pairs from what `plan` has besides the named fields."""
    known = tuple(item.name for item in fields(kind))
    _only(plan, (*besides, *known), where)
    numbers: dict[str, Any] = {}
    for key in known:
        if key in plan:
            numbers[key] = _number_or_pair(plan[key], f"{where}, {key}")
    try:
        return kind(**numbers)
    except TypeError as error:
        raise RecipeError(f"{where}: a number where a [low, high] pair belongs, or the reverse: {error}") from error
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _fill(value: Any, parameters: Mapping[str, Any]) -> Any:
    """`value` with every "$name" replaced by that parameter."""
    if isinstance(value, Mapping):
        return {key: _fill(part, parameters) for key, part in value.items()}
    if isinstance(value, list):
        return [_fill(part, parameters) for part in value]
    if isinstance(value, str) and value.startswith("$"):
        if value[1:] not in parameters:
            raise RecipeError(f"recipe uses the parameter '{value}', which its \"parameters\" do not list")
        return parameters[value[1:]]
    return value


def _only(document: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in document:
        if key not in known:
            raise RecipeError(f"{where}: unknown field '{key}'; known: {', '.join(known)}")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where}: expected an object, found {value!r}")
    return value


def _text(document: Mapping[str, Any], key: str, where: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise RecipeError(f"{where}, {key}: expected a name, found {value!r}")
    return value


def _names(document: Mapping[str, Any], key: str, where: str, optional: bool = False) -> Names:
    value = _mapping(document.get(key, {} if optional else None), f"{where}, {key}")
    for name, array in value.items():
        if not isinstance(array, str) or not array:
            raise RecipeError(f"{where}, {key}, {name}: expected the name of an array, found {array!r}")
    return dict(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecipeError(f"{where}: expected a number, found {value!r}")
    return float(value)


def _number_or_pair(value: Any, where: str) -> float | tuple[float, ...]:
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return tuple(_number(part, where) for part in value)
    return _number(value, where)


def _interval(value: Any, where: str) -> tuple[float, float]:
    pair = _number_or_pair(value, where)
    if not isinstance(pair, tuple) or not pair[0] < pair[1]:
        raise RecipeError(f"{where}: expected [low, high], found {value!r}")
    return pair[0], pair[1]


def _count(value: Any, where: str) -> int:
    number = _number(value, where)
    if number < 1 or number != int(number):
        raise RecipeError(f"{where}: expected a whole number of at least 1, found {value!r}")
    return int(number)


def _bounds(value: Any, where: str) -> tuple[float | str, float | str] | None:
    """Each side a number, or the name of an array of the variable's shape."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise RecipeError(f"{where}: expected [low, high], found {value!r}")
    low, high = (side if isinstance(side, str) else _number(side, where) for side in value)
    return low, high

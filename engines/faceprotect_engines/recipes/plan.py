"""What a recipe says of itself as a method: for the caller who offers it, and of no concern to the interpreter.

Every field is optional, and stands at the top of the recipe's JSON (schema.py):

===============  ================================================================================================
`"description"`  one line that says what the method is for, as `--help` prints it
`"order"`        where a list of methods names it, smallest first; after all that state one by default
`"strengths"`    `{"low": {"margin": 1.5, "budget": 0.0003}, "medium": {...}, "high": {...}}`, all three and growing
`"budgets"`      `{"NAME": 1.0}`: arrays [1] that hold that share of the budget that is asked for
`"attempts"`     `[0.64, 0.8, 1.0]`: of the budget, what each attempt may spend, and so how many there are at most
`"region"`       where the method may change what it is given
`"beyond"`       the name of a method that gets further, for advice
`"undoes"`       share of a change that stands in the photo with the opposite sign, from which on it is taken to undo an earlier one
`"bundle"`       an object for the program that packed the recipe; the document keeps it, nothing here reads it
===============  ================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from faceprotect_engines.errors import RecipeError
from faceprotect_engines.recipes import checks as check

#: Names of the strengths, weakest first.
STRENGTHS = ("low", "medium", "high")
FIELDS = ("description", "order", "strengths", "budgets", "attempts", "region", "beyond", "undoes", "bundle")


@dataclass(frozen=True)
class StrengthPlan:
    """How far to go (`margin`, in spreads below each threshold) and how much change to spend on it (`budget`, in the method's measure)."""

    margin: float
    budget: float


@dataclass(frozen=True)
class Region:
    """An ellipse in canonical pixels with a soft rim, and features inside it that are spared.

    The defaults hold brows, cheeks, mouth and chin of a face aligned by five points, and reach neither the crop's edge
    nor most of the hair. `feather` is the part of the radius over which the mask falls from 1 to 0. `spared`: Gaussians
    (x, y, width, height, share) by whose share a change is made smaller at their middle.
    """

    centre: tuple[float, float] = (128.0, 146.0)
    radii: tuple[float, float] = (88.0, 106.0)
    feather: float = 0.25
    spared: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class MethodPlan:
    """The fields above. `strengths` is empty where the recipe states none: its caller then has to know numbers of its own.

    `attempts` is empty where it states none: each attempt may spend the whole budget then.
    """

    description: str = ""
    order: float | None = None
    strengths: Mapping[str, StrengthPlan] = field(default_factory=dict)
    budgets: Mapping[str, float] = field(default_factory=dict)
    attempts: tuple[float, ...] = ()
    region: Region = field(default_factory=Region)
    beyond: str = ""
    undoes: float = math.inf


def parse_method(document: Mapping[str, Any]) -> MethodPlan:
    """What a recipe's document says of itself as a method; raises RecipeError saying which field is wrong."""
    budgets = check.mapping(document.get("budgets", {}), "recipe, budgets")
    check.mapping(document.get("bundle", {}), "recipe, bundle")
    return MethodPlan(
        description=_line(document, "description"),
        order=check.number(document["order"], "recipe, order") if "order" in document else None,
        strengths=_strengths(document["strengths"]) if "strengths" in document else {},
        budgets={name: check.share(value, f"recipe, budgets, {name}") for name, value in budgets.items()},
        attempts=_attempts(document["attempts"]) if "attempts" in document else (),
        region=_region(document.get("region", {})),
        beyond=_line(document, "beyond"),
        undoes=check.number(document["undoes"], "recipe, undoes") if "undoes" in document else math.inf,
    )


def _line(document: Mapping[str, Any], key: str) -> str:
    return check.text(document, key, "recipe") if key in document else ""


def _strengths(value: Any) -> dict[str, StrengthPlan]:
    where = "recipe, strengths"
    stated = check.mapping(value, where)
    check.only(stated, STRENGTHS, where)
    if missing := [name for name in STRENGTHS if name not in stated]:
        raise RecipeError(f"{where}: {', '.join(missing)} missing; state all of: {', '.join(STRENGTHS)}")
    found = {name: _strength(stated[name], f"{where}, {name}") for name in STRENGTHS}
    low, medium, high = found.values()
    if not (low.margin <= medium.margin <= high.margin and low.budget < medium.budget < high.budget):
        raise RecipeError(f"{where}: the budget has to grow from low to high, and the margin must not shrink")
    return found


def _strength(value: Any, where: str) -> StrengthPlan:
    stated, names = check.mapping(value, where), tuple(item.name for item in fields(StrengthPlan))
    check.only(stated, names, where)
    numbers = {name: check.number(stated.get(name), f"{where}, {name}") for name in names}
    if numbers["budget"] <= 0:
        raise RecipeError(f"{where}, budget: expected a number above 0, found {numbers['budget']:g}")
    return StrengthPlan(**numbers)


def _attempts(value: Any) -> tuple[float, ...]:
    where = "recipe, attempts"
    return tuple(check.share(part, where) for part in check.numbers(value, where))


def _region(value: Any) -> Region:
    where = "recipe, region"
    stated = check.mapping(value, where)
    check.only(stated, tuple(item.name for item in fields(Region)), where)
    found: dict[str, Any] = {name: _point(stated[name], f"{where}, {name}") for name in ("centre", "radii") if name in stated}
    if "feather" in stated:
        found["feather"] = check.share(stated["feather"], f"{where}, feather")
    if "spared" in stated:
        found["spared"] = _spared(stated["spared"], f"{where}, spared")
    if min(found.get("radii", (1.0,))) <= 0:
        raise RecipeError(f"{where}, radii: expected numbers above 0, found {found['radii']}")
    return Region(**found)


def _point(value: Any, where: str) -> tuple[float, ...]:
    point = check.number_or_pair(value, where)
    if not isinstance(point, tuple):
        raise RecipeError(f"{where}: expected [x, y], found {value!r}")
    return point


def _spared(value: Any, where: str) -> tuple[tuple[float, ...], ...]:
    if not isinstance(value, list):
        raise RecipeError(f"{where}: expected a list, found {value!r}")
    spots = tuple(tuple(check.number(part, where) for part in check.numbers(spot, where)) for spot in value)
    if any(len(spot) != 5 or min(spot[2:4]) <= 0 for spot in spots):
        raise RecipeError(f"{where}: expected [x, y, width, height, share] each, width and height above 0")
    return spots

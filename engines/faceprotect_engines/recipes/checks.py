"""Checks of a recipe's JSON, each of which names the field that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faceprotect_engines.errors import RecipeError

Names = Mapping[str, str]


def fill(value: Any, parameters: Mapping[str, Any]) -> Any:
    """`value` with every "$name" replaced by that parameter."""
    if isinstance(value, Mapping):
        return {key: fill(part, parameters) for key, part in value.items()}
    if isinstance(value, list):
        return [fill(part, parameters) for part in value]
    if isinstance(value, str) and value.startswith("$"):
        if value[1:] not in parameters:
            raise RecipeError(f"recipe uses the parameter '{value}', which its \"parameters\" do not list")
        return parameters[value[1:]]
    return value


def only(document: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse fields that are not among `known`."""
    for key in document:
        if key not in known:
            raise RecipeError(f"{where}: unknown field '{key}'; known: {', '.join(known)}")


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """An object of JSON."""
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where}: expected an object, found {value!r}")
    return value


def text(document: Mapping[str, Any], key: str, where: str) -> str:
    """A string that is not empty, under `key`."""
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise RecipeError(f"{where}, {key}: expected a name, found {value!r}")
    return value


def names(document: Mapping[str, Any], key: str, where: str, optional: bool = False) -> Names:
    """An object of names, under `key`; empty where it is optional and missing."""
    value = mapping(document.get(key, {} if optional else None), f"{where}, {key}")
    for name, array in value.items():
        if not isinstance(array, str) or not array:
            raise RecipeError(f"{where}, {key}, {name}: expected the name of an array, found {array!r}")
    return dict(value)


def number(value: Any, where: str) -> float:
    """A number, which in JSON `true` is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecipeError(f"{where}: expected a number, found {value!r}")
    return float(value)


def share(value: Any, where: str) -> float:
    """A number above 0 and at most 1."""
    found = number(value, where)
    if not 0 < found <= 1:
        raise RecipeError(f"{where}: expected a share above 0 and at most 1, found {value!r}")
    return found


def number_or_pair(value: Any, where: str) -> float | tuple[float, ...]:
    """A number, or a list of two."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return tuple(number(part, where) for part in value)
    return number(value, where)


def interval(value: Any, where: str) -> tuple[float, float]:
    """[low, high], with low below high."""
    pair = number_or_pair(value, where)
    if not isinstance(pair, tuple) or not pair[0] < pair[1]:
        raise RecipeError(f"{where}: expected [low, high], found {value!r}")
    return pair[0], pair[1]


def count(value: Any, where: str) -> int:
    """A whole number of at least 1."""
    found = number(value, where)
    if found < 1 or found != int(found):
        raise RecipeError(f"{where}: expected a whole number of at least 1, found {value!r}")
    return int(found)


def numbers(values: Any, where: str) -> list[Any]:
    """A list that is not empty; its members are for the caller to check."""
    if not isinstance(values, list) or not values:
        raise RecipeError(f"{where}: expected a list of numbers, found {values!r}")
    return values

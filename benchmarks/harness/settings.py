"""What is measured: a method with its settings, and where a protection is to lead."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from faceprotect_engines.recipes.recipe import Recipe
from faceprotect_engines.store import ZOO, Store
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.methods import STRENGTHS, Strength, methods_of, strength_of
from faceprotect_sdk.methods.arrays import GOAL, LOOK
from faceprotect_sdk.settings import ATTEMPTS
from harness.pixels import ATTACKS

GoalKind = Literal["dodge", "decoy", "impersonate"]
#: The photo as it is, written back: the row that every rate has to be read beside.
CLEAN = "none"
#: Published methods as they are written (literal.py), for comparison.
LITERAL = ("gift",)
PSNR = 37.0


@dataclass(frozen=True)
class Setting:
    """A method as it is measured; ``key`` names its row.

    ``strength``: of our methods. ``look``: of makeup, by name or folder. ``psnr``: what noise in pixels is scaled to, before encoding.
    ``surrogates``, ``without``: as in ``Protector``. ``recipe``: changes of the method's recipe by dotted path, for ablations.
    """

    key: str
    method: str
    strength: str | Strength = "medium"
    look: str | None = None
    psnr: float = PSNR
    iterations: int | None = None
    attempts: int = ATTEMPTS
    surrogates: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """A face to become alike: the photo that is searched on, and the one that scores (the same one for a synthetic face)."""

    name: str
    photo: Path
    other: Path


@dataclass(frozen=True)
class Goal:
    """dodge, or towards one of ``targets``: each photo gets one of them, in turn. ``rivals``: further targets for TIP-IM."""

    kind: GoalKind = "dodge"
    targets: tuple[Target, ...] = ()
    rivals: tuple[Path, ...] = ()

    def target_of(self, index: int) -> Target | None:
        """The target of the photo at ``index``."""
        return self.targets[index % len(self.targets)] if self.targets else None


def shipped() -> dict[str, Recipe]:
    """Our methods: name to recipe."""
    return methods_of(Store([ZOO]))


def learnt(recipe: Recipe) -> bool:
    """Whether a method starts with what a network has learnt, its goals included."""
    return GOAL in recipe.asked


def parse_setting(text: str, **common: Any) -> Setting:
    """``NAME``, ``NAME@VALUE``, ``NAME@VALUExITERATIONS``, each with ``~SURROGATE...`` behind it or without.

    NAME may be ``makeup:LOOK``, LOOK the name or the folder of one.

    VALUE is a strength or a budget for our methods, the PSNR in dB for noise in pixels, which alone takes ITERATIONS other than its own;
    each SURROGATE is left out of the search.
    """
    plain, *left_out = text.split("~")
    if left_out:
        common = {**common, "without": (*common.get("without", ()), *left_out)}
    name, _, value = plain.partition("@")
    name, _, look = name.partition(":")
    known_methods = shipped()
    if look and name not in (looking := [one for one, recipe in known_methods.items() if LOOK in recipe.asked]):
        raise UsageError(f"--methods {text}: only {', '.join(looking)} has looks")
    if name == CLEAN and not value and not left_out:
        return Setting(CLEAN, CLEAN, attempts=1)
    if name in ATTACKS:
        psnr, longer, times = value.partition("x")
        return Setting(
            text,
            name,
            psnr=_number(psnr, text) if value else PSNR,
            iterations=_iterations(times, text) if longer else None,
            attempts=1,
            **_only(common, "surrogates", "without"),
        )
    if name in LITERAL:
        if value:
            raise UsageError(f"--methods {text}: {name} takes no value, it is measured as published")
        return Setting(text, name, attempts=1, **_only(common, "surrogates", "without"))
    if name in known_methods:
        medium, known = strength_of(known_methods[name], "medium"), not value or value in STRENGTHS
        strength = (value or "medium") if known else Strength(medium.margin, _number(value, text, *STRENGTHS))
        named = f"{name}:{look}" if look else name
        key = text if value else text.replace(named, f"{named}@medium", 1)
        return Setting(key.replace(look, Path(look).name) if look else key, name, strength=strength, look=look or None, **common)
    known_names = ", ".join([CLEAN, *known_methods, *ATTACKS, *LITERAL])
    raise UsageError(f"there is no method '{name}'; choose of: {known_names}, each with @VALUE or without")


def _only(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _number(value: str, text: str, *strengths: str) -> float:
    try:
        return float(value)
    except ValueError:
        known = f", and not one of: {', '.join(strengths)}" if strengths else ""
        raise UsageError(f"--methods {text}: '{value}' is no number{known}") from None


def _iterations(value: str, text: str) -> int:
    if not value.isdigit() or not int(value):
        raise UsageError(f"--methods {text}: '{value}' is no number of iterations; 1 or more")
    return int(value)


def patched(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a recipe with the value at each dotted path replaced; raises UsageError for a path that leads nowhere."""
    document: dict[str, Any] = json.loads(json.dumps(recipe))
    for path, value in changes.items():
        place: Any = document
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        try:
            for part in way:
                place = place[part]
            place[last] = value if isinstance(place, list) or last in place else _missing(path)
        except (KeyError, IndexError, TypeError):
            _missing(path)
    return document


def _missing(path: str) -> Any:
    raise UsageError(f"the recipe has nothing at '{path}'")


def read_targets(kind: GoalKind, pairs: Path, folder: Path | None) -> Goal:
    """The goal ``kind``; its targets from ``folder`` or the benchmark's own folders beside the pairs.

    impersonate: ``target_images/`` and ``test_images/``, another photo of each, in the same order. decoy: synthetic faces in
    ``obfs_target_images/``. dodge needs none; there the benchmark's targets serve TIP-IM. Raises UsageError where they are missing.
    """
    from harness.pairs import photos_of

    def photos(name: str) -> list[Path]:
        return photos_of(pairs / name) if (pairs / name).is_dir() else []

    if kind == "dodge":
        return Goal(rivals=tuple(photos("target_images")))
    if kind == "decoy":
        found = photos_of(folder) if folder else photos("obfs_target_images")
        targets = [Target(path.stem, path, path) for path in found]
    else:
        first, second = (photos_of(folder / n) if folder else photos(n) for n in ("target_images", "test_images"))
        if len(first) != len(second):
            raise UsageError(f"{folder or pairs}: target_images and test_images hold {len(first)} and {len(second)}, which pair by order")
        targets = [Target(a.stem, a, b) for a, b in zip(first, second, strict=True)]
    if not targets:
        raise UsageError(f"{folder or pairs}: no targets for --goal {kind}. Name a folder: --targets DIR")
    return Goal(kind, tuple(targets))


def describe(settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """Settings as JSON objects, without the fields that say nothing."""
    documents = []
    for setting in settings:
        document: dict[str, Any] = {"key": setting.key, "method": setting.method}
        if setting.method in (known := shipped()):
            own = strength_of(known[setting.method], setting.strength)
            document |= {"margin": own.margin, "budget": own.budget, "attempts": setting.attempts}
        if setting.method in ATTACKS:
            document |= {"psnr": setting.psnr}
        if setting.look:
            document["look"] = Path(setting.look).name
        for name in ("iterations", "surrogates", "without", "recipe"):
            if value := getattr(setting, name):
                document[name] = [Path(folder).name for folder in value] if name == "surrogates" else value
        documents.append(document)
    return documents

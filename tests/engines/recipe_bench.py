"""A recipe over toy engines, and a bench that runs it: what the tests of recipes share."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import toy_models
from toy_models import IMAGE

from faceprotect_engines import Engine, RecipeResult, Store, run_recipe

DRAWS = {"probability": 0.5, "resize": [0.5, 1.0], "shift": 1, "blur": [0, 1], "noise_std": 0.02, "flip": 0.5}
RECIPE: dict[str, Any] = {
    "schema": 2,
    "name": "toy",
    "parameters": {"steps": 300},
    "stages": [
        {
            "kind": "descend",
            "engine": "step",
            "variable": "offset",
            "inputs": {"original": "original"},
            "optimiser": {"name": "adamw", "learning_rate": 0.01},
            "steps": "$steps",
            "draws": {"probability": 0.0},
            "constraint": {"start": 1.0},
            "join": {"original": "original", "difference": "difference"},
            "keep": {"difference": "difference"},
        }
    ],
}


def directions(count: int) -> Any:
    """Orthogonal directions [K,3,S,S] of length 1, 2, ...; the first of many are those of few."""
    width = int(np.prod(IMAGE))
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((width, 4)))
    scaled = basis.T[:count] * np.arange(1, count + 1)[:, None]
    return scaled.reshape(count, *IMAGE[1:]).astype(np.float32)


class Bench:
    """A store with toy engines, and one call that runs a recipe on them."""

    def __init__(self, root: Path, count: int = 2, share: float = 1.0) -> None:
        toy_models.step(root / "step", directions(count), share)
        toy_models.decode(root / "decode")
        toy_models.surrogate(root / "surrogate")
        self.store = Store([root], root / "cache")
        self.open: dict[str, Engine] = {}
        self.limit = np.full(count, 0.5, np.float32)

    def engine(self, name: str) -> Engine:
        if name not in self.open:
            self.open[name] = self.store.open(name, threads=1)
        return self.open[name]

    def run(self, recipe: Mapping[str, Any] = RECIPE, seed: int = 0, **options: Any) -> RecipeResult:
        arrays = {"original": np.zeros(IMAGE, np.float32), "limit": self.limit, **options.pop("arrays", {})}
        return run_recipe(recipe, self.engine, arrays, seed=seed, **options)


def changed(**fields: Any) -> dict[str, Any]:
    recipe = copy.deepcopy(RECIPE)
    recipe["stages"][0].update(fields)
    return recipe

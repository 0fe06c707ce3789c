"""Writes core-toy.json: what the Python interpreter finds on the toy engines of tests/engines, for core-recipe.test.ts to find again.

    PYTHONPATH=engines:tests/engines python web/test/core_toy.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from recipe_bench import DRAWS, RECIPE, Bench, changed, directions
from toy_models import IMAGE

from faceprotect_engines import ExtraSurrogate

STAGE = RECIPE["stages"][0]
ADAMW = {"name": "adamw", "learning_rate": 0.05, "betas": [0.9, 0.99], "anneal": 0.05}
DRAWN = {"steps": 40, "optimiser": ADAMW, "start_std": 0.01, "draws": {**DRAWS, "probability": 0.7, "zoom": [0.8, 1.25]}}
#: Name, fields of the stage, number of joined recognisers, further arrays.
CASES: list[tuple[str, dict[str, Any], int, dict[str, list[float]]]] = [
    ("bisect", {**DRAWN, "constraint": {"start": 1.0, "bisect": 4, "fit": 2}}, 0, {}),
    ("fit", {**DRAWN, "constraint": {"budget": 0.02, "start": 1.0, "grow": 1.3, "shrink": 0.7, "floor": 0.1, "bisect": 4, "fit": 2}}, 0, {}),
    ("joined", {**DRAWN, "constraint": {"budget": 0.6, "start": 1.0, "grow": 1.3, "shrink": 0.7, "bisect": 4, "fit": 2}}, 1, {}),
    ("mean", {**DRAWN, "constraint": {"start": 1.0, "reduction": "mean", "patience": 6}}, 1, {}),
    ("start", {"steps": 10, "constraint": {"accept_start": 1}}, 0, {"limit": [1.5, 1.5], "offset": [0.05] * int(np.prod(IMAGE))}),
    ("not start", {"steps": 10, "constraint": {"accept_start": 1}}, 1, {"origin": [0.9, 0.8]}),
    ("left out", {**DRAWN, "constraint": {"start": 1.0}}, 0, {"limit": [2.0, 0.5]}),
    ("sign", {**DRAWN, "optimiser": {"name": "sign_momentum", "learning_rate": 0.01, "decay": 0.9}, "bounds": [-0.2, 0.2]}, 0, {}),
    ("plain", {"steps": 30, "optimiser": {"name": "gradient_descent", "learning_rate": 0.02}, "constraint": None, "join": None,
               "until": {"loss": 1.2}, "draws": DRAWS}, 0, {"weights": [1.0, 0.5], "penalty_weight": [0.1]}),
]  # fmt: skip


def found(name: str, fields: dict[str, Any], joined: int, arrays: dict[str, list[float]]) -> dict[str, Any]:
    """One case: the recipe, and what comes of it with the seed 5."""
    recipe = changed(**fields)
    stage = recipe["stages"][0]
    stage["inputs"] = {"original": "original", **{array: array for array in arrays if array in ("weights", "penalty_weight")}}
    recipe["stages"] = [{key: value for key, value in stage.items() if value is not None}]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        extra = [ExtraSurrogate("mine", bench.engine("surrogate"), directions(3)[2].reshape(1, -1), 0.4, 0.95)] * joined
        given = {key: np.array(value, np.float32).reshape(IMAGE if key == "offset" else -1) for key, value in arrays.items()}
        result = bench.run(recipe, seed=5, surrogates=extra, arrays=given)
    return {
        "name": name, "recipe": recipe, "joined": joined, "arrays": arrays, "stop": result.stop, "passed": result.passed,
        "trace": [dict(row) for row in result.trace], "offset": result.arrays["offset"].ravel().tolist(),
    }  # fmt: skip


if __name__ == "__main__":
    document = {"directions": directions(3).reshape(3, -1).tolist(), "cases": [found(*case) for case in CASES]}
    Path(__file__).with_name("core-toy.json").write_text(json.dumps(document) + "\n", encoding="utf-8")

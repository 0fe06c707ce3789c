"""The engine of the method ``fast``, from which ``auto`` goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from faceprotect_export.build.folder import EngineRecipe, build_engine
from faceprotect_export.build.search_space import DESCRIBE, STEP_SURROGATES
from faceprotect_export.modules.fast import BUDGET, FastProtect
from faceprotect_export.train import checkpoint
from faceprotect_export.train.surrogates import BUDGETS
from faceprotect_export.zoo.sources import Sources, card
from faceprotect_sdk.face.align import CROP


def build_fast(sources: Sources, folder: Path) -> None:
    """``fast``: crop in, difference out; beside it where a search goes on from."""
    fast = sources.fast()
    goals = len(fast.goals)
    samples = []
    for index, crop in enumerate(sources.crops):
        goal = torch.eye(goals)[index % goals][None]
        samples.append({"original": crop, "mask": torch.full((1, 1, CROP, CROP), 0.75), "budget": torch.tensor([BUDGET]), "goal": goal})
    facts = checkpoint.load(sources.weights / "fast.safetensors")[1]
    training = {key: value for key, value in facts.items() if key != "config"}
    describe: dict[str, dict[str, Any]] = {
        **DESCRIBE,
        "budget": {"range": BUDGETS, "description": "the penalty to come out at, as in the recipe of latent"},
        "goal": {"range": (0.0, 1.0), "description": "1 at one of metadata.goals"},
        "offset": {"description": "of the latent"},
        "latent": {"layout": "NCHW", "description": "of the crop, as face-encoder gives it"},
    }
    made = card("fast", training)
    metadata = {"goals": list(fast.goals), "surrogates": [name for name in STEP_SURROGATES if name in facts["recognisers"]]}
    metadata["learnt_from"] = facts.get("learnt_from", [])
    recipe = EngineRecipe(
        name="fast",
        role="protector",
        function=FastProtect(sources.autoencoder(), sources.student("conv")[0], fast),
        samples=samples,
        describe=describe,
        weights="int8",
        fold="load",
        manifest={**made, "metadata": metadata},
        program=sources.program,
    )
    build_engine(recipe, folder)

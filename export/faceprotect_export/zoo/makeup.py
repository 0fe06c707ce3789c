"""The engine of the method ``makeup``: the looks that ship, and those that ``export makeup`` trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from faceprotect_engines.files.manifest import Manifest
from faceprotect_engines.recipes.recipe import load_recipe, read_recipe
from faceprotect_engines.store import ZOO
from faceprotect_export.build.folder import EngineRecipe, build_engine
from faceprotect_export.build.search_space import DESCRIBE, STEP_SURROGATES
from faceprotect_export.makeup.reference import Reference, shipped_reference
from faceprotect_export.modules.fast import BUDGET, FastProtect
from faceprotect_export.modules.makeup import ALLOWANCE, Makeup, MakeupProtect
from faceprotect_export.train import checkpoint
from faceprotect_export.zoo.sources import Sources, card
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.photo.reading import load

RECIPE = ZOO / "recipes" / "makeup.json"
#: Folder of the thumbnails, beside the engine's manifest, and their side in pixels.
THUMBNAILS, SIDE = "looks", 128


def makeup_recipe(sources: Sources, makeup: Makeup, training: Mapping[str, Any], own: Mapping[str, Any]) -> EngineRecipe:
    """The engine, not yet built; ``own``: what the manifest says of where the looks come from."""
    goals, looks, samples = len(makeup.fast.goals), len(makeup.looks), []
    for index, crop in enumerate(sources.crops):
        goal, look = torch.eye(goals)[:1], torch.eye(looks)[index % looks][None]
        mask = torch.full((1, 1, CROP, CROP), 0.75)
        given = {"original": crop, "mask": mask, "budget": torch.tensor([ALLOWANCE * BUDGET]), "goal": goal, "look": look}
        samples.append({**given, "unseen": 0.02 * torch.randn(crop.shape, generator=torch.Generator().manual_seed(index))})
    describe: dict[str, dict[str, Any]] = {
        **DESCRIBE,
        "budget": {"range": (0.0004, 0.0018), "description": "the penalty to come out at, of the change beside the makeup"},
        "goal": {"range": (0.0, 1.0), "description": "1 at one of metadata.goals"},
        "look": {"range": (0.0, 1.0), "description": "1 at one of metadata.looks"},
        "unseen": {"layout": "NCHW", "color": "RGB", "range": (-0.1, 0.1), "description": "the difference that the engine fast gives"},
    }
    recognisers = [name for name in STEP_SURROGATES if name in training["recognisers"]]
    trained = training["goals"][1:] if training["goal"] == "decoy" else training["goals"][:1]
    metadata = {"goals": list(makeup.fast.goals), "trained_goals": trained, "looks": list(makeup.looks), "surrogates": recognisers}
    metadata["learnt_from"] = training.get("learnt_from", [])
    function = MakeupProtect(sources.autoencoder(), sources.student("conv")[0], sources.keypoints(), makeup)
    return EngineRecipe(
        name="makeup",
        role="protector",
        function=function,
        samples=samples,
        describe=describe,
        weights="int8",
        fold="load",
        manifest={**own, "metadata": metadata},
        program=sources.program,
    )


def recipe_document() -> dict[str, Any]:
    """The recipe of the method over that engine and ``fast``, as it ships: it maps, and descends on nothing."""
    return load_recipe(RECIPE)


def unseen_share() -> float:
    """Of the budget, what the pass of ``fast`` on the bare face is asked to spend."""
    return read_recipe(RECIPE).method.budgets["unseen_budget"]


def build_makeup(sources: Sources, folder: Path) -> None:
    """``makeup``: the looks that ship, with their thumbnails."""
    makeup, facts = sources.makeup(), checkpoint.load(sources.weights / "makeup.safetensors")[1]
    training = {key: value for key, value in facts.items() if key != "looks"}
    build_engine(makeup_recipe(sources, makeup, facts, card("makeup", training)), folder)
    references = [shipped_reference(name, sources.keypoints()) for name in makeup.looks]
    write_thumbnails(folder, makeup, references, sources)


def write_thumbnails(folder: Path, makeup: Makeup, references: list[Reference], sources: Sources) -> None:
    """``looks/NAME.jpg`` each: the reference, and the look on the face without makeup as the engine makes it."""
    (folder / THUMBNAILS).mkdir(exist_ok=True)
    for index, one in enumerate(references):
        made = made_by(sources, makeup, one.bare, index)
        pair = torch.cat([one.image, made], 3)[0]
        write_picture(folder / THUMBNAILS / f"{one.name}.jpg", cv2.resize(_pixels(pair), (2 * SIDE, SIDE), interpolation=cv2.INTER_AREA))


@torch.no_grad()
def made_by(sources: Sources, makeup: Makeup, crop: Tensor, look: int, goal: int = 0, budget: float = ALLOWANCE * BUDGET) -> Tensor:
    """The crop [1, 3, S, S] as the recipe would leave it."""
    autoencoder, surrogate = sources.autoencoder(), sources.student("conv")[0]
    mask, goals = torch.from_numpy(face_mask()), torch.eye(len(makeup.fast.goals))[goal][None]
    unseen = FastProtect(autoencoder, surrogate, sources.fast())(crop, mask, torch.tensor([unseen_share() * budget]), goals)["difference"]
    protect = MakeupProtect(autoencoder, surrogate, sources.keypoints(), makeup)
    found = protect(crop, mask, torch.tensor([budget]), goals, torch.eye(len(makeup.looks))[look][None], unseen)
    return (crop + found["difference"]).clamp(0, 1)


def write_sheet(path: Path, reference: Reference, made: Callable[[Tensor], Tensor]) -> None:
    """The reference, then faces that are nobody's (the decoys) before and after."""
    files = sorted((ZOO / "decoys").glob("*.png"))
    faces = [torch.from_numpy(load(file).rgb8().copy()).permute(2, 0, 1)[None].float() / 255 for file in files]
    before = torch.cat([reference.bare, *faces], 3)[0]
    after = torch.cat([reference.image, *(made(face) for face in faces)], 3)[0]
    write_picture(path, _pixels(torch.cat([before, after], 1)))


def _pixels(image: Tensor) -> np.ndarray:
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """uint8 RGB [H, W, 3] to a file."""
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])


def write_looks(folder: Path, recipe: EngineRecipe) -> Manifest:
    """Engine and recipe below ``folder``, as ``--look`` finds them."""
    manifest = build_engine(recipe, folder / "makeup")
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes" / "makeup.json").write_text(json.dumps(recipe_document(), indent=2) + "\n")
    return manifest

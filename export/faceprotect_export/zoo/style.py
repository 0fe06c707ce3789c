"""The engines of the method ``style``: inversion in one pass, its refinement with the plain decoding, the search's step, key points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from faceprotect_export.build.folder import EngineRecipe, build_engine
from faceprotect_export.build.search_space import DESCRIBE, IMAGE, SearchSpace, shipped_step_recipe
from faceprotect_export.objectives.style import KeypointTerm, StyleDecode, StyleEncode, StyleInvert
from faceprotect_export.train import checkpoint
from faceprotect_export.zoo.sources import Sources, card
from faceprotect_sdk.face.align import CROP

STYLE_CODES: dict[str, dict[str, Any]] = {
    "base": {"layout": "NCHW", "range": (-2.0, 2.0), "description": "spatial base code F"},
    "codes": {"range": (-2.0, 2.0), "description": "detail codes W+, one per layer"},
}
POINTS: dict[str, Any] = {"range": (0.0, 1.0), "description": "thirteen key points x, y in 0..1: corners of the eyes, nose, mouth, eyes"}


def style_space(sources: Sources) -> SearchSpace:
    """The codes of the style generator, for the method ``style``."""
    style, keypoints = sources.style(), sources.keypoints()
    config = style.generator.config
    decode = StyleDecode(style.generator, style.space, CROP)
    encode = StyleEncode(style.encoder, config.size)
    samples, points = [], []
    for index, crop in enumerate(sources.crops):
        offset = torch.randn((1, config.numbers), generator=torch.Generator().manual_seed(index))
        samples.append({**encode(crop), "offset": offset, "reach": torch.ones(config.layers + 1)})
        points.append({"points": keypoints(crop) + 0.01})
    describe = {
        **STYLE_CODES,
        "offset": {"range": (-2.0, 2.0), "description": "the searched variable, in standard deviations: of F, then of W+"},
        "reach": {"range": (0.5, 1.0), "description": "scale of the offset per layer of W+, the base code last; 0 holds it"},
        "points": {**POINTS, "description": "key points of the original, to be held"},
        "keypoints": {"description": "mean squared way of the key points, in sides of the crop"},
    }
    training = checkpoint.load(sources.weights / "style.safetensors")[1]
    facts = {"layers": config.layers, "style": config.style, "base": config.base, "size": config.size}
    return SearchSpace(
        "style",
        decode,
        samples,
        describe,
        training,
        facts,
        terms={"keypoints": KeypointTerm(keypoints)},
        term_inputs=points,
        shares=(0.5, 0.01, 0.2, 1.0),
    )


def style_step_recipe(sources: Sources) -> EngineRecipe:
    """``style-step``, not yet built: also what benchmarks run in eager torch."""
    return shipped_step_recipe(style_space(sources), sources)


def build_style_step(sources: Sources, folder: Path) -> None:
    """``style-step``: one gradient step of the method ``style``."""
    build_engine(style_step_recipe(sources), folder)


def build_style_encoder(sources: Sources, folder: Path) -> None:
    style = sources.style()
    recipe = EngineRecipe(
        name="style-encoder",
        role="encoder",
        function=StyleEncode(style.encoder, style.generator.config.size),
        samples=[{"image": crop} for crop in sources.crops],
        describe={"image": IMAGE, **STYLE_CODES},
        weights="fp16",
        manifest=card("style-encoder", checkpoint.load(sources.weights / "style.safetensors")[1]),
        program=sources.program,
    )
    build_engine(recipe, folder)


def build_style_invert(sources: Sources, folder: Path) -> None:
    space = style_space(sources)
    assert isinstance(space.decode, StyleDecode)
    describe = {**DESCRIBE, **space.describe, "code_weight": {"range": (0.001, 0.01), "description": "price of the offset"}}
    samples = [
        {**codes, "original": crop, "code_weight": torch.full((1,), 0.01)} for codes, crop in zip(space.samples, sources.crops, strict=True)
    ]
    recipe = EngineRecipe(
        name="style-invert",
        role="step",
        function=StyleInvert(space.decode),
        samples=samples,
        variables=("offset",),
        describe=describe,
        weights="fp16",
        manifest=space.card("style-invert"),
        program=sources.program,
    )
    build_engine(recipe, folder)


def build_keypoints(sources: Sources, folder: Path) -> None:
    net = sources.keypoints()
    recipe = EngineRecipe(
        name="keypoints",
        role="keypoints",
        function=lambda image: {"points": net(image)},
        samples=[{"image": crop} for crop in sources.crops],
        describe={"image": IMAGE, "points": POINTS},
        weights="fp16",
        manifest=card("keypoints", checkpoint.load(sources.weights / "keypoints.safetensors")[1]),
        program=sources.program,
    )
    build_engine(recipe, folder)

"""The engines of the method ``diffusion``: inversion, null-text optimisation, the search's step, plain denoising and decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from faceprotect_export.build.folder import EngineRecipe, build_engine
from faceprotect_export.build.search_space import DESCRIBE, IMAGE, SearchSpace, shipped_step_recipe
from faceprotect_export.modules.diffusion import LatentDiffusion
from faceprotect_export.objectives.diffusion import (
    ALIGNED,
    LEVELS,
    DiffusionDecode,
    DiffusionInvert,
    DiffusionPlain,
    NullText,
    way_down,
)
from faceprotect_export.train import checkpoint
from faceprotect_export.zoo.sources import Sources, card

LATENT: dict[str, Any] = {"layout": "NCHW", "range": (-3.0, 3.0)}
EMBEDDING: dict[str, Any] = {"range": (-1.0, 1.0), "description": "of the empty prompt, or what null-text optimisation made of it"}
MAPS: dict[str, Any] = {"range": (0.0, 0.01), "description": "post-softmax self-attention of the face without offset, layer by layer"}
MOVES: dict[str, Any] = {"range": (0.9, 1.1), "description": "DDIM factors of latent and noise, step by step"}
TIMES: dict[str, Any] = {"range": (1.0, 151.0), "description": "time steps"}


def codes(model: LatentDiffusion, crop: Tensor, index: int, levels: Sequence[int], spread: float = 0.2) -> dict[str, Tensor]:
    """What the step takes of a crop, with an offset as large as a search makes."""
    found = DiffusionInvert(model)(crop)
    latent = found[f"level_{len(LEVELS) - 1}"]
    offset = spread * torch.randn(latent.shape, generator=torch.Generator().manual_seed(index))
    times, moves = (torch.tensor(numbers) for numbers in way_down(model, levels))
    embeddings = {f"embedding_{step}": found["embedding"] for step in range(len(times))}
    return {"latent": latent, "offset": offset, "times": times, "moves": moves, **embeddings}


def without_offset(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same face as it is."""
    return {**given, "offset": torch.zeros_like(given["offset"])}


def diffusion_space(sources: Sources, levels: Sequence[int] = ALIGNED, through: int | None = None) -> SearchSpace:
    """The noisy latent of the diffusion model, for the method ``diffusion``."""
    model = sources.diffusion()
    decode = DiffusionDecode(model, len(levels) - 1, through)
    samples = [codes(model, crop, index, levels) for index, crop in enumerate(sources.crops)]
    plain = [DiffusionPlain(decode)(**without_offset(one)) for one in samples]
    describe = {"latent": LATENT, "times": TIMES, "moves": MOVES, "structure": {"description": "how far the self-attention maps moved"}}
    describe |= dict.fromkeys(decode.embeddings, EMBEDDING) | dict.fromkeys(decode.price_inputs, MAPS)
    return SearchSpace(
        "diffusion",
        decode,
        samples,
        describe,
        _training(sources),
        {"levels": list(LEVELS)},
        term_inputs=[{name: one[name] for name in decode.price_inputs} for one in plain],
        shares=(0.5, 0.01, 0.2, 1.0),
    )


def diffusion_step_recipe(sources: Sources) -> EngineRecipe:
    """``diffusion-step``, not yet built: also what benchmarks run in eager torch."""
    return shipped_step_recipe(diffusion_space(sources), sources)


def build_diffusion_step(sources: Sources, folder: Path) -> None:
    """``diffusion-step``: one gradient step of the method ``diffusion``."""
    build_engine(diffusion_step_recipe(sources), folder)


def build_departure(levels: Sequence[int], through: int | None) -> Callable[[Sources, Path], None]:
    """A step that the published method has not, and beside its folder the plain decoding, where that is another."""

    def build(sources: Sources, folder: Path) -> None:
        space = diffusion_space(sources, levels, through)
        build_engine(replace(shipped_step_recipe(space, sources), name=folder.name), folder)
        if len(levels) != len(ALIGNED):
            decode = replace(_decode_recipe(space, sources), name=folder.name.replace("step", "decode"))
            build_engine(decode, folder.with_name(decode.name))

    return build


#: Measured and not shipped: fewer noise predictions in the gradient, a single step from a little noise, and one from as much as ever, for
#: a denoiser that has learnt that (``train/turbo.py``).
DEPARTURES = {
    "diffusion-step-last": build_departure(ALIGNED, 1),
    "diffusion-step-decoder": build_departure(ALIGNED, 0),
    "diffusion-step-one": build_departure((101, 1), None),
    "diffusion-step-turbo": build_departure((151, 1), None),
}


def build_diffusion_invert(sources: Sources, folder: Path) -> None:
    recipe = EngineRecipe(
        name="diffusion-invert",
        role="encoder",
        function=DiffusionInvert(sources.diffusion()),
        samples=[{"image": crop} for crop in sources.crops],
        describe={"image": IMAGE, "embedding": EMBEDDING},
        weights="fp16",
        fold="load",
        manifest=card("diffusion-invert", _training(sources)),
        program=sources.program,
    )
    build_engine(recipe, folder)


def build_diffusion_null_text(sources: Sources, folder: Path) -> None:
    model, samples = sources.diffusion(), []
    times, moves = (torch.tensor(numbers) for numbers in way_down(model, ALIGNED))
    for crop in sources.crops:
        found = DiffusionInvert(model)(crop)
        given = {"latent": found["level_3"], "target": found["level_2"], "embedding": found["embedding"]}
        samples.append({**given, "time": times[:1], "moves": moves[:2]})
    describe = {"latent": LATENT, "target": LATENT, "embedding": EMBEDDING, "time": TIMES, "moves": MOVES, "maps": MAPS}
    recipe = EngineRecipe(
        name="diffusion-null-text",
        role="step",
        function=NullText(model),
        samples=samples,
        variables=("embedding",),
        describe=describe,
        weights="fp16",
        fold="load",
        manifest=card("diffusion-null-text", _training(sources)),
        program=sources.program,
    )
    build_engine(recipe, folder)


def build_diffusion_decode(sources: Sources, folder: Path) -> None:
    build_engine(_decode_recipe(diffusion_space(sources), sources), folder)


def _decode_recipe(space: SearchSpace, sources: Sources) -> EngineRecipe:
    return EngineRecipe(
        name="diffusion-decode",
        role="decoder",
        function=DiffusionPlain(cast(DiffusionDecode, space.decode)),
        samples=space.samples,
        describe={**DESCRIBE, **space.describe},
        weights="fp16",
        fold="load",
        manifest=space.card("diffusion-decode"),
        program=sources.program,
    )


def _training(sources: Sources) -> dict[str, Any]:
    facts = checkpoint.load(sources.weights / "diffusion.safetensors")[1]
    return {key: value for key, value in facts.items() if key != "config"}

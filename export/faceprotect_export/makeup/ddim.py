"""The published makeup (DiffAM, arXiv 2405.09882) as engines: a step of the inversion, a step of the generation, and the blend.

A recipe of `map` stages runs them: up the time steps with the denoiser as it was, down again with the one that is tuned, and no gradient
anywhere. Either denoiser will do: ours on the latent of the face autoencoder, or a DDPM on pixels as diffusers saves it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline
from safetensors import SafetensorError
from torch import Tensor, nn

from faceprotect_engines.files.manifest import Manifest
from faceprotect_engines.recipes.recipe import read_recipe
from faceprotect_engines.store import ZOO
from faceprotect_export.build.folder import EngineRecipe, build_engine
from faceprotect_export.build.search_space import DESCRIBE, IMAGE, STEP_SURROGATES
from faceprotect_export.makeup.colours import parts
from faceprotect_export.modules.diffusion import Codec, LatentDiffusion
from faceprotect_export.modules.makeup import Ddim, PixelDiffusion, changeable
from faceprotect_export.objectives.search import combine
from faceprotect_export.pretrained.common import PretrainedError, brief
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.methods.arrays import DODGE

LATENT: dict[str, Any] = {"layout": "NCHW", "range": (-3.0, 3.0)}
MOVES: dict[str, Any] = {"range": (-1.0, 1.5), "description": "DDIM factors of latent and noise"}
#: Of the DDPM at 256 pixels: what it was trained on is aligned otherwise than the canonical crop, which it takes as a face all the same.
PIXELS = CROP


class _Step(nn.Module):
    """One DDIM step: latent, ``time`` [1], ``moves`` [2] to the latent there."""

    def __init__(self, model: LatentDiffusion | PixelDiffusion) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, time: Tensor, moves: Tensor) -> dict[str, Tensor]:
        noise, _ = self.model.predict(latent, time, self.model.empty)
        return {"moved": moves[0] * latent + moves[1] * noise}


class _Encode(nn.Module):
    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"latent": self.codec.encode(image)}


class _Blend(nn.Module):
    """The change of a decoded latent beside the plain decoding, where makeup may change a face."""

    def __init__(self, codec: Codec, keypoints: nn.Module) -> None:
        super().__init__()
        self.codec, self.keypoints = codec, keypoints

    def forward(self, latent: Tensor, plain: Tensor, original: Tensor, mask: Tensor) -> dict[str, Tensor]:
        moved, decoded = self.codec.decode(torch.cat([latent, plain])).chunk(2)
        where = mask * changeable(parts(original, self.keypoints(original))[0])
        return {"difference": combine(moved, decoded, original, where) - original}


def ddim_recipes(generator: Ddim, sources: Sources, own: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[EngineRecipe]:
    """The four engines, not yet built; ``own``: what their manifests say of the origin, ``metadata`` goes with the last."""
    codec, crops = generator.model.codec, sources.crops
    latents = [codec.encode(crop) for crop in crops]
    step = {"latent": LATENT, "time": {"range": (0.0, 999.0), "description": "time step"}, "moves": MOVES, "moved": LATENT}
    time, moves = torch.tensor([float(generator.up[1])]), torch.tensor(generator.model.moves(0, generator.up[1]))
    steps = [{"latent": latent, "time": time, "moves": moves} for latent in latents]
    noises = [torch.randn(latent.shape, generator=torch.Generator().manual_seed(index)) for index, latent in enumerate(latents)]
    given = zip(latents, noises, crops, strict=True)
    blends = [{"latent": latent + 0.1 * noise, "plain": latent, "original": crop} for latent, noise, crop in given]
    mask = torch.full((1, 1, CROP, CROP), 0.75)
    made: list[tuple[str, str, nn.Module, list[dict[str, Tensor]], dict[str, Any]]] = [
        ("makeup-encode", "encoder", _Encode(codec), [{"image": crop} for crop in crops], {"image": IMAGE, "latent": LATENT}),
        ("makeup-invert", "denoiser", _Step(generator.model), steps, step),
        ("makeup-generate", "denoiser", _Step(generator.tuned), steps, step),
        (
            "makeup",
            "protector",
            _Blend(codec, sources.keypoints()),
            [{**one, "mask": mask} for one in blends],
            {**DESCRIBE, "latent": LATENT, "plain": {**LATENT, "description": "of the crop as it is"}},
        ),
    ]
    return [
        EngineRecipe(
            name=name,
            role=role,
            function=function,
            samples=samples,
            describe=describe,
            weights="fp16",
            fold="load",
            manifest={**own, "metadata": dict(metadata) if name == "makeup" else {}},
            program=sources.program,
            tolerance=1e-3,
        )
        for name, role, function, samples, describe in made
    ]


def ddim_document(generator: Ddim) -> dict[str, Any]:
    """The recipe of the method ``makeup`` over those engines."""
    constants: dict[str, list[float]] = {}
    first = {"kind": "map", "engine": "makeup-encode", "inputs": {"image": "original"}, "outputs": {"latent": "plain"}}
    stages: list[dict[str, Any]] = [first]
    here = "plain"
    for engine, times in (("makeup-invert", generator.up), ("makeup-generate", generator.down)):
        for source, target in pairwise(times):
            name = f"{source}_{target}"
            constants[f"time_{source}"] = [float(source)]
            constants[f"moves_{name}"] = [float(f"{factor:.9g}") for factor in generator.model.moves(source, target)]
            inputs = {"latent": here, "time": f"time_{source}", "moves": f"moves_{name}"}
            stages.append({"kind": "map", "engine": engine, "inputs": inputs, "outputs": {"moved": "latent"}})
            here = "latent"
    inputs = {name: name for name in ("latent", "plain", "original", "mask")}
    stages.append({"kind": "map", "engine": "makeup", "inputs": inputs, "outputs": {"difference": "difference"}})
    shipped = read_recipe(ZOO / "recipes" / "makeup.json").document  # one pass that is asked for no budget: one attempt is all there is
    stated = {name: shipped[name] for name in ("schema", "name", "description", "strengths", "beyond")}
    return {**stated, "constants": constants, "stages": stages}


def write_ddim(folder: Path, generator: Ddim, sources: Sources, own: Mapping[str, Any], training: Mapping[str, Any]) -> list[Manifest]:
    """Engines and recipe below ``folder``, as ``--look`` finds them."""
    recognisers = [name for name in STEP_SURROGATES if name in training["recognisers"]]
    metadata = {"goals": [DODGE], "looks": [training["look"]], "surrogates": recognisers, "learnt_from": training.get("learnt_from", [])}
    for model in (generator.model, generator.tuned):
        model.requires_grad_(False).eval()
    made = [build_engine(recipe, folder / recipe.name) for recipe in ddim_recipes(generator, sources, own, metadata)]
    (folder / "recipes").mkdir(parents=True, exist_ok=True)
    (folder / "recipes" / "makeup.json").write_text(json.dumps(ddim_document(generator), indent=2) + "\n")
    return made


def read_ddpm(source: Path | str) -> PixelDiffusion:
    """A DDPM of diffusers (``DDPMPipeline``; a folder, or a hub's name as ``google/ddpm-celebahq-256``), of safetensors only."""
    try:
        pipeline = DDPMPipeline.from_pretrained(str(source), use_safetensors=True, local_files_only=Path(source).exists())
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise PretrainedError(f"{source}: no DDPM can be read: {brief(error)}. Give a folder of diffusers with safetensors") from error
    size, channels = pipeline.unet.config.sample_size, pipeline.unet.config.in_channels
    if size != PIXELS or channels != 3:
        raise PretrainedError(f"{source}: a DDPM of {channels} channels at {size} pixels; one of RGB at {PIXELS} is needed")
    if pipeline.scheduler.config.prediction_type != "epsilon":
        raise PretrainedError(f"{source}: it predicts {pipeline.scheduler.config.prediction_type}; one that predicts noise is needed")
    return PixelDiffusion(pipeline.unet.float().eval(), pipeline.scheduler.alphas_cumprod)

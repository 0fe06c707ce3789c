"""UNet and autoencoders of Stable Diffusion and its relatives, as diffusers saves them, with their vector-Jacobian products."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from torch import Tensor, nn

from faceprotect_export.build.folder import EngineRecipe
from faceprotect_export.modules.diffusion import Codec, DiffusersCodec, LatentDiffusion
from faceprotect_export.objectives.diffusion import DecoderLink, NoiseLink, packed
from faceprotect_export.pretrained.chains import ChainRecipe, diffusion_chains, empty_prompt
from faceprotect_export.pretrained.common import (
    Options,
    PretrainedError,
    brief,
    engine,
    origin,
    per_cotangent,
    refuse_differences,
)
from faceprotect_sdk.face.align import CROP

COMMAND = "faceprotect-sdk export {} SOURCE -o DIR"
IMAGE = {"layout": "NCHW", "color": "RGB", "range": (0.0, 1.0)}
LATENT = {"layout": "NCHW", "range": (-3.0, 3.0)}


def read_diffusers(kind: type[Any], source: Path | str, folders: Iterable[str]) -> Any:
    """A model of class ``kind`` from a folder of diffusers or a hub's name, of safetensors only.

    ``folders``: where it lies in a whole pipeline. Raises PretrainedError where it is not there, damaged, or does not fit.
    """
    where = Path(source)
    inside = next((name for name in folders if (where / name / "config.json").is_file()), None)
    if where.exists() and inside is None and not (where / "config.json").is_file():
        raise PretrainedError(f"{source} holds no config.json, itself or in {', '.join(folders)}. Give a folder that diffusers has saved")
    tried = [inside] if where.exists() else [*folders, None]
    problem: Exception | None = None
    quiet = logging.getLogger("diffusers")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        for name in tried:
            try:
                model, found = kind.from_pretrained(
                    str(source),
                    subfolder=name,
                    use_safetensors=True,
                    output_loading_info=True,
                    local_files_only=where.exists(),
                    low_cpu_mem_usage=False,
                )
            except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, HfHubHTTPError) as error:
                problem = error
                continue
            refuse_differences(found, source, kind.__name__)
            return model.float().requires_grad_(False).eval()
    finally:
        quiet.setLevel(level)
    reason = brief(problem)
    raise PretrainedError(f"{source}: no {kind.__name__} can be read: {reason}. Give a folder with safetensors, or a hub's name")


class _NoCodec(Codec):
    """A UNet by itself has no images."""


class _Noise(nn.Module):
    """Forward only: the noise, and the maps [M] of self-attention."""

    def __init__(self, model: LatentDiffusion) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, time: Tensor, embedding: Tensor) -> dict[str, Tensor]:
        noise, maps = self.model.predict(latent, time, embedding)
        return {"noise": noise, "attention": packed(maps)}


def unet(source: Path | str, options: Options) -> list[EngineRecipe]:
    """``unet``: noise and self-attention maps of a latent at a time step; products with cotangents of noise and structure."""
    net = read_diffusers(UNet2DConditionModel, source, ("unet",))
    return [unet_engine(net, options, origin(source, options.licence))]


#: Of the inputs and outputs of a UNet.
_DESCRIBED: dict[str, dict[str, Any]] = {
    "latent": LATENT,
    "time": {"range": (0.0, 999.0), "description": "time step"},
    "embedding": {"range": (-1.0, 1.0), "description": "of the prompt, or what null-text optimisation made of it"},
    "attention": {"description": "post-softmax self-attention maps, layer by layer"},
    "maps": {"range": (0.0, 0.01), "description": "those of the face without offset"},
    "noise_cotangent": {"range": (-1.0, 1.0)},
    "structure_cotangent": {"range": (0.0, 1.0)},
}


def unet_engine(net: UNet2DConditionModel, options: Options, source: dict[str, Any], name: str = "unet") -> EngineRecipe:
    """The engine of a UNet that is already in memory."""
    config = net.config
    if config.in_channels != config.out_channels or config.addition_embed_type or config.class_embed_type:
        raise PretrainedError(
            f"{source['weights']}: a UNet with {config.in_channels} channels in and {config.out_channels} out, or with further "
            "conditions, is not one of text to image. Stable Diffusion 1.x, 2.x, Turbo and LCM are"
        )
    tokens = 77
    model = LatentDiffusion(_NoCodec(), net, torch.zeros(1, tokens, config.cross_attention_dim))
    random = torch.Generator().manual_seed(0)
    side = options.size // 8
    latent = torch.randn(1, config.in_channels, side, side, generator=random)
    sample = {
        "latent": latent,
        "time": torch.tensor([101.0]),
        "embedding": 0.5 * torch.randn(1, tokens, config.cross_attention_dim, generator=random),
    }
    forward = _Noise(model)
    metadata = {"size": options.size, "prediction": "epsilon"}
    if options.forward_only:
        return engine(
            name,
            "denoiser",
            net,
            forward,
            sample,
            (),
            options,
            source=source,
            describe=_DESCRIBED,
            command=COMMAND.format("unet"),
            metadata=metadata,
        )
    with torch.no_grad():
        plain = forward(latent + 0.1 * torch.randn(latent.shape, generator=random), sample["time"], sample["embedding"])
    sample |= {
        "maps": plain["attention"],
        "noise_cotangent": torch.randn(latent.shape, generator=random),
        "structure_cotangent": torch.tensor([0.5]),
    }
    return engine(
        name,
        "denoiser",
        net,
        NoiseLink(model),
        sample,
        ("latent", "embedding"),
        options,
        source=source,
        describe=_DESCRIBED,
        command=COMMAND.format("unet"),
        scale=per_cotangent("noise_cotangent", "structure_cotangent"),
        metadata=metadata,
    )


def diffusion(source: Path | str, options: Options) -> list[EngineRecipe | ChainRecipe]:
    """Everything that the method ``diffusion`` needs of a pipeline: its UNet and autoencoder, and chains of them."""
    if options.forward_only or options.size != CROP:
        raise PretrainedError(f"the method diffusion needs gradients, at {CROP} px: leave out --forward-only and --size")
    return [*unet(source, options), *vae(source, options), *diffusion_chains(origin(source, options.licence), empty_prompt(source))]


class _Encode(nn.Module):
    def __init__(self, codec: DiffusersCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"latent": self.codec.encode(image)}


class _Decode(nn.Module):
    def __init__(self, codec: DiffusersCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, latent: Tensor) -> dict[str, Tensor]:
        return {"decoded": self.codec.decode(latent)}


def vae(source: Path | str, options: Options) -> list[EngineRecipe]:
    """``vae-encoder`` (the posterior's mean, scaled) and ``vae-decoder`` with its product."""
    return codec_engines(read_diffusers(AutoencoderKL, source, ("vae",)), "vae", options, origin(source, options.licence))


def taesd(source: Path | str, options: Options) -> list[EngineRecipe]:
    """The same of a tiny autoencoder: ``taesd-encoder`` and ``taesd-decoder``."""
    return codec_engines(read_diffusers(AutoencoderTiny, source, ("vae", "taesd")), "taesd", options, origin(source, options.licence))


def codec_engines(net: nn.Module, name: str, options: Options, source: dict[str, Any]) -> list[EngineRecipe]:
    """Encoder and decoder of an autoencoder that is already in memory."""
    codec = DiffusersCodec(net)
    random = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 16, generator=random), (options.size, options.size), mode="bilinear")
    with torch.no_grad():
        latent = codec.encode(image)
    metadata = {"size": options.size, "scaling": codec.scaling}
    describe = {"image": IMAGE, "decoded": IMAGE, "latent": LATENT, "image_cotangent": {**IMAGE, "range": (-1.0, 1.0)}}
    encoder = engine(
        f"{name}-encoder",
        "encoder",
        net,
        _Encode(codec),
        {"image": image},
        (),
        replace(options, forward_only=True),
        source=source,
        describe=describe,
        command=COMMAND.format(name),
        metadata=metadata,
    )
    sample: dict[str, Tensor] = {"latent": latent}
    link: _Decode | DecoderLink = _Decode(codec)
    exact: DecoderLink | None = None
    if not options.forward_only:
        sample["image_cotangent"] = torch.randn(image.shape, generator=random)
        link = DecoderLink(codec)
        if isinstance(net, AutoencoderTiny) and options.precision == "fp32":  # made of rectifiers, and small enough for float64
            exact = DecoderLink(DiffusersCodec(copy.deepcopy(net).double()))
    decoder = engine(
        f"{name}-decoder",
        "decoder",
        net,
        link,
        sample,
        ("latent",),
        options,
        source=source,
        describe=describe,
        command=COMMAND.format(name),
        scale=per_cotangent("image_cotangent"),
        metadata=metadata,
    )
    return [encoder, replace(decoder, exact=exact)]

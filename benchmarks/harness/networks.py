"""Networks of true sizes, with random weights or with those of given folders, and the engines that ``full_size.py`` makes of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:  # torch is imported by the processes that export, not by the one that starts them
    from torch import nn

    from faceprotect_export.build.folder import EngineRecipe
    from faceprotect_export.pretrained.common import Options

Row = dict[str, Any]
RANDOM = {"weights": "random numbers", "licence": "none"}


@dataclass(frozen=True)
class Network:
    """How a network with random weights is made, and its engines of it."""

    build: Callable[[], Any]
    recipes: Callable[[Any, Options], list[EngineRecipe]]


def filled(build: Callable[[], nn.Module]) -> nn.Module:
    """A network whose weights are normal numbers of variance 1 / fan-in, its norms ones and its biases zeros.

    Its own initialisation would take minutes.
    """
    import torch

    with torch.device("meta"):
        net = build()
    net.to_empty(device="cpu")
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if value.ndim > 1:
                value.normal_(0.0, math.prod(value.shape[1:]) ** -0.5, generator=random)
            else:
                value.fill_(float(name.endswith("weight")))
    return net


def unet(**config: Any) -> nn.Module:
    """The UNet of Stable Diffusion, whose versions differ in ``config``."""
    from diffusers import UNet2DConditionModel

    return filled(lambda: cast("nn.Module", UNet2DConditionModel(sample_size=64, **config)))


def unet_recipes(net: Any, options: Options) -> list[EngineRecipe]:
    """Noise, maps of self-attention, and products with cotangents of both."""
    from faceprotect_export.pretrained.diffusion import unet_engine

    return [unet_engine(net, options, RANDOM)]


def vae() -> nn.Module:
    """The autoencoder of Stable Diffusion 1 and 2."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(  # type: ignore[no-any-return]
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def taesd() -> nn.Module:
    """Its tiny stand-in."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny()  # type: ignore[no-any-return]


def codec_recipes(name: str, net: nn.Module, options: Options) -> list[EngineRecipe]:
    """Encoder, and decoder with its product."""
    from faceprotect_export.pretrained.diffusion import codec_engines

    return codec_engines(net, name, options, RANDOM)


def clip() -> nn.Module:
    """ViT-B/16 with its tower of texts, which no engine has."""
    from transformers import AutoModel, CLIPConfig

    layers = {"num_hidden_layers": 12}
    image = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "image_size": 224, "patch_size": 16}
    text = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
    config = CLIPConfig(vision_config=image | layers, text_config=text | layers, projection_dim=512)
    return AutoModel.from_config(config, attn_implementation="eager")  # type: ignore[no-any-return]


def clip_recipes(net: Any, options: Options) -> list[EngineRecipe]:
    """The image tower with its product."""
    from faceprotect_export.pretrained.clip import clip_engine

    return [clip_engine(net, options, RANDOM)]


def stylegan(size: int) -> nn.Module:
    """The synthesis network of StyleGAN2, config F."""
    from faceprotect_export.modules.stylegan2 import StyleGan2, config_f

    return StyleGan2(config_f(size))


def stylegan_recipes(net: Any, options: Options) -> list[EngineRecipe]:
    """Up to 16 px, and from there with products for F and W+."""
    from faceprotect_export.pretrained.stylegan import stylegan_engines

    facts = {"size": net.config.size, "layers": net.config.layers, "channels": list(net.config.channels), "layout": "random"}
    return stylegan_engines(net, facts, options, RANDOM)


def recogniser(name: str) -> nn.Module:
    """A recogniser that normalises by the statistics of its own activations, so that these neither vanish nor explode."""
    import torch
    import torch.nn.functional as F

    from faceprotect_export.pretrained.recognisers import ARCHITECTURES
    from faceprotect_export.surrogates.surrogate import smooth_samples

    architecture = ARCHITECTURES[name]
    net = architecture.build()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of the one batch
    with torch.no_grad():
        net(F.interpolate(torch.cat(smooth_samples(6, seed=5)), architecture.size, mode="bilinear") * 2 - 1)
    return net


def recogniser_recipes(name: str, net: nn.Module, options: Options) -> list[EngineRecipe]:
    """A surrogate: embedding, similarity and its gradient."""
    from faceprotect_export.pretrained.recognisers import ARCHITECTURES, Recogniser, recogniser_engine

    spec = ARCHITECTURES[name].specification(name, options)
    return [recogniser_engine(Recogniser(name, net), spec, name, options, RANDOM)]


_SD2: Row = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
_SD15: Row = {"cross_attention_dim": 768, "attention_head_dim": 8}
NETWORKS: dict[str, Network] = {
    "unet": Network(partial(unet, **_SD2), unet_recipes),
    "unet_sd15": Network(partial(unet, **_SD15), unet_recipes),
    "vae": Network(vae, partial(codec_recipes, "vae")),
    "taesd": Network(taesd, partial(codec_recipes, "taesd")),
    "clip": Network(clip, clip_recipes),
    **{f"stylegan2_{size}": Network(partial(stylegan, size), stylegan_recipes) for size in (256, 1024)},
    **{
        name: Network(partial(recogniser, name), partial(recogniser_recipes, name))
        for name in ("ir152", "irse50", "facenet", "mobilefacenet")
    },
}


def real_networks(fr: Path | None, taef2: Path | None) -> dict[str, Network]:
    """Networks with real weights, of the folders that are given."""
    found: dict[str, Network] = {}
    if fr is not None:
        listing = json.loads((fr / "fr.json").read_text())
        entries = {name: entry for name, entry in listing["models"].items() if entry["role"] == "surrogate"}
        for name, entry in entries.items():
            path, templates = fr / entry["file"], listing.get("templates")
            found[f"real_{name}"] = Network(partial(read_onnx, path), partial(onnx_recipes, path, entry, templates))
    if taef2 is not None:
        found["real_taef2"] = Network(partial(tiny_autoencoder, taef2), partial(codec_recipes, "taef2"))
    return found


def read_onnx(path: Path) -> nn.Module:
    """A recogniser's ONNX file in torch."""
    from faceprotect_export.onnx_io.reader import load_onnx

    return load_onnx(path)


def onnx_recipes(path: Path, entry: Row, templates: Row, net: nn.Module, options: Options) -> list[EngineRecipe]:
    """The surrogate that ``export surrogate FILE.onnx`` makes."""
    from faceprotect_export.surrogates.surrogate import surrogate_recipe

    return [surrogate_recipe(path, spec=entry, templates=templates, precision=options.precision)]


def tiny_autoencoder(folder: Path) -> nn.Module:
    """Of diffusers' class, with what its blocks lack: some of this one's add a normalised product to what they take.

    Its decoder has no layer for the clamp with which that of TAESD's authors begins.
    """
    from diffusers import AutoencoderTiny
    from safetensors.torch import load_file

    net = AutoencoderTiny(latent_channels=32)
    for layers, file, first in ((net.encoder.layers, "encoder", 0), (net.decoder.layers, "decoder", 1)):
        tensors = load_file(folder / f"{file}.safetensors")
        for number in {key.partition(".")[0] for key in tensors if ".pool." in key}:
            add_pool(layers[int(number) - first], tensors[f"{number}.pool.0.weight"].shape[0])
        parts = ((*key.partition("."), value) for key, value in tensors.items())
        layers.load_state_dict({f"{int(number) - first}.{rest}": value for number, _, rest, value in parts})
    return net  # type: ignore[no-any-return]


def add_pool(block: nn.Module, width: int) -> None:
    """What such a block adds: to ``width`` channels, normalised in four groups, rectified, and back."""
    from torch import nn

    narrow = block.conv[0].in_channels  # type: ignore[index,union-attr]
    there, back = nn.Conv2d(narrow, width, 1, bias=False), nn.Conv2d(width, narrow, 1, bias=False)
    block.pool = nn.Sequential(there, nn.GroupNorm(4, width), nn.ReLU(), back)
    block.register_forward_pre_hook(lambda module, given: (given[0] + module.pool(given[0]),))  # type: ignore[operator]

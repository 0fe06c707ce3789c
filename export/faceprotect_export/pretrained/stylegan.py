"""Generators of StyleGAN2, as NVIDIA's pickles and rosinality's checkpoints hold them, with their vector-Jacobian products."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceprotect_export.build.folder import EngineRecipe
from faceprotect_export.modules.stylegan2 import BASE_CODES, StyleGan2, StyleGan2Config, mapped
from faceprotect_export.pretrained.common import Options, PretrainedError, engine, fill, origin, per_cotangent, read_state
from faceprotect_export.pretrained.nvidia_pickle import read_nvidia

COMMAND = "faceprotect-sdk export stylegan SOURCE -o DIR"
IMAGE = {"layout": "NCHW", "color": "RGB", "range": (0.0, 1.0), "description": "not clipped"}
#: Draws of the mapping network that its mean is taken over.
_DRAWS = 4096
#: How far two float32 gradients may differ: of millions of leaky rectifiers some always lie at their kink. (With random weights torch in
#: float32 is 1e-3 to 3e-3 from torch in float64, and 1e-6 without the rectifiers; an engine can be as far to the other side.)
_KINKS = 1e-2

State = Mapping[str, Tensor]


def read_stylegan(source: Path | str) -> tuple[StyleGan2, dict[str, Any]]:
    """The synthesis network in a ``.pkl`` of NVIDIA, a ``.pt`` of rosinality, or a ``.safetensors`` with the names of either.

    Returns:
        The network, frozen, and the facts ``size``, ``layers``, ``channels``, ``layout`` and, where the mapping network is there, too,
        ``mean_w``: W's mean, [style] numbers.

    Raises:
        PretrainedError: the file is damaged, asks to run code, or holds another network.

    """
    path = Path(source)
    if path.suffix == ".pkl" and path.is_file():
        state = read_nvidia(path)
    else:
        with torch.serialization.safe_globals([argparse.Namespace]):  # rosinality keeps the options of its training, which do nothing
            state = read_state(path)
    return from_state(state, source)


def from_state(state: State, source: object) -> tuple[StyleGan2, dict[str, Any]]:
    """The same of a state dict."""
    if any(key.startswith("synthesis.b4.") for key in state):
        layout, config, tensors = "nvidia", _nvidia_config(state, source), dict(_from_nvidia(state))
        mean = state["mapping.w_avg"].float() if "mapping.w_avg" in state else _mean(state, "mapping")
    elif "input.input" in state:
        layout, config, tensors = "rosinality", _rosinality_config(state, source), dict(_from_rosinality(state))
        mean = _mean(state, "style")
    else:
        raise PretrainedError(
            f"{source} holds no generator of StyleGAN2: neither 'synthesis.b4.const' (NVIDIA) nor 'input.input' (rosinality) is in it. "
            "Those of StyleGAN and StyleGAN3 are built differently"
        )
    module = StyleGan2(config)
    fill(module, tensors, source)
    facts = {"size": config.size, "layers": config.layers, "channels": list(config.channels), "layout": layout}
    if mean is not None and mean.shape == (config.style,):
        facts["mean_w"] = [round(float(number), 6) for number in mean]
    return module, facts


def _width(state: State, key: str, axis: int, source: object) -> int:
    if key not in state or state[key].ndim <= axis:
        raise PretrainedError(f"{source} is no whole generator of StyleGAN2: it lacks '{key}', or has it with another shape")
    return int(state[key].shape[axis])


def _config(channels: list[int], style: int, source: object) -> StyleGan2Config:
    try:
        return StyleGan2Config(4 * 2 ** (len(channels) - 1), tuple(channels), style)
    except ValueError as error:
        raise PretrainedError(f"{source} cannot be used: {error}") from error


def _nvidia_config(state: State, source: object) -> StyleGan2Config:
    size = max(int(found[1]) for key in state if (found := re.match(r"synthesis\.b(\d{1,5})\.", key)))
    sides = [4 * 2**step for step in range(size.bit_length() - 2)]
    channels = [_width(state, f"synthesis.b{side}.conv1.weight", 0, source) for side in sides]
    return _config(channels, _width(state, "synthesis.b4.conv1.affine.weight", 1, source), source)


def _rosinality_config(state: State, source: object) -> StyleGan2Config:
    further = 1 + max([int(found[1]) for key in state if (found := re.match(r"to_rgbs\.(\d{1,2})\.", key))], default=-1)
    channels = [_width(state, "conv1.conv.weight", 1, source)]
    channels += [_width(state, f"convs.{2 * step + 1}.conv.weight", 1, source) for step in range(further)]
    return _config(channels, _width(state, "conv1.conv.modulation.weight", 1, source), source)


def _linear(weight: Tensor) -> Tensor:
    """A matrix with its factor of the equalised learning rate."""
    return weight * float(weight.shape[-1]) ** -0.5 if weight.numel() else weight


def _kernel(weight: Tensor) -> Tensor:
    """A kernel [out, in, k, k] (rosinality: behind one more axis) with its factor of the equalised learning rate."""
    kernel = weight[0] if weight.ndim == 5 and len(weight) == 1 else weight
    return kernel * float(max(kernel[0].numel(), 1)) ** -0.5 if kernel.ndim == 4 and len(kernel) else kernel


def _noise(state: State, image: str, strength: str) -> Tensor | None:
    """Noise [H, W] times its strength; None where one of both is missing or no such thing."""
    if image not in state or strength not in state or state[strength].numel() != 1:
        return None
    noise = state[image].float() * state[strength].float().reshape(())
    return noise[0, 0] if noise.ndim == 4 and noise.shape[:2] == (1, 1) else noise


def _same(value: Tensor) -> Tensor:
    return value


_NVIDIA: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    (r"b4\.const", _same),
    (r"b\d+\.(conv[01]|torgb)\.affine\.weight", _linear),
    (r"b\d+\.(conv[01]|torgb)\.affine\.bias", _same),
    (r"b\d+\.(conv[01]|torgb)\.weight", _kernel),
    (r"b\d+\.(conv[01]|torgb)\.bias", _same),
)


def _from_nvidia(state: State) -> Iterator[tuple[str, Tensor]]:
    """Our names and numbers; what has no place keeps its name, for ``fill`` to refuse."""
    for key, value in state.items():
        name = key.removeprefix("synthesis.")
        if key.startswith("mapping.") or name.endswith(("resample_filter", ".noise_strength")):
            continue
        if name.endswith(".noise_const"):
            noise = _noise(state, key, key.removesuffix("const") + "strength")
            if noise is not None:
                yield name.removesuffix("_const"), noise
            continue
        change = next((change for pattern, change in _NVIDIA if re.fullmatch(pattern, name)), None)
        yield (key, value) if change is None else (name, change(value.float()))


_ROSINALITY: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "conv.modulation.weight": ("affine.weight", _linear),
    "conv.modulation.bias": ("affine.bias", _same),
    "conv.weight": ("weight", _kernel),
    "activate.bias": ("bias", _same),
    "bias": ("bias", lambda value: value.flatten()),
}


def _place(key: str) -> tuple[str, str] | None:
    """Our layer and the rest of the name: "convs.3.conv.weight" is ("b16.conv1", "conv.weight")."""
    found = re.fullmatch(r"(conv1|to_rgb1|convs\.(\d{1,2})|to_rgbs\.(\d{1,2}))\.(.+)", key)
    if found is None:
        return None
    name, conv, rgb, rest = found.groups()
    if conv is not None:
        return f"b{8 * 2 ** (int(conv) // 2)}.conv{int(conv) % 2}", rest
    if rgb is not None:
        return f"b{8 * 2 ** int(rgb)}.torgb", rest
    return ("b4.conv1" if name == "conv1" else "b4.torgb"), rest


def _from_rosinality(state: State) -> Iterator[tuple[str, Tensor]]:
    """As :func:`_from_nvidia`."""
    for key, value in state.items():
        if key.startswith("style.") or key.endswith((".blur.kernel", ".upsample.kernel")):
            continue
        if key == "input.input":
            yield "b4.const", value[0] if value.ndim == 4 and len(value) == 1 else value
            continue
        if found := re.fullmatch(r"noises\.noise_(\d{1,2})", key):
            number = int(found[1])
            layer = "conv1" if number == 0 else f"convs.{number - 1}"
            noise, place = _noise(state, key, f"{layer}.noise.weight"), _place(f"{layer}.noise.weight")
            yield (key, value) if noise is None or place is None else (f"{place[0]}.noise", noise)
            continue
        place = _place(key)
        if place is not None and place[1] == "noise.weight":
            continue
        if place is None or place[1] not in _ROSINALITY:
            yield key, value
            continue
        name, change = _ROSINALITY[place[1]]
        yield f"{place[0]}.{name}", change(value.float())


def _mean(state: State, prefix: str) -> Tensor | None:
    """W's mean over draws; None where there is no mapping network, or one with conditions."""
    names = sorted((int(found[1]), key) for key in state if (found := re.fullmatch(prefix + r"\.(?:fc)?(\d{1,2})\.weight", key)))
    keys = [key.removesuffix("weight") for _, key in names]
    layers = [(state[f"{key}weight"].float(), state[f"{key}bias"].float()) for key in keys if f"{key}bias" in state]
    style = len(layers[0][1]) if layers else 0
    if not layers or any(weight.shape != (style, style) or bias.shape != (style,) for weight, bias in layers):
        return None
    return mapped(torch.randn(_DRAWS, style, generator=torch.Generator().manual_seed(0)), layers).mean(0)


class Base(nn.Module):
    """Forward only: W+ to what enters at 16 px."""

    def __init__(self, net: StyleGan2) -> None:
        super().__init__()
        self.net = net

    def forward(self, w_plus: Tensor) -> dict[str, Tensor]:
        feature, rgb = self.net.base(w_plus)
        return {"feature": feature, "rgb": rgb}


class Synthesis(nn.Module):
    """Forward only: the image of F, the image so far, and W+."""

    def __init__(self, net: StyleGan2) -> None:
        super().__init__()
        self.net = net

    def forward(self, feature: Tensor, rgb: Tensor, w_plus: Tensor) -> dict[str, Tensor]:
        return {"image": self.net.synthesis(feature, rgb, w_plus)}


class SynthesisLink(Synthesis):
    """The same as a link of a chain: ``loss`` = <image, image_cotangent>, whose gradients are the vector-Jacobian products."""

    def forward(self, feature: Tensor, rgb: Tensor, w_plus: Tensor, image_cotangent: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        image = self.net.synthesis(feature, rgb, w_plus)
        return {"loss": (image * image_cotangent).sum().reshape(1), "image": image}


def stylegan(source: Path | str, options: Options) -> list[EngineRecipe]:
    """``stylegan-base`` and ``stylegan``: W+ to F and the image so far at 16 px, and those to the image, with products for F and W+.

    The image's size is the checkpoint's, whatever ``options.size``.
    """
    net, facts = read_stylegan(source)
    return stylegan_engines(net, facts, options, origin(source, options.licence))


def stylegan_engines(net: StyleGan2, facts: Mapping[str, Any], options: Options, source: dict[str, Any]) -> list[EngineRecipe]:
    """The engines of a generator that is already in memory."""
    config = net.config
    random = torch.Generator().manual_seed(0)
    mean = torch.tensor(facts["mean_w"]) if "mean_w" in facts else torch.zeros(config.style)
    w_plus = mean + 0.5 * torch.randn(1, config.layers, config.style, generator=random)
    with torch.no_grad():
        feature, rgb = net.base(w_plus)
    describe = {
        "w_plus": {"range": (-2.0, 2.0), "description": f"a code per layer: the first {BASE_CODES} make feature and rgb, the others image"},
        "feature": {"layout": "NCHW", "range": (-4.0, 4.0), "description": "base code F: what conv0 gives at 16 px"},
        "rgb": {"layout": "NCHW", "color": "RGB", "range": (-1.0, 1.0), "description": "the image of the blocks up to 8 px"},
        "image": IMAGE,
        "image_cotangent": {**IMAGE, "range": (-1.0, 1.0), "description": ""},
    }
    forward = Options(options.size, options.precision, True, options.licence)
    base = engine(
        "stylegan-base",
        "generator",
        net,
        Base(net),
        {"w_plus": w_plus},
        (),
        forward,
        source=source,
        describe=describe,
        command=COMMAND,
        metadata=facts,
    )
    sample = {"feature": feature, "rgb": rgb, "w_plus": w_plus}
    link: nn.Module = Synthesis(net)
    if not options.forward_only:
        sample["image_cotangent"] = torch.randn(1, 3, config.size, config.size, generator=random)
        link = SynthesisLink(net)
    main = engine(
        "stylegan",
        "generator",
        net,
        link,
        sample,
        ("feature", "w_plus"),
        options,
        source=source,
        describe=describe,
        command=COMMAND,
        scale=per_cotangent("image_cotangent"),
        metadata=facts,
    )
    return [base, replace(main, tolerance=max(main.tolerance, _KINKS)) if main.variables else main]

"""What every kind of network has in common: options, refusals, state dicts, and the engines made of a module."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from faceprotect_engines.files.digest import sha256_file
from faceprotect_export.build.folder import EngineRecipe
from faceprotect_export.onnx_io.writer import round_weights
from faceprotect_export.trace.vjp import GradientScale, NamedFunction

Precision = Literal["fp32", "fp16"]
#: What may differ from torch in float32: the largest error over the largest value, and the cosine.
TOLERANCE: dict[str, tuple[float, float]] = {"fp32": (1e-3, 0.9999), "fp16": (0.5, 0.995)}
SAFE, TORCH = (".safetensors",), (".pt", ".pth", ".bin", ".ckpt")


class PretrainedError(ValueError):
    """A checkpoint that cannot be used: it is not what it should be, or asks to run code."""


@dataclass(frozen=True)
class Options:
    """``size``: side of the image in pixels. ``precision``: of storage and arithmetic. ``forward_only``: without gradients.

    Of recognisers: ``threshold``, the cosine from which two faces are the same; ``architecture`` and ``name`` where they are not what the
    file says.
    """

    size: int = 256
    precision: Precision = "fp32"
    forward_only: bool = False
    licence: str = "unknown: that of the weights' source"
    threshold: float | None = None
    architecture: str | None = None
    name: str | None = None


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors or torch file (of which nothing but tensors is read); raises PretrainedError."""
    if not path.is_file():
        raise PretrainedError(f"{path}: no such file. Check the path")
    try:
        if path.suffix in SAFE:
            return dict(load_file(path))
        if path.suffix in TORCH:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            return tensors_of(loaded)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise PretrainedError(
            f"{path} cannot be read: {brief(error)}. It is damaged, or holds more than tensors, which is never executed; "
            "save it again as safetensors"
        ) from error
    raise PretrainedError(f"{path}: of this kind no file is read. Give one that ends in {', '.join((*SAFE, *TORCH))}")


def tensors_of(loaded: Any) -> dict[str, Tensor]:
    """The state dict in what a torch file holds: itself, or below one of the usual keys."""
    for key in ("state_dict", "model", "params_ema", "g_ema"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise PretrainedError("holds no state dict (names to tensors)")
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}


def fill(module: nn.Module, state: Mapping[str, Tensor], source: object, ignore: Sequence[str] = ()) -> nn.Module:
    """``module`` with the tensors of ``state``, which has to hold exactly its own; keys that end in one of ``ignore`` do not matter.

    Raises PretrainedError naming what is missing, left over, or of another shape.
    """
    given = {key: value.float() if value.is_floating_point() else value for key, value in state.items() if not key.endswith(tuple(ignore))}
    own = module.state_dict()
    wanted = {key for key in own if not key.endswith(tuple(ignore))}
    problems = [
        *_named("lacks", sorted(wanted - given.keys())),
        *_named("has besides", sorted(given.keys() - wanted)),
        *(
            f"'{key}' is {list(given[key].shape)} instead of {list(own[key].shape)}"
            for key in sorted(wanted & given.keys())
            if given[key].shape != own[key].shape
        ),
    ]
    if problems:
        found = "; ".join(problems[:4])
        raise PretrainedError(f"{source} does not fit {type(module).__name__}: {found}. Choose the kind that it was saved from")
    module.load_state_dict(given, strict=False)
    return module.requires_grad_(False).eval()


def _named(what: str, keys: Sequence[str]) -> list[str]:
    return [f"{what} {len(keys)} tensors ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"] if keys else []


def brief(error: Exception | None) -> str:
    """What went wrong, without the pages that libraries add to it."""
    return " ".join(str(error).split())[:240]


def refuse_differences(found: Mapping[str, Any], source: object, kind: str) -> None:
    """Raise PretrainedError for what a ``from_pretrained`` reports as missing, unexpected or mismatched: it goes on with random tensors."""
    wrong = {key.replace("_", " "): [str(name) for name in names] for key, names in found.items() if names}
    if wrong:
        first = "; ".join(f"{what}: {', '.join(names[:3])}" for what, names in wrong.items())
        raise PretrainedError(f"{source} does not fit {kind}: {first}. Choose the kind that it was saved from")


def origin(source: Path | str, licence: str) -> dict[str, Any]:
    """What a manifest says of where the weights come from: file and sha256, or the hub's name."""
    path = Path(source)
    if path.is_file():
        return {"weights": path.name, "sha256": sha256_file(path), "licence": licence}
    return {"weights": path.name if path.exists() else str(source), "licence": licence}


def engine(
    name: str,
    role: str,
    module: nn.Module,
    function: NamedFunction,
    sample: Mapping[str, Tensor],
    variables: Sequence[str],
    options: Options,
    *,
    source: Mapping[str, Any],
    describe: Mapping[str, Mapping[str, Any]],
    command: str,
    loss: str = "loss",
    scale: GradientScale = 1.0,
    metadata: Mapping[str, Any] | None = None,
) -> EngineRecipe:
    """An engine of ``function`` over ``module``, whose weights are rounded where they will be stored as float16."""
    half = options.precision == "fp16"
    if half:
        round_weights(module)
        command += " --precision fp16"
    tolerance, cosine = TOLERANCE[options.precision]
    return EngineRecipe(
        name=name,
        role=role,
        function=function,
        samples=[sample],
        variables=() if options.forward_only else tuple(variables),
        loss=loss,
        describe=describe,
        weights=options.precision,
        arithmetic=options.precision,
        fold="load",
        gradient_scale=scale if half and not options.forward_only else 1.0,
        tolerance=tolerance,
        cosine=cosine,
        tracing="fake",
        manifest={"source": dict(source), "build": {"command": command}, "metadata": dict(metadata or {})},
    )


def per_cotangent(*names: str) -> GradientScale:
    """Scale that brings the largest of the named cotangents to 1: float16 holds little below 1e-6."""

    def scale(inputs: Mapping[str, Tensor]) -> Tensor:
        largest = torch.stack([inputs[name].abs().amax() for name in names]).amax()
        return 1.0 / largest.clamp_min(1e-12)

    return scale

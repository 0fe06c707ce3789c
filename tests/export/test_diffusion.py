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
from torch import Tensor, nn

from faceprotect_engines.backends.chain import DenoisingChain
from faceprotect_engines.recipes.recipe import RecipeResult, run_recipe
from faceprotect_export.build.eager import EagerEngine
from faceprotect_export.modules.diffusion import DiffusersCodec, LatentDiffusion
from faceprotect_export.objectives.diffusion import (
    ALIGNED,
    PUBLISHED,
    Decoded,
    DecoderLink,
    DiffusionDecode,
    DiffusionInvert,
    DiffusionPlain,
    NoiseLink,
    NullText,
    way_down,
)
from faceprotect_export.objectives.search import Decode, SearchStep, reference_input
from faceprotect_export.trace.vjp import gradient_function
from harness.literal_diffusion import weaken

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
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=6,
        attention_head_dim=2,
    )


def kl() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
    )


def tiny() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=4,
        act_fn="silu",
    )


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


def step_sample(model: LatentDiffusion, surrogates: dict[str, nn.Module], photo: Tensor, levels: tuple[int, ...]) -> dict[str, Tensor]:
    """What the fused step takes of a photo, without an offset."""
    found = DiffusionInvert(model)(photo)
    decode = DiffusionDecode(model, len(levels) - 1)
    times, moves = (torch.tensor(numbers) for numbers in way_down(model, levels))
    codes = {"latent": found["level_3"], "offset": torch.zeros_like(found["level_3"]), "times": times, "moves": moves}
    codes |= {name: found["embedding"] for name in decode.embeddings}
    plain = DiffusionPlain(decode)(**codes)
    eye, nothing = torch.eye(SIDE)[None], torch.zeros_like(photo)
    return {
        **codes,
        **{name: plain[name] for name in decode.price_inputs},
        "decoded_original": plain["decoded"],
        "original": photo,
        "mask": torch.ones(1, 1, SIDE, SIDE),
        "rows": eye,
        "cols": eye,
        "noise": nothing,
        "weights": torch.ones(len(surrogates)),
        "penalty_weight": torch.ones(1),
        "shares": torch.ones(4),
        "image_cotangent": nothing,
        **{reference_input(name): net(photo) for name, net in surrogates.items()},
    }


def engines(model: LatentDiffusion, surrogates: dict[str, nn.Module], photo: Tensor, levels: tuple[int, ...]) -> dict[str, EagerEngine]:
    """The engines of the method, in torch."""
    decode = DiffusionDecode(model, len(levels) - 1)
    step = step_sample(model, surrogates, photo, levels)
    found = DiffusionInvert(model)(photo)
    codes = {name: step[name] for name in decode.inputs}
    null = {"latent": found["level_1"], "target": found["level_0"], "embedding": found["embedding"]}
    null |= {"time": torch.tensor([1.0]), "moves": torch.tensor([1.0, 0.1])}
    made = {
        "diffusion-invert": EagerEngine("diffusion-invert", DiffusionInvert(model), {"image": photo}),
        "diffusion-null-text": EagerEngine("diffusion-null-text", NullText(model), null, ["embedding"]),
        "diffusion-step": EagerEngine("diffusion-step", SearchStep(decode, surrogates, crop=SIDE), step, ["offset"]),
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


def test_lean_is_literal(model: LatentDiffusion, surrogates: dict[str, nn.Module], photo: Tensor) -> None:
    """Same losses all along and the same latent, with the structure loss in play."""
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


@pytest.fixture
def surrogates() -> dict[str, nn.Module]:
    torch.manual_seed(3)
    return {name: Recogniser().requires_grad_(False) for name in ("dlib-resnet", "student-conv")}


def moved(sample: dict[str, Tensor], spread: float = 0.1) -> dict[str, Tensor]:
    """With an offset, so that every part of the loss has a gradient."""
    return {**sample, "offset": spread * torch.randn(sample["offset"].shape, generator=torch.Generator().manual_seed(5))}


def test_a_chain_of_links_is_the_fused_step(model: LatentDiffusion, surrogates: dict[str, nn.Module], photo: Tensor) -> None:
    """Loss, penalty, similarities, gradient: one engine, or the denoiser, the decoder and the recognisers one after the other."""
    sample = moved(step_sample(model, surrogates, photo, ALIGNED))
    fused = EagerEngine("step", SearchStep(DiffusionDecode(model, 3), surrogates, crop=SIDE), sample, ["offset"])
    latent, maps = sample["latent"], sample["maps_0"]
    noise = {"latent": latent, "time": torch.ones(1), "embedding": sample["embedding_0"], "maps": maps}
    noise |= {"noise_cotangent": latent, "structure_cotangent": torch.ones(1)}
    image = {name: value for name, value in sample.items() if name not in ("latent", "offset", "times", "moves") and "_0" not in name}
    image = {name: value for name, value in image.items() if name[-2:] not in ("_1", "_2")} | {"offset": photo}
    chain = DenoisingChain(
        "step",
        3,
        EagerEngine("noise", NoiseLink(model), noise, ["latent"]),
        EagerEngine("decoder", DecoderLink(model.codec), {"latent": latent, "image_cotangent": photo}, ["latent"]),
        EagerEngine("image", SearchStep(Decoded(), surrogates, crop=SIDE), image, ["offset"]),
    )
    feeds = {name: value.numpy() for name, value in sample.items()}
    expected, found = fused.run(feeds), chain.run(feeds)
    assert set(found) == set(expected)
    assert expected["structure"] > 0
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("model", [kl], indirect=True)
def test_exported_step_is_autograd(model: LatentDiffusion, surrogates: dict[str, nn.Module], photo: Tensor, tmp_path: Path) -> None:
    sample = moved(step_sample(model, surrogates, photo, ALIGNED))
    report, _ = parity_of(SearchStep(DiffusionDecode(model, 3), surrogates, crop=SIDE), sample, ["offset"], tmp_path)
    assert report.outputs["grad_offset"].relative_error < 1e-4
    assert report.outputs["loss"].relative_error < 1e-4


@pytest.mark.parametrize("model", [kl], indirect=True)
def test_gradient_through_fewer_steps_is_another_gradient_of_the_same_loss(
    model: LatentDiffusion, surrogates: dict[str, nn.Module], photo: Tensor
) -> None:
    """``through`` leaves the numbers alone; with 0 the gradient is the decoder's, scaled by what the latent carries over."""
    sample = moved(step_sample(model, surrogates, photo, ALIGNED))
    sample["shares"] = torch.tensor([1.0, 1.0, 0.0, 0.0])
    steps = [SearchStep(DiffusionDecode(model, 3, through), surrogates, crop=SIDE) for through in (3, 1, 0)]
    made = [gradient_function(step, ["offset"])(sample) for step in steps]
    for one in made[1:]:
        torch.testing.assert_close(one["loss"], made[0]["loss"])
        assert not torch.allclose(one["grad_offset"], made[0]["grad_offset"], rtol=1e-2)
    decode = DiffusionDecode(model, 3)
    end = decode.denoised(sample["latent"] + sample["offset"], sample["times"], sample["moves"], [sample[n] for n in decode.embeddings])[0]
    image = {**sample, "latent": end, "offset": torch.zeros_like(end)}
    alone = gradient_function(SearchStep(LatentDecodeOf(model), surrogates, crop=SIDE), ["offset"])(image)["grad_offset"]
    carried = sample["moves"][::2].prod()
    torch.testing.assert_close(made[2]["grad_offset"], carried * alone, rtol=1e-3, atol=1e-6)


class LatentDecodeOf(Decode):
    """The decoder of a diffusion model, without the denoiser."""

    inputs = ("latent", "offset")

    def __init__(self, model: LatentDiffusion) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, offset: Tensor) -> Tensor:
        return self.model.codec.decode(latent + offset)  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("model", [kl], indirect=True)
def test_a_step_down_undoes_the_step_up_along_the_same_noise(model: LatentDiffusion) -> None:
    """Song et al. 2021, section 4.3: so that with aligned levels only the change of the noise between levels is lost."""
    latent, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    for here, there in ((1, 51), (101, 151), (1, 951)):
        torch.testing.assert_close(model.moved(model.moved(latent, noise, here, there), noise, there, here), latent, rtol=1e-4, atol=1e-4)
    clean, share = torch.randn(1, 4, 8, 8), model.alphas[151]
    noisy = share**0.5 * clean + (1 - share) ** 0.5 * noise
    share = model.alphas[51]
    torch.testing.assert_close(model.moved(noisy, noise, 151, 51), share**0.5 * clean + (1 - share) ** 0.5 * noise, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [kl], indirect=True)
def test_attention_that_is_not_a_transformer_blocks_is_refused(model: LatentDiffusion) -> None:
    """Not silently another attention than the model was trained with."""
    catching = next(iter(model.unet.attn_processors.values()))
    attention = next(m for m in model.unet.modules() if hasattr(m, "to_q"))
    with pytest.raises(NotImplementedError):
        catching(attention, torch.zeros(1, 4, 8, 8))
    with pytest.raises(NotImplementedError):
        catching(attention, torch.zeros(1, 64, 8), attention_mask=torch.zeros(1))


@pytest.mark.parametrize("model", [kl], indirect=True)
def test_published_recipe_has_the_schedule_of_the_code(model: LatentDiffusion) -> None:
    times, moves = way_down(model, PUBLISHED)
    constants = published()["constants"]
    assert constants["times"] == times
    np.testing.assert_allclose(constants["moves"], moves, rtol=1e-7)
    for step in range(3):
        np.testing.assert_allclose(constants[f"moves_{step}"], moves[2 * step : 2 * step + 2], rtol=1e-7)
        assert constants[f"time_{step}"] == times[step : step + 1]

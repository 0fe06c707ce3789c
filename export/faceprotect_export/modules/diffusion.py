"""A compact latent diffusion model of aligned faces: the autoencoder's latent, and a UNet of diffusers that denoises it.

What Stable Diffusion is to the published method (CVPR 2025, arXiv 2503.10350), at a size that a phone runs: the same class of UNet, the
same noise schedule and the same kind of text embedding, of which there is only the empty one. :class:`LatentDiffusion` holds either, so
that everything above it runs on both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from faceprotect_export.modules.autoencoder import Autoencoder

STEPS = 1000


@dataclass(frozen=True)
class DiffusionConfig:
    """Widths per level (the first at the latent's own size), which levels attend, and the shape of the embedding."""

    latent: int = 32
    size: int = 32
    widths: tuple[int, ...] = (64, 96, 96)
    attends: tuple[bool, ...] = (False, True, True)
    heads: int = 4
    groups: int = 16
    tokens: int = 8
    token_width: int = 64

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> DiffusionConfig:
        """From a checkpoint's metadata, where tuples have become lists."""
        fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
        return cls(**fields)


def build_unet(config: DiffusionConfig) -> UNet2DConditionModel:
    """The UNet, untrained."""
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attends)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(config.attends))
    return UNet2DConditionModel(
        sample_size=config.size,
        in_channels=config.latent,
        out_channels=config.latent,
        layers_per_block=1,
        block_out_channels=config.widths,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=config.token_width,
        attention_head_dim=config.heads,
        norm_num_groups=config.groups,
    )


def alphas_cumprod(steps: int = STEPS, first: float = 0.00085, last: float = 0.012) -> Tensor:
    """Share of the signal's variance at each time step [steps], of Stable Diffusion's schedule ("scaled linear"), float64."""
    return torch.cumprod(1 - torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square(), 0)


def ddim(here: float, there: float) -> tuple[float, float]:
    """Factors of latent and noise of a DDIM step between two shares of the signal (Song et al. 2021, eq. 12, sigma 0)."""
    return (there / here) ** 0.5, (1 - there) ** 0.5 - (there * (1 - here) / here) ** 0.5


class Codec(nn.Module):
    """An autoencoder as the diffusion model needs it; without methods of its own, one that has no images."""

    def encode(self, image: Tensor) -> Tensor:
        """Image [N, 3, S, S] RGB 0..1 to the latent at the scale on which the UNet was trained."""
        raise NotImplementedError

    def decode(self, latent: Tensor) -> Tensor:
        """Inverse; not clipped."""
        raise NotImplementedError


class FaceCodec(Codec):
    """The face autoencoder of this package, its latent scaled to unit variance."""

    def __init__(self, autoencoder: Autoencoder, scaling: float) -> None:
        super().__init__()
        self.autoencoder, self.scaling = autoencoder, scaling

    def encode(self, image: Tensor) -> Tensor:
        return self.autoencoder.encoder(image) * self.scaling

    def decode(self, latent: Tensor) -> Tensor:
        return self.autoencoder.decoder(latent / self.scaling)


class DiffusersCodec(Codec):
    """``AutoencoderKL`` (the mean of the posterior) or ``AutoencoderTiny`` of diffusers, for images in 0..1.

    The published code draws from the posterior; its mean is what every draw is around, and the same on every run.
    """

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder, self.scaling = autoencoder, float(autoencoder.config.scaling_factor)

    def encode(self, image: Tensor) -> Tensor:
        found = self.autoencoder.encode(image * 2 - 1)
        latent = found.latents if hasattr(found, "latents") else found.latent_dist.mean
        return latent * self.scaling

    def decode(self, latent: Tensor) -> Tensor:
        return self.autoencoder.decode(latent / self.scaling).sample / 2 + 0.5


class CatchingAttention:
    """Attention written out, which keeps the post-softmax maps [N * heads, T, T] of self-attention, in the order in which they are made.

    It replaces the processors of a UNet of diffusers, and takes what those of its transformer blocks take. Hooks that were written for
    another version of diffusers attach to nothing; a processor that is not called is no attention at all, which nobody overlooks.
    """

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        if attention_mask is not None or hidden_states.ndim != 3 or attn.residual_connection:
            raise NotImplementedError("attention with a mask, on pictures, or with a skip of its own: not what a transformer block has")
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (attn.head_to_batch_dim(x) for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)))
        maps = torch.softmax(query @ key.transpose(1, 2) * attn.scale, -1)
        if encoder_hidden_states is None:
            self.maps.append(maps)
        return attn.to_out[0](attn.batch_to_head_dim(maps @ value))


class LatentDiffusion(nn.Module):
    """Codec, UNet and the embedding [1, tokens, width] of the empty prompt; ``alphas`` [steps] is the noise schedule."""

    empty: Tensor

    def __init__(self, codec: Codec, unet: UNet2DConditionModel, empty: Tensor, alphas: Tensor | None = None) -> None:
        super().__init__()
        self.codec, self.unet = codec, unet
        self.register_buffer("empty", empty)
        self.alphas: list[float] = (alphas_cumprod() if alphas is None else alphas).tolist()
        self._attention = CatchingAttention()
        unet.set_attn_processor(self._attention)

    def predict(self, latent: Tensor, time: int | Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The noise that the UNet sees in a latent at a time step, and the maps of its self-attention, layer by layer."""
        self._attention.maps.clear()
        asked = time.reshape(1) if isinstance(time, Tensor) else latent.new_full((1,), time)
        noise = self.unet(latent, asked, embedding, return_dict=False)[0]
        maps = list(self._attention.maps)
        self._attention.maps.clear()
        return noise, maps

    def moves(self, source: int, target: int) -> tuple[float, float]:
        """Factors of latent and noise of a DDIM step between two time steps, either way."""
        return ddim(self.alphas[source], self.alphas[target])

    def moved(self, latent: Tensor, noise: Tensor, source: int, target: int) -> Tensor:
        """The latent of time step ``source`` at ``target``, along the predicted noise."""
        kept, added = self.moves(source, target)
        return kept * latent + added * noise


def empty_embedding(config: DiffusionConfig) -> Tensor:
    """Where training starts."""
    return 0.02 * torch.randn(1, config.tokens, config.token_width)


def read_diffusion(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], autoencoder: Autoencoder) -> LatentDiffusion:
    """A trained model from a checkpoint's tensors and metadata (``train/diffusion.py``)."""
    config = DiffusionConfig.read(facts["config"])
    unet = build_unet(config)
    unet.load_state_dict({k.removeprefix("unet."): v for k, v in tensors.items() if k.startswith("unet.")})
    model = LatentDiffusion(FaceCodec(autoencoder, facts["scaling"]), unet, tensors["empty"])
    return model.requires_grad_(False).eval()

"""A compact autoencoder of aligned faces, 8x down, built from TAESD-like blocks.

Same idea as TAESD (Boer Bohan, 2023, MIT): residual blocks of three convolutions with ReLU, nothing normalised, no
attention. The widths are our own and fall with the resolution, which keeps one forward pass of the decoder at 256 px
near 3 GMAC, so that a gradient step of the search is affordable on two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AutoencoderConfig:
    """Widths at 1/2, 1/4 and 1/8 of the resolution, blocks at each, and latent channels."""

    widths: tuple[int, int, int] = (32, 64, 96)
    blocks: tuple[int, int, int] = (2, 3, 3)
    latent: int = 32


class Block(nn.Module):
    """x + three convolutions, ReLU between and after (TAESD's block with equal widths)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class Encoder(nn.Module):
    """Image [N, 3, H, W] RGB 0..1 to latent [N, latent, H/8, W/8], about unit scale."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.widths
        few, some, many = config.blocks
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, half, 3, padding=1),
            *(Block(half) for _ in range(few)),
            nn.Conv2d(half, quarter, 3, stride=2, padding=1),
            *(Block(quarter) for _ in range(some)),
            nn.Conv2d(quarter, eighth, 3, stride=2, padding=1),
            *(Block(eighth) for _ in range(many)),
            nn.Conv2d(eighth, config.latent, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image * 2 - 1)


class Decoder(nn.Module):
    """Latent [N, latent, h, w] to image [N, 3, 8h, 8w] RGB, about 0..1, not clipped."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth = config.widths
        few, some, many = config.blocks
        self.net = nn.Sequential(
            nn.Conv2d(config.latent, eighth, 3, padding=1),
            nn.ReLU(),
            *(Block(eighth) for _ in range(many)),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(eighth, quarter, 3, padding=1, bias=False),
            *(Block(quarter) for _ in range(some)),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(quarter, half, 3, padding=1, bias=False),
            *(Block(half) for _ in range(few)),
            nn.Conv2d(half, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, latent: Tensor) -> Tensor:
        # Soft clip, as in TAESD: an offset cannot drive the decoder arbitrarily far out of its range.
        return self.net(torch.tanh(latent / 3) * 3) * 0.5 + 0.5


def small_decoder() -> Decoder:
    """A decoder of the same latents with a sixth of the multiplications, 0.6 GMAC at 256 px: enough for what a search moves."""
    return Decoder(AutoencoderConfig(widths=(16, 32, 64), blocks=(1, 1, 2)))


class Autoencoder(nn.Module):
    """Encoder and decoder trained together."""

    def __init__(self, config: AutoencoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or AutoencoderConfig()
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)

    def forward(self, image: Tensor, noise: float = 0.0) -> tuple[Tensor, Tensor]:
        """Reconstruction and latent; ``noise`` is the standard deviation added to the latent while training."""
        latent = self.encoder(image)
        noisy = latent + noise * torch.randn_like(latent) if noise else latent
        return self.decoder(noisy), latent

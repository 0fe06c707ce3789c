"""What the search will show a student: perturbed, adversarial and latent-shifted crops.

A distilled network agrees with its teachers where it was trained and is free everywhere else, and a search walks straight into
that freedom. So the student is trained along the walk: each batch is replayed a few times, every time moved further along a
gradient, and the teachers are asked again at the new place (never assumed unchanged).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMOOTHNESS = (1, 2, 4, 8)  # a change is confined to a grid this many times coarser than the pixels
START = 0.15  # of a walk's length, in a random direction
PSNR_RANGE = (29.0, 44.0)  # of the whole crop: what the search is allowed, and somewhat beyond


@dataclass
class Walk:
    """State of one batch on its walk: where it started, how smooth and how far it goes."""

    start: Tensor  # [N, 3, S, S]
    radius: Tensor  # [N, 1, 1, 1], root mean square of the change at the end
    smoothness: int
    change: Tensor  # [N, 3, S, S]

    @property
    def crops(self) -> Tensor:
        """Where the batch stands now, 0..1."""
        return (self.start + self.change).clamp(0, 1)

    def advance(self, gradient: Tensor, fraction: float) -> None:
        """Add a step of the gradient's smooth part and put the change at ``fraction`` of its full length."""
        step = confine(gradient, self.smoothness)
        change = self.change / rms(self.change).clamp_min(1e-8) * max(fraction - 0.3, 0.0) + step / rms(step).clamp_min(1e-12) * 0.6
        self.change = change / rms(change).clamp_min(1e-8) * self.radius * fraction


def rms(x: Tensor) -> Tensor:
    """Root mean square per sample, [N, 1, 1, 1]."""
    return x.square().mean((1, 2, 3), keepdim=True).sqrt()


def confine(x: Tensor, smoothness: int) -> Tensor:
    """The part of ``x`` that lives on a grid ``smoothness`` times coarser."""
    if smoothness == 1:
        return x
    small = F.avg_pool2d(x, smoothness)
    return F.interpolate(small, scale_factor=smoothness, mode="bilinear", align_corners=False)


def begin(crops: Tensor, rng: np.random.Generator) -> Walk:
    """A walk that starts with a small random change."""
    count = crops.shape[0]
    psnr = torch.from_numpy(rng.uniform(*PSNR_RANGE, count).astype(np.float32))
    radius = (10 ** (-psnr / 20)).reshape(-1, 1, 1, 1)
    smoothness = int(rng.choice(SMOOTHNESS))
    noise = confine(torch.randn_like(crops), smoothness)
    return Walk(crops, radius, smoothness, noise / rms(noise) * radius * START)


def augment(crops: Tensor, rng: np.random.Generator) -> Tensor:
    """Flip, exposure, contrast, colour balance and loss of resolution, each for some of the batch."""
    count, _, side, _ = crops.shape
    flip = torch.from_numpy(rng.random(count) < 0.5)
    crops = torch.where(flip[:, None, None, None], crops.flip(3), crops)
    gain = torch.from_numpy(rng.uniform(0.8, 1.25, (count, 1, 1, 1)).astype(np.float32))
    balance = torch.from_numpy(rng.uniform(0.93, 1.07, (count, 3, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-0.08, 0.08, (count, 1, 1, 1)).astype(np.float32))
    crops = ((crops - 0.5) * gain * balance + 0.5 + offset).clamp(0, 1)
    if rng.random() < 0.25:
        small = F.interpolate(crops, size=int(side * rng.uniform(0.4, 0.9)), mode="bilinear", antialias=True)
        crops = F.interpolate(small, size=side, mode="bilinear")
    return crops


def vary(crops: Tensor, rng: np.random.Generator) -> Tensor:
    """Between two faces, or off a face by smooth noise: further places at which a student is to agree with its teacher.

    Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022: both see the same mixed pixels.
    """
    if rng.random() < 0.25:
        share = float(rng.uniform(0.5, 1.0))
        crops = share * crops + (1 - share) * crops.roll(1, 0)
    if rng.random() < 0.5:
        walk = begin(crops, rng)
        crops = (crops + walk.change / START).clamp(0, 1)
    return crops


def latent_shift(decoder: nn.Module, latent: Tensor, offset: Tensor, gradient: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    """Move a latent offset along a pixel gradient pulled back through the decoder.

    Returns the new offset and the change it makes, ``decode(latent + offset) - decode(latent)``.
    """
    offset = offset.detach().requires_grad_(True)
    (pulled,) = torch.autograd.grad(decoder(latent + offset), offset, gradient)
    with torch.no_grad():
        offset = offset + amount * pulled / rms(pulled).clamp_min(1e-12)
        return offset, decoder(latent + offset) - decoder(latent)

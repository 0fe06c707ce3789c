"""What a change of a face costs: the one definition that searches descend on and that students are trained with.

``penalty = MSE + shares[0] * MSE of chroma + shares[1] * structure + shares[2] * peak of the mid band``. The recipes say how large the
shares are. Squared error alone pays for bending a nose: it does not ask where a change lies, nor how fine it is.

*Structure* is what is lost of it at four scales, as SSIMULACRA2 adds it up (the terms in its luma, of which most of its distance consists):
a change costs less where the photo is busy, more where it is smooth. Its finest scale is left out: it has next to no weight there, it takes
a tenth of the time of a step, and without it as much is gained as lost. The *mid band* lies between 5 and 11 cycles a face, where one face
differs from another: its peak has a price, not its mean, for a feature that has moved is seen however small the mean is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_engines.recipes.input_diversity import blur_matrix

LUMA = (0.299, 0.587, 0.114)
#: Parameters of the recipes that hold the shares, in the order of ``shares``.
SHARES = ("chroma_share", "structure_share", "mid_share")
#: The mid band is what a Gaussian of the first width leaves, in pixels of the crop, less what one of the second leaves.
FINE, COARSE = 2.0, 8.0
#: What the band is divided by before its eighth power, so that float32 neither overflows nor vanishes: four grey levels.
LEVEL = 4 / 255
#: SSIMULACRA2 (J. Sneyers, github.com/cloudinary/ssimulacra2): weights of the mean and of the 4-norm of lost structure in luma, per scale,
#: from half of the resolution on, each half as fine as the one before.
SCALES = ((0.0, 6.6837), (225.2052, 19.2132), (176.3932, 24.4330), (0.0, 34.7791))
#: Its luma: the mean of the cube roots of these two mixtures of linear red, green and blue, with this offset; its window and constant.
MIXTURES = ((0.30, 0.622, 0.078), (0.23, 0.692, 0.078))
OFFSET, WINDOW, STABLE = 0.0037930733, 1.5, 0.0009
#: About the luma of a face, taken off so that squares are small; variances do not ask.
GREY = 0.6
#: Taps beside the middle one of its window.
_REACH = 5
#: Keeps the gradient of a root finite where nothing has changed yet.
_LEAST = 1e-16


def luma(x: Tensor) -> Tensor:
    """Luma [N, 1, H, W] of RGB [N, 3, H, W]."""
    return (x * x.new_tensor(LUMA).reshape(1, 3, 1, 1)).sum(1, keepdim=True)


def linear(image: Tensor) -> Tensor:
    """Linear light of sRGB in 0..1 (IEC 61966-2-1)."""
    return torch.where(image <= 0.04045, image / 12.92, ((image.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


class Structure(nn.Module):
    """Lost structure at several scales [N]; 2 is barely noticed beside the original, 4 is noticed (SSIMULACRA2 about 75 and 60)."""

    taps: Tensor
    mixtures: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.exp(-0.5 * (torch.arange(-_REACH, _REACH + 1) / WINDOW).square())
        self.register_buffer("taps", taps / taps.sum())
        self.register_buffer("mixtures", torch.tensor(MIXTURES).reshape(2, 3, 1, 1))

    def blurred(self, *maps: Tensor) -> tuple[Tensor, ...]:
        """Each map [N, 1, H, W] under the window; beyond the border lies nothing, in both images alike."""
        count = len(maps)
        down = F.conv2d(torch.cat(maps), self.taps.reshape(1, 1, -1, 1), padding=(_REACH, 0))
        return F.conv2d(down, self.taps.reshape(1, 1, 1, -1), padding=(0, _REACH)).chunk(count)

    def lost(self, original: Tensor, change: Tensor) -> Tensor:
        """Where structure is lost, [N, 1, H, W] from 0 up: 1 - SSIM without the part that asks how bright it is.

        Written in the change, so that nothing large cancels in float32: the variances of both images less twice their covariance are the
        variance of the change.
        """
        mean, square, moved, power, product = self.blurred(original, original.square(), change, change.square(), original * change)
        spread, of_change, together = square - mean.square(), power - moved.square(), product - mean * moved
        unlike = of_change / (2 * (spread + together) + of_change + STABLE)
        return F.relu(unlike + moved.square() * (1 - unlike))

    def forward(self, image: Tensor, original: Tensor) -> Tensor:
        mixed = [F.conv2d(F.avg_pool2d(linear(one), 2), self.mixtures) for one in (image, original)]
        found = image.new_zeros(len(image))
        for mean, fourth in SCALES:
            seen, before = (torch.pow(one + OFFSET, 1 / 3).mean(1, keepdim=True) - GREY for one in mixed)
            lost = self.lost(before, seen - before)
            found = found + fourth * (lost.square().square().mean((1, 2, 3)) + _LEAST).sqrt().sqrt()
            found = found + mean * lost.mean((1, 2, 3)) if mean else found
            mixed = [F.avg_pool2d(one, 2) for one in mixed]
        return found


class Penalty(nn.Module):
    """The penalty of changes to crops of one size, and its parts."""

    fine: Tensor
    coarse: Tensor

    def __init__(self, size: int) -> None:
        """``size``: side of the crops; the band's widths are in pixels of the canonical crop."""
        super().__init__()
        self.structure = Structure()
        self.register_buffer("fine", torch.from_numpy(blur_matrix(size, FINE).astype(np.float32)))
        self.register_buffer("coarse", torch.from_numpy(blur_matrix(size, COARSE).astype(np.float32)))

    def mid_band(self, change: Tensor) -> Tensor:
        """The mid band [N, 1, S, S] of the luma of changes [N, 3, S, S]."""
        grey = luma(change)
        return self.fine @ grey @ self.fine.T - self.coarse @ grey @ self.coarse.T

    def peak(self, change: Tensor) -> Tensor:
        """The square of the mid band's 8-norm [N]: close to its largest value, and smooth."""
        fourth = (self.mid_band(change) / LEVEL).square().square()
        return LEVEL**2 * (fourth.square().mean((1, 2, 3)) + _LEAST).sqrt().sqrt()

    def forward(self, image: Tensor, original: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Penalty and MSE, each [N], of images [N, 3, S, S] in 0..1; ``shares`` [3 or more] as :data:`SHARES` names them."""
        change = image - original
        mse = change.square().mean((1, 2, 3))
        chroma = (change - luma(change)).square().mean((1, 2, 3))
        lost = self.structure(image, original)
        return mse + shares[0] * chroma + shares[1] * lost + shares[2] * self.peak(change), mse


def shares_of(recipe: Mapping[str, Any]) -> Sequence[float]:
    """The shares that a recipe's document states, in the order of :data:`SHARES`."""
    parameters = recipe["parameters"]
    return [float(parameters[name]) for name in SHARES]

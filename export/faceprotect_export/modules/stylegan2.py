"""The synthesis network of StyleGAN2, cut at 16 px, where GIFT's base code F enters.

Karras et al., "Analyzing and improving the image quality of StyleGAN", CVPR 2020: section 2.2 (modulated convolution, eq. 1 and 3),
section 4.1 and appendix B (RGB skips, upsampling with the filter [1, 3, 3, 1]); F and W+ after GIFT (ACM MM 2024, arXiv 2408.01428).
As in ``modules/style.py``, modulation is not fused into the weights: features are scaled before a convolution with fixed weights and
divided after it. Weights are held with the factors of the equalised learning rate multiplied in, and noise with its strength, so that
one code gives one image. Names are those of NVIDIA's networks, without "synthesis.".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Side in pixels of the base code F.
BASE_SIDE = 16
#: Codes of W+ that F stands for: those of the layers before it.
BASE_CODES = 4
_FILTER = (1.0, 3.0, 3.0, 1.0)


@dataclass(frozen=True)
class StyleGan2Config:
    """``channels`` of the features at 4, 8, ... ``size`` px; ``style``: numbers of one code of W+."""

    size: int
    channels: tuple[int, ...]
    style: int = 512

    def __post_init__(self) -> None:
        made = 4 * 2 ** (len(self.channels) - 1)
        if made != self.size or self.size <= BASE_SIDE:
            raise ValueError(f"{len(self.channels)} numbers of channels make images of {made} px, not {self.size}; 32 are the least")

    @property
    def sides(self) -> tuple[int, ...]:
        """4, 8, ... ``size``."""
        return tuple(4 * 2**step for step in range(len(self.channels)))

    @property
    def layers(self) -> int:
        """Codes of W+: 14 at 256 px, 18 at 1024 px."""
        return 2 * len(self.channels)


def config_f(size: int, base: int = 32768, most: int = 512) -> StyleGan2Config:
    """The published channels: ``base`` / side, at most ``most`` ("config F"; with half the ``base``, "config E")."""
    steps = int(math.log2(size)) - 1
    return StyleGan2Config(size, tuple(min(most, base // (4 * 2**step)) for step in range(steps)))


def smoothing(channels: int) -> Tensor:
    """The outer product of [1, 3, 3, 1] as a depthwise kernel [channels, 1, 4, 4], of sum 4: three of four pixels were zeros before it."""
    row = torch.tensor(_FILTER)
    return (torch.outer(row, row) / 16).repeat(channels, 1, 1, 1)


class Modulated(nn.Module):
    """Modulated convolution: features [N, in, H, W] and a code [N, style] to [N, out, H, W], or [N, out, 2H, 2W] where it is ``up``."""

    def __init__(self, inputs: int, outputs: int, style: int, kernel: int) -> None:
        super().__init__()
        self.affine = nn.Linear(style, inputs)
        nn.init.normal_(self.affine.weight, std=style**-0.5)
        nn.init.ones_(self.affine.bias)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) * (inputs * kernel**2) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))


class Styled(Modulated):
    """3x3, demodulated, with noise [H, W] that stays the same and a leaky rectifier."""

    noise: Tensor
    smoothing: Tensor

    def __init__(self, inputs: int, outputs: int, style: int, side: int, up: bool) -> None:
        super().__init__(inputs, outputs, style, 3)
        self.up = up
        self.register_buffer("noise", torch.zeros(side, side))
        if up:
            self.register_buffer("smoothing", smoothing(outputs), persistent=False)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        scale, norm = self.modulation(code)
        x = x * scale[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = F.conv2d(x, self.smoothing, padding=1, groups=x.shape[1])
        else:
            x = F.conv2d(x, self.weight, padding=1)
        return F.leaky_relu(x * norm[:, :, None, None] + self.noise + self.bias[:, None, None], 0.2) * 2**0.5

    def modulation(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of the input's [N, in] and of the output's channels [N, out].

        The styles' common size cancels but for the 1e-8 of eq. 3. It is taken out, so that scaled features fit into float16.
        """
        scale = self.affine(code)
        shrink = torch.rsqrt(scale.square().mean(1, keepdim=True) + 1e-12)
        scale = scale * shrink
        energy = scale.square() @ self.weight.square().sum((2, 3)).T
        return scale, torch.rsqrt(energy + 1e-8 * shrink.square())


class ToRgb(Modulated):
    """1x1 to RGB, not demodulated, without noise or rectifier."""

    def __init__(self, inputs: int, style: int) -> None:
        super().__init__(inputs, 3, style, 1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return F.conv2d(x * self.affine(code)[:, :, None, None], self.weight, self.bias)


class Block(nn.Module):
    """One resolution: ``conv0`` doubles the last one's (at 4 px there is none), ``conv1`` refines, ``torgb`` adds to the image."""

    def __init__(self, inputs: int, outputs: int, style: int, side: int) -> None:
        super().__init__()
        if side > 4:
            self.conv0 = Styled(inputs, outputs, style, side, up=True)
        else:
            self.const = nn.Parameter(torch.randn(outputs, 4, 4))
        self.conv1 = Styled(outputs, outputs, style, side, up=False)
        self.torgb = ToRgb(outputs, style)


class StyleGan2(nn.Module):
    """W+ [N, layers, style] to an image in two steps: :meth:`base` up to 16 px, :meth:`synthesis` from there.

    A block at 8 px or more has the codes ``2k - 1`` (conv0), ``2k`` (conv1) and ``2k + 1`` (torgb, and the next conv0), with k its number.
    """

    smoothing: Tensor

    def __init__(self, config: StyleGan2Config) -> None:
        super().__init__()
        self.config = config
        previous = config.channels[0]
        for side, width in zip(config.sides, config.channels, strict=True):
            self.add_module(f"b{side}", Block(previous, width, config.style, side))
            previous = width
        self.register_buffer("smoothing", smoothing(3), persistent=False)

    def block(self, side: int) -> Block:
        """The one of that resolution."""
        found = self.get_submodule(f"b{side}")
        assert isinstance(found, Block)
        return found

    def grow(self, image: Tensor) -> Tensor:
        """RGB [N, 3, H, W] to [N, 3, 2H, 2W]: zeros between pixels, then [1, 3, 3, 1], in one transposed convolution."""
        return F.conv_transpose2d(image, self.smoothing, stride=2, padding=1, groups=3)

    def base(self, w_plus: Tensor) -> tuple[Tensor, Tensor]:
        """What enters at 16 px: ``feature`` [N, C, 16, 16] after that block's conv0, and ``rgb`` [N, 3, 8, 8], the image so far (-1..1).

        Of W+ [N, layers, style] the first four codes count.
        """
        first, second, third = (self.block(side) for side in (4, 8, BASE_SIDE))
        x = first.conv1(first.const.expand(len(w_plus), -1, -1, -1), w_plus[:, 0])
        rgb = self.grow(first.torgb(x, w_plus[:, 1]))
        x = second.conv1(second.conv0(x, w_plus[:, 1]), w_plus[:, 2])
        rgb = rgb + second.torgb(x, w_plus[:, 3])
        return third.conv0(x, w_plus[:, 3]), rgb

    def synthesis(self, feature: Tensor, rgb: Tensor, w_plus: Tensor) -> Tensor:
        """RGB [N, 3, size, size] of what :meth:`base` gives, in 0..1, not clipped. Of W+ all but the first four codes count."""
        x, image = feature, rgb
        for number, side in enumerate(self.config.sides[2:], 2):
            block = self.block(side)
            if side > BASE_SIDE:
                x = block.conv0(x, w_plus[:, 2 * number - 1])
            x = block.conv1(x, w_plus[:, 2 * number])
            image = self.grow(image) + block.torgb(x, w_plus[:, 2 * number + 1])
        return image * 0.5 + 0.5

    def forward(self, w_plus: Tensor) -> Tensor:
        """RGB [N, 3, size, size] in 0..1, not clipped, of W+ [N, layers, style]."""
        return self.synthesis(*self.base(w_plus), w_plus)


def mapped(normal: Tensor, weights: list[tuple[Tensor, Tensor]], rate: float = 0.01) -> Tensor:
    """W [N, style] of normal numbers [N, style], through the mapping network's layers (section 3 of the first StyleGAN, CVPR 2019).

    ``weights``: [style, style] and [style] per layer as checkpoints hold them; ``rate``: their factor of the equalised learning rate.
    """
    x = normal * torch.rsqrt(normal.square().mean(1, keepdim=True) + 1e-8)
    for weight, bias in weights:
        x = F.leaky_relu(x @ (weight * (rate * weight.shape[1] ** -0.5)).T + bias * rate, 0.2) * 2**0.5
    return x

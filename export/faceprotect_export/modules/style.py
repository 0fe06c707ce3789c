"""A compact style generator of aligned faces: a spatial base code and a detail code per layer, after StyleGAN2.

Karras et al., "Analyzing and improving the image quality of StyleGAN", CVPR 2020, section 2.2 (modulated convolution) and 4.1 (RGB
skips); the split into a spatial base code F and detail codes W+ after GIFT (ACM MM 2024, arXiv 2408.01428). Modulation is not
fused into the weights: the features are scaled before a convolution with fixed weights and divided after it, so that the gradient to a
code is a sum over pixels and needs no gradient of a weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class StyleConfig:
    """``size``: of the image in pixels. ``base``: channels of F [base, 16, 16]. ``widths``: at 16, 32, ... ``size`` px.

    ``style``: numbers of one detail code.
    """

    size: int = 128
    base: int = 32
    widths: tuple[int, ...] = (128, 96, 64, 32)
    style: int = 128

    def __post_init__(self) -> None:
        if 16 * 2 ** (len(self.widths) - 1) != self.size:
            raise ValueError(f"{len(self.widths)} widths make images of {16 * 2 ** (len(self.widths) - 1)} px, not {self.size}")

    @property
    def layers(self) -> int:
        """Detail codes: one for the first resolution, two for each further one."""
        return 2 * len(self.widths) - 1

    @property
    def numbers(self) -> int:
        """Of F and W+ together."""
        return self.base * 256 + self.layers * self.style


class Styled(nn.Module):
    """Modulated 3x3 convolution, demodulated, with a leaky rectifier: [N, in, H, W] and codes [N, style] to [N, out, H, W]."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__()
        self.scale = nn.Linear(style, inputs)
        nn.init.normal_(self.scale.weight, std=style**-0.5 * 0.5)
        nn.init.zeros_(self.scale.bias)
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        nn.init.normal_(self.conv.weight, std=(9 * inputs) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        scale = 1 + self.scale(code)
        energy = scale.square() @ self.conv.weight.square().sum((2, 3)).T
        y = self.conv(x * scale[:, :, None, None]) * torch.rsqrt(energy + 1e-4)[:, :, None, None]
        return F.leaky_relu(y + self.bias[:, None, None], 0.2) * 2**0.5


class ToRgb(nn.Module):
    """Modulated 1x1 convolution to RGB, not demodulated."""

    def __init__(self, inputs: int, style: int) -> None:
        super().__init__()
        self.scale = nn.Linear(style, inputs)
        nn.init.normal_(self.scale.weight, std=style**-0.5 * 0.5)
        nn.init.zeros_(self.scale.bias)
        self.conv = nn.Conv2d(inputs, 3, 1)
        nn.init.normal_(self.conv.weight, std=0.3 * inputs**-0.5)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.conv(x * (1 + self.scale(code))[:, :, None, None])


class StyleGenerator(nn.Module):
    """F [N, base, 16, 16] and W+ [N, layers, style], of unit scale, to RGB [N, 3, size, size], about 0..1, not clipped.

    The first layer's code also draws the features at 4 x 4 px that F adds detail to: in StyleGAN2 its coarsest layers do, over
    several blocks.
    """

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        first, *further = config.widths
        self.start = nn.Linear(config.style, first * 16)
        self.enter = nn.Conv2d(config.base, first, 3, padding=1)
        self.first = Styled(first, first, config.style)
        pairs = zip(config.widths, further, strict=False)
        self.blocks = nn.ModuleList(
            nn.ModuleList([Styled(inputs, outputs, config.style), Styled(outputs, outputs, config.style)]) for inputs, outputs in pairs
        )
        self.rgb = nn.ModuleList(ToRgb(width, config.style) for width in config.widths)

    def forward(self, base: Tensor, codes: Tensor) -> Tensor:
        start = self.start(codes[:, 0]).reshape(len(codes), -1, 4, 4)
        x = self.first(self.enter(base) + F.interpolate(start, scale_factor=4.0, mode="bilinear"), codes[:, 0])
        image = self.rgb[0](x, codes[:, 0])
        for number, block in enumerate(self.blocks):
            assert isinstance(block, nn.ModuleList)
            grow, refine = block
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = refine(grow(x, codes[:, 2 * number + 1]), codes[:, 2 * number + 2])
            image = F.interpolate(image, scale_factor=2.0, mode="bilinear") + self.rgb[number + 1](x, codes[:, 2 * number + 2])
        return image * 0.5 + 0.5


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 with batch normalisation: without it deep features of all photos start out alike, and so do their codes."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """x + two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class Down(nn.Sequential):
    """Strided convolution and a residual block: halves the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(_conv(inputs, outputs, 2), nn.ReLU(), Residual(outputs))


class StyleEncoder(nn.Module):
    """RGB [N, 3, size, size] in 0..1 to F [N, base, 16, 16] and W+ [N, layers, style]: inversion in one pass.

    Over photos each number of W+ and each channel of F has mean 0 and standard deviation 1 (batch normalisation without weights): noise
    of a fixed size then bounds what each can carry, and neither can take over by growing.
    """

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        halvings = len(config.widths) - 1
        widths = [32, 64, 96, 96, 96][:halvings]
        downs = [Down(inputs, outputs) for inputs, outputs in zip([3, *widths], widths, strict=False)]
        self.stages = nn.Sequential(*downs, Residual(widths[-1]), Residual(widths[-1]))
        self.base = nn.Conv2d(widths[-1], config.base, 3, padding=1)
        self.deep = nn.Sequential(Down(widths[-1], 96), Down(96, 128), nn.Conv2d(128, 48, 1), nn.BatchNorm2d(48), nn.Flatten())
        self.codes = nn.Linear(48 * 16, config.layers * config.style)
        self.base_scale = nn.BatchNorm2d(config.base, affine=False)
        self.codes_scale = nn.BatchNorm1d(config.layers * config.style, affine=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stages(image * 2 - 1)
        codes = self.codes_scale(self.codes(self.deep(x)))
        return self.base_scale(self.base(x)), codes.reshape(-1, self.config.layers, self.config.style)

    @torch.no_grad()
    def settle(self, batches: Iterable[Tensor]) -> None:
        """Take the statistics of batch normalisation from photos, [N, 3, size, size] each: those of averaged weights are no average."""
        scales = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)]
        for scale in scales:
            scale.reset_running_stats()
            scale.momentum = None  # the mean over all batches
            scale.train()
        for images in batches:
            self(images)
        for scale in scales:
            scale.eval()


@dataclass(frozen=True)
class StyleSpace:
    """How the codes of faces are spread.

    ``axes`` [layers, style, style]: per layer, principal axes of the detail codes, each one standard deviation long, largest first.
    ``base_spread`` [base]: standard deviation of each channel of F from the mean face. ``mean`` [C] and ``directions`` [K, C], likewise
    scaled: of F and W+ together, flattened and joined; ``mean + normal @ directions`` draws a face.
    """

    axes: Tensor
    base_spread: Tensor
    mean: Tensor
    directions: Tensor

    def codes_spread(self) -> Tensor:
        """Standard deviation of each number of W+, [layers, style]."""
        return self.axes.square().sum(1).sqrt()

    def whitening(self) -> Tensor:
        """[layers, style, style]: ``(codes - mean) @ whitening`` has numbers that vary alike and apart (P-norm of GIFT, without rectifier).

        A hundredth of the mean variance is added to each: few faces say little about the smallest. What no face varies in is free.
        """
        variance = self.axes.square().sum(2, keepdim=True)
        least = 0.01 * variance.mean(1, keepdim=True) + 1e-12
        return (self.axes / (variance * (variance + least)).clamp(min=1e-24).sqrt()).transpose(1, 2)

    def draw(self, config: StyleConfig, random: torch.Generator, spread: float = 0.7) -> tuple[Tensor, Tensor]:
        """F [1, base, 16, 16] and W+ [1, layers, style] of a face that nobody has; ``spread`` below 1 stays nearer to the mean."""
        weights = torch.randn(len(self.directions), generator=random) * spread
        return split_codes(config, (self.mean + weights @ self.directions)[None])


def split_codes(config: StyleConfig, joined: Tensor) -> tuple[Tensor, Tensor]:
    """F and W+ of codes [N, base * 256 + layers * style] in one row."""
    cut = config.base * 256
    return joined[:, :cut].reshape(-1, config.base, 16, 16), joined[:, cut:].reshape(-1, config.layers, config.style)


def measure_space(encoder: StyleEncoder, batches: Iterable[Tensor], directions: int = 96) -> StyleSpace:
    """The spread of the codes of photos, [N, 3, size, size] each batch."""
    with torch.no_grad():
        found = [encoder(images) for images in batches]
    base, codes = (torch.cat(parts) for parts in zip(*found, strict=True))
    axes = []
    for layer in range(codes.shape[1]):
        centred = codes[:, layer] - codes[:, layer].mean(0)
        _, sizes, rows = torch.linalg.svd(centred, full_matrices=False)
        axes.append(_square(rows * (sizes / len(codes) ** 0.5)[:, None], codes.shape[2]))
    joined = torch.cat([base.flatten(1), codes.flatten(1)], 1)
    mean = joined.mean(0)
    _, sizes, rows = torch.svd_lowrank(joined - mean, min(directions, len(joined)))
    return StyleSpace(torch.stack(axes), (base - base.mean(0)).square().mean((0, 2, 3)).sqrt(), mean, (rows * sizes / len(joined) ** 0.5).T)


def _square(rows: Tensor, size: int) -> Tensor:
    """Rows [n, size], with rows of zeros where there are fewer than ``size``."""
    return torch.cat([rows, rows.new_zeros(max(size - len(rows), 0), size)])


@dataclass(frozen=True)
class Style:
    """A trained generator with its encoder and the spread of its codes."""

    generator: StyleGenerator
    encoder: StyleEncoder
    space: StyleSpace


def read_style(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Style:
    """The parts of a checkpoint of ``train/style.py``, ready for use; raises KeyError for one of another kind."""
    config = StyleConfig(**{**metadata["config"], "widths": tuple(metadata["config"]["widths"])})
    generator, encoder = StyleGenerator(config), StyleEncoder(config)
    for prefix, module in (("generator.", generator), ("encoder.", encoder)):
        module.load_state_dict({key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)})
        module.requires_grad_(False).eval()
    return Style(generator, encoder, StyleSpace(**{f.name: tensors[f"space.{f.name}"] for f in fields(StyleSpace)}))

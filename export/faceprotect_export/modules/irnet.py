"""Residual networks for faces: IR-50, IR-152 and IR-SE-50, 112 px to 512 numbers.

Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019 (arXiv 1801.07698): residual units that open with
a normalisation, and the embedding drawn from the whole last feature map. With squeeze and excitation (SE): Hu et al.,
"Squeeze-and-excitation networks", CVPR 2018 (arXiv 1709.01507). Parameters are named as in the state dicts of face.evoLVe and
InsightFace_Pytorch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
SIZE, EMBEDDING = 112, 512


class Excitation(nn.Module):
    """Weighs the channels of [N, width, H, W] by what their means say."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(width // reduction, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Thinned(nn.Module):
    """Every ``stride``-th pixel: what the published networks write as max pooling over one pixel."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x


class Unit(nn.Module):
    """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]: two convolutions between normalisations, and a short cut."""

    def __init__(self, inputs: int, outputs: int, stride: int, excitation: bool) -> None:
        super().__init__()
        self.shortcut_layer = (
            Thinned(stride)
            if inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )
        layers = [
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.res_layer = nn.Sequential(*layers, *([Excitation(outputs)] if excitation else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class IRNet(nn.Module):
    """RGB [N, 3, 112, 112] in -1..1 to embeddings [N, 512], not of unit length.

    ``units``: how many residual units each of the four widths has; the first of each halves the resolution.
    """

    def __init__(self, units: Sequence[int], excitation: bool = False) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.PReLU(WIDTHS[0]))
        body: list[nn.Module] = []
        inputs = WIDTHS[0]
        for width, count in zip(WIDTHS, units, strict=True):
            body += [Unit(inputs, width, 2, excitation), *(Unit(width, width, 1, excitation) for _ in range(count - 1))]
            inputs = width
        self.body = nn.Sequential(*body)
        side = SIZE // 2 ** len(WIDTHS)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.Dropout(), nn.Flatten(), nn.Linear(inputs * side**2, EMBEDDING), nn.BatchNorm1d(EMBEDDING)
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(image)))


def ir50() -> IRNet:
    """24 units."""
    return IRNet((3, 4, 14, 3))


def ir152() -> IRNet:
    """50 units."""
    return IRNet((3, 8, 36, 3))


def irse50() -> IRNet:
    """24 units with squeeze and excitation."""
    return IRNet((3, 4, 14, 3), excitation=True)

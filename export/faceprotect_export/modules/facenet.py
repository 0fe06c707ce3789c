"""Inception-ResNet-v1 as FaceNet uses it, 160 px to 512 numbers.

Szegedy et al., "Inception-v4, Inception-ResNet and the impact of residual connections on learning", AAAI 2017 (arXiv 1602.07261), figures
10 to 14; Schroff et al., "FaceNet", CVPR 2015 (arXiv 1503.03832). Widths and the scaling of residuals are those of the network that
D. Sandberg trained, and parameters are named as in the state dicts of facenet-pytorch.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

Pair = tuple[int, int]
SIZE, EMBEDDING = 160, 512
#: Of the first networks, before 2018.
FIRST_EMBEDDING = 128
#: What normalisation adds to the variance.
EPSILON = 0.001


class Conv(nn.Sequential):
    """Convolution, normalisation, rectifier."""

    def __init__(self, inputs: int, outputs: int, kernel: int | Pair = 1, stride: int = 1, padding: int | Pair = 0) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs, eps=EPSILON), relu=nn.ReLU()))


class Branches(nn.Module):
    """Runs ``branch0``, ``branch1``, ... on one input and joins what they give along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.names = [f"branch{number}" for number in range(len(branches))]
        for name, branch in zip(self.names, branches, strict=True):
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([getattr(self, name)(x) for name in self.names], 1)


class Residual(Branches):
    """x + scale * what a 1x1 convolution makes of the branches, rectified unless it is the last: [N, width, H, W] to the same."""

    def __init__(self, width: int, joined: int, scale: float, *branches: nn.Module, rectified: bool = True) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(joined, width, 1)
        self.scale, self.rectified = scale, rectified

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.scale * self.conv2d(super().forward(x))
        return torch.relu(y) if self.rectified else y


def block35() -> Residual:
    """Inception-ResNet-A (figure 10), on 17 x 17 px."""
    branches = (
        Conv(256, 32),
        nn.Sequential(Conv(256, 32), Conv(32, 32, 3, padding=1)),
        nn.Sequential(Conv(256, 32), Conv(32, 32, 3, padding=1), Conv(32, 32, 3, padding=1)),
    )
    return Residual(256, 96, 0.17, *branches)


def block17() -> Residual:
    """Inception-ResNet-B (figure 11), on 8 x 8 px."""
    deep = nn.Sequential(Conv(896, 128), Conv(128, 128, (1, 7), padding=(0, 3)), Conv(128, 128, (7, 1), padding=(3, 0)))
    return Residual(896, 256, 0.1, Conv(896, 128), deep)


def block8(scale: float = 0.2, rectified: bool = True) -> Residual:
    """Inception-ResNet-C (figure 13), on 3 x 3 px."""
    deep = nn.Sequential(Conv(1792, 192), Conv(192, 192, (1, 3), padding=(0, 1)), Conv(192, 192, (3, 1), padding=(1, 0)))
    return Residual(1792, 384, scale, Conv(1792, 192), deep, rectified=rectified)


def reduction_a() -> Branches:
    """[N, 256, 17, 17] to [N, 896, 8, 8]."""
    deep = nn.Sequential(Conv(256, 192), Conv(192, 192, 3, padding=1), Conv(192, 256, 3, 2))
    return Branches(Conv(256, 384, 3, 2), deep, nn.MaxPool2d(3, 2))


def reduction_b() -> Branches:
    """[N, 896, 8, 8] to [N, 1792, 3, 3] (figure 12)."""
    wide = nn.Sequential(Conv(896, 256), Conv(256, 384, 3, 2))
    narrow = nn.Sequential(Conv(896, 256), Conv(256, 256, 3, 2))
    deep = nn.Sequential(Conv(896, 256), Conv(256, 256, 3, padding=1), Conv(256, 256, 3, 2))
    return Branches(wide, narrow, deep, nn.MaxPool2d(3, 2))


def whitened(image: Tensor) -> Tensor:
    """Every image less its mean, over its standard deviation: what D. Sandberg's first networks were fed (his ``prewhiten``)."""
    centred = image - image.mean((1, 2, 3), keepdim=True)
    return centred / (centred * centred).mean((1, 2, 3), keepdim=True).sqrt().clamp_min(image[0].numel() ** -0.5)


class InceptionResnet(nn.Module):
    """RGB [N, 3, 160, 160] to embeddings [N, ``embedding``], not of unit length.

    Takes -1..1, or 0..255 with ``whitens``, which is how networks were trained that give 128 numbers.
    """

    def __init__(self, embedding: int = EMBEDDING, whitens: bool = False) -> None:
        super().__init__()
        self.whitens = whitens
        self.conv2d_1a = Conv(3, 32, 3, 2)
        self.conv2d_2a = Conv(32, 32, 3)
        self.conv2d_2b = Conv(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = Conv(64, 80)
        self.conv2d_4a = Conv(80, 192, 3)
        self.conv2d_4b = Conv(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(block35() for _ in range(5)))
        self.mixed_6a = reduction_a()
        self.repeat_2 = nn.Sequential(*(block17() for _ in range(10)))
        self.mixed_7a = reduction_b()
        self.repeat_3 = nn.Sequential(*(block8() for _ in range(5)))
        self.block8 = block8(scale=1.0, rectified=False)
        self.last_linear = nn.Linear(1792, embedding, bias=False)
        self.last_bn = nn.BatchNorm1d(embedding, eps=EPSILON)

    def forward(self, image: Tensor) -> Tensor:
        image = whitened(image) if self.whitens else image
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(image))))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x))))
        x = self.repeat_2(self.mixed_6a(x))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        return self.last_bn(self.last_linear(x.mean((2, 3))))

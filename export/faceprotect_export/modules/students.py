"""Distilled surrogates: two small recognisers of different kind, each with a head per teacher.

A student's embedding is the concatenation of its heads, each normalised, so that the cosine of two embeddings is the mean
of the cosines its teachers would give. Activations are ReLU and GELU only: what CPUs and TensorRT fuse.

* ``conv``: residual 3x3 convolutions (He et al. 2016), see the ArcFace window at 112 px.
* ``attention``: convolutional stem and transformer blocks (Xiao et al. 2021), a wider window at 112 px.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_sdk.face.align import ARCFACE_112, Window

ARCFACE_WINDOW = Window.from_points(ARCFACE_112.tolist(), 112)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation (folded into one convolution at export)."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip, the second normalisation before the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = conv_bn(width, width, 3), conv_bn(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Attention(nn.Module):
    """Pre-norm transformer block: multi-head self-attention and a GELU perceptron, on tokens [N, T, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attention = torch.softmax(q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5, -1)
        x = x + self.out((attention @ v).transpose(1, 2).reshape(n, tokens, width))
        return x + self.mlp(self.norm2(x))


class Heads(nn.Module):
    """Feature [N, F] to the concatenation of unit embeddings, one per teacher, scaled to unit length as a whole."""

    def __init__(self, features: int, sizes: dict[str, int]) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        self.linear = nn.Linear(features, sum(sizes.values()))

    def forward(self, feature: Tensor) -> Tensor:
        parts = torch.split(self.linear(feature), list(self.sizes.values()), 1)
        return torch.cat([F.normalize(part.float(), dim=1) for part in parts], 1) * len(parts) ** -0.5


class ConvTrunk(nn.Sequential):
    """Residual trunk, 112 px to 384 features: a stage of residual blocks at 56, 28, 14 and 7 px each."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 192), blocks: tuple[int, ...] = (1, 2, 2, 2), features: int = 384) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs, count in zip((3, *widths), widths, blocks, strict=False):
            layers += [conv_bn(inputs, outputs, 3, 2), nn.ReLU(), *(Residual(outputs) for _ in range(count))]
        layers += [conv_bn(widths[-1], features, 1), nn.ReLU()]
        layers += [nn.Conv2d(features, features, 7, groups=features, bias=False), nn.Flatten(), nn.BatchNorm1d(features)]
        super().__init__(*layers)


class AttentionTrunk(nn.Module):
    """Residual convolutions to 14 x 14 tokens, then attention blocks, 112 px to 384 features.

    Tokens are pooled by a learned weight per place and channel: averaging them forgets where things are, and a face is where
    things are.
    """

    def __init__(self, width: int = 160, blocks: int = 4, heads: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 32), (32, 64), (64, 96)):
            layers += [conv_bn(inputs, outputs, 3, 2), nn.ReLU(), Residual(outputs)]
        self.stem = nn.Sequential(*layers, nn.Conv2d(96, width, 1))
        self.position = nn.Parameter(torch.randn(1, 14 * 14, width) * 0.02)
        self.blocks = nn.Sequential(*(Attention(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.place = nn.Parameter(torch.randn(1, 14 * 14, width) / 14)
        self.feature = nn.Sequential(nn.Linear(width, 384), nn.BatchNorm1d(384))

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.stem(image).flatten(2).transpose(1, 2) + self.position
        return self.feature((self.norm(self.blocks(tokens)) * self.place).sum(1))


class Student(nn.Module):
    """Window of the canonical crop, trunk and heads: canonical crops [N, 3, S, S] RGB 0..1 to unit embeddings [N, E]."""

    rows: Tensor
    cols: Tensor

    def __init__(self, trunk: nn.Module, features: int, window: Window, heads: dict[str, int], crop: int) -> None:
        super().__init__()
        self.trunk, self.heads = trunk, Heads(features, heads)
        rows, cols = window.matrices(crop)
        self.register_buffer("rows", torch.from_numpy(rows), persistent=False)
        self.register_buffer("cols", torch.from_numpy(cols), persistent=False)

    def forward(self, crop: Tensor) -> Tensor:
        return self.heads(self.trunk(self.window(crop)))

    def window(self, crop: Tensor) -> Tensor:
        """What the trunk looks at, in -1..1."""
        image = (self.rows @ crop @ self.cols) * 2 - 1
        if not torch.jit.is_tracing() and crop.shape[0] > 1:  # type: ignore[attr-defined]  # public, but its stub does not say so
            image = image.contiguous(memory_format=torch.channels_last)
        return image


TRUNKS: dict[str, tuple[Callable[[], nn.Module], int, Window]] = {
    "conv": (ConvTrunk, 384, ARCFACE_WINDOW),
    "attention": (AttentionTrunk, 384, Window(112, 18.0, 20.0, 220.0)),
}


def build_student(kind: str, heads: dict[str, int], crop: int = 256) -> Student:
    """A student by name, for canonical crops of ``crop`` pixels (windows scale with it, weights do not depend on it)."""
    trunk, features, window = TRUNKS[kind]
    return Student(trunk(), features, window, heads, crop)

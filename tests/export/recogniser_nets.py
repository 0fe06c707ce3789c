"""Small recognisers of the kinds that people export: squeeze and excite, hybrids, transformers; with random weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE, EMBEDDING = 32, 16


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, width // 2, 1), nn.Conv2d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1))))
        return x * F.hardsigmoid(gate)


class SqueezeNet(nn.Module):
    """MobileNetV3-like: depthwise convolutions, h-swish, squeeze and excite."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.depth = nn.Sequential(nn.Conv2d(16, 16, 5, 2, 2, groups=16), nn.BatchNorm2d(16), nn.Hardswish(), SqueezeExcite(16))
        self.head = nn.Sequential(nn.Conv2d(16, 24, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, EMBEDDING))

    def forward(self, image: Tensor) -> Tensor:
        return F.normalize(self.head(self.depth(self.stem(image))))


class FourierPositions(nn.Module):
    """Positions from the shape of the batch, as XCiT and EdgeNeXt compute them: cumulative sums, sines and cosines, a projection."""

    def __init__(self, width: int, hidden: int = 8) -> None:
        super().__init__()
        self.project, self.hidden = nn.Conv2d(2 * hidden, width, 1), hidden

    def forward(self, batch: int, height: int, width: int) -> Tensor:
        free = ~torch.zeros(batch, height, width, dtype=torch.bool)
        rows, cols = free.cumsum(1, dtype=torch.float32), free.cumsum(2, dtype=torch.float32)
        rows = rows / (rows[:, -1:, :] + 1e-6) * 2 * math.pi
        cols = cols / (cols[:, :, -1:] + 1e-6) * 2 * math.pi
        step = torch.arange(self.hidden, dtype=torch.int64).to(torch.float32)
        step = 10000 ** (2 * torch.div(step, 2, rounding_mode="floor") / self.hidden)
        parts = [p[:, :, :, None] / step for p in (rows, cols)]
        parts = [torch.stack([p[..., 0::2].sin(), p[..., 1::2].cos()], 4).flatten(3) for p in parts]
        return self.project(torch.cat(parts, 3).permute(0, 3, 1, 2))


class CrossCovarianceAttention(nn.Module):
    """XCiT (arXiv 2106.09681): attention between channels, of queries and keys of unit length over the tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.temperature = heads, nn.Parameter(torch.full((heads, 1, 1), 1.3))
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 4, 1)
        attention = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        return self.project((attention.softmax(-1) @ v).permute(0, 3, 1, 2).reshape(batch, tokens, width))


class SplitBlock(nn.Module):
    """EdgeNeXt's SDTA block: a cascade of depthwise convolutions over a split, attention between channels, an inverted bottleneck."""

    def __init__(self, width: int, positions: bool) -> None:
        super().__init__()
        self.width, self.parts = width, 3
        self.each = -(-width // self.parts)
        self.convs = nn.ModuleList(nn.Conv2d(self.each, self.each, 3, padding=1, groups=self.each) for _ in range(self.parts - 1))
        self.positions = FourierPositions(width) if positions else None
        self.norm_a, self.norm_b = nn.LayerNorm(width), nn.LayerNorm(width, eps=1e-6)
        self.attention = CrossCovarianceAttention(width, 2)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.scale_a, self.scale_b = nn.Parameter(torch.full((width,), 0.7)), nn.Parameter(torch.full((width,), 0.6))

    def forward(self, x: Tensor) -> Tensor:
        shortcut, spx = x, x.chunk(self.parts, 1)
        done: list[Tensor] = []
        for index, conv in enumerate(self.convs):
            done.append(conv(spx[index] if index == 0 else done[-1] + spx[index]))
        x = torch.cat([*done, spx[-1]], 1)
        batch, width, height, breadth = x.shape
        y = x.reshape(batch, width, height * breadth).permute(0, 2, 1)
        if self.positions is not None:
            y = y + self.positions(batch, height, breadth).reshape(batch, -1, y.shape[1]).permute(0, 2, 1)
        y = y + self.scale_a * self.attention(self.norm_a(y))
        y = y.reshape(batch, height, breadth, width)
        y = self.scale_b * self.narrow(F.gelu(self.wide(self.norm_b(y))))
        return shortcut + y.permute(0, 3, 1, 2)


class Hybrid(nn.Module):
    """EdgeNeXt-like (arXiv 2206.10589): channels-last norms, split depthwise convolutions, attention between channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 18, 4, 4), nn.LayerNorm(18, eps=1e-6)
        self.first, self.second = SplitBlock(18, True), SplitBlock(18, False)
        self.down, self.last = nn.Conv2d(18, 18, 2, 2), nn.LayerNorm(18)
        self.head = nn.Linear(18, EMBEDDING)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.stem(image).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.second(self.down(self.first(x)))
        return self.head(self.last(x.mean((-2, -1))))


class TokenAttention(nn.Module):
    """Softmax attention between tokens; ``spelling``: fused, or by einsum."""

    def __init__(self, width: int, heads: int, spelling: str) -> None:
        super().__init__()
        self.heads, self.spelling = heads, spelling
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if self.spelling == "fused":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            weights = torch.einsum("bhid,bhjd->bhij", q, k) * (width // self.heads) ** -0.5
            weights = weights if bias is None else weights + bias
            y = torch.einsum("bhij,bhjd->bhid", weights.softmax(-1), v)
        return self.project(y.transpose(1, 2).reshape(batch, tokens, width))


class Transformer(nn.Module):
    """ViT-like (arXiv 2010.11929): a class token repeated over the batch, learned positions, attention, GELU or its tanh form."""

    def __init__(self, spelling: str = "fused") -> None:
        super().__init__()
        width, tokens = 16, (SIZE // 8) ** 2 + 1
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, tokens, width))
        self.norm_a, self.norm_b, self.last = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = TokenAttention(width, 2, spelling)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU("none" if spelling == "fused" else "tanh"), nn.Linear(32, width))
        self.head = nn.Linear(width, EMBEDDING)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        x = x + self.attention(self.norm_a(x))
        x = x + self.mlp(self.norm_b(x))
        return self.head(self.last(x)[:, 0])


class WindowBlock(nn.Module):
    """Swin (arXiv 2103.14030): attention in windows, shifted and masked, with a bias by relative position."""

    def __init__(self, width: int, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm, self.attention = nn.LayerNorm(width), TokenAttention(width, 2, "einsum")
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, 2))
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        between = (at[:, :, None] - at[:, None, :]) + window - 1
        self.register_buffer("index", between[0] * (2 * window - 1) + between[1])
        region = torch.zeros(side, side)
        for number, edges in enumerate([slice(0, -window), slice(-window, -shift or None), slice(-shift or side, None)]):
            region[edges] += 3 * number
            region[:, edges] += number
        region = self.windows(region[None, :, :, None]).squeeze(-1)
        self.register_buffer("mask", torch.where(region[:, None] != region[:, :, None], -100.0, 0.0) if shift else None)

    def windows(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        s = self.window
        return x.reshape(b, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        s = self.window
        y = self.norm(x)
        y = torch.roll(y, (-self.shift, -self.shift), (1, 2)) if self.shift else y
        bias = self.table[self.index.flatten()].reshape(s * s, s * s, -1).permute(2, 0, 1)[None]
        bias = bias if self.mask is None else bias + self.mask.repeat(b, 1, 1)[:, None]
        y = self.attention(self.windows(y), bias)
        y = y.reshape(b, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        y = torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y
        return x + y


class Windows(nn.Module):
    """Swin-like: a block of plain windows, one of shifted windows, patches merged by strided slices."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.plain, self.shifted = WindowBlock(12, SIZE // 4, 4, 0), WindowBlock(12, SIZE // 4, 4, 2)
        self.merge, self.head = nn.Linear(48, 16), nn.Linear(16, EMBEDDING)

    def forward(self, image: Tensor) -> Tensor:
        x = self.shifted(self.plain(self.patches(image).permute(0, 2, 3, 1)))
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
        return self.head(F.gelu(self.merge(x)).mean((1, 2)))


def made(kind: str) -> nn.Module:
    """A network of the tests by name, frozen, with weights of a fixed seed."""
    torch.manual_seed(7)
    build = {"squeeze": SqueezeNet, "hybrid": Hybrid, "vit": Transformer, "vit-einsum": lambda: Transformer("einsum"), "swin": Windows}
    return build[kind]().requires_grad_(False).eval()

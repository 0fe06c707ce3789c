"""Hints: what a teacher computes on the way, beside what it says in the end.

A student that is told only the embedding has to find the way there by itself, and finds another one: it agrees on photos and differs in
slope between them. Here its stages have to explain the teacher's activations at the same resolution, each through a 1x1 convolution of
its own that is thrown away after training (Romero et al., "FitNets: hints for thin deep nets", ICLR 2015, section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from faceprotect_export.onnx_reader import OnnxModule

SLOW = 0.99  # memory of the activations' spread


class Hints(nn.Module):
    """Adapters from the stages of a student to chosen activations of one teacher."""

    def __init__(self, teacher: OnnxModule, size: int, widths: Sequence[int]) -> None:
        """``widths``: channels of the student's stages, at half the resolution each, the last two at the same."""
        super().__init__()
        sides = [size // 2 ** (k + 1) for k in range(len(widths) - 1)]
        found = _activations(teacher, size)
        chosen = [_narrowest(found, side) for side in sides]
        chosen += [_widest(found, sides[-1])] if sides else []
        self.names = [name for name, _ in chosen]
        self.adapters = nn.ModuleList(nn.Conv2d(width, channels, 1) for width, (_, channels) in zip(widths, chosen, strict=True))
        for index, (_, channels) in enumerate(chosen):
            self.register_buffer(f"spread{index}", torch.zeros(channels))

    def forward(self, stages: Sequence[Tensor], activations: Sequence[Tensor]) -> Tensor:
        """Share of the activations' variance that the stages leave unexplained, mean over the hints."""
        shares = []
        for index, (adapter, seen, wanted) in enumerate(zip(self.adapters, stages, activations, strict=True)):
            shares.append(((adapter(seen).float() - wanted.float()) / self._spread(index, wanted)).square().mean())
        return torch.stack(shares).mean()

    @torch.no_grad()
    def _spread(self, index: int, wanted: Tensor) -> Tensor:
        """Standard deviation per channel [1, C, 1, 1], remembered; channels that hardly move count by half of the mean."""
        known: Tensor = getattr(self, f"spread{index}")
        now = wanted.float().std((0, 2, 3))
        known.copy_(now if not known.any() else SLOW * known + (1 - SLOW) * now)
        return known.clamp_min(0.5 * float(known.mean()))[None, :, None, None]


def _activations(teacher: OnnxModule, size: int) -> list[tuple[str, int, int]]:
    """Name, channels and side of every map that the teacher computes, in order."""
    names = [name for step in teacher.steps for name in step.outputs]
    with torch.no_grad():
        values = zip(names, teacher.values(torch.zeros(1, 3, size, size), names), strict=True)
    return [(name, value.shape[1], value.shape[2]) for name, value in values if isinstance(value, Tensor) and value.dim() == 4]


def _narrowest(found: list[tuple[str, int, int]], side: int) -> tuple[str, int]:
    """The last of the narrowest maps of a resolution: in a network of bottlenecks, what one block hands to the next."""
    here = [(name, channels) for name, channels, own in found if own == side]
    if not here:
        raise ValueError(f"the teacher has no maps of {side} px, which a stage of the student has; train without hints: --hints 0")
    least = min(channels for _, channels in here)
    return next(pair for pair in reversed(here) if pair[1] == least)


def _widest(found: list[tuple[str, int, int]], side: int) -> tuple[str, int]:
    """The last of the widest maps of a resolution."""
    here = [(name, channels) for name, channels, own in found if own == side]
    most = max(channels for _, channels in here)
    return next(pair for pair in reversed(here) if pair[1] == most)

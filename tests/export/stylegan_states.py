"""A small StyleGAN2 generator's numbers, under the names of both published classes."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

SIZE, STYLE, CHANNELS = 32, 8, (7, 6, 6, 5)
LAYERS = 8

State = dict[str, Tensor]


def filter_of(gain: float) -> Tensor:
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(row, row) * gain / 64


def rosinality() -> State:
    """A generator as rosinality's class names it, at a size for tests: every tensor random, nothing left at its first value."""
    state: State = {"input.input": torch.randn(1, CHANNELS[0], 4, 4)}

    def conv(name: str, inputs: int, outputs: int, kernel: int) -> None:
        state[f"{name}.conv.weight"] = torch.randn(1, outputs, inputs, kernel, kernel)
        state[f"{name}.conv.modulation.weight"] = torch.randn(inputs, STYLE)
        state[f"{name}.conv.modulation.bias"] = 1 + 0.1 * torch.randn(inputs)

    def styled(name: str, inputs: int, outputs: int, up: bool) -> None:
        conv(name, inputs, outputs, 3)
        state[f"{name}.noise.weight"] = 0.3 * torch.randn(1)
        state[f"{name}.activate.bias"] = 0.2 * torch.randn(outputs)
        if up:
            state[f"{name}.conv.blur.kernel"] = filter_of(4.0)

    def rgb(name: str, inputs: int) -> None:
        conv(name, inputs, 3, 1)
        state[f"{name}.bias"] = 0.2 * torch.randn(1, 3, 1, 1)

    styled("conv1", CHANNELS[0], CHANNELS[0], False)
    rgb("to_rgb1", CHANNELS[0])
    for step, (inputs, outputs) in enumerate(pairwise(CHANNELS)):
        styled(f"convs.{2 * step}", inputs, outputs, True)
        styled(f"convs.{2 * step + 1}", outputs, outputs, False)
        rgb(f"to_rgbs.{step}", outputs)
        state[f"to_rgbs.{step}.upsample.kernel"] = filter_of(4.0)
    for number in range(LAYERS - 1):
        side = 2 ** ((number + 5) // 2)
        state[f"noises.noise_{number}"] = torch.randn(1, 1, side, side)
    for number in (1, 2):
        state[f"style.{number}.weight"] = 100 * torch.randn(STYLE, STYLE)
        state[f"style.{number}.bias"] = 30 * torch.randn(STYLE)
    return state


def nvidia(state: State) -> State:
    """The same numbers as NVIDIA's classes name them."""
    made: State = {"synthesis.b4.const": state["input.input"][0]}

    def conv(ours: str, theirs: str) -> None:
        made[f"synthesis.{ours}.weight"] = state[f"{theirs}.conv.weight"][0]
        made[f"synthesis.{ours}.affine.weight"] = state[f"{theirs}.conv.modulation.weight"]
        made[f"synthesis.{ours}.affine.bias"] = state[f"{theirs}.conv.modulation.bias"]

    def styled(ours: str, theirs: str, noise: int) -> None:
        conv(ours, theirs)
        made[f"synthesis.{ours}.bias"] = state[f"{theirs}.activate.bias"]
        made[f"synthesis.{ours}.noise_const"] = state[f"noises.noise_{noise}"][0, 0]
        made[f"synthesis.{ours}.noise_strength"] = state[f"{theirs}.noise.weight"].reshape(())
        made[f"synthesis.{ours}.resample_filter"] = filter_of(1.0)

    def rgb(ours: str, theirs: str) -> None:
        conv(ours, theirs)
        made[f"synthesis.{ours}.bias"] = state[f"{theirs}.bias"].flatten()

    styled("b4.conv1", "conv1", 0)
    rgb("b4.torgb", "to_rgb1")
    made["synthesis.b4.resample_filter"] = filter_of(1.0)
    for step in range(len(CHANNELS) - 1):
        block = f"b{8 * 2**step}"
        styled(f"{block}.conv0", f"convs.{2 * step}", 2 * step + 1)
        styled(f"{block}.conv1", f"convs.{2 * step + 1}", 2 * step + 2)
        rgb(f"{block}.torgb", f"to_rgbs.{step}")
        made[f"synthesis.{block}.resample_filter"] = filter_of(1.0)
    for number in (1, 2):
        for kind in ("weight", "bias"):
            made[f"mapping.fc{number - 1}.{kind}"] = state[f"style.{number}.{kind}"]
    made["mapping.w_avg"] = torch.linspace(-1, 1, STYLE)
    return made

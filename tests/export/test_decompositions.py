"""One parity check per operator of the decomposition table: output and input gradient, ONNX Runtime against autograd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from export_tools import operators, parity_of, weighted
from torch import Tensor, nn

from faceprotect_export.trace.decompositions import OURS, table
from faceprotect_export.trace.vjp import trace

torch.manual_seed(0)


def conv(i: int, o: int, k: int, s: int = 1, p: int = 0, d: int = 1, g: int = 1, bias: bool = True) -> nn.Module:
    return nn.Conv2d(i, o, k, s, p, d, g, bias).requires_grad_(False)


def attention(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2).reshape(x.shape[0], -1, 2, x.shape[1] // 2).transpose(1, 2)
    return F.scaled_dot_product_attention(tokens, tokens * 0.5, tokens)


IMAGE = (1, 4, 9, 11)
INDEX = torch.tensor([3, 0, 1, 3])
CASES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "conv 3x3": (conv(4, 6, 3, 1, 1), IMAGE),
    "conv 1x1": (conv(4, 6, 1), IMAGE),
    "conv, padding beyond the kernel": (conv(4, 6, 3, 1, 4), IMAGE),
    "conv dilated": (conv(4, 6, 3, 1, 2, 2), IMAGE),
    "conv grouped": (conv(4, 6, 3, 1, 1, 1, 2), IMAGE),
    "conv depthwise": (conv(4, 4, 3, 1, 1, 1, 4), IMAGE),
    "conv 3x3 stride 2": (conv(4, 6, 3, 2, 1), IMAGE),
    "conv 3x3 stride 2, even": (conv(4, 6, 3, 2, 1), (2, 4, 8, 12)),
    "conv 3x3 stride 2 unpadded": (conv(4, 6, 3, 2), (1, 4, 10, 12)),
    "conv 7x7 stride 2": (conv(3, 5, 7, 2, 3), (1, 3, 16, 15)),
    "conv 4x4 stride 2": (conv(4, 6, 4, 2, 1), (1, 4, 8, 12)),
    "conv 2x2 stride 2": (conv(4, 6, 2, 2), IMAGE),
    "conv 5x5 stride 3": (conv(4, 6, 5, 3, 2), IMAGE),
    "conv 1x1 stride 2": (conv(4, 6, 1, 2), IMAGE),
    "conv 2x2 stride 3": (conv(4, 6, 2, 3), IMAGE),
    "conv stride 2 grouped": (conv(4, 6, 3, 2, 1, 1, 2), IMAGE),
    "conv stride 2 depthwise": (conv(4, 4, 3, 2, 1, 1, 4), IMAGE),
    "conv stride 2 dilated": (conv(4, 6, 3, 2, 2, 2), IMAGE),
    "conv, unequal strides": (nn.Conv2d(4, 6, 3, (1, 2), 1).requires_grad_(False), IMAGE),
    "conv 1-d": (nn.Conv1d(4, 6, 3, 2, 1).requires_grad_(False), (1, 4, 9)),
    "conv transposed": (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1).requires_grad_(False), IMAGE),
    "upsample nearest": (lambda x: F.interpolate(x, scale_factor=2.0), IMAGE),
    "upsample nearest, odd factor": (lambda x: F.interpolate(x, size=(13, 16)), IMAGE),
    "upsample nearest, then conv": (nn.Sequential(nn.Upsample(scale_factor=2), conv(4, 6, 3, 1, 1)), IMAGE),
    "upsample nearest 3, then conv 5x5": (nn.Sequential(nn.Upsample(scale_factor=3), conv(4, 2, 5, 1, 1)), IMAGE),
    "conv, then average pool": (nn.Sequential(conv(4, 6, 3, 1, 1), nn.AvgPool2d(2)), (1, 4, 8, 12)),
    "upsample bilinear": (lambda x: F.interpolate(x, size=(14, 20), mode="bilinear"), IMAGE),
    "upsample bilinear, corners": (lambda x: F.interpolate(x, (5, 20), mode="bilinear", align_corners=True), IMAGE),
    "upsample bilinear, by factor": (lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"), IMAGE),
    "reflection pad": (lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"), IMAGE),
    "replication pad": (lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"), IMAGE),
    "constant pad": (lambda x: F.pad(x, (1, 2, 3, 0), value=0.5), IMAGE),
    "adaptive average to 1": (lambda x: F.adaptive_avg_pool2d(x, 1), IMAGE),
    "adaptive average, whole blocks": (lambda x: F.adaptive_avg_pool2d(x, (3, 4)), (1, 4, 9, 12)),
    "adaptive average": (lambda x: F.adaptive_avg_pool2d(x, (4, 5)), IMAGE),
    "average pool": (lambda x: F.avg_pool2d(x, 2), IMAGE),
    "average pool 3, stride 1": (lambda x: F.avg_pool2d(x, 3, 1), IMAGE),
    "average pool 3, stride 1, padded": (lambda x: F.avg_pool2d(x, 3, 1, 1), IMAGE),
    "average pool 3, stride 2, padded": (lambda x: F.avg_pool2d(x, 3, 2, 1), IMAGE),
    "average pool, padding not counted": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), IMAGE),
    "average pool, divisor": (lambda x: F.avg_pool2d(x, 3, 2, divisor_override=5), IMAGE),
    "max pool": (lambda x: F.max_pool2d(x, 2), IMAGE),
    "max pool 3, stride 2": (lambda x: F.max_pool2d(x, 3, 2), IMAGE),
    "max pool 3, stride 2, padded": (lambda x: F.max_pool2d(x, 3, 2, 1), IMAGE),
    "max pool, ceil": (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), (1, 4, 10, 12)),
    "max pool with ties": (lambda x: F.max_pool2d((x * 2).round(), 3, 2) * x.mean(), IMAGE),
    "layer norm": (nn.LayerNorm(11).requires_grad_(False), IMAGE),
    "group norm": (nn.GroupNorm(2, 4).requires_grad_(False), IMAGE),
    "batch norm": (nn.BatchNorm2d(4).eval().requires_grad_(False), IMAGE),
    "batch norm 1-d": (nn.BatchNorm1d(4, affine=False).eval(), (3, 4)),
    "softmax": (lambda x: torch.softmax(x, 1), IMAGE),
    "log softmax": (lambda x: torch.log_softmax(x, -1), IMAGE),
    "attention": (attention, IMAGE),
    "gelu": (F.gelu, IMAGE),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), IMAGE),
    "silu": (F.silu, IMAGE),
    "mish": (F.mish, IMAGE),
    "hardswish": (lambda x: F.hardswish(3 * x), IMAGE),
    "hardsigmoid": (lambda x: F.hardsigmoid(3 * x), IMAGE),
    "relu6": (lambda x: F.relu6(9 * x), IMAGE),
    "leaky relu": (F.leaky_relu, IMAGE),
    "elu": (F.elu, IMAGE),
    "softplus": (F.softplus, IMAGE),
    "prelu per channel": (nn.PReLU(4).requires_grad_(False), IMAGE),
    "prelu, one slope": (nn.PReLU().requires_grad_(False), IMAGE),
    "sigmoid and tanh": (lambda x: torch.sigmoid(x) * torch.tanh(x), IMAGE),
    "clamp": (lambda x: x.clamp(-0.5, 0.7), IMAGE),
    "powers": (lambda x: x.square() + (x * x + 1) ** 1.5 + (x.abs() + 1).rsqrt(), IMAGE),
    "normalise": (lambda x: F.normalize(x, dim=1), IMAGE),
    "variance": (lambda x: x.var((2, 3)) + x.std(1).mean(), IMAGE),
    "variance and mean": (lambda x: torch.stack(torch.var_mean(x, 1)), IMAGE),
    "linear": (nn.Linear(11, 5).requires_grad_(False), IMAGE),
    "matrix products on both sides": (lambda x: torch.ones(3, 9) @ x @ torch.ones(11, 2), IMAGE),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), IMAGE),
    "pixel unshuffle": (lambda x: F.pixel_unshuffle(x, 2), (1, 4, 8, 10)),
    "split, cat, flip": (lambda x: torch.cat([p.flip(1) for p in x.split([1, 3], 1)], 1) * x, IMAGE),
    "stack, select, slice": (lambda x: torch.stack([x[:, 1], x[:, 3]], 1)[..., 1::2], IMAGE),
    "selection by an index": (lambda x: x.index_select(1, INDEX) * x.index_select(2, INDEX[:1]), IMAGE),
    "max and min": (lambda x: torch.maximum(x, -x) + x.amax((2, 3), keepdim=True), IMAGE),
    "in place": (lambda x: F.relu(x + 1, inplace=True) + x.clone().mul_(2), IMAGE),
}


@pytest.mark.parametrize("name", CASES)
def test_output_and_gradient_agree_with_autograd(name: str, tmp_path: Path) -> None:
    function, shape = CASES[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(len(name)))

    def step(x: Tensor) -> dict[str, Tensor]:
        y = function(x)
        return {"y": y, "loss": weighted(y)}

    parity, _ = parity_of(step, {"x": x}, ["x"], tmp_path)
    assert set(parity.outputs) == {"y", "loss", "grad_x"}
    assert parity.outputs["grad_x"].reference_max > 0
    assert parity.relative_error < 1e-5, parity
    assert parity.cosine > 0.999999


def test_every_entry_of_ours_is_reached_by_some_case() -> None:
    """A table entry that no case uses would be untested."""
    called: set[str] = set()

    def spy(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object, **kwargs: object) -> object:
            called.add(name)
            return function(*args, **kwargs)

        return run

    spied = {**table(), **{op: spy(str(op), function) for op, function in OURS.items()}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faceprotect_export.trace.vjp.table", lambda: spied)
        for function, shape in CASES.values():
            trace(lambda x, f=function: {"loss": weighted(f(x))}, {"x": torch.randn(shape)}, ["x"])
    # Uninitialised memory appears only inside other operators' kernels, batch norm's backward under another name per version.
    exempt = {"aten.empty.memory_format", "aten.empty_permuted.default", "aten.empty_like.default"}
    assert {str(op) for op in OURS} - called <= exempt


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_gradient_leaves_no_weight_arithmetic_at_run_time(stride: int, tmp_path: Path) -> None:
    layer = conv(4, 6, 3, stride, 1)
    _, model = parity_of(lambda x: {"loss": layer(x).square().sum()}, {"x": torch.randn(1, 4, 8, 8)}, ["x"], tmp_path)
    names = operators(model)
    assert names.count("Conv") == 2
    assert not {"Transpose", "ConvTranspose", "Pad", "Slice"} & set(names)


def test_upsampled_convolution_never_makes_the_large_image(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Upsample(scale_factor=2), conv(4, 6, 3, 1, 1))
    _, model = parity_of(lambda x: {"loss": net(x).square().sum()}, {"x": torch.randn(1, 4, 8, 8)}, ["x"], tmp_path)
    assert not {"Resize", "Expand", "AveragePool"} & set(operators(model))


def test_weight_gradient_of_a_convolution(tmp_path: Path) -> None:
    inputs = {"x": torch.randn(2, 3, 8, 9), "w": torch.randn(4, 3, 3, 3)}

    def step(x: Tensor, w: Tensor) -> dict[str, Tensor]:
        return {"loss": weighted(F.conv2d(x, w, None, 2, 1))}

    parity, _ = parity_of(step, inputs, ["x", "w"], tmp_path)
    assert parity.relative_error < 1e-5

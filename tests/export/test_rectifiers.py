"""Rectifiers become multiplications, and every odd value keeps the side that torch gives it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from export_tools import operators
from torch import Tensor

from faceprotect_export.build.parity import run_onnx
from faceprotect_export.onnx_io.writer import write
from faceprotect_export.trace.vjp import gradient_function, trace

SLOPES = torch.tensor([0.25, -0.7, 1.0, 0.0, 3.0, 1e-3])
RECTIFIERS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.7),
    "leaky relu": lambda x: F.leaky_relu(x, 0.2),
    "leaky relu, negative slope": lambda x: F.leaky_relu(x, -0.2),
    "prelu": lambda x: F.prelu(x, SLOPES),
    "prelu, one slope": lambda x: F.prelu(x, SLOPES[:1]),
}
ODD = [0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, 1e-7, -1e-7, 6.0, -0.5, 0.7, 1e30, -1e30, 0.3, -0.3]


def measured(name: str, values: list[float], folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Autograd's outputs, the engine's, and the operators of the engine, of a weighted sum over ``values`` in every channel."""
    x = torch.tensor(values).expand(1, 6, 1, len(values)).contiguous()
    weights = torch.linspace(-1, 2, x.numel()).reshape(x.shape)

    def function(x: Tensor) -> dict[str, Tensor]:
        y = RECTIFIERS[name](x)
        return {"y": y, "loss": (y * weights).sum()}

    model = write(trace(function, {"x": x}, ["x"]), folder / "engine.onnx")
    found = {k: torch.from_numpy(v) for k, v in run_onnx(folder / "engine.onnx", {"x": x.numpy()}, threads=1).items()}
    return gradient_function(function, ["x"])({"x": x}), found, operators(model)


@pytest.mark.parametrize("name", RECTIFIERS)
def test_zeros_denormals_bounds_and_huge_values_take_torchs_side(name: str, tmp_path: Path) -> None:
    expected, found, _ = measured(name, ODD, tmp_path)
    for output in ("y", "grad_x"):
        np.testing.assert_allclose(found[output], expected[output], rtol=3e-7, atol=0, err_msg=output)


@pytest.mark.parametrize("name", ["leaky relu", "prelu, one slope", "relu"])
def test_slopes_in_the_unit_interval_change_no_bit(name: str, tmp_path: Path) -> None:
    values = torch.randn(200, generator=torch.Generator().manual_seed(3)).tolist()
    expected, found, _ = measured(name, values, tmp_path)
    assert torch.equal(found["y"], expected["y"])
    assert torch.equal(found["grad_x"], expected["grad_x"])


@pytest.mark.parametrize("name", RECTIFIERS)
def test_nan_stays_nan_and_its_neighbours_do_not_become_it(name: str, tmp_path: Path) -> None:
    expected, found, _ = measured(name, [math.nan, 0.3, -0.3], tmp_path)
    assert found["y"][..., 0].isnan().all()
    assert torch.equal(found["y"].isnan(), expected["y"].isnan())


@pytest.mark.parametrize("name", RECTIFIERS)
def test_nothing_is_selected_and_nothing_is_left_to_slow_kernels(name: str, tmp_path: Path) -> None:
    _, _, names = measured(name, ODD, tmp_path)
    assert not {"Where", "PRelu"} & set(names)


def test_a_vector_keeps_a_closed_unit_closed_to_an_infinite_gradient(tmp_path: Path) -> None:
    x = torch.tensor([[0.0, -1.0, 4.0]])

    def function(x: Tensor) -> dict[str, Tensor]:
        return {"loss": F.relu(x).sqrt().sum()}

    write(trace(function, {"x": x}, ["x"]), tmp_path / "engine.onnx")
    gradient = run_onnx(tmp_path / "engine.onnx", {"x": x.numpy()}, threads=1)["grad_x"]
    np.testing.assert_allclose(gradient, [[0.0, 0.0, 0.25]], rtol=1e-6)


def test_halves_keep_the_slopes_product_in_float16(tmp_path: Path) -> None:
    x = torch.randn(1, 6, 8, 8)
    kernel = torch.randn(6, 6, 3, 3) * 0.1

    def function(x: Tensor) -> dict[str, Tensor]:
        y = F.prelu(F.conv2d(x, kernel, padding=1), SLOPES)
        return {"loss": F.conv2d(y, kernel, padding=1).square().mean()}

    model = write(trace(function, {"x": x}, ["x"]), tmp_path / "engine.onnx", arithmetic="fp16")
    back = {o: node for node in model.graph.node for o in node.output}
    readers = [node for node in model.graph.node if node.op_type == "Conv"]
    # What enters the second convolution and the first one's gradient comes straight from a product: no Cast from float32 between.
    assert [back[node.input[0]].op_type for node in readers if node.input[0] in back].count("Mul") >= 2
    gradient = run_onnx(tmp_path / "engine.onnx", {"x": x.numpy()}, threads=1)["grad_x"]
    expected = gradient_function(function, ["x"])({"x": x})["grad_x"]
    assert float((torch.from_numpy(gradient) - expected).abs().max() / expected.abs().max()) < 0.02

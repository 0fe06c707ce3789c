"""Files written: versions, precision, storage, determinism, weights left in another file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from export_tools import operators, parity_of, weighted
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from faceprotect_export.build.parity import compare, run_onnx
from faceprotect_export.onnx_io.writer import ExternalTensor, WriteError, round_rows, round_weights, write
from faceprotect_export.trace.vjp import NamedFunction, gradient_function, trace


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.PReLU(16), nn.Conv2d(16, 32, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32 * 4, 16)).requires_grad_(False).eval()


IMAGE = {"x": torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))}


def loss_of(net: nn.Module) -> NamedFunction:
    def loss(x: Tensor) -> dict[str, Tensor]:
        y = F.normalize(net(x), dim=1)
        return {"y": y, "loss": weighted(y)}

    return loss


def test_versions_and_static_shapes(tmp_path: Path) -> None:
    _, model = parity_of(loss_of(network()), IMAGE, ["x"], tmp_path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (10, 18)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 8]


def test_same_graph_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(trace(loss_of(network()), IMAGE, ["x"]), tmp_path / name / "engine.onnx", weights="fp16")
    assert (tmp_path / "a/engine.onnx").read_bytes() == (tmp_path / "b/engine.onnx").read_bytes()


def test_half_storage_is_exact_for_rounded_weights_and_half_as_large(tmp_path: Path) -> None:
    function = loss_of(round_weights(network()))
    full, large = parity_of(function, IMAGE, ["x"], tmp_path)
    half, small = parity_of(function, IMAGE, ["x"], tmp_path, weights="fp16")
    assert half.relative_error < 1e-5
    assert half == full
    assert small.ByteSize() < 0.6 * large.ByteSize()
    assert not any(t.data_type == TensorProto.FLOAT and np.prod(t.dims) >= 256 for t in small.graph.initializer)


def test_half_storage_never_changes_a_value(tmp_path: Path) -> None:
    """Weights that float16 does not hold exactly stay float32."""
    parity, _ = parity_of(loss_of(network()), IMAGE, ["x"], tmp_path, weights="fp16")
    assert parity.relative_error < 1e-5


def test_byte_storage_is_exact_for_rounded_rows_and_a_quarter_as_large(tmp_path: Path) -> None:
    """Matrices and kernels; what is rounded is off by a 126th of its row's largest at most."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 3), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 16))
    before = [weight.detach().clone() for weight in net.parameters()]
    function = loss_of(round_rows(net).requires_grad_(False))
    for old, new in zip(before, net.parameters(), strict=True):
        largest = old.abs().reshape(len(old), -1).amax(1)
        assert ((old - new).abs().reshape(len(old), -1).amax(1) <= largest / 126).all()
    plain, large = parity_of(function, IMAGE, ["x"], tmp_path)
    parity, small = parity_of(function, IMAGE, ["x"], tmp_path, weights="int8", fold="load")
    assert max(parity.outputs[name].relative_error for name in ("y", "grad_x")) < 1e-5
    assert small.ByteSize() < 0.35 * large.ByteSize()
    assert plain.outputs["y"].relative_error < 1e-5
    odd = nn.Sequential(nn.Conv2d(3, 512, 3), nn.Flatten())
    never, _ = parity_of(loss_of(odd.requires_grad_(False)), IMAGE, ["x"], tmp_path, weights="int8")
    assert never.outputs["grad_x"].relative_error < 1e-5  # what bytes do not hold exactly stays as it is


def test_fold_at_load_stores_each_kernel_once(tmp_path: Path) -> None:
    function = loss_of(round_weights(network()))
    _, folded = parity_of(function, IMAGE, ["x"], tmp_path, weights="fp16")
    parity, lean = parity_of(function, IMAGE, ["x"], tmp_path, weights="fp16", fold="load")
    assert parity.relative_error < 1e-5
    assert lean.ByteSize() < 0.75 * folded.ByteSize()


def test_half_arithmetic_types_convolutions_and_keeps_the_interface(tmp_path: Path) -> None:
    parity, model = parity_of(loss_of(network()), IMAGE, ["x"], tmp_path, arithmetic="fp16")
    onnx.checker.check_model(model, full_check=True)
    types = {i.name: i.type.tensor_type.elem_type for i in onnx.shape_inference.infer_shapes(model).graph.value_info}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert convolutions
    assert all(types[n.output[0]] == TensorProto.FLOAT16 for n in convolutions)
    assert {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)} == {TensorProto.FLOAT}
    assert parity.cosine > 0.999


def test_gradient_scale_rescues_half_arithmetic_from_underflow(tmp_path: Path) -> None:
    """At 1e-8 a float16 gradient is all zeros; scaled by 2**20 it keeps its direction."""
    net = network()

    def tiny(x: Tensor) -> dict[str, Tensor]:
        return {"loss": 1e-8 * weighted(net(x))}

    reference = gradient_function(tiny, ["x"])(IMAGE)["grad_x"].numpy()
    cosines = []
    for scale in (1.0, 2.0**20):
        model = write(trace(tiny, IMAGE, ["x"], gradient_scale=scale), tmp_path / "engine.onnx", arithmetic="fp16")
        # ONNX Runtime has no float16 kernels on CPU and computes in float32: the reference evaluator rounds as typed.
        outputs = ReferenceEvaluator(model).run(["grad_x"], {"x": IMAGE["x"].numpy()})
        cosines.append(compare(reference, outputs[0]).cosine)
    assert cosines[0] < 0.5
    assert cosines[1] > 0.999


def test_weights_in_another_file_are_named_by_offset(tmp_path: Path) -> None:
    """The kernel lies at an odd place of a foreign file; forward and flipped kernels both come from there."""
    kernel = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    (tmp_path / "foreign.bin").write_bytes(b"header!" + kernel.numpy().astype("<f4").tobytes() + b"rest")
    external = {"kernel": ExternalTensor("foreign.bin", 7, 4 * kernel.numel())}

    def loss(x: Tensor, kernel: Tensor) -> dict[str, Tensor]:
        return {"loss": weighted(F.conv2d(x, kernel, None, 2, 1))}

    inputs = {**IMAGE, "kernel": kernel}
    model = write(trace(loss, inputs, ["x"]), tmp_path / "engine.onnx", fold="load", external=external)
    assert [i.name for i in model.graph.input] == ["x"]
    assert not any(t.data_location != TensorProto.EXTERNAL and np.prod(t.dims) > 64 for t in model.graph.initializer)
    measured = run_onnx(tmp_path / "engine.onnx", {"x": IMAGE["x"].numpy()})
    expected = gradient_function(loss, ["x"])(inputs)
    assert compare(expected["grad_x"].numpy(), measured["grad_x"]).relative_error < 1e-5


def test_external_tensor_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    graph = trace(lambda x: {"loss": x.sum()}, IMAGE, ["x"])
    with pytest.raises(WriteError, match="5 bytes"):
        write(graph, tmp_path / "engine.onnx", external={"x": ExternalTensor("foreign.bin", 0, 5)})


def test_names_are_checked(tmp_path: Path) -> None:
    graph = trace(loss_of(network()), IMAGE, ["x"])
    with pytest.raises(WriteError, match="takes"):
        write(graph, tmp_path / "engine.onnx", inputs=["image"])
    with pytest.raises(WriteError, match="gives"):
        write(graph, tmp_path / "engine.onnx", outputs=["loss"])


def test_unknown_operator_is_named(tmp_path: Path) -> None:
    graph = trace(lambda x: {"loss": torch.special.bessel_j0(x).sum()}, IMAGE)
    with pytest.raises(WriteError, match="bessel"):
        write(graph, tmp_path / "engine.onnx")


def test_writing_leaves_the_traced_module_as_it_was(tmp_path: Path) -> None:
    graph = trace(loss_of(network()), IMAGE, ["x"])
    before = str(graph.graph)
    write(graph, tmp_path / "engine.onnx")
    assert str(graph.graph) == before
    assert "Conv" in operators(onnx.load(str(tmp_path / "engine.onnx")))


def test_large_tensors_go_to_a_file_of_their_own(tmp_path: Path) -> None:
    graph = trace(loss_of(network()), IMAGE, ["x"])
    whole = write(graph, tmp_path / "whole.onnx", inline=1 << 30)
    apart = write(graph, tmp_path / "apart.onnx", inline=0)
    data = tmp_path / "apart.onnx.data"
    assert not (tmp_path / "whole.onnx.data").exists()
    assert apart.ByteSize() < whole.ByteSize() - 4 * 32 * 16 * 9
    onnx.checker.check_model(str(tmp_path / "apart.onnx"))
    outside = [i for i in apart.graph.initializer if i.data_location == TensorProto.EXTERNAL]
    where = [{e.key: e.value for e in i.external_data} for i in outside]
    assert outside and all(int(w["offset"]) % 4096 == 0 and w["location"] == data.name for w in where)
    assert len({w["offset"] for w in where}) == len(where)
    feeds = {k: v.numpy() for k, v in IMAGE.items()}
    one, other = run_onnx(tmp_path / "whole.onnx", feeds), run_onnx(tmp_path / "apart.onnx", feeds)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    again = tmp_path / "again"
    again.mkdir()
    write(graph, again / "apart.onnx", inline=0)
    assert (again / data.name).read_bytes() == data.read_bytes()


def test_half_arithmetic_takes_weights_as_they_are_stored(tmp_path: Path) -> None:
    graph = trace(loss_of(round_weights(network())), IMAGE, ["x"])
    model = write(graph, tmp_path / "half.onnx", weights="fp16", arithmetic="fp16", fold="export", inline=0)
    onnx.checker.check_model(str(tmp_path / "half.onnx"))
    constants = {i.name for i in model.graph.initializer}
    heavy = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul")]
    assert heavy and all(node.input[1] in constants for node in heavy if node.op_type == "Conv")
    exact = gradient_function(loss_of(round_weights(network())), ["x"])(IMAGE)
    made = run_onnx(tmp_path / "half.onnx", {k: v.numpy() for k, v in IMAGE.items()})
    assert compare(exact["grad_x"].numpy(), made["grad_x"]).cosine > 0.999


@pytest.mark.parametrize("fold", ["export", "load"])
def test_half_arithmetic_resamples_in_full(tmp_path: Path, fold: Literal["export", "load"]) -> None:
    """Coefficients of resampling are no weights, which were rounded: what float16 does to them would be an error of every image."""
    torch.manual_seed(0)
    rows, net = torch.rand(20, 32), nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 32, 8)).requires_grad_(False).eval()
    sample = {"x": torch.rand(1, 3, 32, 32)}

    def function(x: Tensor) -> dict[str, Tensor]:
        return {"loss": weighted(net(rows @ x))}

    round_weights(net)
    model = write(trace(function, sample, ["x"]), tmp_path / "half.onnx", weights="fp16", arithmetic="fp16", fold=fold)
    types = {i.name: i.type.tensor_type.elem_type for i in onnx.shape_inference.infer_shapes(model).graph.value_info}
    products = [types.get(node.output[0], TensorProto.FLOAT) for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert products.count(TensorProto.FLOAT) == 2  # there, and back with the gradient
    assert TensorProto.FLOAT16 in products


def test_half_arithmetic_keeps_the_gradient_of_a_max_pool(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.MaxPool2d(3, 2), nn.Conv2d(16, 8, 3), nn.Flatten()).requires_grad_(False).eval()
    sample = {"x": torch.rand(1, 3, 32, 32)}
    exact = gradient_function(loss_of(round_weights(net)), ["x"])(sample)
    graph = trace(loss_of(net), sample, ["x"])
    write(graph, tmp_path / "half.onnx", weights="fp16", arithmetic="fp16")
    made = run_onnx(tmp_path / "half.onnx", {k: v.numpy() for k, v in sample.items()})
    assert compare(exact["grad_x"].numpy(), made["grad_x"]).cosine > 0.99

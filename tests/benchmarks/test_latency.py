"""The latency table: work counted by hand, the roofline floor, and a file that agrees with itself."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import toy_models
from click.testing import CliRunner
from onnx import NodeProto, TensorProto, helper, numpy_helper

import latency
from faceprotect_engines.store import Store
from harness.work import Ceilings, Work, multiply_accumulates, weight_bytes, work_of

Sizes = Sequence[int | str]
FACTS = {"schema", "command", "date", "commit", "version", "onnxruntime", "machine", "threads", "repeat", "left_out"}


def model(nodes: Sequence[NodeProto], inputs: Mapping[str, Sizes], weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Its output is the last node's, of a shape that only inference can tell."""
    rank = [f"d{axis}" for axis in range(4)]
    graph = helper.make_graph(
        list(nodes),
        "toy",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, rank)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def one(kind: str, inputs: Mapping[str, Sizes], *weight: int, **attributes: Any) -> onnx.ModelProto:
    """A graph of one node; what is no input is a float32 weight of the sizes ``weight``."""
    names = [*inputs, *(["w"] if weight else [])]
    weights = {"w": np.zeros(weight, np.float32)} if weight else {}
    return model([helper.make_node(kind, names, ["y"], **attributes)], inputs, weights)


@pytest.mark.parametrize(
    ("toy", "macs"),
    [
        # 9 x 9 with padding 1 and stride 2 is 5 x 5; 6 channels in 2 groups: 8 outputs of 3 channels x 3 x 3
        (one("Conv", {"x": (2, 6, 9, 9)}, 8, 3, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1], group=2), 2 * 8 * 25 * 27),
        (one("Conv", {"x": (1, 4, 8, 8)}, 4, 1, 3, 3, group=4, dilations=[2, 2]), 4 * 16 * 9),
        # each of 4 x 5 x 5 inputs goes into 3 channels x 2 x 2, which no output size tells
        (one("ConvTranspose", {"x": (1, 4, 5, 5)}, 4, 3, 2, 2, strides=[2, 2]), 4 * 25 * 12),
        (one("MatMul", {"a": (2, 3, 4, 5), "b": (3, 5, 6)}), 2 * 3 * 4 * 6 * 5),
        (one("MatMul", {"a": (7,), "b": (7,)}), 7),
        (one("Gemm", {"a": (5, 4), "b": (6, 5)}, transA=1, transB=1), 4 * 6 * 5),
        (one("Relu", {"x": (1, 4)}), 0),
    ],
    ids=["conv", "depthwise", "transposed", "matmul", "dot", "gemm", "relu"],
)
def test_work_is_what_a_hand_counts(toy: onnx.ModelProto, macs: int) -> None:
    assert multiply_accumulates(toy) == macs


def test_free_sizes_come_from_the_inputs() -> None:
    toy = one("Conv", {"x": ("n", 3, "h", "w")}, 8, 3, 3, 3)
    assert multiply_accumulates(toy, {"x": (2, 3, 10, 12)}) == 2 * 8 * 8 * 10 * 27
    with pytest.raises(ValueError, match="shape of 'x' does not follow"):
        multiply_accumulates(toy)


def test_what_is_computed_once_is_no_work_of_a_run() -> None:
    nodes = [
        helper.make_node("Cast", ["w16"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "w"], ["square"]),
        helper.make_node("MatMul", ["x", "square"], ["y"]),
    ]
    toy = model(nodes, {"x": (1, 1, 2, 5)}, {"w16": np.zeros((5, 5), np.float16)})
    assert multiply_accumulates(toy) == 2 * 5 * 5


@pytest.mark.parametrize("kind", ["Einsum", "If"])
def test_a_graph_that_cannot_be_counted_is_refused(kind: str) -> None:
    branch = helper.make_graph([], "branch", [], [])
    attributes = {"then_branch": branch, "else_branch": branch} if kind == "If" else {"equation": "ij,ij->i"}
    toy = model([helper.make_node(kind, ["x"], ["y"], name="here", **attributes)], {"x": (1, 1)}, {})
    with pytest.raises(ValueError, match=f"operator {kind} .node 'here'. is not counted"):
        multiply_accumulates(toy)


def test_weights_take_four_bytes_whatever_stores_them(tmp_path: Path) -> None:
    toy = one("Relu", {"x": (1, 3)})
    for kind in (np.float32, np.float16, np.int8, np.int64):
        toy.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 5), kind), kind.__name__))
    assert weight_bytes(toy) == 3 * 10 * 4 + 10 * 8
    onnx.save(toy, tmp_path / "toy.onnx")
    arrays = np.zeros((1, 3), np.float32)
    assert work_of(tmp_path / "toy.onnx", {"x": arrays}, {"y": arrays}) == Work(0, weight_bytes(toy) + 2 * 12)


def test_the_floor_is_the_longer_of_arithmetic_and_traffic() -> None:
    ceilings = Ceilings(matmul=40.0, conv=50.0, copy=10.0)
    assert ceilings.floor(Work(macs=10**9, bytes=10**6)) == (pytest.approx(2 / 50), "compute")
    assert ceilings.floor(Work(macs=10**6, bytes=10**9)) == (pytest.approx(0.1), "memory")


def test_the_table_agrees_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "RESULTS", tmp_path)
    monkeypatch.setattr(latency, "COPIED", 1 << 24)
    words = ["--engines", "keypoints", "--engines", "student-attention", "--repeat", "3", "--threads", "1"]
    done = CliRunner().invoke(latency.main, words)
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / f"{platform.machine()}-cpu-float32.json").read_text())
    assert document.keys() == FACTS | {"power", "ceilings", "engines"}
    assert (document["threads"], document["repeat"], list(document["engines"])) == (1, 3, ["keypoints", "student-attention"])
    best = document["ceilings"]
    for name, row in document["engines"].items():
        floors = 2 * row["macs"] / (1e9 * max(best["matmul"], best["conv"])), row["bytes"] / (1e9 * best["copy"])
        assert row["floor_s"] == pytest.approx(max(floors), abs=1e-9)
        assert row["bound"] == ("compute" if floors[0] >= floors[1] else "memory")
        assert row["ratio"] == pytest.approx(row["p50_s"] / row["floor_s"], rel=1e-3)
        assert 0 < row["p50_s"] <= row["p90_s"] <= row["p95_s"] <= row["p99_s"]
        assert f"{name} " in done.output
    assert document["engines"]["student-attention"]["macs"] > document["engines"]["keypoints"]["macs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engines", "nobody"], "no engine 'nobody'"),
        (["--engines", "keypoints", "--engines", "elsewhere/keypoints"], "two engines are called 'keypoints'"),
        (["--repeat", "0"], "0 is not in the range"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, words: list[str], message: str) -> None:
    done = CliRunner().invoke(latency.main, [*words, "--out", str(tmp_path / "none.json")])
    assert done.exit_code != 0
    assert message in done.output
    assert not (tmp_path / "none.json").exists()


def test_a_plan_of_one_size_leaves_engines_of_any_size_out(tmp_path: Path) -> None:
    toy_models.save(tmp_path / "any-size", [helper.make_node("Relu", ["x"], ["y"])], {"x": (1, None)}, {"y": (1, None)}, {})
    toy_models.save(tmp_path / "plain", [helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 2)}, {"y": (1, 2)}, {})
    store = Store([tmp_path], tmp_path / "cache")
    assert latency.all_engines(store, "rtx") == (["plain"], ["any-size"])
    assert latency.all_engines(store, "cpu") == (["any-size", "plain"], [])

"""Let the tests of this folder import what they share, and keep torch from taking every core."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)

WIDTHS = (8, 6, 10, 12)


def write_teacher(path: Path) -> None:
    """Four strided convolutions with ReLU, 56 to 7 px, then a layer over everything."""
    rng = np.random.default_rng(0)
    constants, nodes, name, channels = [], [], "image", 3
    for index, width in enumerate(WIDTHS):
        weight = rng.standard_normal((width, channels, 3, 3)).astype(np.float32) / np.sqrt(4.5 * channels)
        constants.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes.append(helper.make_node("Conv", [name, f"w{index}"], [f"c{index}"], strides=[2, 2], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        name, channels = f"r{index}", width
    constants.append(numpy_helper.from_array(rng.standard_normal((588, 16)).astype(np.float32), "last"))
    nodes += [helper.make_node("Flatten", [name], ["flat"]), helper.make_node("MatMul", ["flat", "last"], ["raw"])]
    nodes.append(helper.make_node("ReduceL2", ["raw"], ["norm"], axes=[1], keepdims=1))
    nodes.append(helper.make_node("Div", ["raw", "norm"], ["embedding"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 112, 112])
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 16])
    model = helper.make_model(helper.make_graph(nodes, "teacher", [image], [out], constants), opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 10
    onnx.save(model, path)


@pytest.fixture
def teachers(tmp_path: Path) -> Path:
    """A folder with one recogniser to learn from, and a judge."""
    models = {}
    for name, role in (("teacher", "surrogate"), ("judge", "judge")):
        write_teacher(tmp_path / f"{name}.onnx")
        entry = {"shape": [1, 3, 112, 112], "template": "arcface112"}
        models[name] = {"file": f"{name}.onnx", "role": role, "embedding": 16, "input": entry, "thresholds": {"far_1e-2": 0.3}}
    (tmp_path / "fr.json").write_text(json.dumps({"models": models}))
    return tmp_path

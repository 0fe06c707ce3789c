"""A user's recogniser becomes a gradient engine that the store opens and whose gradient is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from export_tools import SHARED
from torch import Tensor, nn

from faceprotect_engines.errors import EngineCorrupt
from faceprotect_engines.files.golden import check_golden
from faceprotect_engines.store import Store
from faceprotect_export.onnx_io import reader as onnx_reader
from faceprotect_export.onnx_io.writer import write
from faceprotect_export.surrogates.surrogate import build_surrogate, smooth_samples
from faceprotect_export.trace.vjp import trace
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.face.align import ARCFACE_112
from faceprotect_sdk.judging.specification import SpecificationError, parse_specification

SPEC: dict[str, Any] = {
    "input": {"shape": [1, 3, 56, 56], "color": "BGR", "range": [-1, 1], "template": "small"},
    "thresholds": {"far_1e-2": 0.3},
    "licence": "ours",
}
TEMPLATES = {"small": {"size": 112, "points": ARCFACE_112.tolist()}}


def network() -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 24)]
    return nn.Sequential(*layers).requires_grad_(False).eval()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    net = network()
    path = tmp_path / "mine.onnx"
    write(trace(lambda image: {"embedding": net(image)}, {"image": torch.rand(1, 3, 56, 56)}), path)
    return path


def test_engine_computes_what_the_specification_says(model: Path, tmp_path: Path) -> None:
    manifest = build_surrogate(model, tmp_path / "engine", spec=SPEC, templates=TEMPLATES)
    assert manifest.parity["relative_error"] <= 1e-4
    assert manifest.metadata["thresholds"] == {"far_1e-2": 0.3}
    image, reference = smooth_samples(1)[0], F.normalize(torch.randn(1, 24), dim=1)
    with Store(cache=tmp_path / "cache").open(tmp_path / "engine") as engine:
        outputs = engine.run({"image": image.numpy(), "reference": reference.numpy()})
    x = image.clone().requires_grad_()
    window = parse_specification(SPEC, TEMPLATES).input.window
    rows, cols = (torch.from_numpy(m) for m in window.matrices())
    seen = (rows @ x @ cols).flip(1) * 2 - 1
    similarity = (F.normalize(network()(seen), dim=1) * reference).sum(1)
    similarity.sum().backward()
    np.testing.assert_allclose(outputs["similarity"], similarity.detach().numpy(), atol=1e-5)
    assert isinstance(x.grad, Tensor)
    np.testing.assert_allclose(outputs["grad_image"], x.grad.numpy(), atol=1e-4 * float(x.grad.abs().max()))
    assert np.linalg.norm(outputs["embedding"]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_golden_outputs_are_reproduced(model: Path, tmp_path: Path, precision: Any) -> None:
    manifest = build_surrogate(model, tmp_path / "engine", spec=SPEC, templates=TEMPLATES, precision=precision)
    with Store(cache=tmp_path / "cache").open(tmp_path / "engine") as engine:
        errors = check_golden(engine, manifest, tmp_path / "engine")
    assert set(errors) == {"embedding", "similarity", "grad_image"}
    assert max(errors.values()) < 1e-4
    assert manifest.precision["arithmetic"] == {"fp32": "float32", "fp16": "float16"}[precision]
    assert ("--precision fp16" in manifest.build["command"]) == (precision == "fp16")
    graph = onnx.load(str(tmp_path / "engine" / "model.onnx")).graph
    halves = [n for n in graph.node if n.op_type == "Cast" and n.attribute[0].i == onnx.TensorProto.FLOAT16]
    assert bool(halves) == (precision == "fp16")


def test_same_model_same_bytes(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_surrogate(model, tmp_path / name, spec=SPEC, templates=TEMPLATES, name="mine")
    for file in ("model.onnx", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": None}, "garbles"),
        ({"input": {"template": "arcface112"}}, "shape"),
        ({"input": {"shape": [1, 3, 56, 64]}}, "square"),
        ({"input": {"shape": [1, 3, 56, 56], "template": "mystery"}}, "mystery"),
        ({"input": {"shape": [1, 3, 56, 56], "color": "YUV"}}, "YUV"),
        ({"input": {"shape": [1, 3, 56, 56], "mean": [1, 2]}}, "mean"),
    ],
)
def test_wrong_specification_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        parse_specification({**SPEC, **change}, TEMPLATES)


def test_box_template_is_refused_with_the_way_out(model: Path, tmp_path: Path) -> None:
    spec = {**SPEC, "input": {"shape": [1, 3, 8, 8], "template": "box"}}
    with pytest.raises(SpecificationError, match=r"input\.points"):
        build_surrogate(model, tmp_path / "engine", spec=spec, templates={"box": {"size": 8, "points": None}})


def test_a_network_that_is_misread_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnx_reader.OPERATORS, "Relu", lambda inputs, attributes: inputs[0])
    with pytest.raises(SpecificationError, match="differs from ONNX Runtime"):
        build_surrogate(model, tmp_path / "engine", spec=SPEC, templates=TEMPLATES)
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize("options", ["--size 40", "--size 56 --name (1)", "--size 56 --template moon"])
def test_what_cannot_be_exported_is_a_usage_error(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str) -> None:
    code = main(["export", "surrogate", str(model), "-o", str(tmp_path / "engine"), "--threshold", "0.3", *options.split()])
    assert code == 2
    assert "cannot be made into a surrogate" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]


def test_a_name_that_no_engine_can_have_is_refused_first(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineCorrupt, match="name"):
        build_surrogate(model, tmp_path / "engine", spec=SPEC, templates=TEMPLATES, name="my model (1)")


def test_wrong_size_is_reported_in_the_users_terms(model: Path, tmp_path: Path) -> None:
    spec = {**SPEC, "input": {**SPEC["input"], "shape": [1, 3, 40, 40]}}
    with pytest.raises(SpecificationError, match="does not run on"):
        build_surrogate(model, tmp_path / "engine", spec=spec, templates=TEMPLATES)


@pytest.mark.skipif(not (SHARED / "models/fr/fr.json").is_file(), reason="../shared/models/fr is not here")
def test_real_recogniser_becomes_an_engine(tmp_path: Path) -> None:
    document = json.loads((SHARED / "models/fr/fr.json").read_text())
    path = SHARED / "models/fr/mobileface_v2.onnx"
    spec = document["models"]["mobileface_v2"]
    manifest = build_surrogate(path, tmp_path / "engine", spec=spec, templates=document["templates"])
    assert manifest.parity["relative_error"] <= 1e-4
    assert manifest.parity["cosine"] >= 0.9999

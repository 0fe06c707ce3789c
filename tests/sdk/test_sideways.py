"""A photo that lies on its side, without EXIF to say so: the real detector with stand-ins for the recognisers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from faceprotect_engines.errors import EngineNotFound, WeightsMissing
from faceprotect_engines.store import ZOO, Store
from faceprotect_sdk import Protector
from faceprotect_sdk.cli.sheet import panel
from faceprotect_sdk.face.detect import turned
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.face.paste import support
from faceprotect_sdk.photo.reading import load


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image for its photograph")
    return np.ascontiguousarray(data.astronaut()[20:220, 100:340])


@pytest.fixture(scope="module")
def protector(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protector]:
    root = tmp_path_factory.mktemp("sideways")
    if not (ZOO / "face-detector").is_dir():
        pytest.skip("the detector has not been built")
    shutil.copytree(ZOO / "face-detector", root / "face-detector")
    with Protector(store=Store([root, zoo], root / "cache"), device="cpu", installed_judges=False, attempts=1) as protector:
        try:
            protector.faces(np.zeros((64, 64, 3), np.uint8))
        except (EngineNotFound, WeightsMissing) as error:
            pytest.skip(str(error))
        yield protector


@pytest.mark.parametrize("turns", [1, 2])
def test_it_is_protected_and_compared_as_upright(protector: Protector, astronaut: np.ndarray, turns: int) -> None:
    height, width = astronaut.shape[:2]
    lying = np.ascontiguousarray(np.rot90(astronaut, turns))
    (upright,) = protector.faces(astronaut)
    expected = turned(upright, turns, width, height)
    result = protector.protect(lying)
    (face,) = result.faces
    points = np.array(face.points)
    assert np.abs(points - expected.points).max() < 0.06 * 91
    assert all(verdict.before == pytest.approx(1.0) for verdict in face.verdicts)
    assert face.status == "protected"
    assert result.image is not None
    after = load(result.image).pixels
    allowed = support(face_mask(), points, *lying.shape[:2])
    assert after.shape == lying.shape
    np.testing.assert_array_equal(after[~allowed], lying[~allowed])
    same = protector.check(astronaut, lying)
    assert same.status == "still_matched"
    assert all(verdict.similarity > 0.97 for verdict in same.faces[0].verdicts)
    assert same.faces[0].quality.psnr > 25, "measured where the face lies in the turned photo"
    assert protector.check(astronaut, after).status == "not_matched"
    shown = panel(lying, expected.points, 64).astype(int) - panel(astronaut, upright.points, 64)
    assert np.abs(shown).mean() < 6, "a sheet shows the face upright"


def test_a_square_photo_turned_is_compared_upright(protector: Protector, astronaut: np.ndarray) -> None:
    """Both have one shape, so that the face of the second might be looked for where it was in the first."""
    square = np.ascontiguousarray(astronaut[:, :200])
    (face,) = protector.check(square, np.rot90(square).copy()).faces
    assert all(verdict.similarity > 0.97 for verdict in face.verdicts)
    assert face.quality.ssimulacra2_face is None, "the two photos cannot be laid over each other"

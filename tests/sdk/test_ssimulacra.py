"""SSIMULACRA2 agrees with the package's own function, and orders changes as people do."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from faceprotect_sdk.judging.ssimulacra import crop_score, face_score, ssimulacra2

POINTS = np.array([[203, 101], [248, 104], [225, 126], [203, 143], [243, 145]], np.float64)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return np.asarray(pytest.importorskip("skimage.data").astronaut())


def noisy(photo: np.ndarray, size: float) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(photo.shape) * size
    return np.clip(photo + cv2.GaussianBlur(noise, (0, 0), 1.0), 0, 255).round().astype(np.uint8)


def oracle(first: np.ndarray, second: np.ndarray) -> float:
    from ssimulacra2 import compute_ssimulacra2

    files = [io.BytesIO() for _ in range(2)]
    for file, photo in zip(files, (first, second), strict=True):
        Image.fromarray(photo).save(file, "PPM")
        file.seek(0)
    return float(compute_ssimulacra2(*files))


@pytest.mark.parametrize("shape", [(256, 256), (225, 390), (301, 257)])
def test_agrees_with_the_package(astronaut: np.ndarray, shape: tuple[int, int]) -> None:
    first = np.ascontiguousarray(astronaut[: shape[0], 60 : 60 + shape[1]])
    for size in (3, 12, 60):
        assert ssimulacra2(first, noisy(first, size)) == pytest.approx(oracle(first, noisy(first, size)), abs=0.05)


def test_equal_is_100_and_more_noise_scores_less(astronaut: np.ndarray) -> None:
    scores = [ssimulacra2(astronaut, noisy(astronaut, size)) for size in (0, 2, 8, 40)]
    assert scores[0] == 100
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("shapes", [((224, 300, 3), (224, 300, 3)), ((256, 256, 3), (256, 300, 3)), ((256, 256), (256, 256))])
def test_what_has_not_six_scales_is_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="225 px"):
        ssimulacra2(*(np.zeros(shape, np.uint8) for shape in shapes))


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_faces_of_any_size_are_scored(astronaut: np.ndarray, scale: float) -> None:
    first = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    points = (POINTS + 0.5) * scale - 0.5
    weak, strong = (face_score(first, noisy(first, size), points) for size in (4, 20))
    assert face_score(first, first, points) == 100
    assert 100 > weak > strong  # type: ignore[operator]


def test_only_the_face_counts(astronaut: np.ndarray) -> None:
    second = astronaut.copy()
    second[400:] = 0
    assert face_score(astronaut, second, POINTS) == 100


def test_a_face_outside_the_photo_or_a_strip_of_one_has_no_score(astronaut: np.ndarray) -> None:
    for way in ((2000, 0), (-316, 0)):
        assert face_score(astronaut, astronaut, POINTS + way) is None


def test_crops_are_scored_in_8_bits() -> None:
    crop = (np.random.default_rng(0).integers(50, 200, (1, 3, 256, 256)) / 255).astype(np.float32)
    assert crop_score(crop, crop + np.float32(0.4 / 255)) == 100
    assert crop_score(crop, crop + np.float32(0.6 / 255)) < 100

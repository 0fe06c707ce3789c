"""The mid band sees a bent nose and hardly sees noise; it is linear in the change."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceprotect_sdk.face.align import CANONICAL_POINTS, aligned_crop
from faceprotect_sdk.judging.mid_band import blurred, mid_band
from faceprotect_sdk.judging.quality import psnr

POINTS = np.array([[203, 101], [248, 104], [225, 126], [203, 143], [243, 145]], np.float64)


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    return aligned_crop(pytest.importorskip("skimage.data").astronaut(), POINTS)


def bent(crop: np.ndarray, pixels: float) -> np.ndarray:
    """The nose pushed to the right, by ``pixels`` at its tip and by less around it."""
    y, x = np.mgrid[:256, :256].astype(np.float32)
    nose_x, nose_y = CANONICAL_POINTS[2]
    push = pixels * np.exp(-((x - nose_x) ** 2 + (y - nose_y) ** 2) / (2 * 20.0**2))
    image = cv2.remap(crop[0].transpose(1, 2, 0), (x - push).astype(np.float32), y, cv2.INTER_CUBIC)
    return np.clip(image.transpose(2, 0, 1)[None], 0, 1)


def test_zero_for_equal_and_linear_in_the_change(crop: np.ndarray) -> None:
    change = (bent(crop, 6) - crop).astype(np.float64)
    found = [mid_band(crop.astype(np.float64), crop + size * change) for size in (0.0, 0.5, 1.0, -1.0)]
    assert found[0] == 0
    assert found[1] == pytest.approx(found[2] / 2)
    assert found[3] == pytest.approx(found[2])


def test_a_bent_nose_weighs_more_than_white_noise_of_the_same_psnr(crop: np.ndarray) -> None:
    nose = bent(crop, 6)
    noise = np.random.default_rng(0).standard_normal(crop.shape) * 10 ** (-psnr(crop, nose) / 20)
    noisy = (crop + noise).astype(np.float32)
    assert psnr(crop, noisy) == pytest.approx(psnr(crop, nose), abs=0.1)
    assert mid_band(crop, nose) > 3 * mid_band(crop, noisy)


def test_a_wave_counts_by_its_length(crop: np.ndarray) -> None:
    """Amplitude 10 grey levels: 28 px a period is inside the band; 4 and 200 are not. Colour that leaves the luma counts nothing."""
    column = np.arange(256)

    def wave(period: float, colour: tuple[float, float, float] = (1, 1, 1)) -> float:
        line = 10 / 255 * np.sin(2 * np.pi * column / period)
        return mid_band(np.zeros((1, 3, 256, 256)), np.broadcast_to(line, (256, 256)) * np.reshape(colour, (1, 3, 1, 1)))

    assert wave(28) > 7
    assert wave(4) < 2
    assert wave(200) < 3
    assert wave(28, (1, -0.299 / 0.587, 0)) == pytest.approx(0, abs=1e-9)


def test_the_gaussians_reach_four_sigma() -> None:
    point = np.zeros((129, 129))
    point[64, 64] = 1
    for sigma in (2.0, 8.0):
        found = np.flatnonzero(blurred(point, sigma)[64])
        assert (found[0], found[-1]) == (64 - 4 * sigma, 64 + 4 * sigma)
        assert blurred(point, sigma).sum() == pytest.approx(1)

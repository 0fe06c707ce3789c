"""Figures agree with scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest

from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.judging.quality import psnr, ssim


def test_psnr_and_ssim_agree_with_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    data = pytest.importorskip("skimage.data")
    points = np.array([[203, 101], [248, 104], [225, 126], [203, 143], [243, 145]], np.float64)
    first = aligned_crop(data.astronaut(), points)
    noise = np.random.default_rng(0).standard_normal(first.shape) * 0.03
    second = np.clip(first + noise, 0, 1).astype(np.float32)
    expected = metrics.structural_similarity(
        first[0].transpose(1, 2, 0).astype(np.float64),
        second[0].transpose(1, 2, 0).astype(np.float64),
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(first, second) == pytest.approx(expected, abs=1e-4)
    assert psnr(first, second) == pytest.approx(metrics.peak_signal_noise_ratio(first, second, data_range=1.0), abs=1e-3)
    assert ssim(first, first) == pytest.approx(1.0)
    assert psnr(first, first) == 100.0

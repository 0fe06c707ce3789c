"""The search space of ``auto``: cubic B-splines two pixels apart."""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import BSpline

from faceprotect_export.objectives.search import SplineDecode, cubic_splines


def test_splines_are_scipys_and_sum_to_one() -> None:
    matrix = cubic_splines(32, 4).numpy()
    basis = BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    for column in range(8):
        expected = np.nan_to_num(basis((np.arange(32) - (4 * column + 1.5)) / 4))
        np.testing.assert_allclose(matrix[:, column], expected, atol=1e-6)
    np.testing.assert_allclose(matrix[6:-6].sum(1), 1, atol=1e-6)


def test_what_lies_in_them_is_smooth() -> None:
    """Of random coefficients, next to nothing is left at the pixels' own pitch, where noise in every pixel has half of its power."""
    change = SplineDecode(64)(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).numpy()
    assert change.shape == (1, 3, 64, 64)
    power = np.abs(np.fft.fft2(change)) ** 2
    fine = np.abs(np.fft.fftfreq(64)) > 0.375
    assert power[..., fine, :].sum() + power[..., :, fine].sum() < 0.01 * power.sum()

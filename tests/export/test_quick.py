"""The search space of ``auto``: a small decoder, and cubic B-splines two pixels apart."""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import BSpline

from faceprotect_export.modules.autoencoder import small_decoder
from faceprotect_export.objectives.search import QuickDecode, cubic_splines


def test_splines_are_scipys_and_sum_to_one() -> None:
    matrix = cubic_splines(32, 4).numpy()
    basis = BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    for column in range(8):
        expected = np.nan_to_num(basis((np.arange(32) - (4 * column + 1.5)) / 4))
        np.testing.assert_allclose(matrix[:, column], expected, atol=1e-6)
    np.testing.assert_allclose(matrix[6:-6].sum(1), 1, atol=1e-6)


def decode(offset: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return QuickDecode(small_decoder(), 32, 64)(torch.zeros(1, 32, 8, 8), offset)


def test_the_fine_part_is_smooth() -> None:
    """Of random coefficients, next to nothing is left at the pixels' own pitch, where noise in every pixel has half of its power."""
    offset = torch.randn(1, 80, 8, 8, generator=torch.Generator().manual_seed(0))
    offset[:, :32] = 0
    change = (decode(offset) - decode(torch.zeros_like(offset))).numpy()
    assert change.shape == (1, 3, 64, 64)
    power = np.abs(np.fft.fft2(change)) ** 2
    fine = np.abs(np.fft.fftfreq(64)) > 0.375
    assert power[..., fine, :].sum() + power[..., :, fine].sum() < 0.01 * power.sum()


def test_both_parts_of_the_offset_lie_at_the_same_place() -> None:
    """A number of the offset moves the picture where it lies itself, whether it is the latent's or the fine part's."""
    for channel in (0, 32, 79):
        offset = torch.zeros(1, 80, 8, 8)
        offset[0, channel, 2, 5] = 1.0
        change = (decode(offset) - decode(torch.zeros_like(offset))).abs().sum((0, 1))
        y, x = (float((change.sum(axis) * torch.arange(64)).sum() / change.sum()) for axis in (1, 0))
        assert abs(y - 19.5) < 4, (channel, y)
        assert abs(x - 43.5) < 4, (channel, x)

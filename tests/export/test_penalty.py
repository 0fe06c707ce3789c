"""What a change costs: the properties that a budget of visible change needs."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from faceprotect_engines.store import ZOO
from faceprotect_export.objectives.penalty import COARSE, FINE, SHARES, Penalty, luma, shares_of
from faceprotect_export.surrogates.surrogate import smooth_samples

SIZE = 256
PENALTY = Penalty(SIZE)


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return 0.25 + 0.5 * smooth_samples(1)[0]


def gaussian(sigma: float) -> Tensor:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    return torch.from_numpy(np.exp(-((x - 128) ** 2 + (y - 140) ** 2) / (2 * sigma**2)).astype(np.float32))[None, None]


def of_power(change: Tensor, mse: float) -> Tensor:
    return change * (mse / change.square().mean()).sqrt()


def test_no_change_costs_nothing_and_has_a_finite_gradient(photo: Tensor) -> None:
    image = photo.clone().requires_grad_()
    price, mse = PENALTY(image, photo, torch.tensor([3.0, 6e-5, 0.8]))
    price.sum().backward()
    assert float(price.detach()) < 1e-6 and float(mse.detach()) == 0
    assert torch.isfinite(image.grad).all()


def test_at_equal_squared_error_a_bent_nose_costs_more_than_noise_or_light(photo: Tensor) -> None:
    nose = of_power((gaussian(4.0) - gaussian(8.0)).expand(-1, 3, -1, -1), 2e-4)
    light = of_power(gaussian(60.0).expand(-1, 3, -1, -1), 2e-4)
    noise = of_power(torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), 2e-4)
    bent, lit, grainy = (float(PENALTY.peak(change)) for change in (nose, light, noise))
    assert bent > 20 * lit and bent > 20 * grainy


def test_the_peak_is_close_to_the_largest_value_and_grows_with_the_square(photo: Tensor) -> None:
    change = 0.05 * (gaussian(4.0) - gaussian(8.0)).expand(-1, 3, -1, -1)
    largest = float(PENALTY.mid_band(change).abs().max())
    assert 0.1 * largest < float(PENALTY.peak(change)) ** 0.5 < largest
    assert float(PENALTY.peak(2 * change)) == pytest.approx(4 * float(PENALTY.peak(change)), rel=1e-3)


def test_the_band_is_the_difference_of_two_gaussians() -> None:
    change = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    grey = luma(change)[0, 0].numpy()
    blurred = [cv2.GaussianBlur(grey, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for sigma in (FINE, COARSE)]
    inner = slice(40, -40)  # borders are renormalised here, reflected there
    found = PENALTY.mid_band(change)[0, 0].numpy()
    assert np.abs(found - (blurred[0] - blurred[1]))[inner, inner].max() < 2e-3 * np.abs(found).max() + 2e-3


def test_the_parts_add_up_per_sample(photo: Tensor) -> None:
    change = 0.02 * torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    images, originals = (photo + change).clamp(0, 1), photo.expand(2, -1, -1, -1)
    plain, mse = PENALTY(images, originals, torch.zeros(3))
    torch.testing.assert_close(plain, mse)
    both, _ = PENALTY(images, originals, torch.tensor([0.5, 0.01, 0.2]))
    single = torch.cat([PENALTY(images[k : k + 1], photo, torch.tensor([0.5, 0.01, 0.2]))[0] for k in range(2)])
    torch.testing.assert_close(both, single)
    assert (both > mse).all()


@pytest.mark.parametrize("name", ["latent", "auto", "diffusion", "style"])
def test_every_search_has_the_same_budget(name: str) -> None:
    recipes = {key: json.loads((ZOO / "recipes" / f"{key}.json").read_text()) for key in (name, "latent")}
    assert shares_of(recipes[name]) == shares_of(recipes["latent"])
    assert [f"${share}" for share in SHARES] == recipes[name]["constants"]["shares"][: len(SHARES)]

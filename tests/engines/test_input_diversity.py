"""Draws: matrices that do what image operations do, and the exact adjoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faceprotect_engines import RecipeError
from faceprotect_engines.recipes.input_diversity import (
    DrawSettings,
    blur_matrix,
    draw,
    identity_draw,
    move_matrix,
    resize_matrix,
)
from faceprotect_engines.recipes.philox import Stream

FULL = DrawSettings(1.0, (0.6, 0.9), (0.9, 1.2), 2.0, (0.3, 1.0), 0.02, 0.5)


def image(size: int = 16) -> Any:
    return np.random.default_rng(3).random((1, 3, size, size), dtype=np.float32)


def test_same_seed_same_draw_and_other_seed_another() -> None:
    first, second, other = (draw(FULL, 16, Stream(seed), 0) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.noise, second.noise)
    assert np.abs(first.cols - other.cols).max() > 0.01


def test_clean_draw_changes_no_bit() -> None:
    picture = image()
    np.testing.assert_array_equal(identity_draw(16).apply(picture), picture)
    off = draw(DrawSettings(probability=0.0, noise_std=1.0, flip=1.0), 16, Stream(0), 0)
    assert off.clean
    np.testing.assert_array_equal(off.apply(picture), picture)


def test_nothing_asked_for_is_nothing_done() -> None:
    drawn = draw(DrawSettings(probability=1.0), 16, Stream(0), 0)
    assert not drawn.clean
    np.testing.assert_allclose(drawn.apply(image()), image(), atol=1e-6)


def test_every_matrix_keeps_a_flat_image_flat() -> None:
    for matrix in (resize_matrix(16, 11), resize_matrix(11, 16), move_matrix(16, -1.3, 0.8), blur_matrix(16, 1.2)):
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
        assert matrix.min() >= 0


@pytest.mark.parametrize(("source", "target"), [(16, 11), (11, 16), (16, 8), (7, 7)])
def test_resize_is_the_antialiased_bilinear_one(source: int, target: int) -> None:
    torch = pytest.importorskip("torch")
    picture = image(source)
    ours = resize_matrix(source, target) @ picture @ resize_matrix(source, target).T
    tensor = torch.nn.functional.interpolate(
        torch.tensor(picture), size=(target, target), mode="bilinear", align_corners=False, antialias=True
    )
    np.testing.assert_allclose(ours, tensor.numpy(), atol=2e-6)


def test_whole_shift_moves_pixels_down_and_repeats_the_edge() -> None:
    column = np.arange(5.0)
    np.testing.assert_array_equal(move_matrix(5, 2) @ column, [0, 0, 0, 1, 2])


def test_zoom_magnifies_about_the_centre() -> None:
    np.testing.assert_allclose(move_matrix(5, 0, 2.0) @ np.arange(5.0), [1, 1.5, 2, 2.5, 3], atol=1e-12)
    np.testing.assert_allclose(move_matrix(6, 1, 2.0)[1:], move_matrix(6, 0, 2.0)[:-1], atol=1e-12)


def test_flip_mirrors_columns_only() -> None:
    drawn = draw(DrawSettings(probability=1.0, flip=1.0), 16, Stream(0), 0)
    np.testing.assert_allclose(drawn.apply(image()), image()[..., ::-1], atol=1e-6)


def test_noise_is_not_larger_than_asked() -> None:
    spreads = [draw(FULL, 16, Stream(seed), 0).noise.std() for seed in range(40)]
    assert max(spreads) < 0.022
    assert max(spreads) > 0.015


def test_pull_back_is_the_adjoint() -> None:
    drawn = draw(FULL, 16, Stream(5), 0)
    generator = np.random.default_rng(6)
    x, c = (generator.standard_normal((1, 3, 16, 16)).astype(np.float32) for _ in range(2))
    forward = float(((drawn.apply(x) - drawn.noise) * c).sum())
    assert forward == pytest.approx(float((x * drawn.pull_back(c)).sum()), rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"probability": 1.5},
        {"flip": -1},
        {"resize": (0.0, 1.0)},
        {"resize": (0.9, 0.8)},
        {"zoom": (0.0, 1.0)},
        {"zoom": (1.2, 1.1)},
        {"blur": (-1, 0)},
        {"shift": -1},
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="draws"):
        DrawSettings(**options)

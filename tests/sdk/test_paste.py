"""Pasting the difference: nothing outside the mask, the right thing inside, at every size."""

from __future__ import annotations

import numpy as np
import pytest
import toy_zoo

from faceprotect_engines.errors import RecipeError
from faceprotect_engines.recipes.plan import parse_method
from faceprotect_engines.recipes.recipe import read_recipe
from faceprotect_engines.store import ZOO
from faceprotect_sdk.face.align import CANONICAL_POINTS, aligned_crop
from faceprotect_sdk.face.mask import Region, face_mask
from faceprotect_sdk.face.paste import paste, support


def _points(scale: float, centre: tuple[float, float], angle: float = 0.0) -> np.ndarray:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (CANONICAL_POINTS - 128.0) @ turn.T * scale + centre


def _difference(mask: np.ndarray, strength: float = 0.1) -> np.ndarray:
    y, x = np.mgrid[0:256, 0:256]
    wave = np.stack([np.sin(x / 17.0), np.cos(y / 13.0), np.sin((x + y) / 23.0)])
    return (strength * wave * mask[0]).astype(np.float32)


def test_mask_is_soft_and_stays_off_the_crops_edge() -> None:
    mask = face_mask()
    assert mask.shape == (1, 1, 256, 256)
    assert mask.dtype == np.float32
    assert mask.max() == 1.0
    for edge in (mask[0, 0, 0], mask[0, 0, -1], mask[0, 0, :, 0], mask[0, 0, :, -1]):
        assert not edge.any()
    assert np.abs(np.diff(mask[0, 0], axis=0)).max() < 0.1
    for x, y in CANONICAL_POINTS:
        assert mask[0, 0, round(y), round(x)] > 0.9
    assert face_mask(Region(radii=(20, 20))).sum() < mask.sum()


def test_a_spared_feature_changes_less_and_nothing_else_does() -> None:
    plain, spared = face_mask(), face_mask(Region(spared=[(128, 150, 10, 20, 0.6)]))
    assert spared[0, 0, 150, 128] == pytest.approx(0.4 * plain[0, 0, 150, 128])
    assert (spared <= plain).all()
    np.testing.assert_allclose(spared[..., :70], plain[..., :70], atol=1e-6)


@pytest.mark.parametrize("recipe", ["auto", "latent"])
def test_where_a_recipe_may_change_the_crop_stays_off_its_edge(recipe: str) -> None:
    mask = face_mask(read_recipe(ZOO / "recipes" / f"{recipe}.json").method.region)
    assert mask.min() >= 0 and 0.95 < mask.max() <= 1
    for edge in (mask[0, 0, 0], mask[0, 0, -1], mask[0, 0, :, 0], mask[0, 0, :, -1]):
        assert not edge.any()


def test_a_region_that_is_none_says_what_one_has() -> None:
    with pytest.raises(RecipeError, match="region.*centre"):
        parse_method({"region": {"center": [1, 2]}})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [0.12, 0.5, 1.0, 2.7])
@pytest.mark.parametrize("angle", [0.0, 0.6, 3.0])
def test_pixels_outside_the_mask_are_identical(dtype: type, scale: float, angle: float) -> None:
    photo = toy_zoo.photo(500, 400).astype(dtype) * (257 if dtype == np.uint16 else 1)
    points, mask = _points(scale, (260.0, 190.0), angle), face_mask()
    result = paste(photo, _difference(mask, 0.5), mask, points)
    allowed = support(mask, points, 400, 500)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result[~allowed], photo[~allowed])
    assert (result[allowed] != photo[allowed]).mean() > 0.5
    assert photo is not result


@pytest.mark.parametrize("scale", [1.0, 1.7, 3.0])
def test_the_crop_of_the_result_is_the_crop_plus_the_difference(scale: float) -> None:
    photo = toy_zoo.photo(900, 800)
    points, mask = _points(scale, (450.0, 400.0), 0.2), face_mask()
    difference = _difference(mask)
    before, after = aligned_crop(photo, points), aligned_crop(paste(photo, difference, mask, points), points)
    assert np.abs(after - before - difference[None])[..., 8:-8, 8:-8].mean() < 0.004


def test_a_small_face_gets_the_averaged_difference() -> None:
    photo = np.full((200, 200, 3), 128, np.uint8)
    points, mask = _points(0.25, (100.0, 100.0)), face_mask()
    checker = (np.indices((256, 256)).sum(0) % 2 * 2 - 1)[None] * np.ones((3, 1, 1)) * mask[0]
    result = paste(photo, (0.5 * checker).astype(np.float32), mask, points)
    assert np.abs(result.astype(int) - 128).max() <= 1  # fine patterns average out instead of aliasing


def test_a_face_across_the_border_or_outside() -> None:
    photo, mask = toy_zoo.photo(200, 200), face_mask()
    beyond = _points(1.0, (5.0, 195.0))
    assert paste(photo, _difference(mask), mask, beyond).shape == photo.shape
    outside = _points(0.5, (-900.0, 50.0))
    np.testing.assert_array_equal(paste(photo, _difference(mask), mask, outside), photo)
    assert not support(mask, outside, 200, 200).any()


def test_grey_changes_all_channels_alike() -> None:
    grey = np.repeat(toy_zoo.photo()[..., 1:2], 3, 2)
    mask = face_mask()
    result = paste(grey, _difference(mask, 0.3), mask, _points(0.8, (160.0, 120.0)), grey=True)
    assert (result != grey).any()
    np.testing.assert_array_equal(result[..., 0], result[..., 1])
    np.testing.assert_array_equal(result[..., 0], result[..., 2])


def test_no_difference_changes_nothing() -> None:
    photo, mask = toy_zoo.photo(), face_mask()
    zero = np.zeros((3, 256, 256), np.float32)
    np.testing.assert_array_equal(paste(photo, zero, mask, _points(1.3, (160.0, 120.0))), photo)


def _painted(tone: str, levels: int) -> np.ndarray:
    luma = toy_zoo.photo(300, 300)[..., 1].astype(np.float64)
    if tone == "colour":
        return toy_zoo.photo(300, 300).astype(np.uint16) * (levels // 255)
    factors = {"grey": (1.0, 1.0, 1.0), "sepia": (1.05, 0.95, 0.8)}[tone]
    noise = np.random.default_rng(0).normal(0, 0.8, (300, 300, 3)) if tone == "grey" and levels == 255 else 0.0
    return np.clip(np.rint((luma[..., None] * factors + noise) * (levels // 255)), 0, levels)


@pytest.mark.parametrize("levels", [255, 65535])
@pytest.mark.parametrize(("tone", "alike"), [("grey", True), ("sepia", True), ("colour", False)])
def test_a_face_without_colours_gets_none(tone: str, alike: bool, levels: int) -> None:
    """Whatever the number of channels it is stored in, and whatever is around it."""
    photo = _painted(tone, levels).astype(np.uint8 if levels == 255 else np.uint16)
    wide = np.concatenate([photo, np.full((300, 200, 3), [levels, 0, 0], photo.dtype)], 1)
    mask = face_mask()
    changed = paste(wide, _difference(mask), mask, _points(0.8, (150.0, 150.0))).astype(np.int32) - wide
    assert np.abs(changed).max() > levels / 50
    apart = (changed.max(2) - changed.min(2)).max()
    assert (apart <= 3 * (levels // 255)) == alike  # rounding, and pixels that are black already

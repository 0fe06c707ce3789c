"""The published methods in their literal form, on toy networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import toy_zoo

import style_passes
from faceprotect_engines.store import Store
from faceprotect_export.modules.autoencoder import Autoencoder
from faceprotect_export.modules.keypoints import KeypointNet
from faceprotect_export.modules.style import Style, StyleConfig, StyleEncoder, StyleGenerator, measure_space
from faceprotect_export.objectives.style import StyleDecode
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.judging.recognisers import EngineRecogniser
from harness import literal

CONFIG = StyleConfig(size=32, base=2, widths=(6, 4), style=5)


@pytest.fixture
def nets() -> literal.GiftNets:
    torch.manual_seed(0)
    encoder, generator = StyleEncoder(CONFIG).requires_grad_(False).eval(), StyleGenerator(CONFIG).requires_grad_(False)
    encoder.settle([torch.rand(20, 3, 32, 32)])
    space = measure_space(encoder, [torch.rand(30, 3, 32, 32)], directions=6)
    keypoints = KeypointNet(4).requires_grad_(False).eval()
    return literal.GiftNets(Style(generator, encoder, space), keypoints, Autoencoder().requires_grad_(False))


@pytest.fixture
def surrogate(zoo: Path) -> EngineRecogniser:
    store = Store([zoo])
    return EngineRecogniser(store.open(toy_zoo.SURROGATES[0]), store.manifest(toy_zoo.SURROGATES[0]))


def test_gift_inverts_then_leads_away_within_its_generator(nets: literal.GiftNets, surrogate: EngineRecogniser) -> None:
    crop = np.ascontiguousarray(toy_zoo.photo(CROP, CROP).transpose(2, 0, 1)[None] / np.float32(255), np.float32)
    own = surrogate.embed_crop(crop)[None]
    own = np.asarray(own / np.linalg.norm(own), np.float32)
    seen: list[tuple[int, float]] = []

    def look(passes: int, image: literal.Image) -> None:
        seen.append((passes, literal.pulled(image, [surrogate], [own])[0]))

    made = literal.gift(crop, [surrogate], [own], nets, np.random.default_rng(0), inversion=40, search=40, report=look)
    assert made.shape == crop.shape
    assert [passes for passes, _ in seen] == list(range(41, 81))
    assert seen[-1][1] < seen[0][1] - 0.01
    once, again = (literal.gift(crop, [surrogate], [own], nets, np.random.default_rng(3), inversion=2, search=2) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_inversion_comes_nearer_than_the_encoder(nets: literal.GiftNets) -> None:
    decode = StyleDecode(nets.style.generator, nets.style.space, CROP).decoded
    target = decode(*nets.style.space.draw(CONFIG, torch.Generator().manual_seed(3), 1.0)).clamp(0, 1)
    errors = [float((decode(*literal._inverted(target, nets, decode, n)) - target).square().mean()) for n in (0, 60)]
    assert errors[1] < 0.9 * errors[0]


def test_diversity_is_that_of_images_in_minus_one_to_one() -> None:
    rng, image = np.random.default_rng(0), torch.full((1, 3, CROP, CROP), 0.8)
    kinds = [literal._diversified(image, rng) for _ in range(200)]
    shrunk = [x for x in kinds if abs(float(x[0, 0, 0, 0]) - 0.5) < 1e-6 or abs(float(x[0, 0, -1, -1]) - 0.5) < 1e-6]
    noisy = [x for x in kinds if float((x[0, 0, 120:136, 120:136]).std()) > 1e-3]
    assert 0.3 < len(shrunk) / 200 < 0.65
    assert 0.35 < len(noisy) / 200 < 0.65
    assert all(x.shape == image.shape for x in kinds)


def test_runs_are_compared_at_the_first_step_that_is_as_far() -> None:
    steps = [{"clean": n % 2 == 0, "similarity_0": 0.9 - 0.1 * n, "similarity_1": 0.7 - 0.1 * n, "loss": 9.0} for n in range(6)]
    assert style_passes.first_below(steps, 0.65) == (True, 2)
    assert style_passes.first_below(steps, 0.2) == (False, 5)
    assert style_passes.mean_cosine(steps[0]) == pytest.approx(0.8)

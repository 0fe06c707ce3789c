"""Choosing decoys: far from everyone at hand, and from each other."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
import torch

from faceprotect_export.modules.style import Style, StyleConfig, StyleEncoder, StyleGenerator, measure_space
from faceprotect_export.zoo.decoys import choose, draw, embed_all, nearest

rng = np.random.default_rng(0)


class Colours:
    """Knows faces by their mean colour."""

    name, threshold, spread, calls = "colours", 0.5, 0.25, 0
    identity = frozenset({"colours"})

    def locate(self, pixels: np.ndarray, face: object) -> object:
        return face

    def embed(self, pixels: np.ndarray, place: object) -> np.ndarray:
        self.calls += 1
        return pixels.reshape(-1, 3).mean(0).astype(np.float32) - 128


def test_embeddings_are_unit_and_kept(tmp_path: Path) -> None:
    crops, one = rng.integers(0, 255, (4, 64, 64, 3)).astype(np.uint8), Colours()
    found = embed_all(one, crops, tmp_path)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)
    again = embed_all(one, crops, tmp_path)  # type: ignore[arg-type]
    assert one.calls == 4
    np.testing.assert_array_equal(again, found)
    embed_all(one, crops[::-1], tmp_path)  # type: ignore[arg-type]
    assert one.calls == 8, "other crops, other embeddings"
    drawn = np.array([found[2], -found[2]])
    np.testing.assert_allclose(nearest(found, drawn, one)[0], (1 - 0.5) / 0.25, atol=1e-3)  # type: ignore[arg-type]


def test_the_farthest_that_are_unlike_each_other_are_chosen() -> None:
    worst = np.array([0.3, -0.5, -0.4, 0.1, -0.1])
    alike = np.full((5, 5), -1.0)
    alike[1, 2] = alike[2, 1] = 0.2
    assert choose(worst, alike, 3) == [1, 4, 3]
    assert choose(worst, np.ones((5, 5)), 3) == [1]


def test_a_generator_that_draws_no_faces_is_said_to(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = StyleConfig(size=32, base=2, widths=(6, 4), style=5)
    encoder = StyleEncoder(config).requires_grad_(False).eval()
    space = measure_space(encoder, [torch.rand(20, 3, 32, 32)], directions=4)
    with pytest.raises(click.UsageError, match="look like one"):
        draw(Style(StyleGenerator(config).requires_grad_(False), encoder, space), 2, 0, 0.7)

"""Recognisers that join a recipe at run time."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_bench import DRAWS, RECIPE, Bench, changed, directions
from toy_models import IMAGE

from faceprotect_engines import Engine, EngineError, ExtraSurrogate, RecipeError


@pytest.mark.parametrize(("reduction", "share"), [("sum", 1.0), ("mean", 0.5)])
def test_joined_surrogate_equals_a_built_in_one(tmp_path: Path, reduction: str, share: float) -> None:
    """Two built in and one joined take exactly the path of three built in: the toys' gradients are the same everywhere.

    (Elsewhere it is the gradient at the step before.)
    """
    three, two = Bench(tmp_path / "three", 3, share=share), Bench(tmp_path / "two", 2, share=share)
    constraint = {**RECIPE["stages"][0]["constraint"], "reduction": reduction}
    joined = ExtraSurrogate("mine", two.engine("surrogate"), directions(3)[2].reshape(1, -1), 0.5)
    mapped = {"original": "original", "image_cotangent": "zeros"}  # must not hide the joined one's
    recipe = changed(steps=40, constraint=constraint, inputs=mapped)
    result = two.run(recipe, surrogates=[joined], arrays={"zeros": np.zeros(IMAGE, np.float32)})
    oracle = three.run(changed(steps=40))
    np.testing.assert_allclose(result.arrays["offset"], oracle.arrays["offset"], atol=1e-4)
    for ours, theirs in zip(result.trace, oracle.trace, strict=True):
        assert ours["similarity_2"] == pytest.approx(theirs["similarity_2"], abs=1e-4)
    assert result.devices["mine"] == "cpu"


def test_joined_surrogate_sees_what_the_built_in_ones_see(tmp_path: Path) -> None:
    """Under draws the paths part, for its gradient is of another draw; both end below every limit, on average at about the same change."""
    three, two = Bench(tmp_path / "three", 3), Bench(tmp_path / "two", 2)
    joined = ExtraSurrogate("mine", two.engine("surrogate"), directions(3)[2].reshape(1, -1), 0.5)
    sizes = []
    for seed in range(12):
        result = two.run(changed(draws=DRAWS), surrogates=[joined], seed=seed)
        oracle = three.run(changed(draws=DRAWS), seed=seed)
        assert result.passed
        assert oracle.passed
        sizes.append([float(np.square(one.arrays["offset"]).sum()) for one in (result, oracle)])
    ours, theirs = np.mean(sizes, axis=0)
    assert ours == pytest.approx(theirs, rel=0.05)
    first = [one.trace[0] for one in (result, oracle)]
    assert first[0]["similarity_2"] == pytest.approx(first[1]["similarity_2"], abs=1e-4), "not the same draw"


class Meeting:
    """A surrogate's engine that waits in every run until as many others run as well, so that turn by turn would not do."""

    device = "cpu"

    def __init__(self, engine: Engine, together: threading.Barrier) -> None:
        self.engine, self.spec, self.together = engine, engine.spec, together

    def run(self, feeds: Mapping[str, Any], outputs: Collection[str] | None = None) -> dict[str, Any]:
        self.together.wait(timeout=20)
        return self.engine.run(feeds, outputs)

    def close(self) -> None:
        """It is not its own."""


def test_joined_surrogates_run_side_by_side_with_the_same_numbers(bench: Bench) -> None:
    """One after the other or all at once: the same arrays and trace, in the same order; their threads end with the run."""
    plain = [bench.engine("surrogate")] * 3
    together = threading.Barrier(3)
    meeting = [Meeting(engine, together) for engine in plain]
    runs = []
    for engines, workers in ((plain, 1), (plain, 2), (meeting, 3)):
        joined = [ExtraSurrogate(f"mine{k}", engine, directions(4)[1 + k].reshape(1, -1), 0.5) for k, engine in enumerate(engines)]
        runs.append(bench.run(changed(steps=20, draws=DRAWS), surrogates=joined, workers=workers))
    for other in runs[1:]:
        np.testing.assert_array_equal(other.arrays["offset"], runs[0].arrays["offset"])
        assert other.trace == runs[0].trace
    assert not [thread for thread in threading.enumerate() if "panel" in thread.name]


def test_a_joined_surrogate_that_fails_ends_the_run_and_its_threads(bench: Bench) -> None:
    engines = [bench.engine("surrogate"), bench.store.open("surrogate", threads=1)]
    engines[1].close()
    joined = [ExtraSurrogate(f"mine{k}", engine, directions(4)[2 + k].reshape(1, -1), 0.5) for k, engine in enumerate(engines)]
    with pytest.raises(EngineError, match="closed"):
        bench.run(changed(steps=5), surrogates=joined, workers=2)
    assert not [thread for thread in threading.enumerate() if "panel" in thread.name]


def test_joined_surrogate_without_join_is_refused(bench: Bench) -> None:
    joined = ExtraSurrogate("mine", bench.engine("surrogate"), np.zeros((1, 48), np.float32), 0.5)
    with pytest.raises(RecipeError, match="join"):
        bench.run(changed(join=None), surrogates=[joined])


def test_joined_surrogate_leaves_descents_without_join_alone(bench: Bench) -> None:
    joined = ExtraSurrogate("mine", bench.engine("surrogate"), directions(3)[2].reshape(1, -1), 0.5)
    inputs = {**{name: name for name in ("original", "weights", "penalty_weight")}, "offset": "before"}
    free = changed(constraint=None, join=None, inputs=inputs, keep={}, steps=3)["stages"][0]
    recipe = {**changed(steps=5), "stages": [free, *changed(steps=5)["stages"]]}
    arrays = {"weights": np.ones(2, np.float32), "penalty_weight": np.full(1, 3, np.float32)}
    result = bench.run(recipe, arrays=arrays, surrogates=[joined])
    assert "similarity_2" not in result.trace[0]
    assert "similarity_2" in result.trace[-1]

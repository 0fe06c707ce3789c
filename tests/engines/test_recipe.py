"""The recipe interpreter: its law, its determinism, and how stages share arrays."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from recipe_bench import DRAWS, RECIPE, Bench, changed, directions
from threadpoolctl import threadpool_info
from toy_models import IMAGE

from faceprotect_engines import Engine, Progress, RecipeError, run_recipe
from faceprotect_engines.recipes.constraint import ConstraintSettings, judge, start_constraint


def test_step_engine_is_its_own_oracle(bench: Bench) -> None:
    """The toy's stated gradient is that of its stated loss, so that what follows means something."""
    generator = np.random.default_rng(2)
    spec = bench.engine("step").spec
    feeds = {t.name: generator.standard_normal(t.zeros().shape).astype(np.float32) for t in spec.inputs}
    outputs = bench.engine("step").run(feeds)
    nudge = 1e-2 * generator.standard_normal(IMAGE).astype(np.float32)
    up, down = (bench.engine("step").run({**feeds, "offset": feeds["offset"] + s * nudge})["loss"] for s in (1, -1))
    assert float((up - down)[0] / 2) == pytest.approx(float((outputs["grad_offset"] * nudge).sum()), rel=2e-2)


def test_constraint_finds_the_smallest_passing_change(bench: Bench) -> None:
    """min |x|^2 with <a_k, x> >= 1/2 for orthogonal a_k is sum (1/2 / |a_k|)^2."""
    result = bench.run()
    smallest = sum((0.5 / np.linalg.norm(a)) ** 2 for a in directions(2))
    offset = result.arrays["offset"]
    assert result.passed is True
    assert all(float((a * offset[0]).sum()) >= 0.5 - 1e-6 for a in directions(2))
    assert smallest * 0.999 <= float(np.square(offset).sum()) <= smallest * 1.1


def test_kept_outputs_belong_to_the_kept_variable(bench: Bench) -> None:
    result = bench.run()
    np.testing.assert_array_equal(result.arrays["difference"], result.arrays["offset"])
    passing = [row["penalty"] for row in result.trace if row.get("passed")]
    assert float(np.square(result.arrays["offset"]).sum()) == pytest.approx(min(passing), rel=1e-5)


def test_what_cannot_pass_is_said_and_the_nearest_kept(bench: Bench) -> None:
    bench.limit[:] = -100
    result = bench.run(changed(bounds=[-0.01, 0.01]))
    assert result.passed is False
    lack = [row["similarity_0"] + row["similarity_1"] + 200 for row in result.trace]
    reached = sum(1 - float((a * result.arrays["offset"][0]).sum()) + 100 for a in directions(2))
    assert reached == pytest.approx(min(lack), abs=1e-3)
    assert np.abs(result.arrays["offset"]).max() <= np.float32(0.01)


def test_a_budget_too_small_to_pass_is_spent_where_it_helps_most(bench: Bench) -> None:
    """min sum_k (1 - <a_k, x>) with |x|^2 <= B: x = sqrt(B) * sum_k a_k / |sum_k a_k|."""
    bench.limit[:] = -1
    law = {**RECIPE["stages"][0]["constraint"], "budget": 0.04}
    result = bench.run(changed(constraint=law))
    offset = result.arrays["offset"][0]
    best = float(np.linalg.norm(directions(2).sum(0))) * 0.04**0.5
    assert result.passed is False
    assert float(np.square(offset).sum()) <= 0.04 * 1.1 + 1e-6
    assert sum(float((a * offset).sum()) for a in directions(2)) >= 0.95 * best


def test_within_the_budget_beats_nearer_to_the_limit() -> None:
    """The first look is far over the budget and almost there; a later one within it misses more, and is kept."""
    settings, limit = ConstraintSettings(budget=1.0), np.zeros(1, np.float32)
    state = start_constraint(settings, limit)
    kept = []
    for similarity, penalty in ((0.1, 5.0), (0.5, 0.9), (0.2, 3.0), (0.4, 1.0)):
        state, verdict = judge(settings, state, np.array([similarity], np.float32), limit, penalty)
        kept.append(verdict.keep)
    assert kept == [True, True, False, True]


def test_patience_stops_early_and_counts_from_the_last_improvement(bench: Bench) -> None:
    constraint = {**RECIPE["stages"][0]["constraint"], "patience": 30}
    result = bench.run(changed(constraint=constraint), parameters={"steps": 2000})
    passing = [row["penalty"] if row["passed"] else np.inf for row in result.trace]
    anchor, last = np.inf, 0
    for step, penalty in enumerate(passing):
        if penalty < 0.99 * anchor:
            anchor, last = penalty, step
    assert result.stop == "patience"
    assert len(result.trace) == last + 1 + 30
    assert bench.run().stop == "steps"


def test_bisection_ends_on_the_limit_itself(bench: Bench) -> None:
    """A coarse, short walk overshoots; scaling down must take the worst surrogate to its limit without crossing it."""
    coarse = {"steps": 25, "optimiser": {"name": "adamw", "learning_rate": 0.1}}
    law = RECIPE["stages"][0]["constraint"]
    plain = bench.run(changed(**coarse))
    cut = bench.run(changed(**coarse, constraint={**law, "bisect": 10}))
    excess = [0.5 - float((a * cut.arrays["offset"][0]).sum()) for a in directions(2)]
    assert -5e-3 < max(excess) <= 1e-6
    assert np.square(cut.arrays["offset"]).sum() < 0.98 * np.square(plain.arrays["offset"]).sum()
    np.testing.assert_array_equal(cut.arrays["difference"], cut.arrays["offset"])
    assert len(cut.trace) == 35


def test_a_start_that_passes_is_taken_as_it_is_and_one_that_does_not_is_gone_on_from(bench: Bench) -> None:
    found = bench.run().arrays["offset"]
    recipe = changed(constraint={"start": 1.0, "accept_start": 1}, start_std=0.01)
    at_once = bench.run(recipe, arrays={"offset": 1.1 * found})
    np.testing.assert_array_equal(at_once.arrays["offset"], np.float32(1.1) * found)
    assert (at_once.stop, at_once.passed, len(at_once.trace)) == ("start", True, 1)
    np.testing.assert_allclose(at_once.arrays["difference"], 1.1 * found, rtol=1e-6)
    from_near = bench.run(recipe, arrays={"offset": 0.9 * found})
    assert (from_near.stop, from_near.passed) == ("steps", True)
    assert float(np.square(from_near.arrays["offset"]).sum()) <= 1.1 * float(np.square(found).sum())


def test_a_start_above_the_budget_is_not_taken(bench: Bench) -> None:
    found = bench.run().arrays["offset"]
    recipe = changed(constraint={"start": 1.0, "accept_start": 1, "budget": 0.5 * float(np.square(found).sum())}, steps=5)
    assert bench.run(recipe, arrays={"offset": 1.1 * found}).stop != "start"


def test_a_deadline_ends_descents_with_a_clean_look(bench: Bench) -> None:
    late = bench.run(changed(draws={"probability": 1.0}), deadline=0.0)
    assert (late.stop, len(late.trace), late.trace[0]["clean"]) == ("time", 1, True)
    assert late.passed is False
    assert "difference" in late.arrays
    given = {"weights": np.ones(2, np.float32), "penalty_weight": np.ones(1, np.float32)}
    inputs = {name: name for name in ("original", *given)}
    free = bench.run(changed(constraint=None, join=None, inputs=inputs), arrays=given, deadline=0.0)
    assert (free.stop, len(free.trace)) == ("time", 1)


def test_same_seed_same_bytes_other_seed_other_path(bench: Bench) -> None:
    recipe = changed(draws=DRAWS, start_std=0.01, steps=20)
    first, again, other = (bench.run(recipe, seed=seed) for seed in (4, 4, 5))
    assert first.arrays["offset"].tobytes() == again.arrays["offset"].tobytes()
    assert list(first.trace) == list(again.trace)
    assert first.arrays["offset"].tobytes() != other.arrays["offset"].tobytes()


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_where_nothing_passes_the_whole_budget_is_used(bench: Bench, share: float) -> None:
    """Of the walk's few clean steps the best may lie far inside the budget; the fit at the end meets it."""
    needed = float(np.square(bench.run(changed(draws=DRAWS)).arrays["offset"]).sum())
    budget = share * needed
    plan = {**RECIPE["stages"][0]["constraint"], "budget": budget}
    rare = {**DRAWS, "probability": 0.9}
    without, fitted = (bench.run(changed(draws=rare, steps=40, constraint={**plan, "fit": runs})) for runs in (0, 2))
    assert not fitted.passed
    sizes = [float(np.square(one.arrays["offset"]).sum()) for one in (without, fitted)]
    assert sizes[1] == pytest.approx(budget, rel=0.1)
    moved = [float((directions(2) * one.arrays["offset"]).sum()) for one in (without, fitted)]
    assert moved[1] >= moved[0], "further along the surrogates' own directions"
    assert [row["clean"] for row in fitted.trace[-2:]] == [True, True]


@pytest.mark.usefixtures("two_blas_threads")
def test_numpy_multiplies_in_one_thread_while_a_descent_runs(bench: Bench) -> None:
    """Its threads would spin on the cores of the engine's next run; afterwards there are as many as before."""

    def threads(_: object = None) -> set[int]:
        return {int(library["num_threads"]) for library in threadpool_info() if library["user_api"] == "blas"}

    before, during = threads(), list[set[int]]()
    bench.run(changed(draws=DRAWS, steps=2), progress=lambda _: during.append(threads()))
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(bench.run, changed(draws=DRAWS, steps=2), progress=lambda _: during.append(threads())).result()
    assert during == [{1}] * 4, "in the main thread as in another"
    assert threads() == before


def test_only_clean_steps_decide(bench: Bench) -> None:
    result = bench.run(changed(draws=DRAWS, steps=60))
    assert {row["clean"] for row in result.trace} == {True, False}
    assert all(("passed" in row) == row["clean"] for row in result.trace)
    assert result.trace[-1]["clean"], "the last step must be able to decide"


def test_the_way_to_a_limit_is_counted_from_the_origin(bench: Bench) -> None:
    """Two surrogates, one of which has a tenth of the way to go: it weighs ten times as much."""
    arrays = {"origin": np.array([1.0, 0.55], np.float32)}
    seen: dict[str, Any] = {}

    class Spy:
        def __init__(self, engine: Engine) -> None:
            self.engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

        def run(self, feeds: Mapping[str, Any], outputs: Any = None) -> Any:
            seen.setdefault("weights", feeds["weights"].copy())
            seen.setdefault("asked", []).append(outputs)
            seen.setdefault("constant", []).append(feeds["original"])
            return self.engine.run(feeds, outputs)

    given = {"original": np.zeros(IMAGE, np.float32), "limit": bench.limit, **arrays}
    run_recipe(changed(steps=3), lambda name: Spy(bench.engine(name)), given, seed=0)  # type: ignore[arg-type,return-value]
    np.testing.assert_allclose(seen["weights"], [2.0, 20.0], rtol=1e-5)
    updated = [any(name.startswith("grad_") for name in asked) for asked in seen["asked"]]
    assert updated[:3] == [True, True, False] and not any(updated[3:])  # of the last look no update is made
    assert not seen["constant"][0].flags.writeable and all(one is seen["constant"][0] for one in seen["constant"])
    with pytest.raises(RecipeError, match="origin"):
        bench.run(changed(steps=3), arrays={"origin": np.ones(3, np.float32)})


def test_free_descent_is_plain_gradient_descent(bench: Bench) -> None:
    """Without a constraint, with fixed weights: x <- x - lr (2 p x - sum a_k), n times."""
    inputs = {name: name for name in ("original", "weights", "penalty_weight")}
    recipe = changed(constraint=None, steps=7, inputs=inputs, optimiser={"name": "gradient_descent", "learning_rate": 0.1})
    arrays = {"weights": np.ones(2, np.float32), "penalty_weight": np.full(1, 3, np.float32)}
    result = bench.run(recipe, arrays=arrays)
    expected = np.zeros(IMAGE)
    for _ in range(7):
        expected = expected - 0.1 * (6 * expected - directions(2).sum(axis=0))
    np.testing.assert_allclose(result.arrays["offset"], expected, atol=1e-5)
    np.testing.assert_array_equal(result.arrays["difference"], result.arrays["offset"])
    assert result.passed is None


def test_until_ends_a_free_descent(bench: Bench) -> None:
    inputs = {name: name for name in ("original", "weights", "penalty_weight")}
    fields = {"constraint": None, "inputs": inputs, "optimiser": {"name": "gradient_descent", "learning_rate": 0.1}}
    arrays = {"weights": np.zeros(2, np.float32), "penalty_weight": np.ones(1, np.float32), "offset": np.full(IMAGE, 0.1, np.float32)}
    full = bench.run(changed(**fields, steps=30), arrays=arrays)
    goal = full.trace[10]["penalty"]
    ended = bench.run(changed(**fields, steps=30, until={"penalty": goal}), arrays=arrays)
    assert (full.stop, ended.stop) == ("steps", "until")
    assert [row["penalty"] for row in ended.trace] == [row["penalty"] for row in full.trace[:11]]
    at_once = bench.run(changed(**fields, steps=30, until={"penalty": 1e9}), arrays=arrays)
    np.testing.assert_array_equal(at_once.arrays["offset"], arrays["offset"])
    np.testing.assert_array_equal(at_once.arrays["difference"], arrays["offset"])


def test_given_start_and_array_bounds_are_used(bench: Bench) -> None:
    high = np.full(IMAGE, 0.02, np.float32)
    start = np.full(IMAGE, 0.01, np.float32)
    recipe = changed(bounds=[0.0, "high"], steps=5)
    result = bench.run(recipe, arrays={"high": high, "offset": start})
    assert result.arrays["offset"].min() >= 0
    assert result.arrays["offset"].max() <= np.float32(0.02)
    assert result.trace[0]["penalty"] == pytest.approx(float(np.square(start).sum()), rel=1e-5)
    np.testing.assert_array_equal(start, 0.01 * np.ones(IMAGE, np.float32))


def test_map_then_descend_share_arrays(bench: Bench) -> None:
    mapped = {
        "kind": "map",
        "engine": "decode",
        "inputs": {"original": "photo", "offset": "photo"},
        "outputs": {"image": "original"},
    }
    recipe = {**changed(steps=3), "stages": [mapped, *changed(steps=3)["stages"]]}
    seen: list[Progress] = []
    photo = np.full(IMAGE, 0.25, np.float32)
    result = bench.run(recipe, arrays={"photo": photo}, progress=seen.append)
    np.testing.assert_array_equal(result.arrays["original"], 2 * photo)
    assert [(p.kind, p.step, p.steps) for p in seen] == [("map", 1, 1), *(("descend", n, 3) for n in (1, 2, 3))]
    assert list(result.timings) == ["0 map decode", "1 descend step"]
    assert result.devices == {"decode": "cpu", "step": "cpu"}


def test_progress_may_cancel(bench: Bench) -> None:
    def cancel(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.run(progress=cancel)


def test_infinite_gradient_is_an_error(bench: Bench) -> None:
    with pytest.raises(RecipeError, match="finite"):
        bench.run(arrays={"original": np.full(IMAGE, 0.0, np.float32), "offset": np.full(IMAGE, np.inf, np.float32)})


def test_one_search_goes_on_from_another_and_the_last_one_decides(bench: Bench) -> None:
    """The second begins with what the first kept; what the first missed does not count once the second has met it."""
    first = {**changed()["stages"][0], "steps": 1, "keep": {"difference": "kept"}}
    second = {**changed()["stages"][0], "inputs": {"original": "original", "offset": "kept"}, "steps": 200}
    result = bench.run({**RECIPE, "parameters": {}, "stages": [first, second]})
    stages = [row["stage"] for row in result.trace]
    assert stages[0] == 0 and stages[-1] == 1
    assert not any(row.get("passed") for row in result.trace if row["stage"] == 0)
    assert result.passed is True

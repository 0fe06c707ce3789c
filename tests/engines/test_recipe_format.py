"""The recipe's JSON: what is read, and what is refused with which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_bench import RECIPE, Bench, changed
from toy_models import IMAGE

from faceprotect_engines import EngineInputError, RecipeError, load_recipe
from faceprotect_engines.recipes.schema import parse_recipe


@pytest.mark.parametrize("value", [0.3, np.nan, np.inf])
def test_mapped_outputs_stay_within_what_the_recipe_allows(bench: Bench, value: float) -> None:
    mapped = {"kind": "map", "engine": "decode", "inputs": {"original": "photo", "offset": "photo"}, "outputs": {"image": "original"}}
    recipe = {**changed(steps=3), "stages": [{**mapped, "within": [-0.5, 0.5]}, *changed(steps=3)["stages"]]}
    bench.run(recipe, arrays={"photo": np.full(IMAGE, 0.2, np.float32)})
    with pytest.raises(RecipeError, match=r"stage 0 \(map decode\): 'image' holds .* -0.5 to 0.5"):
        bench.run(recipe, arrays={"photo": np.full(IMAGE, value, np.float32)})
    if not np.isfinite(value):
        with pytest.raises(RecipeError, match="no numbers"):
            bench.run({**recipe, "stages": [mapped, *recipe["stages"][1:]]}, arrays={"photo": np.full(IMAGE, value, np.float32)})


def test_an_engine_without_the_gradient_is_named(bench: Bench) -> None:
    recipe = changed(engine="decode", draws=None, constraint=None, join=None, keep={})
    with pytest.raises(RecipeError, match=r"decode.*grad_offset.*\[export\]"):
        bench.run(recipe)


def test_recipe_file_is_checked_on_loading(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(RECIPE))
    assert load_recipe(path) == RECIPE
    path.write_text(json.dumps({**RECIPE, "schema": 9}))
    with pytest.raises(RecipeError, match=r"recipe\.json.*schema"):
        load_recipe(path)
    path.write_text("{")
    with pytest.raises(RecipeError, match=r"recipe\.json"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "loop"}, "kind"),
        ({"steps": 0}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"steps": "$many"}, r"\$many"),
        ({"step": 3}, "unknown field 'step'"),
        ({"inputs": ["original"]}, "inputs"),
        ({"inputs": {"original": "photo"}}, "'photo'"),
        ({"optimiser": {"name": "adam"}}, "adamw"),
        ({"draws": {"probabilty": 1}}, "probabilty"),
        ({"draws": {"probability": 2}}, "probability"),
        ({"draws": {"resize": 0.5}}, "resize|pair"),
        ({"constraint": {"grow": 0.5}}, "grow"),
        ({"constraint": {"limit": "limits"}}, "'limits'"),
        ({"constraint": {"reduction": "max"}}, "reduction"),
        ({"bounds": [1]}, "bounds"),
        ({"join": {"engine": "decode"}}, "join"),
        ({"until": {"penalty": 1}}, "until"),
        ({"constraint": None, "until": {"penalty": "low"}}, "until, penalty"),
    ],
)
def test_mistakes_in_a_recipe_are_named(bench: Bench, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        bench.run(changed(**fields))


def test_unknown_names_of_an_engine_are_named(bench: Bench) -> None:
    with pytest.raises(EngineInputError, match="grad_latent|latent"):
        bench.run(changed(variable="latent"))
    with pytest.raises(EngineInputError, match="distance"):
        bench.run(changed(constraint=None, until={"distance": 1}))
    with pytest.raises(EngineInputError, match="picture"):
        bench.run(changed(keep={"picture": "picture"}))


def test_wrong_number_of_limits_and_unknown_parameter_are_named(bench: Bench) -> None:
    with pytest.raises(RecipeError, match="3 values.*2 surrogates"):
        bench.run(arrays={"limit": np.zeros(3, np.float32)})
    with pytest.raises(RecipeError, match="no parameter 'strength'.*steps"):
        bench.run(parameters={"strength": 1.0})


def test_constants_are_arrays_that_the_caller_may_replace(bench: Bench) -> None:
    recipe = {**changed(constraint={"limit": "bars"}), "parameters": {"steps": 50, "bar": 0.5}, "constants": {"bars": ["$bar", 0.5]}}
    half = bench.run().arrays["offset"]
    far = bench.run(recipe, parameters={"bar": 0.2}).arrays["offset"]
    near = bench.run(recipe, parameters={"bar": 0.2}, arrays={"bars": np.full(2, 0.9, np.float32)}).arrays["offset"]
    sizes = [float(np.square(offset).sum()) for offset in (near, half, far)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("constants", [{"bars": []}, {"bars": 0.5}, {"bars": ["much"]}, [1.0]])
def test_a_constant_is_a_list_of_numbers(bench: Bench, constants: Any) -> None:
    with pytest.raises(RecipeError, match="constants"):
        bench.run({**RECIPE, "constants": constants})


def test_constants_are_lists_of_numbers_or_zeros_of_a_shape(bench: Bench) -> None:
    plain = bench.run(changed(steps=3))
    recipe = {**changed(steps=3, inputs={"original": "nothing"}), "constants": {"nothing": {"zeros": list(IMAGE)}}}
    np.testing.assert_array_equal(bench.run(recipe).arrays["difference"], plain.arrays["difference"])
    for wrong in ({"zeros": []}, {"zeros": [0]}, {"zeros": [1.5]}, {"ones": [1]}, {}):
        with pytest.raises(RecipeError, match="constants, nothing"):
            bench.run({**recipe, "constants": {"nothing": wrong}})


def test_zeros_may_have_the_shape_of_an_engines_input_and_open_it_only_where_they_are_needed(bench: Bench) -> None:
    plain = bench.run(changed(steps=3))
    like = {"nothing": {"zeros": {"engine": "decode", "input": "offset"}}}
    recipe = {**changed(steps=3, inputs={"original": "nothing"}), "constants": like}
    np.testing.assert_array_equal(bench.run(recipe).arrays["difference"], plain.arrays["difference"])
    assert "decode" in bench.open
    bench.open.pop("decode").close()
    bench.run(recipe, arrays={"nothing": np.zeros(IMAGE, np.float32)})
    assert "decode" not in bench.open
    for wrong in ({"engine": "decode"}, {"engine": "decode", "output": "image"}):
        with pytest.raises(RecipeError, match="constants, nothing, zeros"):
            bench.run({**recipe, "constants": {"nothing": {"zeros": wrong}}})


def test_a_recipe_is_read_once_and_run_with_other_parameters(bench: Bench) -> None:
    recipe = parse_recipe({**RECIPE, "parameters": {"steps": 9, "start": 1.0}, "stages": changed(constraint={"start": "$start"})["stages"]})
    assert [len(bench.run(recipe, parameters=given).trace) for given in (None, {"steps": 4}, None)] == [9, 4, 9]
    fewer = recipe.applied({"steps": 4}).applied({"start": 2.0})
    assert fewer.parameters == {"steps": 4, "start": 2.0}, "what was applied before stays"
    assert len(bench.run(fewer).trace) == 4
    with pytest.raises(RecipeError, match="no parameter 'pace'"):
        recipe.applied({"pace": 1.0})
    document = bench.run(RECIPE, parameters={"steps": 4})
    np.testing.assert_array_equal(bench.run(parse_recipe(RECIPE), parameters={"steps": 4}).arrays["offset"], document.arrays["offset"])


def test_what_stages_read_and_store_is_known_without_running_them() -> None:
    recipe = parse_recipe(changed(bounds=["low", 1.0], inputs={"original": "photo", "offset": "start"}))
    assert recipe.asked == {"photo", "start", "low", "limit", "origin", "original"}
    assert recipe.made == {"difference", "start"}


@pytest.mark.parametrize("further", [0, 1.5, "most"])
def test_what_is_left_of_the_budget_for_each_that_joins_is_a_share(further: Any) -> None:
    with pytest.raises(RecipeError, match="join, further"):
        parse_recipe(changed(join={"further": further}))

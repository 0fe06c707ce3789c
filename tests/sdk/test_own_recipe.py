"""A recipe in a user's folder is a method: in Python, on the command line, with its engines beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_zoo
from cli_tools import run

from faceprotect_engines.errors import EngineNotFound, RecipeError
from faceprotect_engines.store import Store
from faceprotect_sdk import Protector, UsageError
from faceprotect_sdk.methods import Strength, find_recipe, methods_of, recipe_of, strength_of

SETTINGS: dict[str, Any] = {"device": "cpu", "installed_judges": False}


def write(folder: Path, document: dict[str, Any], name: str = "recipe.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(document))
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A pass of an engine that only this folder has, strong enough to be seen in the result."""
    folder = tmp_path / "folder"
    toy_zoo.make_fast(folder / "my-engine", gain=10.0)
    document = toy_zoo.fast_recipe() | {"name": "mine"}
    document["stages"][0]["engine"] = "my-engine"
    return write(folder, document)


def test_a_folder_is_a_method_with_its_own_engines_before_those_of_the_store(own: Path, store: Store, pixels: np.ndarray) -> None:
    with Protector(own, store=store, **SETTINGS) as protector:
        result = protector.protect(pixels)
    assert result.method == "mine"
    assert {"my-engine", "face-detector"} <= result.devices.keys()
    with Protector(str(own / "recipe.json"), store=store, **SETTINGS) as protector:
        again = protector.protect(pixels)
    assert (again.image or again.unconfirmed) == (result.image or result.unconfirmed)


def test_a_copy_of_a_recipe_gives_what_the_recipe_gives(store: Store, tmp_path: Path, pixels: np.ndarray) -> None:
    folder = write(tmp_path / "copy", toy_zoo.recipe())
    results = []
    for method in ("latent", folder):
        with Protector(method, store=store, **SETTINGS) as protector:
            results.append(protector.protect(pixels))
    first, second = (one.image or one.unconfirmed for one in results)
    assert first == second


@pytest.mark.usefixtures("toy_cli")
def test_the_command_line_takes_a_folder_and_a_file(own: Path, png: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("protect", png, "--device", "cpu", "--no-installed-judges", "--keep-unconfirmed", "--force", "--json")
    for method in (own, own / "recipe.json"):
        code, (document,), _ = run(capsys, *words, "--method", method)
        assert code in (0, 6)
        assert document["method"] == "mine"
    code, _, error = run(capsys, *words, "--method", own / "nowhere")
    assert code == 2
    assert "auto, latent" in error and "recipe.json" in error


def test_strengths_of_ones_own_reach_the_engine(own: Path, store: Store, pixels: np.ndarray) -> None:
    document = json.loads((own / "recipe.json").read_text())
    write(own, document | {"attempts": [1.0], "strengths": toy_zoo.strengths(0.001, 0.002, 0.004)})
    changes = []
    for strength in ("low", "medium", "high"):
        with Protector(own, store=store, strength=strength, **SETTINGS) as protector:
            result = protector.protect(pixels)
        changes.append(result.faces[0].quality.psnr)
    assert changes[0] > changes[1] > changes[2]


def test_what_states_no_strengths_takes_those_of_the_caller(own: Path, store: Store, pixels: np.ndarray) -> None:
    document = json.loads((own / "recipe.json").read_text())
    del document["strengths"]
    write(own, document)
    with pytest.raises(UsageError, match="'mine' states no \"strengths\""):
        Protector(own, store=store, **SETTINGS)
    with Protector(own, store=store, strength=Strength(0.0, 1e-3), **SETTINGS) as protector:
        assert protector.protect(pixels).faces


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strengths": {**toy_zoo.strengths(1.0, 2.0, 3.0), "low": {"margin": 1.0, "budget": "much"}}}, "strengths, low, budget: .*'much'"),
        ({"strengths": {**toy_zoo.strengths(1.0, 2.0, 3.0), "low": {"budget": 1.0}}}, "strengths, low, margin"),
        ({"strengths": toy_zoo.strengths(1.0, 1.0, 3.0)}, "strengths: the budget has to grow"),
        ({"strengths": {"low": {"margin": 1.0, "budget": 1.0}}}, "strengths: medium, high missing"),
        ({"strengths": {"extreme": {"margin": 1.0, "budget": 1.0}}}, "strengths: unknown field 'extreme'"),
        ({"budgets": {"budget": 1.5}}, "budgets, budget: expected a share"),
        ({"attempts": []}, "attempts"),
        ({"attempts": [0.0]}, "attempts: expected a share"),
        ({"region": {"radii": [0, 1]}}, "region, radii"),
        ({"region": {"spared": [[1, 2, 3]]}}, "region, spared"),
        ({"name": "../mine"}, "name: .*'../mine'"),
        ({"schema": 1}, 'schema is 1.*write "schema": 2.*"strengths".*zero_offset'),
        ({"schema": 3}, "upgrade faceprotect-sdk"),
        ({"stages": [{"kind": "map", "engine": "my-engine", "inputs": {}, "outputs": {}}]}, "no array 'difference'"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named(own: Path, store: Store, fields: dict[str, Any], message: str) -> None:
    write(own, json.loads((own / "recipe.json").read_text()) | fields)
    with pytest.raises(RecipeError, match=message):
        Protector(own, store=store, **SETTINGS)


def test_an_engine_that_is_nowhere_is_named(own: Path, store: Store, pixels: np.ndarray) -> None:
    shutil.rmtree(own / "my-engine")
    with pytest.raises(EngineNotFound, match="my-engine"), Protector(own, store=store, **SETTINGS) as protector:
        protector.protect(pixels)


def test_a_difference_of_another_size_is_refused(own: Path, store: Store, pixels: np.ndarray) -> None:
    document = json.loads((own / "recipe.json").read_text())
    document["stages"][0]["outputs"] = {"latent": "difference"}
    with pytest.raises(RecipeError, match=r"difference \[1, 3, 32, 32\]"), Protector(write(own, document), store=store, **SETTINGS) as one:
        one.protect(pixels)


def test_methods_are_the_recipes_with_strengths_and_are_read_again_once_they_change(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    wider = Store([root, *store.roots], store.cache)
    known = tuple(methods_of(wider))
    assert known[:2] == ("auto", "latent"), "the default first, then as they state"
    document = toy_zoo.fast_recipe() | {"name": "mine"}
    write(root / "recipes", document, "mine.json")
    assert tuple(methods_of(wider)) == (*known, "mine")
    write(root / "recipes", {name: value for name, value in document.items() if name != "strengths"}, "mine.json")
    assert tuple(methods_of(wider)) == known, "without strengths it is not offered"
    assert recipe_of("mine", wider).name == "mine"
    (root / "recipes" / "mine.json").write_text("{")
    assert tuple(methods_of(wider)) == known, "what cannot be read stops nothing else"
    with pytest.raises(RecipeError, match="mine.json"):
        recipe_of("mine", wider)


def test_a_recipe_of_a_name_is_called_so(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "recipes", toy_zoo.fast_recipe(), "other.json")
    with pytest.raises(RecipeError, match="other.json names the method 'fast'"):
        find_recipe("other", Store([tmp_path], store.cache))


def test_an_unknown_strength_is_named(store: Store) -> None:
    with pytest.raises(UsageError, match="'extreme'.*low, medium, high"):
        strength_of(recipe_of("fast", store), "extreme")

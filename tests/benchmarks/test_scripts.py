"""The scripts around the benchmark: splits, ablations, the adaptive recogniser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest
import toy_zoo
from click.testing import CliRunner, Result
from PIL import Image

import ablations
import adaptive
import split
from faceprotect_engines.recipes.recipe import load_recipe
from faceprotect_engines.recipes.schema import parse_recipe
from faceprotect_engines.store import ZOO
from harness.pairs import read_pairs
from harness.provenance import command_line
from harness.settings import patched

if TYPE_CHECKING:
    from conftest import Bench


def small_photo(path: Path, seed: int, *, face: bool) -> None:
    pixels = toy_zoo.photo(160, 160, faces=0, seed=seed)
    if face:
        cv2.circle(pixels, (80, 80), 8, (255, 0, 0), -1)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def listed(tmp_path: Path, zoo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos of three persons in a list, one of them without a face on his second photo."""
    monkeypatch.setattr("faceprotect_engines.store.ZOO", zoo)
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = []
    for person in (7, 8, 9):
        for number in range(3):
            small_photo(folder / f"{person}_{number}.png", person, face=(person, number) != (8, 1))
            lines.append(f"{person}_{number}.png {person}")
    small_photo(folder / "10_0.png", 10, face=True)
    (tmp_path / "identity.txt").write_text("\n".join([*lines, "10_0.png 10", ""]))
    (tmp_path / "people.json").write_text(json.dumps({"what": "toys", "tuning": [9, 8], "blind": [7]}))
    return tmp_path


def _split(listed: Path, *words: str) -> Result:
    return CliRunner().invoke(split.main, [str(listed / "photos"), str(listed / "identity.txt"), "-o", str(listed / "out"), *words])


def test_a_split_takes_two_photos_with_a_face_of_each_person(listed: Path) -> None:
    result = _split(listed, "--people", str(listed / "people.json"))
    assert result.exit_code == 0, result.output
    pairs = read_pairs(listed / "out")
    assert [pair.number for pair in pairs] == ["1", "2"]
    assert Image.open(pairs[0].photo).size == (256, 256)
    shutil.rmtree(listed / "out")
    assert _split(listed, "--without", str(listed / "people.json")).output.count("0 pairs in") == 1


@pytest.mark.parametrize(
    ("plant", "words", "message"),
    [
        (lambda f: (f / "identity.txt").write_text("a b c"), [], "line 1: expected 'FILE PERSON'"),
        (lambda f: None, ["--part", "all"], "no list 'all'; there are: tuning, blind"),
        (lambda f: (f / "people.json").write_text('{"tuning": [77]}'), [], "no photo of 77"),
    ],
)
def test_mistakes_of_a_split_are_named(listed: Path, plant: object, words: list[str], message: str) -> None:
    plant(listed)  # type: ignore[operator]
    result = _split(listed, "--people", str(listed / "people.json"), *words)
    assert result.exit_code == 2
    assert message in result.output


def test_ablations_change_what_they_name() -> None:
    rows = {row.key: row for row in ablations.settings("latent", ("a", "b"), "c", 36.0)}
    assert len(rows) == 21
    assert {row.attempts for row in rows.values()} == {1}
    assert rows["no colour term"].recipe == {"parameters.chroma_share": 0.0}
    assert rows["teachers"].without == ("dlib-resnet", "student-conv")
    plain = [row for row in rows.values() if row.method == "latent" and not (row.recipe or row.without or row.surrogates)]
    assert [row.key for row in plain] == ["latent"]


def test_ablations_of_auto_ask_what_moves_and_where() -> None:
    rows = {row.key: row for row in ablations.settings("auto", (), "c", 36.0)}
    recipe = load_recipe(ZOO / "recipes" / "auto.json")
    made = {key: patched(recipe, row.recipe) for key, row in rows.items() if row.recipe}
    for document in made.values():
        parse_recipe(document)
    assert [stage["engine"] for stage in made["in the latent alone"]["stages"]] == ["face-encoder", "latent-decode", "latent-step"]
    assert (made["in every pixel"]["stages"][0]["engine"], made["the face alone"]["region"]) == ("image-step", {})


def test_ablations_of_style_ask_what_each_of_its_parts_is_worth() -> None:
    rows = {row.key: row for row in ablations.settings("style", (), "c", 36.0)}
    base = {row.key for row in ablations.settings("latent", (), "c", 36.0)} - {"latent"}
    own = ["no key points", "no P-norm", "no refinement of the inversion", "W+ alone", "W+ alone, coarse layers", "W+ alone, fine layers"]
    assert rows.keys() == base | {"style", "F alone", *own}
    assert {row.method for row in rows.values() if row.recipe} == {"style"}
    assert rows["no diversity"].recipe == {"stages.3.draws.probability": 0.0}


def test_ablations_of_diffusion_are_the_departures_from_the_published_way() -> None:
    rows = {row.key: row for row in ablations.settings("diffusion", (), "c", 36.0)}
    published = rows["levels as published"].recipe
    assert published["constants.times"] == [101, 51, 1]
    whole = rows["as published"].recipe
    assert [stage["engine"] for stage in whole["stages"]] == ["diffusion-invert", *3 * ["diffusion-null-text"], "diffusion-step"]
    aligned, shifted = rows["with null-text"].recipe["constants"], whole["constants"]
    assert (aligned["time_0"], shifted["time_0"]) == ([151], [101])
    one = rows["one step, from less noise"].recipe
    assert (one["stages.2.engine"], one["constants.times"]) == ("diffusion-step-one", [101])
    assert not {"maps_1", "embedding_2"} & set(one["stages.2.inputs"])  # type: ignore[call-overload]
    assert {rows[f"gradient through the {end}"].recipe["stages.2.engine"] for end in ("last step", "decoder")} == {
        "diffusion-step-last",
        "diffusion-step-decoder",
    }


@pytest.mark.parametrize("method", ["latent", "style", "diffusion"])
def test_every_patch_of_an_ablation_fits_the_recipe_that_ships(method: str) -> None:
    from faceprotect_engines.recipes.recipe import load_recipe
    from faceprotect_engines.recipes.schema import parse_recipe
    from faceprotect_engines.store import ZOO
    from harness.settings import patched

    recipe = load_recipe(ZOO / f"recipes/{method}.json")
    for row in ablations.settings(method, (), "", 36.0):
        if row.recipe:
            changed = patched(recipe, row.recipe)
            assert changed != recipe
            parse_recipe(changed)


def test_an_adapted_recogniser_sees_through_what_it_learned(bench: Bench, fr: Path) -> None:
    bench.document(methods="pgd@24")
    words = ["--recogniser", str(fr / "strong.onnx"), "--steps", "60", "--learning-rate", "1e-3", "-o", str(bench.folder / "a.json")]
    for part in ("train", "test"):
        words += [f"--{part}", str(bench.folder / "out/pgd@24"), f"--{part}-pairs", str(bench.pairs)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faceprotect_engines.store.ZOO", bench.zoo)
        result = CliRunner().invoke(adaptive.main, words)
    assert result.exit_code == 0, result.output
    found = json.loads((bench.folder / "a.json").read_text())
    assert found["loss"][1] < found["loss"][0] / 2
    assert found["after"]["mean_similarity"] > found["before"]["mean_similarity"]
    assert found["after"]["far_1e-2"]["clean"] == 0


def test_the_command_in_a_result_names_no_place_of_this_machine() -> None:
    line = command_line(["/home/me/benchmarks/protection.py", "--pairs", "/data/pairs", "--out", "benchmarks/results/a.json", "no zoom"])
    assert line == "python benchmarks/protection.py --pairs pairs --out benchmarks/results/a.json 'no zoom'"

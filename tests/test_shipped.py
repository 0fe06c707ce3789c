"""The engines that ship: whole, small, described, and able to protect a photo end to end on this machine, without a network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceprotect_engines.files.golden import check_golden
from faceprotect_engines.files.manifest import read_manifest
from faceprotect_engines.recipes.recipe import read_recipe
from faceprotect_engines.store import ZOO, Store, verify_files
from faceprotect_sdk import Protector, UsageError
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.face.paste import support
from faceprotect_sdk.methods import STRENGTHS, make_method, methods_of
from faceprotect_sdk.methods.decoys import Decoys
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.pool import EnginePool

NAMES = Store([ZOO]).names()
METHODS = tuple(methods_of(Store([ZOO])))
RECIPES = sorted((ZOO / "recipes").glob("*.json"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store([ZOO], tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def astronaut() -> bytes:
    data = pytest.importorskip("skimage.data", reason="the photograph comes with scikit-image")
    buffer = BytesIO()
    Image.fromarray(data.astronaut()).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("method", METHODS)
def test_the_zoo_has_what_the_recipe_names(method: str) -> None:
    made = make_method(method, EnginePool(Store([ZOO]), "cpu"))
    needed = {stage.engine for stage in made.recipe.stages} | {"face-detector"}
    needed |= set(read_manifest(ZOO / made.step).metadata["surrogates"])
    assert needed <= set(NAMES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_states_three_strengths_that_grow_and_is_a_method(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert recipe.name in METHODS
    low, medium, high = (recipe.method.strengths[name] for name in STRENGTHS)
    assert low.margin < medium.margin < high.margin
    assert low.budget < medium.budget < high.budget
    assert recipe.method.description


def test_methods_come_in_the_order_that_they_state() -> None:
    assert METHODS == ("auto", "latent", "diffusion", "fast", "makeup", "style", "diffusion-published")


@pytest.mark.parametrize("method", ["fast", "makeup"])
def test_what_taught_the_student_is_no_independent_judge_of_it(method: str) -> None:
    """By the weights' sha256, fetched or not; a method that only searches on it can do without."""
    for form in ("sface", "sface-fp32"):
        (weights,) = read_manifest(ZOO / form).weights
        assert any(weights.sha256 in identity for identity in make_method(method, EnginePool(Store([ZOO]), "cpu")).identities())
    with pytest.raises(UsageError, match="learnt from sface"):
        make_method(method, EnginePool(Store([ZOO]), "cpu"), without=["sface"]).surrogates()
    assert make_method("auto", EnginePool(Store([ZOO]), "cpu"), without=["sface"]).surrogates()


def test_the_zoo_is_under_40_megabytes_in_a_wheel() -> None:
    assert sum(len(zlib.compress(p.read_bytes(), 6)) for p in ZOO.rglob("*") if p.is_file()) < 39.5e6


@pytest.mark.parametrize("name", NAMES)
def test_engine_is_whole_and_says_where_it_comes_from(store: Store, name: str) -> None:
    manifest = store.manifest(name)
    if store.waits(name):
        verify_files(store.folder(name), manifest)
        assert manifest.files["graph"].bytes < 1_000_000, "an engine whose weights are fetched ships none"
    else:
        store.verify(name)
    assert manifest.opset == 18
    assert manifest.ir == 10
    assert manifest.source
    assert manifest.parity["relative_error"] <= 1e-4
    assert manifest.parity["cosine"] >= 0.9999


@pytest.mark.parametrize("name", NAMES)
def test_engine_gives_its_golden_outputs(store: Store, name: str) -> None:
    manifest = store.manifest(name)
    if store.waits(name):
        pytest.skip(f"{name} waits for its weights to be fetched")
    if not manifest.golden:
        pytest.skip(f"{name} has no golden section")
    with store.open(name, "cpu") as engine:
        errors = check_golden(engine, manifest, store.folder(name))
    assert max(errors.values()) < 1e-3, errors


@pytest.mark.parametrize("method", METHODS)
def test_a_photo_is_protected_and_nothing_outside_the_mask_changes(store: Store, astronaut: bytes, method: str) -> None:
    with Protector(method, device="cpu", store=store, installed_judges=False) as protector:
        result = protector.protect(astronaut)
        # All searches draw alike: one of them, and what does not search, are run again.
        again = result if method in ("latent", "diffusion", "diffusion-published", "style") else protector.protect(astronaut)
    # One pass is not enough for every face, and then says so.
    assert result.status == "protected" or method in ("fast", "makeup", "diffusion-published")
    data = result.image or result.unconfirmed
    assert data == (again.image or again.unconfirmed), "same seed, other bytes"
    before, after = load(astronaut).pixels, load(data or b"").pixels
    mask = face_mask(read_recipe(ZOO / "recipes" / f"{method}.json").method.region)
    outside = ~support(mask, np.array(result.faces[0].points), *before.shape[:2])
    assert np.array_equal(before[outside], after[outside])
    assert result.faces[0].quality.psnr > (22 if method == "makeup" else 30)  # makeup is there to be seen


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("encoder", "style-encoder"),
        ("layers", "reach"),
        ("codes", "'base' holds"),
    ],
)
def test_style_says_what_is_wrong_with_its_engines(
    fault: str, named: str, astronaut: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An encoder missing, a recipe for another number of layers, codes that no face has."""
    zoo, photo = tmp_path / "zoo", tmp_path / "me.png"
    shutil.copytree(ZOO, zoo)
    photo.write_bytes(astronaut)
    recipe = json.loads((zoo / "recipes" / "style.json").read_text())
    if fault == "encoder":
        shutil.rmtree(zoo / "style-encoder")
    elif fault == "layers":
        recipe["constants"]["reach"].append(1)
    else:
        recipe["stages"][0]["within"] = [-1e-3, 1e-3]
    (zoo / "recipes" / "style.json").write_text(json.dumps(recipe))
    monkeypatch.setattr("faceprotect_engines.store.ZOO", zoo)
    code = main(["protect", str(photo), "--method", "style", "--device", "cpu", "--no-installed-judges"])
    assert code == 5
    assert named in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["me.png"]


def test_a_photo_is_led_to_a_decoy_that_ships(store: Store, astronaut: bytes) -> None:
    decoys = Decoys.read([ZOO]).faces
    stated = json.loads((ZOO / "decoys" / "decoys.json").read_text())["recognisers"]
    assert {len(one["decoys"]) for one in stated.values()} == {len(decoys)}
    assert {decoy.pixels.shape for decoy in decoys} == {(256, 256, 3)}
    with Protector(device="cpu", store=store, goal="decoy", strength="high", installed_judges=False) as protector:
        result = protector.protect(astronaut)
    face = result.faces[0]
    assert result.status == "protected"
    assert face.decoy in {decoy.name for decoy in decoys}
    searched = [one for one in face.verdicts if one.took_part]
    assert searched
    assert all(one.decoy is not None and one.decoy > one.similarity for one in searched)


def test_dlib_itself_no_longer_matches(store: Store, astronaut: bytes) -> None:
    pytest.importorskip("dlib", reason="needs the extra [judge]")
    with Protector(device="cpu", store=store) as protector:
        result = protector.protect(astronaut)
        checked = protector.check(astronaut, result.image or b"")
    dlib = {v.recogniser: v for v in checked.faces[0].verdicts}["dlib"]
    assert dlib.distance is not None
    assert dlib.distance > 0.6
    assert dlib.took_part, "dlib's weights are those of a surrogate: its verdict is no independent one"


def test_readme_and_ci_run_the_same_command() -> None:
    root = Path(__file__).parents[1]
    command = next(line for line in (root / ".ci" / "run").read_text().splitlines() if "pytest" in line)
    assert command in (root / "README.md").read_text()


def test_import_is_light() -> None:
    code = "import faceprotect_sdk, sys; print([m for m in ('torch', 'onnxruntime', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_photo_of_the_readme_is_not_taken_for_one_that_was_protected() -> None:
    """Its film grain is what a search takes away of itself: the rule for lost marks must leave room for that."""
    data = pytest.importorskip("skimage.data")
    with Protector("auto", "cpu", attempts=1, installed_judges=False) as protector:
        result = protector.protect(np.ascontiguousarray(data.astronaut()))
    assert result.faces[0].changed

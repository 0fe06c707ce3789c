"""The benchmark's command: its faults are caught, its numbers repeat, and what it measured is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import toy_zoo
from click.testing import CliRunner, Result
from PIL import Image

import report
import sheet
from faceprotect_engines.files.digest import sha256_file
from faceprotect_sdk import UnreadableInput
from faceprotect_sdk.face.align import aligned_crop
from harness import pixels as attacks
from harness.measure import Worker
from harness.pairs import target_pixels
from harness.settings import CLEAN

if TYPE_CHECKING:
    from conftest import Bench


def rates(document: dict[str, Any], key: str) -> list[float]:
    return [e["protected"] for r in document["methods"][key]["recognisers"].values() for e in r["verification"]]


def test_numbers_repeat_and_protection_beats_the_clean_row(bench: Bench) -> None:
    few = ("--limit", "2")
    first = bench.document(*few, methods="latent@0.004,mi-fgsm@30")
    second = bench.document(*few, "--work", str(bench.folder / "again"), methods="latent@0.004,mi-fgsm@30", name="second")
    assert report.differences(second, first) == []
    assert sum(rates(first, CLEAN)) == 0
    assert sum(rates(first, "latent@0.004")) > 0
    assert {name: entry["strong"] for name, entry in first["recognisers"].items()} == {"strong": True, "weak": False}
    for key, method in first["methods"].items():
        head = method["recognisers"]["strong"]["verification"][0]
        assert method["strong"] == {"judges": ["strong"], **{name: head[name] for name in ("clean", "protected", "interval")}}, key
        assert method["quality"]["ssimulacra2_p10"] <= method["quality"]["ssimulacra2_median"]
        assert {"mid_band_p90", "ssimulacra2_face"} <= method["quality"].keys()
    seen = [first["methods"][key]["quality"] for key in (CLEAN, "latent@0.004")]
    assert seen[0]["ssimulacra2"] > seen[1]["ssimulacra2"]
    assert seen[0]["mid_band"] < seen[1]["mid_band"]
    other = bench.document(*few, "--seed", "1", "--work", str(bench.folder / "other"), methods="latent@0.004,mi-fgsm@30", name="other")
    assert report.differences(other, first)


def test_the_strong_judges_can_be_named_and_a_mesh_measures(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceprotect_engines.store.ZOO", bench.zoo)  # where the sheet finds its detector
    mesh = toy_zoo.make_mesh(tmp_path / "mesh") / "model.onnx"
    result = bench("--strong", "weak,strong", "--mesh", str(mesh), methods="mi-fgsm@30")
    assert result.exit_code == 0, result.output
    assert "mean of the strong judges (strong, weak): " in result.output
    assert "SSIMULACRA2 " in result.output
    method = json.loads((bench.folder / "out.json").read_text())["methods"]["mi-fgsm@30"]
    heads = [entry["verification"][0]["protected"] for entry in method["recognisers"].values()]
    assert method["strong"]["protected"] == pytest.approx(sum(heads) / 2, abs=0.1)
    assert method["quality"]["mesh_moved"] >= 0
    sheet_of(bench, "mi-fgsm@30", ["1", "2", "3", "4"])


def sheet_of(bench: Bench, key: str, people: list[str]) -> None:
    """The pages show the first people, as many as asked for; a row that is not there is named."""

    def call(method: str, count: int) -> Result:
        words = [str(bench.folder / "out"), "--method", method, "--people", str(count), "--size", "64", "-o", str(bench.folder / "s.png")]
        return CliRunner().invoke(sheet.main, words)

    done = call(key, 3)
    assert done.exit_code == 0, done.output
    assert done.output.split() == [str(bench.folder / "s-1.png")]
    three = Image.open(bench.folder / "s-1.png").size
    assert call(key, 1).exit_code == 0
    assert Image.open(bench.folder / "s-1.png").height < three[1]
    assert "SSIMULACRA2" in sheet.caption(bench.folder / "out" / key, people[0])
    wrong = call("latent", 1)
    assert wrong.exit_code == 2
    assert f"there are: {key}, none" in wrong.output


def test_surrogates_are_left_out_by_name(bench: Bench) -> None:
    document = bench.document("--limit", "1", methods="latent@0.004,latent@0.004~toy-b,mi-fgsm@30~toy-a")
    searched = {key: method["surrogates"] for key, method in document["methods"].items()}
    assert searched == {CLEAN: [], "latent@0.004": ["toy-a", "toy-b"], "latent@0.004~toy-b": ["toy-a"], "mi-fgsm@30~toy-a": ["toy-b"]}
    assert bench(methods="latent~toy-x", name="other").exit_code == 2


def test_a_method_that_returns_its_input_scores_the_clean_row(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attacks.ATTACKS, "pgd", lambda crop, *_: np.zeros_like(crop))
    document = bench.document("--limit", "2", methods="pgd")
    assert rates(document, "pgd") == rates(document, CLEAN)
    assert document["methods"]["pgd"]["quality"] == document["methods"][CLEAN]["quality"]


def test_a_judge_among_the_surrogates_is_refused(bench: Bench, tmp_path: Path) -> None:
    folder = toy_zoo.make_surrogate(tmp_path / "disguised", 7)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["source"] = {"sha256": sha256_file(bench.fr / "strong.onnx")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result = bench("--surrogates", str(folder))
    assert result.exit_code == 2
    assert "'strong' scores, but latent@medium searches on it" in result.output
    assert not (bench.folder / "out.json").exists()


def _swap(pairs: Path) -> None:
    first, second = pairs / "test_align/test_1.png", pairs / "test_align/test_2.png"
    keep = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(keep)


def _empty(pairs: Path) -> None:
    shutil.rmtree(pairs / "train_align")
    (pairs / "train_align").mkdir()


def _same_number(pairs: Path) -> None:
    shutil.copy(pairs / "train_align/train_1.png", pairs / "train_align/other_01.png")


FAULTS = {
    "swapped": (_swap, 2, "1 (its photo shows 2), 2 (its photo shows 1)"),
    "missing partner": (lambda pairs: (pairs / "test_align/test_3.png").unlink(), 2, "without a partner in the other folder: 3"),
    "unreadable": (lambda pairs: (pairs / "test_align/test_3.png").write_bytes(b"no photo"), 4, "test_3.png"),
    "empty folder": (_empty, 2, "no photos in it"),
    "no folder": (lambda pairs: shutil.rmtree(pairs / "test_align"), 2, "test_align: no such folder"),
    "two of a number": (_same_number, 2, "have the same number"),
    "no number": (lambda pairs: (pairs / "train_align/train_1.png").rename(pairs / "train_align/one.png"), 2, "no number to pair it by"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_pairs_are_named(bench: Bench, fault: str) -> None:
    plant, code, message = FAULTS[fault]
    plant(bench.pairs)
    result = bench(methods="mi-fgsm")
    assert result.exit_code == code
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (bench.folder / "out.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "magic"], "no method 'magic'"),
        (["--methods", "latent@strong"], "one of: low, medium, high"),
        (["--methods", "gift@37"], "gift takes no value"),
        (["--methods", "mi-fgsm@30,mi-fgsm@30"], "two settings have one name"),
        (["--roles", "teacher"], "no model has one of the roles teacher"),
        (["--goal", "decoy"], "no targets for --goal decoy"),
        (["--surrogates", "nowhere"], "nowhere"),
        (["--without", "toy-c"], "toy-c"),
        (["--strong", "strong,other"], "--strong other: does not score here; there are: strong, weak"),
    ],
)
def test_mistakes_are_named(bench: Bench, words: list[str], message: str) -> None:
    result = bench(*words)
    assert result.exit_code in (2, 5)
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_photo_without_a_face_is_left_out_and_said(bench: Bench) -> None:
    from PIL import Image

    Image.new("RGB", (256, 256), (90, 120, 90)).save(bench.pairs / "train_align/train_2.png")
    document = bench.document("--limit", "2", methods="mi-fgsm")
    assert document["left_out"] == ["train_2.png: no face found"]
    assert {method["people"] for method in document["methods"].values()} == {1}


def test_an_interrupted_run_keeps_what_it_measured(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("--limit", "2")
    whole = bench.document(*few, "--work", str(bench.folder / "whole"), methods="mi-fgsm", name="whole")
    measure = Worker.measure

    def failing(self: Worker, setting: Any, pair: Any, index: int, folder: Path) -> None:
        if setting.key != CLEAN and index == 1:
            raise KeyboardInterrupt
        measure(self, setting, pair, index, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "measure", failing)
        assert bench(*few, methods="mi-fgsm").exit_code == 130
    kept = {path: path.stat().st_mtime_ns for path in (bench.folder / "out").rglob("*.npz")}
    assert {path.relative_to(bench.folder / "out").as_posix() for path in kept} >= {"none/1.npz", "none/2.npz", "mi-fgsm/1.npz"}
    resumed = bench.document(*few, methods="mi-fgsm")
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert report.differences(resumed, whole) == []


def test_a_work_folder_of_other_settings_is_refused(bench: Bench) -> None:
    bench.document("--limit", "1", methods="mi-fgsm")
    result = bench("--limit", "1", "--seed", "3", methods="mi-fgsm")
    assert result.exit_code == 2
    assert "was made otherwise (look differ" in result.output


@pytest.mark.parametrize("method", ["latent@0.05", "mi-fgsm@22"])
def test_towards_a_target_the_similarity_to_it_rises(bench: Bench, method: str) -> None:
    document = bench.document("--limit", "2", "--goal", "impersonate", methods=method)
    clean, aimed = (document["methods"][key]["recognisers"]["strong"] for key in (CLEAN, method))
    assert aimed["mean_similarity"] > clean["mean_similarity"] + 0.2
    assert aimed["identification"]["gallery"] == 2 + 1, "the people and the target"
    assert aimed["identification"]["protected_rank_5_targeted"] == 100


def test_a_target_is_read_whatever_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "target.png"
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(path, "JPEG")
    assert target_pixels(path).shape == (8, 8, 3)
    path.write_bytes(b"no photo")
    with pytest.raises(UnreadableInput, match=r"target\.png"):
        target_pixels(path)


def test_both_photos_protected_and_every_variant(bench: Bench) -> None:
    document = bench.document("--limit", "1", "--both", "--robustness", methods="latent@0.004")
    method = document["methods"]["latent@0.004"]
    assert all("both_protected" in entry for one in method["recognisers"].values() for entry in one["verification"])
    assert next(iter(method["robustness"])) == "as written"
    assert len(method["robustness"]) == 16
    head = {name: one["verification"][0]["protected"] for name, one in method["recognisers"].items()}
    assert {name: entry["protected"] for name, entry in method["robustness"]["as written"].items()} == head


def test_written_photos_have_about_the_psnr_that_was_asked_for(bench: Bench) -> None:
    from faceprotect_engines.store import Store
    from faceprotect_sdk.face.detect import find_faces
    from faceprotect_sdk.judging.quality import psnr
    from faceprotect_sdk.photo.reading import load
    from harness.pairs import read_pairs

    bench.document("--limit", "2", methods="pgd@32")
    with Store([bench.zoo]).open("face-detector") as detector:
        for pair in read_pairs(bench.pairs)[:2]:
            before, after = load(pair.photo).rgb8(), load(bench.folder / "out/pgd@32" / f"{pair.number}.jpg").rgb8()
            points = find_faces(before, detector)[0].points
            assert psnr(*(aligned_crop(image, points) for image in (before, after))) == pytest.approx(32, abs=2.5)

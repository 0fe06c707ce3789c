"""The commands protect and check: exit codes, what is written, JSON on stdout."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import toy_zoo
from cli_tools import QUIET, folder, run
from PIL import Image

from faceprotect_sdk import Protector
from faceprotect_sdk.cli.main import main

pytestmark = pytest.mark.usefixtures("toy_cli")


def test_protect_writes_beside_the_input_and_reports(capsys: pytest.CaptureFixture[str], jpeg: Path) -> None:
    code, (document,), error = run(capsys, "protect", jpeg, "--json", *QUIET)
    assert code == 0
    assert error == f"photo 1 of 1: {jpeg}\n"
    assert document["status"] == "protected"
    assert document["output"] == str(jpeg.with_name("me_protected.jpg"))
    assert Image.open(document["output"]).size == (320, 240)
    code, (document,), error = run(capsys, "check", jpeg, document["output"], "--json", *QUIET)
    assert code == 0
    assert document["independent"] == 1
    quality = document["faces"][0]["quality"]
    assert quality["ssimulacra2"] < 100 and quality["ssimulacra2_face"] < 100 and quality["mid_band"] > 0
    assert quality["mesh_moved"] is None


def test_text_output(capsys: pytest.CaptureFixture[str], jpeg: Path) -> None:
    assert main(["protect", str(jpeg), *QUIET]) == 0
    text = capsys.readouterr().out
    assert "protected" in text
    assert "took part in the search" in text
    for figure in ("SSIMULACRA2 ", "mid band ", "PSNR "):
        assert figure in text
    assert "independent" in text
    assert main(["faces", str(jpeg), "--device", "cpu"]) == 0
    assert "1 face\n" in capsys.readouterr().out
    assert main(["check", str(jpeg), str(jpeg), *QUIET]) == 6
    assert "STILL MATCHED" in capsys.readouterr().out


def test_same_seed_same_bytes_through_files(capsys: pytest.CaptureFixture[str], png: Path) -> None:
    outputs = [png.with_name(f"{index}.png") for index in range(2)]
    for output in outputs:
        assert run(capsys, "protect", png, "-o", output, "--seed", 7, *QUIET)[0] == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_nothing_is_replaced_without_force(capsys: pytest.CaptureFixture[str], png: Path) -> None:
    target = png.with_name("me_protected.png")
    target.write_bytes(b"mine")
    code, (document,), error = run(capsys, "protect", png, "--json", *QUIET)
    assert code == 2
    assert "--force" in error
    assert document["error"]["type"] == "OutputError"
    assert target.read_bytes() == b"mine"
    assert run(capsys, "protect", png, "--force", *QUIET)[0] == 0
    assert target.read_bytes() != b"mine"
    before = png.read_bytes()
    code, _, error = run(capsys, "protect", png, "-o", png, "--force", *QUIET)
    assert code == 2
    assert "input itself" in error
    assert png.read_bytes() == before


def test_still_matched_writes_nothing_that_looks_protected(capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path) -> None:
    stubborn = toy_zoo.make_judge(tmp_path / "stubborn", 77, threshold=-1.0)
    code, (document,), _ = run(capsys, "protect", png, "--judge", stubborn, "--json", *QUIET)
    assert code == 6
    assert document["status"] == "still_matched"
    assert document["output"] is None
    assert list(folder(tmp_path)) == ["me.png"]
    code, (document,), _ = run(capsys, "protect", png, "--judge", stubborn, "--keep-unconfirmed", "--json", *QUIET)
    assert code == 6
    assert sorted(folder(tmp_path)) == ["me.png", "me_unconfirmed.png"]


@pytest.mark.parametrize(("strength", "advised"), [("medium", "Try --strength high"), ("high", "engines fetch all")])
def test_what_is_still_matched_says_by_how_much_and_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path, strength: str, advised: str
) -> None:
    stubborn = toy_zoo.make_judge(tmp_path / "stubborn", 77, threshold=-1.0)
    assert main(["protect", str(png), "--judge", str(stubborn), "--strength", strength, *QUIET]) == 6
    text = capsys.readouterr().out
    said = re.search(r"stubborn still matches it by (\d\.\d+) of similarity", text)
    verdict = re.search(r"stubborn +similarity ([+-]\d\.\d+)", text)
    assert said and verdict and float(said[1]) == pytest.approx(float(verdict[1]) + 1.0, abs=2e-3)
    assert advised in text


def test_a_batch_goes_on_and_the_worst_code_wins(capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    out = tmp_path / "out"
    code, documents, error = run(capsys, "protect", bad, png, "-o", out, "--json", *QUIET)
    assert code == 4
    assert [document["exit_code"] for document in documents] == [4, 0]
    assert list(folder(out)) == ["me_protected.png"]
    assert "empty" in error
    code, _, error = run(capsys, "protect", bad, png, "-o", tmp_path / "one.png", *QUIET)
    assert code == 2
    assert "need a folder" in error


def test_usage_errors(capsys: pytest.CaptureFixture[str], png: Path) -> None:
    for arguments in (
        ["protect"],
        ["protect", png, "--strength", "huge"],
        ["nonsense"],
        ["protect", png, "--seed", "-1"],
    ):
        assert run(capsys, *arguments)[0] == 2
    code, _, error = run(capsys, "protect", png, "-o", png.with_suffix(".jpg"), *QUIET)
    assert code == 2
    assert "container" in error
    assert run(capsys, "protect", png, "--method", "magic", *QUIET)[0] == 2


def test_a_batch_never_replaces_its_own_photos(capsys: pytest.CaptureFixture[str], tmp_path: Path, pixels: np.ndarray) -> None:
    out = tmp_path / "out"
    for place in (tmp_path / "a", tmp_path / "b", out):
        place.mkdir()
        Image.fromarray(pixels).save(place / "me.png")
    arguments = (tmp_path / "a/me.png", tmp_path / "b/me.png", "-o", out, "--force", "--json", *QUIET)
    code, documents, error = run(capsys, "protect", *arguments)
    assert code == 2
    assert [document["status"] for document in documents] == ["protected", "error"]
    assert "another photo of this run" in error
    Image.fromarray(pixels).save(out / "me_protected.png")
    kept = (out / "me_protected.png").read_bytes()
    code, _, error = run(capsys, "protect", out / "me.png", out / "me_protected.png", "--force", *QUIET)
    assert code == 2
    assert "in this run" in error
    assert (out / "me_protected.png").read_bytes() == kept


def test_a_name_that_is_too_long_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work was done")

    photo = tmp_path / f"{'x' * 245}.png"
    Image.fromarray(pixels).save(photo)
    monkeypatch.setattr(Protector, "protect", work)
    code, _, error = run(capsys, "protect", photo, *QUIET)
    assert code == 2
    assert "too long" in error and "-o" in error

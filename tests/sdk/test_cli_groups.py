"""Photos of several people, one of whom stays matched: who it is, and what becomes of the others."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy_zoo
from cli_tools import QUIET, folder, run
from PIL import Image

from faceprotect_sdk import NotProtected, Protector
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.face.paste import support
from faceprotect_sdk.photo.encode import encode
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.session import FaceSession

pytestmark = pytest.mark.usefixtures("toy_cli")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    Image.fromarray(toy_zoo.photo(640, 240, faces=2)).save(tmp_path / "two.png")
    return tmp_path / "two.png"


@pytest.fixture
def stubborn_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done to the second face of two, one recogniser matches it."""
    score = FaceSession.score

    def scored(self: FaceSession, *given: object) -> None:
        score(self, *given)  # type: ignore[arg-type]
        if self.index == 1:
            first = self.verdicts[0]
            self.found = self.found and replace(self.found, passed=False)  # nothing is left to try, so that the test is quick
            self.verdicts = (replace(first, similarity=first.threshold + 0.25, matched=True), *self.verdicts[1:])

    monkeypatch.setattr(FaceSession, "score", scored)


def test_the_face_that_stays_matched_is_named_with_its_box(
    capsys: pytest.CaptureFixture[str], two: Path, stubborn_second: None, tmp_path: Path
) -> None:
    code, (document,), _ = run(capsys, "protect", two, "--json", *QUIET)
    assert (code, document["status"], document["output"]) == (6, "still_matched", None)
    (wanting,) = document["faces_not_protected"]
    assert (wanting["index"], wanting["status"], wanting["matched_by"][0]) == (1, "still_matched", "toy-a")
    assert wanting["box"] == document["faces"][1]["box"]
    assert main(["protect", str(two), *QUIET]) == 6
    text = capsys.readouterr().out
    where = ", ".join(f"{value:.0f}" for value in wanting["box"])
    assert f"face 2 of 2 at ({where}) is not protected" in text
    assert "face 1 of 2" not in text
    assert re.search(r"toy-a still matches it by 0\.250", text)
    assert "--write-others" in text
    assert sorted(folder(tmp_path)) == ["two.png"]


def test_the_others_are_written_on_request_and_not_called_protected(
    capsys: pytest.CaptureFixture[str], two: Path, stubborn_second: None, tmp_path: Path
) -> None:
    code, (document,), _ = run(capsys, "protect", two, "--write-others", "--json", *QUIET)
    assert (code, document["status"]) == (6, "partly_protected")
    assert document["output"] == str(tmp_path / "two_partly.png")
    assert [face["status"] for face in document["faces"]] == ["protected", "still_matched"]
    assert [face["changed"] for face in document["faces"]] == [True, False]
    assert sorted(folder(tmp_path)) == ["two.png", "two_partly.png"]
    before, after = (np.asarray(Image.open(tmp_path / name)) for name in ("two.png", "two_partly.png"))
    changed = [
        (before[area] != after[area]).any()
        for face in document["faces"]
        for area in [support(face_mask(), np.array(face["points"]), *before.shape[:2])]
    ]
    assert changed == [True, False], "the face that stays matched keeps its pixels"
    assert main(["protect", str(two), "--write-others", "--force", *QUIET]) == 6
    text = capsys.readouterr().out
    assert "NOT protected: some faces are" in text
    assert "was left as it was" in text


def test_nobody_protected_is_no_photo_of_others(capsys: pytest.CaptureFixture[str], png: Path, tmp_path: Path) -> None:
    stubborn = toy_zoo.make_judge(tmp_path / "stubborn", 77, threshold=-1.0)
    code, (document,), _ = run(capsys, "protect", png, "--judge", stubborn, "--write-others", "--json", *QUIET)
    assert (code, document["status"], document["output"]) == (6, "still_matched", None)
    assert sorted(folder(tmp_path)) == ["me.png"]


def test_a_partly_protected_result_cannot_be_saved_as_protected(
    protector: Protector, two: Path, stubborn_second: None, tmp_path: Path
) -> None:
    result = protector.protect(two, write_others=True)
    assert result.image is None and result.unconfirmed is None and result.partial
    assert not result.protected
    with pytest.raises(NotProtected):
        result.save(tmp_path / "x.png")
    assert protector.protect(two).partial is None


def test_the_others_are_written_of_a_large_photo_too(
    capsys: pytest.CaptureFixture[str], two: Path, stubborn_second: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worked on in windows, the face that is left out is as the photo written again has it, and the other is not."""
    monkeypatch.setattr("faceprotect_sdk.photo.reading.LARGE", 10_000)
    photo = tmp_path / "large.jpg"
    Image.open(two).resize((2560, 960)).save(photo, quality=95, subsampling=0)
    code, (document,), _ = run(capsys, "protect", photo, "--write-others", "--json", *QUIET)
    assert (code, document["status"]) == (6, "partly_protected")
    written = load(document["output"]).pixels
    again = load(encode(load(photo), quality=95)).pixels
    same = []
    for face in document["faces"]:
        left, top, right, bottom = (int(value) for value in face["box"])
        same.append(np.array_equal(written[top:bottom, left:right], again[top:bottom, left:right]))
    assert same == [False, True]

"""Faces before which something is held or worn: seen to be covered, left as they are, and never called protected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy_zoo
from cli_tools import QUIET, folder, run
from PIL import Image

from faceprotect_engines.store import Store
from faceprotect_sdk import Protector
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.covered import features, is_covered
from faceprotect_sdk.face.detect import find_faces

FAULT = Path(__file__).resolve().parents[3] / "shared" / "faults" / "mask.png"


def _face(photo: np.ndarray) -> np.ndarray:
    with Store().open("face-detector", "cpu", 1) as detector:
        return aligned_crop(photo, find_faces(photo, detector)[0].points)


def _astronaut() -> np.ndarray:
    from skimage import data

    return np.asarray(data.astronaut())


def test_a_free_face_is_free_and_a_drawn_mask_is_seen() -> None:
    crop = _face(_astronaut())
    assert not is_covered(crop)
    assert not is_covered(np.repeat(crop.mean(1, keepdims=True), 3, 1)), "in grey, too"
    masked = crop.copy()
    masked[:, :, 145:235, 70:186] = np.array([0.6, 0.75, 0.9], np.float32)[:, None, None]
    assert is_covered(masked)
    glasses = crop.copy()
    glasses[:, :, 102:136, 68:188] = 0.1
    assert not is_covered(glasses), "they leave nose and mouth free"


def test_the_photo_on_which_a_nose_was_painted() -> None:
    if not FAULT.is_file():
        pytest.skip("needs ../shared/faults, which is not part of the project")
    assert is_covered(_face(np.asarray(Image.open(FAULT).convert("RGB"))))


def test_brightness_does_not_count() -> None:
    crop = np.random.default_rng(0).uniform(0, 0.5, (1, 3, 256, 256)).astype(np.float32)
    np.testing.assert_allclose(features(crop), features(crop + 0.3), atol=2e-3)


@pytest.fixture
def covered_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two faces the second is covered."""
    answers = iter([False, True] * 10)
    monkeypatch.setattr("faceprotect_sdk.session.is_covered", lambda crop: next(answers))


def test_a_covered_face_is_left_as_it_is(
    toy_cli: None, capsys: pytest.CaptureFixture[str], png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faceprotect_sdk.session.is_covered", lambda crop: True)
    code, (document,), _ = run(capsys, "protect", png, "--keep-unconfirmed", "--json", *QUIET)
    assert (code, document["status"], document["output"]) == (6, "covered", None)
    assert [(face["status"], face["changed"], face["steps"]) for face in document["faces"]] == [("covered", False, 0)]
    assert main(["protect", str(png), *QUIET]) == 6
    text = capsys.readouterr().out
    assert "covers nose and mouth" in text and "--even-covered" in text
    assert sorted(folder(tmp_path)) == ["me.png"]
    assert run(capsys, "protect", png, "--even-covered", "--json", *QUIET)[0] == 0


def test_one_covered_face_of_two(protector: Protector, covered_second: None, tmp_path: Path) -> None:
    photo = toy_zoo.photo(640, 240, faces=2)
    alone = protector.protect(photo)
    assert (alone.status, alone.image, alone.partial) == ("covered", None, None)
    others = protector.protect(photo, write_others=True)
    assert others.status == "partly_protected" and others.partial
    assert [face.status for face in others.faces] == ["protected", "covered"]
    assert int(others.exit_code) == 6

"""A change that takes an earlier one away is told from one on an untouched face, and ends in a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_zoo
from cli_tools import run
from numpy.typing import NDArray

from faceprotect_engines.store import Store
from faceprotect_sdk import AlreadyProtected, Protector
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.judging.undoing import share

MASK = np.ones((1, 1, CROP, CROP), np.float32)


def smooth(seed: int, blur: int) -> NDArray[np.float32]:
    """A smooth random picture [3, 256, 256] of standard deviation 1."""
    noise = np.random.default_rng(seed).standard_normal((3, CROP // blur, CROP // blur))
    picture = np.kron(noise, np.ones((1, blur, blur)))
    return np.asarray(picture / picture.std(), np.float32)


@pytest.fixture
def face() -> NDArray[np.float32]:
    """A photo with broad forms and a little grain, [1, 3, 256, 256]."""
    return np.asarray(0.5 + 0.1 * smooth(0, 64) + 0.004 * smooth(1, 1), np.float32)[None]


def test_a_change_of_an_untouched_face_has_nothing_to_do_with_it(face: NDArray[np.float32]) -> None:
    assert abs(share(face, 0.02 * smooth(2, 2), MASK)) < 0.05


def test_taking_a_change_back_is_all_of_it_and_half_of_it_counts_in_part(face: NDArray[np.float32]) -> None:
    change, other = 0.02 * smooth(2, 2), 0.02 * smooth(3, 2)
    changed = face + change
    assert share(changed, -change, MASK) > 0.9
    assert 0.35 < share(changed, (other - change) / 2, MASK) < 1.1
    assert share(changed, change, MASK) < -0.9
    assert share(face, np.zeros_like(change), MASK) == 0


def folder(tmp_path: Path, undoes: float) -> Path:
    own = tmp_path / f"own{undoes}"
    own.mkdir()
    (own / "recipe.json").write_text(json.dumps(toy_zoo.recipe() | {"name": "mine", "undoes": undoes}))
    return own


@pytest.mark.usefixtures("toy_cli")
def test_a_photo_that_looks_protected_is_refused_unless_one_insists(
    tmp_path: Path, store: Store, pixels: NDArray[np.uint8], png: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"store": store, "installed_judges": False}
    with Protector(folder(tmp_path, -1e9), "cpu", **settings) as protector:
        with pytest.raises(AlreadyProtected, match="face 1 looks as if it had been protected"):
            protector.protect(pixels)
        assert protector.protect(pixels, again=True).faces
    with Protector(folder(tmp_path, 1e9), "cpu", **settings) as protector:
        assert protector.protect(pixels).faces
    code, _, error = run(capsys, "protect", png, "--method", tmp_path / "own-1000000000.0", "--device", "cpu", "--no-installed-judges")
    assert code == 4
    assert "--again" in error

"""Towards a decoy: which one, how near, and decoys that are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy_zoo
from PIL import Image

from faceprotect_engines.errors import EngineNotFound
from faceprotect_engines.store import Store
from faceprotect_sdk import Protector, UsageError
from faceprotect_sdk.cli.report import show_protect
from faceprotect_sdk.face.align import CANONICAL_POINTS
from faceprotect_sdk.methods.decoys import Decoy, Decoys
from faceprotect_sdk.photo.reading import load


def with_decoys(store: Store, folder: Path) -> Store:
    """The same store, with two synthetic faces beside its engines."""
    (folder / "decoys").mkdir(parents=True)
    for seed, name in ((5, "first"), (6, "second")):
        Image.fromarray(toy_zoo.photo(256, 256, seed=seed)).save(folder / "decoys" / f"{name}.png")
    return Store([folder, *store.roots], folder / "cache")


def test_towards_a_decoy(store: Store, tmp_path: Path, pixels: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    with Protector(store=with_decoys(store, tmp_path / "d"), device="cpu", goal="decoy", installed_judges=False) as protector:
        result = protector.protect(pixels)
        again = protector.protect(np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8))
    (face,) = result.faces
    assert result.status == "protected"
    assert result.to_json()["goal"] == "decoy"
    assert face.decoy in ("first", "second")
    for name in ("first", "second", "third"):
        with Protector(store=protector.pool.store, device="cpu", goal="decoy", decoy=name, installed_judges=False) as named:
            if name == "third":
                with pytest.raises(UsageError, match="first, second"):
                    named.protect(pixels)
            else:
                assert named.protect(pixels).faces[0].decoy == name
    assert again.faces[0].decoy == face.decoy  # a lighter print of the photo leads to the same decoy
    with Protector(store=store, device="cpu", installed_judges=False) as plain:
        away = plain.protect(pixels)
    assert all(v.decoy is None for v in away.faces[0].verdicts)
    decoy = Image.open(tmp_path / "d" / "decoys" / f"{face.decoy}.png")
    with Protector(store=store, device="cpu", installed_judges=False) as plain:
        judge = plain._parts.judges()[0]
        wanted = judge.embed(np.asarray(decoy), CANONICAL_POINTS)
        likeness = [judge.similarity(wanted, judge.embed(load(r.image or b"").rgb8(), np.array(face.points))) for r in (result, away)]
    assert likeness[0] > likeness[1] + 0.1
    (verdict,) = (v for v in face.verdicts if v.recogniser == judge.name)
    assert verdict.decoy == pytest.approx(likeness[0], abs=1e-5)
    show_protect(Path("me.png"), None, result)
    shown = capsys.readouterr().out
    assert f"towards decoy {face.decoy}" in shown
    assert f"to the decoy {verdict.decoy:+.3f}" in shown


def test_the_decoy_is_the_one_least_like_the_face() -> None:
    class Brightness:
        name, threshold, spread = "brightness", 0.0, 1.0

        def locate(self, pixels: np.ndarray, face: object) -> object:
            return face

        def embed(self, pixels: np.ndarray, place: object) -> np.ndarray:
            return pixels.reshape(-1, 3).mean(0)

        def similarity(self, one: np.ndarray, other: np.ndarray) -> float:
            return -float(np.abs(one - other).max())

    faces = [Decoy(str(value), np.full((4, 4, 3), value, np.uint8)) for value in (90, 10, 160)]
    own = {"brightness": np.full(3, 100.0)}
    assert Decoys(faces).least_alike(own, [Brightness()]).name == "10"  # type: ignore[list-item]


def test_decoys_that_are_missing_and_goals_that_do_not_exist(store: Store, pixels: np.ndarray) -> None:
    with Protector(store=store, device="cpu", goal="decoy") as protector, pytest.raises(EngineNotFound, match="decoys"):
        protector.protect(pixels)
    with Protector(store=store, device="cpu", goal="decoy", decoy="third") as protector, pytest.raises(EngineNotFound):
        protector.protect(pixels)
    with pytest.raises(UsageError, match="first"):
        Protector(store=store, decoy="first")
    with pytest.raises(UsageError, match="impersonate"):
        Protector(store=store, goal="impersonate")  # type: ignore[arg-type]

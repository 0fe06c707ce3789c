"""``makeup``: looks by name or folder, what is refused, and how they are listed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy_zoo
from cli_tools import run

from faceprotect_engines.store import Store
from faceprotect_sdk import Protector, UsageError
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.methods import SearchRequest, make_method
from faceprotect_sdk.pool import EnginePool

MAKEUP = "makeup"


def difference(store: Store, look: str | None, **fields: object) -> np.ndarray:
    crop = np.full((1, 3, 256, 256), 0.5, np.float32)
    given = {"references": {}, "limits": dict.fromkeys(toy_zoo.SURROGATES, 0.5), "budget": 1e-3, "seed": 0, **fields}
    request = SearchRequest(crop, face_mask(), **given)  # type: ignore[arg-type]
    return make_method(MAKEUP, EnginePool(store, "cpu"), look=look).search(request).difference


def look_folder(path: Path) -> Path:
    """A look as ``export makeup`` leaves it."""
    toy_zoo.make_makeup(path / "makeup", ("mine",))
    (path / "recipes").mkdir()
    (path / "recipes" / "makeup.json").write_text(json.dumps(toy_zoo.makeup_recipe()))
    return path


def test_a_look_is_chosen_by_name_and_the_first_is_the_default(store: Store) -> None:
    plain, bright = difference(store, "plain"), difference(store, "bright")
    np.testing.assert_allclose(bright, 2 * plain, rtol=1e-5)
    assert plain.max() == pytest.approx(0.1)
    np.testing.assert_array_equal(difference(store, None), plain)


def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(UsageError, match="'gaudy'.*plain, bright.*export makeup"):
        difference(store, "gaudy")
    with pytest.raises(UsageError, match="not learnt the goal 'first', only dodge"):
        difference(store, "plain", decoy="first")
    with pytest.raises(UsageError, match="'latent' has no looks"):
        Protector("latent", look="plain", store=store)


def test_a_look_of_ones_own_comes_from_its_folder(store: Store, tmp_path: Path, pixels: np.ndarray) -> None:
    folder = look_folder(tmp_path / "mine")
    with Protector(MAKEUP, "cpu", look=folder, store=store, installed_judges=False) as protector:
        own = protector.protect(pixels)
    with Protector(MAKEUP, "cpu", look="plain", store=store, installed_judges=False) as protector:
        plain = protector.protect(pixels)
    assert (own.unconfirmed or own.image) == (plain.unconfirmed or plain.image)  # each the first of its engine


@pytest.mark.usefixtures("toy_cli")
def test_looks_at_the_command_line(capsys: pytest.CaptureFixture[str], png: Path, tmp_path: Path) -> None:
    words = ("protect", png, "--device", "cpu", "--no-installed-judges", "--keep-unconfirmed", "--force")
    code, _, error = run(capsys, *words, "--method", "makeup", "--look", "gaudy")
    assert code == 2
    assert "plain, bright" in error
    code, _, error = run(capsys, *words, "--look", "plain")
    assert code == 2
    assert "--method makeup" in error
    for look in ("bright", look_folder(tmp_path / "mine")):
        code, _, _ = run(capsys, *words, "--method", "makeup", "--look", look)
        assert code in (0, 6)
    _, listed, _ = run(capsys, "engines", "list", "--json")
    looks = {row["name"]: row.get("looks") for row in listed}
    assert looks["makeup"] == {"plain": None, "bright": None}  # the toys have no pictures
    assert looks["fast"] is None

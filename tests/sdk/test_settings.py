"""One list of settings, however it is given."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from faceprotect_engines.store import Store
from faceprotect_sdk import EnginePool, Protector, Settings, UsageError
from faceprotect_sdk.cli.options import settings_of
from faceprotect_sdk.methods import find_recipe
from faceprotect_sdk.settings import Changes


def test_every_field_can_be_given_by_its_name() -> None:
    assert set(Changes.__annotations__) == {field.name for field in fields(Settings)}


def test_settings_methods_and_names_are_one(store: Store) -> None:
    wanted = Settings("latent", "cpu", strength="low", quality=90)
    for protector in (
        Protector(wanted, store=store),
        Protector("latent", "cpu", strength="low", quality=90, store=store),
        Protector(method="latent", device="cpu", strength="low", quality=90, store=store),
        Protector(Settings("latent", quality=90), device="cpu", strength="low", store=store),
    ):
        assert protector.settings == wanted
    assert wanted.but(quality=80).quality == 80
    assert wanted.quality == 90
    with pytest.raises(FrozenInstanceError):
        wanted.quality = 3  # type: ignore[misc]
    with pytest.raises(TypeError, match="wishes"):
        Protector(wishes=3)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="twice"):
        Protector("latent", method="auto", store=store)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": 3},
        {"method": None},
        {"strength": 0.5},
        {"goal": "impersonate"},
        {"decoy": "1"},
        {"quality": 0},
        {"attempts": 0},
        {"threads": 0},
        {"time_budget": 0},
        {"surrogates": "folder"},
        {"quality": "95"},
        {"without": None},
    ],
)
def test_what_cannot_be_is_refused_when_it_is_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Settings(**wrong)


@pytest.mark.parametrize("wrong", [{"method": "magic"}, {"strength": "huge"}, {"look": "natural"}])
def test_what_the_store_has_not_is_refused_when_the_protector_is_made(wrong: dict[str, Any], store: Store) -> None:
    settings = Settings(**wrong)
    with pytest.raises(UsageError):
        Protector(settings, store=store)
    with EnginePool(store, "cpu") as pool, pytest.raises(UsageError):
        Protector(settings, pool=pool)


def test_a_folder_of_ones_own_needs_a_pool_of_its_engines(store: Store, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({**find_recipe("auto", store)[0].document, "name": "own"}))
    with Protector(tmp_path, store=store) as protector:
        assert protector._parts.method.name == "own"
    with EnginePool(store, "cpu") as pool, pytest.raises(UsageError, match="pool") as refused:
        Protector(tmp_path, pool=pool)
    assert str(tmp_path) in refused.value.hint
    with EnginePool(Store([tmp_path, *store.roots], store.cache), "cpu") as pool, Protector(tmp_path, pool=pool) as protector:
        assert protector.pool is pool


def test_lists_become_tuples_so_that_settings_can_be_compared_and_kept() -> None:
    settings = Settings(judges=["dlib"], surrogates=[Path("x")])
    assert settings == Settings(judges=("dlib",), surrogates=(Path("x"),))
    assert len({settings, settings.but(judges=["dlib"])}) == 1


def test_the_command_lines_options_become_settings() -> None:
    settings, others = settings_of({"judge": ("a",), "method": "fast", "force": True, "even_covered": True})
    assert settings == Settings("fast", judges=["a"], even_covered=True)
    assert others == {"force": True}

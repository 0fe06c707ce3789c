"""Fixtures: the toy zoo and a protector over it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import toy_zoo
from PIL import Image

from faceprotect_engines.engine import Engine
from faceprotect_engines.errors import EngineNotFound, WeightsMissing
from faceprotect_engines.store import Store
from faceprotect_sdk.protector import Protector

# What takes the place of the shipped engines as it is imported must not meet the toy zoo there, which some tests put in its stead.
for late in ("makeup.reference", "pretrained.chains", "train.surrogates", "zoo.makeup"):
    with contextlib.suppress(ImportError):
        importlib.import_module(f"faceprotect_export.{late}")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The detector that ships."""
    try:
        engine = Store(cache=tmp_path_factory.mktemp("cache")).open("face-detector")
    except (EngineNotFound, WeightsMissing) as error:
        pytest.skip(str(error))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_zoo.build(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def store(zoo: Path, tmp_path: Path) -> Store:
    return Store([zoo], cache=tmp_path / "cache")


@pytest.fixture
def protector(store: Store) -> Iterator[Protector]:
    with Protector(store=store, device="cpu", installed_judges=False) as protector:
        yield protector


@pytest.fixture
def toy_cli(zoo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line over the toy zoo instead of the engines that ship."""
    monkeypatch.setattr("faceprotect_engines.store.ZOO", zoo)
    monkeypatch.setenv("FACEPROTECT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pixels() -> np.ndarray:
    return toy_zoo.photo()


@pytest.fixture
def png(tmp_path: Path, pixels: np.ndarray) -> Path:
    path = tmp_path / "me.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def jpeg(tmp_path: Path, pixels: np.ndarray) -> Path:
    path = tmp_path / "me.jpg"
    Image.fromarray(pixels).save(path, quality=95, subsampling=0)
    return path


@pytest.fixture(autouse=True)
def nothing_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy zoo's faces are dots without nose and mouth."""
    monkeypatch.setattr("faceprotect_sdk.session.is_covered", lambda crop: False)

"""Settings and arguments that a protector refuses, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_zoo

from faceprotect_engines.backends.ort import provider_installed
from faceprotect_engines.errors import DeviceUnavailable, EngineNotFound
from faceprotect_engines.store import Store
from faceprotect_sdk import Protector, UsageError


def test_settings_out_of_range(store: Store) -> None:
    for settings in ({"strength": "huge"}, {"quality": 0}, {"attempts": 0}, {"method": "magic"}):
        with pytest.raises(UsageError):
            Protector(store=store, **settings)  # type: ignore[arg-type]
    for device in ("nowhere", "cuda"):  # at construction, not at the first photo
        if device == "nowhere" or not provider_installed(device):
            with pytest.raises(DeviceUnavailable, match=device):
                Protector(store=store, device=device)
    with pytest.raises(EngineNotFound, match="Install again"):
        Protector(store=Store([]), device="cpu")


def test_a_closed_protector_says_so(store: Store, pixels: np.ndarray) -> None:
    protector = Protector(store=store, device="cpu", installed_judges=False)
    protector.faces(pixels)
    protector.close()
    protector.close()
    assert protector.devices == {}
    for call in (protector.protect, protector.faces, lambda photo: protector.check(photo, photo)):
        with pytest.raises(UsageError, match="closed"):
            call(pixels)


@pytest.mark.parametrize(
    "settings",
    [
        {"surrogates": "folder"},
        {"judges": Path("dlib")},
        {"without": "sface"},
        {"without": None},
        {"quality": "95"},
        {"quality": None},
        {"quality": 95.5},
        {"quality": True},
        {"attempts": "3"},
        {"threads": "2"},
        {"threads": 0},
        {"time_budget": "5"},
    ],
)
def test_settings_of_the_wrong_kind_are_refused_by_name(store: Store, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(settings))):
        Protector(store=store, device="cpu", **settings)


def test_arguments_of_the_wrong_kind_are_refused(protector: Protector, pixels: np.ndarray) -> None:
    for wrong in ({"seed": None}, {"seed": "1"}, {"seed": 1.5}, {"seed": -1}, {"seed": 2**63}, {"faces": None}, {"faces": 3}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            protector.protect(pixels, **wrong)  # type: ignore[arg-type]
    assert protector.protect(toy_zoo.photo(faces=0), seed=np.int64(3)).seed == 3  # type: ignore[arg-type]


def test_threads_are_no_more_than_cores(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceprotect_engines.backends.cpu_count import available_cores, bounded

    assert [bounded(asked) for asked in (None, 1, 100_000)] == [available_cores(), 1, available_cores()]
    with Protector(store=store, device="cpu", installed_judges=False, threads=100_000) as protector:
        assert protector.faces(toy_zoo.photo()) != ()

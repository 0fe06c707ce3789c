"""``fast``, one pass; a search that goes on from there where that is not enough (the toy's ``auto``); and a time budget for either."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import toy_zoo

from faceprotect_engines.store import Store
from faceprotect_sdk import Protector, UsageError
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.methods import SearchRequest, SearchResult, Strength, make_method
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.pool import EnginePool

#: As strong as it takes for the toy's pattern to be another face, at a budget of 1.
ENOUGH = 3e3
SETTINGS = {"device": "cpu", "installed_judges": False}


@pytest.fixture
def strong(zoo: Path, tmp_path: Path) -> Store:
    """A zoo whose student fools everybody at once."""
    shutil.copytree(zoo, tmp_path / "zoo")
    toy_zoo.make_fast(tmp_path / "zoo" / "fast", ENOUGH)
    return Store([tmp_path / "zoo"], tmp_path / "cache")


def request_of(**fields: object) -> SearchRequest:
    crop = np.random.default_rng(0).random((1, 3, 256, 256), np.float32)
    given = {"references": {}, "limits": dict.fromkeys(toy_zoo.SURROGATES, 0.5), "budget": 1e-3, "seed": 0, **fields}
    return SearchRequest(crop, face_mask(), **given)  # type: ignore[arg-type]


def test_fast_is_one_pass_that_the_judges_score(strong: Store, store: Store, pixels: np.ndarray) -> None:
    with Protector("fast", store=strong, strength=Strength(0.0, 1.0), **SETTINGS) as protector:
        result = protector.protect(pixels)
    assert result.status == "protected"
    assert (result.method, result.faces[0].steps, result.faces[0].attempts) == ("fast", 0, 1)
    with Protector("fast", store=store, strength=Strength(0.0, 1.0), **SETTINGS) as weak:
        assert weak.protect(pixels).status == "still_matched"


def test_fast_goes_further_with_every_attempt_and_never_past_its_budget(store: Store) -> None:
    """The toy's change is proportional to the budget, of which each attempt asks for more."""
    method = make_method("fast", EnginePool(store, "cpu"))
    small, large = (method.search(request_of(budget=budget)) for budget in (1e-3, 2e-3))
    assert small.passed is None
    np.testing.assert_allclose(large.difference, 2 * small.difference, rtol=1e-5)
    asked: list[float] = []

    class Weak:
        """A pass that never is enough, and notes what it is asked for."""

        name, searches, mask, attempts, beyond = "weak", False, method.mask, method.attempts, method.beyond
        surrogates, identities, undoes = method.surrogates, method.identities, method.undoes

        def search(self, request: SearchRequest) -> SearchResult:
            asked.append(request.budget)
            return method.search(request)

    with Protector("fast", store=store, strength=Strength(0.0, 1e-3), attempts=4, **SETTINGS) as protector:
        protector._parts.method = Weak()
        assert protector.protect(toy_zoo.photo()).status == "still_matched"
    assert asked == pytest.approx([0.64e-3, 0.8e-3, 1e-3]), "a fourth would find what the third has found"


def test_fast_knows_its_goals(store: Store) -> None:
    method = make_method("fast", EnginePool(store, "cpu"))
    away, towards = method.search(request_of()), method.search(request_of(decoy="second"))
    np.testing.assert_allclose(away.difference, -towards.difference)
    with pytest.raises(UsageError, match="first, second.*method='latent'"):
        method.search(request_of(decoy="third"))


def test_fast_takes_no_surrogates(store: Store, zoo: Path) -> None:
    room = EnginePool(store, "cpu")
    with pytest.raises(UsageError, match="method='auto'"):
        make_method("fast", room, surrogates=[zoo / "toy-a"]).surrogates()
    for method in ("fast", "auto"):  # what a network has learnt from cannot judge it independently
        with pytest.raises(UsageError, match="method='latent'"):
            make_method(method, room, without=["toy-a"]).surrogates()


def test_what_a_student_learnt_from_is_no_independent_judge(zoo: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    """A recogniser that took no part in the search, but in the student's training, is reported as one that did; none can be left out."""
    shutil.copytree(zoo, tmp_path / "zoo")
    teacher = toy_zoo.make_surrogate(tmp_path / "zoo" / "sface", 77, joins=True)
    digest = hashlib.sha256((teacher / "model.onnx").read_bytes()).hexdigest()
    store = Store([tmp_path / "zoo"], tmp_path / "cache")
    for learnt_from in ((), (digest,)):
        toy_zoo.make_fast(tmp_path / "zoo" / "fast", ENOUGH, learnt_from)
        with Protector("fast", store=store, strength=Strength(0.0, 1.0), judges=[teacher], **SETTINGS) as protector:
            verdicts = {one.recogniser: one.took_part for one in protector.protect(pixels).faces[0].verdicts}
        assert verdicts["sface"] == bool(learnt_from)
    with pytest.raises(UsageError, match="learnt from sface.*method='latent'"):
        make_method("fast", EnginePool(store, "cpu"), without=["sface"]).surrogates()


def test_the_default_is_auto_whatever_is_asked(store: Store) -> None:
    for options in ({}, {"goal": "decoy"}, {"without": ["toy-a"]}):
        with Protector(store=store, **options, **SETTINGS) as protector:  # type: ignore[arg-type]
            assert protector._parts.method.name == "auto"


def test_a_search_that_starts_from_fast_ends_there_where_that_is_enough(strong: Store, pixels: np.ndarray) -> None:
    """The same pixels, after one look of the surrogates; the first pass of ``fast`` is asked for 0.64 of the budget."""
    with Protector("auto", store=strong, strength=Strength(0.0, 0.64), **SETTINGS) as protector:
        auto = protector.protect(pixels)
    with Protector("fast", store=strong, strength=Strength(0.0, 1.0), **SETTINGS) as protector:
        fast = protector.protect(pixels)
    assert auto.image is not None
    assert fast.image is not None
    np.testing.assert_array_equal(load(auto.image).pixels, load(fast.image).pixels)
    assert auto.faces[0].steps == 1


def test_a_search_that_starts_from_fast_goes_on_where_it_is_not(store: Store, pixels: np.ndarray) -> None:
    with Protector("auto", store=store, **SETTINGS) as protector:
        result = protector.protect(pixels)
    assert result.status == "protected"
    assert result.faces[0].steps > 1
    with Protector("fast", store=store, **SETTINGS) as protector:
        assert protector.protect(pixels).status == "still_matched"


def test_a_time_budget_ends_the_search_and_is_no_pass(store: Store, png: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Protector("latent", store=store, time_budget=1e-6, **SETTINGS) as protector:
        result = protector.protect(png)
    assert (result.status, result.faces[0].attempts, result.faces[0].steps) == ("still_matched", 1, 1)
    assert any("time budget" in note for note in result.notes)
    for value in (0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="time_budget"):
            Protector(store=store, time_budget=value)
    assert main(["protect", str(png), "--time-budget", "0"]) == 2
    capsys.readouterr()


def test_a_time_budget_is_shared_by_the_faces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two faces the first may not take all of it: half of what is left each time."""
    given: list[float] = []
    with Protector("latent", store=store, time_budget=1000.0, attempts=1, **SETTINGS) as protector:
        search = protector._parts.method.search
        monkeypatch.setattr(protector._parts.method, "search", lambda one: (given.append(one.deadline - time.monotonic()), search(one))[1])
        protector.protect(toy_zoo.photo(640, 240, faces=2))
    first, second = given
    assert 300 < first <= 500 and 700 < second <= 1000  # what the machine itself takes is not the point

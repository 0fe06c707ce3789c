"""Calls of one protector, and protectors over one pool, side by side; deadlines, cancelling and closing. Each test waits for events."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import toy_zoo
from threadpoolctl import threadpool_info

from faceprotect_engines.backends.ort import OrtEngine
from faceprotect_engines.shared import NO_WARNINGS, ONE_BLAS_THREAD, Shared
from faceprotect_engines.store import Store
from faceprotect_sdk import Cancelled, EnginePool, FaceprotectError, Protector, UsageError
from faceprotect_sdk.once import Once
from faceprotect_sdk.result import LATE

SETTINGS = {"device": "cpu", "installed_judges": False}
PATIENCE = 30.0


class Blocked:
    """The search's engine stands still from its third run on, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: str = "latent-step") -> None:
        self.reached, self.let_go, self.runs = threading.Event(), threading.Event(), 0
        honest = OrtEngine.run

        def run(this: OrtEngine, *rest: Any) -> Any:
            if this.spec.name == engine:
                self.runs += 1
                if self.runs > 2:
                    self.reached.set()
                    assert self.let_go.wait(PATIENCE)
            return honest(this, *rest)

        monkeypatch.setattr(OrtEngine, "run", run)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = Blocked(monkeypatch)
    yield found
    found.let_go.set()


def started(call: Callable[[], Any]) -> Future[Any]:
    """A call in a thread of its own."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def test_threads_get_the_bytes_that_they_get_one_after_the_other(store: Store) -> None:
    photos = [toy_zoo.photo(seed=seed) for seed in range(4)]
    with Protector("latent", store=store, **SETTINGS) as protector:
        after_each_other = [protector.protect(photo, seed=3).image for photo in photos]
    with Protector("latent", store=store, **SETTINGS) as protector, ThreadPoolExecutor(4) as threads:  # nothing is open when they begin
        side_by_side = [result.image for result in threads.map(lambda photo: protector.protect(photo, seed=3), photos)]
    assert side_by_side == after_each_other
    assert len(set(side_by_side)) == 4


def test_faces_answers_while_a_search_stands_still(protector: Protector, pixels: np.ndarray, blocked: Blocked) -> None:
    search = started(lambda: protector.protect(pixels))
    assert blocked.reached.wait(PATIENCE)
    assert len(protector.faces(pixels)) == 1
    assert protector.check(pixels, pixels).identical
    assert not search.done()
    blocked.let_go.set()
    assert search.result(PATIENCE).protected


def test_a_pool_opens_each_engine_once_for_all(store: Store, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    honest = Store.open

    def open_engine(this: Store, engine: Any, *rest: Any, **more: Any) -> Any:
        opened.append(str(engine))
        time.sleep(0.01)
        return honest(this, engine, *rest, **more)

    monkeypatch.setattr(Store, "open", open_engine)
    with EnginePool(store, "cpu") as pool:
        one, other = (Protector(method, pool=pool, installed_judges=False) for method in ("latent", "auto"))
        with one, other, ThreadPoolExecutor(4) as threads:
            results = list(threads.map(lambda p: p.protect(pixels), (one, other, one, other)))
        assert len(opened) == len(set(opened))
        assert {"face-detector", "latent-step", "toy-judge"} <= set(opened)
        assert results[0].image == results[2].image
        assert "face-detector" in pool.devices, "a protector leaves a pool that it was given open"
        with Protector("fast", pool=pool, installed_judges=False) as third:
            third.warm()
            opened.clear()
            third.protect(pixels)
            assert opened == []
    with pytest.raises(UsageError, match="closed"):
        pool("face-detector")
    with pytest.raises(UsageError, match="closed"), Protector(pool=pool) as late:
        late.faces(pixels)


def test_what_belongs_to_the_pool_is_not_asked_of_a_protector(store: Store) -> None:
    with EnginePool(store, "cpu", threads=1) as pool:
        for wrong in ({"store": store}, {"device": "torch"}, {"threads": 2}):
            with pytest.raises(UsageError, match="pool"):
                Protector(pool=pool, **wrong)  # type: ignore[arg-type]
        Protector(pool=pool, device="cpu", threads=1)


def test_two_want_the_same_and_wait_for_one_making_of_it_and_others_do_not() -> None:
    once: Once[str, object] = Once()
    begun, let_go, made = threading.Event(), threading.Event(), []

    def slow() -> object:
        begun.set()
        assert let_go.wait(PATIENCE)
        made.append(1)
        return object()

    first = started(lambda: once("slow", slow))
    assert begun.wait(PATIENCE)
    second = started(lambda: once("slow", slow))
    assert once("other", lambda: "there") == "there"
    assert not first.done() and not second.done()
    let_go.set()
    assert first.result(PATIENCE) is second.result(PATIENCE)
    assert made == [1]


def test_what_could_not_be_made_is_tried_again() -> None:
    once: Once[str, int] = Once()
    with pytest.raises(ZeroDivisionError):
        once("x", lambda: 1 // 0)
    assert once("x", lambda: 5) == 5


def test_closing_waits_for_calls_in_flight_and_refuses_new_ones(store: Store, pixels: np.ndarray, blocked: Blocked) -> None:
    protector = Protector("latent", store=store, **SETTINGS)
    search = started(lambda: protector.protect(pixels))
    assert blocked.reached.wait(PATIENCE)
    closing = started(protector.close)
    while not protector._calls._shut:
        time.sleep(0.001)
    with pytest.raises(UsageError, match="closed"):
        protector.faces(pixels)
    assert not closing.done()
    blocked.let_go.set()
    closing.result(PATIENCE)
    assert search.result(PATIENCE).protected
    assert protector.devices == {}


def test_closing_with_cancel_ends_calls_in_flight(store: Store, pixels: np.ndarray, blocked: Blocked) -> None:
    protector = Protector("latent", store=store, **SETTINGS)
    search = started(lambda: protector.protect(pixels))
    assert blocked.reached.wait(PATIENCE)
    closing = started(lambda: protector.close(cancel=True))
    while not protector._closing.is_set():
        time.sleep(0.001)
    blocked.let_go.set()
    closing.result(PATIENCE)
    with pytest.raises(Cancelled):
        search.result(PATIENCE)


def test_a_call_cannot_close_what_it_runs_in(protector: Protector, pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match="within a call"):
        protector.protect(pixels, progress=lambda _: protector.close())
    assert protector.protect(pixels).protected


@pytest.mark.parametrize("as_event", [True, False])
def test_a_cancelled_call_ends_at_its_next_step(protector: Protector, pixels: np.ndarray, blocked: Blocked, as_event: bool) -> None:
    event = threading.Event()
    search = started(lambda: protector.protect(pixels, cancel=event if as_event else event.is_set))
    assert blocked.reached.wait(PATIENCE)
    runs = blocked.runs
    event.set()
    blocked.let_go.set()
    with pytest.raises(Cancelled) as ended:
        search.result(PATIENCE)
    assert isinstance(ended.value, FaceprotectError)
    assert blocked.runs == runs, "no further step was begun"
    assert protector.protect(pixels).protected, "the protector is as good as before"


def test_a_deadline_ends_the_search_and_what_was_found_is_scored(store: Store, pixels: np.ndarray) -> None:
    with Protector("latent", store=store, attempts=3, **SETTINGS) as protector:
        late = protector.protect(pixels, deadline=1e-6)
        assert LATE in late.notes
        assert late.faces[0].verdicts
        assert late.faces[0].steps < 5
        assert late.image is None or late.protected
        in_time = protector.protect(pixels, deadline=1000.0)
        assert LATE not in in_time.notes
        for wrong in (0, -1.0, "5"):
            with pytest.raises(UsageError, match="deadline"):
                protector.protect(pixels, deadline=wrong)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="cancel"):
            protector.protect(pixels, cancel=3)  # type: ignore[arg-type]


def test_photos_come_back_in_order_and_one_that_fails_does_not_end_the_run(protector: Protector, pixels: np.ndarray) -> None:
    photos = [pixels, b"no photo", toy_zoo.photo(faces=0), "nowhere.jpg", toy_zoo.photo(seed=2)]
    found = list(protector.map(photos, workers=2))
    assert [one.photo for one in found] == photos or all(one.photo is photo for one, photo in zip(found, photos, strict=True))
    assert [one.result.status if one.result else one.error.code for one in found] == [  # type: ignore[union-attr]
        "protected",
        "unreadable_input",
        "no_face",
        "unreadable_input",
        "protected",
    ]
    assert found[0].get().image == protector.protect(pixels).image
    with pytest.raises(FaceprotectError):
        found[1].get()


def test_photos_are_taken_as_they_are_wanted_and_leaving_early_cancels(protector: Protector, pixels: np.ndarray, blocked: Blocked) -> None:
    taken: list[int] = []

    def endless() -> Any:
        while True:
            taken.append(len(taken))
            yield toy_zoo.photo(faces=0) if len(taken) == 1 else pixels

    run = protector.map(endless(), workers=1)
    assert next(run).get().status == "no_face"
    assert len(taken) <= 2
    assert blocked.reached.wait(PATIENCE)
    leaving = started(run.close)  # type: ignore[attr-defined]
    time.sleep(0.05)
    assert not leaving.done(), "it waits for the step that runs"
    blocked.let_go.set()
    leaving.result(PATIENCE)
    with pytest.raises(UsageError, match="workers"):
        protector.map([pixels], workers=0)


@pytest.mark.usefixtures("two_blas_threads")
def test_overlapping_blocks_leave_the_process_as_it_was() -> None:
    """Those that begin first end first: the second must neither lose the limit with the first nor leave it for good."""

    def blas() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    before = blas()
    ONE_BLAS_THREAD.__enter__()
    ONE_BLAS_THREAD.__enter__()
    ONE_BLAS_THREAD.__exit__(None, None, None)
    assert set(blas()) <= {1}
    ONE_BLAS_THREAD.__exit__(None, None, None)
    assert blas() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_is_forked_later_can_begin_too() -> None:
    """Servers fork workers once everything is loaded; the thread that sets BLAS' threads stays behind in the parent."""
    with ONE_BLAS_THREAD:
        child = multiprocessing.get_context("fork").Process(target=_once_inside)
        child.start()
        child.join(30)
        hung = child.is_alive()
        child.kill()
    assert not hung
    assert child.exitcode == 0


def _once_inside() -> None:
    with ONE_BLAS_THREAD:
        pass


def test_a_shared_state_is_put_back_by_the_last_in_whatever_thread() -> None:
    state: list[str] = []

    def start() -> Callable[[], object]:
        state.append("on")
        return lambda: state.append("off")

    shared = Shared(start)
    with ThreadPoolExecutor(8) as threads:
        together = threading.Barrier(8)

        def work(_: int) -> None:
            with shared:
                together.wait(PATIENCE)

        list(threads.map(work, range(8)))
    assert state == ["on", "off"]
    with suppress(KeyError), shared:
        raise KeyError
    assert state == ["on", "off", "on", "off"]


def test_decoding_in_threads_leaves_the_warnings_as_they_were(png: Any) -> None:
    import warnings

    from faceprotect_sdk.photo.reading import load

    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: load(png), range(40)))
    assert list(warnings.filters) == before
    assert NO_WARNINGS._inside == 0

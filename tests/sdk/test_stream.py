"""A stream: what it does to frames, how it follows, fades, forgets and fails. The networks are played by ``stream_clip.Known``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import stream_clip
from stream_clip import Known, frame, pose

from faceprotect_engines.store import Store
from faceprotect_sdk import EnginePool, Stream, StreamSettings, UsageError
from faceprotect_sdk.face.align import similarity_transform
from faceprotect_sdk.stream import motion
from faceprotect_sdk.stream.followed import at
from faceprotect_sdk.stream.layer import crop_to_frame, region_at
from faceprotect_sdk.stream.motion import Small
from faceprotect_sdk.stream.work import Refresh

Made = Callable[..., tuple[Stream, Known]]


@pytest.fixture
def made(store: Store) -> Iterator[Made]:
    """Makes streams whose networks are played."""
    streams: list[tuple[Stream, Known]] = []

    def make(*, still: bool = False, **changes: object) -> tuple[Stream, Known]:
        stream, known = Stream("fast", store=store, device="cpu", **changes), Known(still=still)  # type: ignore[arg-type]
        stream._work = known  # type: ignore[assignment]
        streams.append((stream, known))
        return stream, known

    yield make
    for stream, known in streams:
        known.gate.set()
        stream.close()


def settled(stream: Stream, shown: np.ndarray, until: Callable[[], bool]) -> np.ndarray:
    """Send the same frame until something has come back from the worker."""
    for _ in range(2000):
        drawn = stream.next(shown)
        if until():
            return drawn
        time.sleep(0.002)
    raise AssertionError("nothing came back")


def statuses(stream: Stream) -> list[str]:
    return [face.status for face in stream.faces]


def without_face(original: np.ndarray) -> np.ndarray:
    """The same frame with a flat patch before the face, in its mean colour: no cut."""
    x, y = at(pose(0, still=True), stream_clip.POINTS).mean(0).astype(int)
    hidden = original.copy()
    hidden[y - 60 : y + 60, x - 60 : x + 60] = original[y - 60 : y + 60, x - 60 : x + 60].mean((0, 1))
    return hidden


def changed(drawn: np.ndarray, original: np.ndarray) -> float:
    """Mean change in grey levels in the middle of the face, where the frame does not clip."""
    points = at(pose(0, still=True), stream_clip.POINTS)
    x, y = points[2].round().astype(int)
    patch = (slice(y - 8, y + 8), slice(x - 8, x + 8))
    return float(np.mean(drawn[patch].astype(float) - original[patch]))


def test_a_frame_comes_out_as_it_went_in_but_for_the_face(made: Made) -> None:
    stream, _ = made(still=True, synchronous=True)
    original = frame(0, still=True)
    kept = original.copy()
    drawn = stream.next(original)
    np.testing.assert_array_equal(original, kept)
    assert (drawn.dtype, drawn.shape) == (original.dtype, original.shape)
    region = region_at(crop_to_frame(stream.faces[0].points), *original.shape[:2])
    assert region is not None
    outside = np.ones(original.shape[:2], bool)
    outside[region.rows, region.cols] = False
    np.testing.assert_array_equal(drawn[outside], original[outside])
    assert changed(drawn, original) == pytest.approx(20, abs=0.5), "all at once: nobody has seen the face bare"
    assert statuses(stream) == ["protected"]


def test_a_change_goes_along_with_the_face(made: Made) -> None:
    """Sixty frames after the only look and the only refresh, pan, zoom, tilt and light included, it lies within a pixel."""
    stream, _ = made(synchronous=True, detect_every=1000, refresh_every=1000, stale=1000)
    worst = 0.0
    for index in range(60):
        stream.next(frame(index))
        (face,) = stream._faces.values()
        assert face.shown is not None
        corners = np.array([[64.0, 64], [192, 64], [64, 192], [192, 192]])
        lies = at(face.moved @ face.shown.place, corners)
        belongs = at(crop_to_frame(at(pose(index), stream_clip.POINTS)), corners)
        worst = max(worst, float(np.linalg.norm(lies - belongs, axis=1).max()))
    assert worst < 1.0


def test_a_fit_in_complex_numbers_is_the_fit() -> None:
    generator = np.random.default_rng(0)
    source = generator.random((30, 2)) * 100
    target = at(pose(20), source) + generator.standard_normal((30, 2))
    np.testing.assert_allclose(motion._similarity(source, target), similarity_transform(source, target), atol=1e-9)


def test_no_frame_waits_for_the_networks_and_the_newest_crop_is_taken(made: Made) -> None:
    stream, known = made(still=True, refresh_every=1)
    original = frame(0, still=True)
    settled(stream, original, lambda: bool(stream.faces))
    known.gate.clear()
    settled(stream, original, lambda: isinstance(known.jobs[-1], Refresh) and not known.gate.is_set() and stream._worker._running == 1)
    for _ in range(40):  # each returns although the worker is stuck
        stream.next(original)
    last = stream.counts.frames - 1
    stuck = len(known.jobs)
    known.gate.set()
    settled(stream, original, lambda: len(known.jobs) > stuck + 2)
    assert known.jobs[stuck].index >= last - stream.settings.detect_every, "what waited in between has been dropped"
    assert len(stream._worker._jobs) <= 2


def test_a_face_is_blurred_until_it_is_protected_and_the_frame_until_somebody_looked(made: Made) -> None:
    stream, known = made(still=True, fade=0)
    known.gate.clear()
    original = frame(0, still=True)
    blurred = stream.next(original)
    assert stream.counts.covered == 1
    assert np.abs(np.diff(blurred.astype(int), axis=1)).max() < 25, "no edge is left"
    known.gate.set()
    drawn = settled(stream, original, lambda: statuses(stream) == ["waiting"] or bool(stream.counts.refreshes))
    protected = settled(stream, original, lambda: statuses(stream) == ["protected"])
    assert changed(protected, original) == pytest.approx(20, abs=0.5)
    assert drawn.shape == original.shape


def test_below_a_blur_that_fades_the_change_is_whole(made: Made) -> None:
    stream, _ = made(still=True, fade=8, refresh_every=1000)
    original = frame(0, still=True)
    settled(stream, original, lambda: statuses(stream) == ["fading"])
    (face,) = stream._faces.values()
    assert [share for share, _ in face.layers(stream._index, stream.settings)] == [1.0]
    assert 0 < face.bare(stream._index, stream.settings) < 1


def test_the_blur_of_a_face_leaves_the_rest(made: Made) -> None:
    stream, known = made(still=True, synchronous=True)
    known.doubt = "matched"
    original = frame(0, still=True)
    drawn = stream.next(original)
    assert statuses(stream) == ["matched"]
    points = stream.faces[0].points.round().astype(int)
    for x, y in points:
        before, after = (one[y - 5 : y + 6, x - 5 : x + 6].astype(float).std((0, 1)).mean() for one in (original, drawn))
        assert after < before / 2
    np.testing.assert_array_equal(drawn[:10, :20], original[:10, :20])


def test_faces_are_passed_where_that_is_asked(made: Made) -> None:
    stream, known = made(still=True, unprotected="pass")
    known.gate.clear()
    original = frame(0, still=True)
    np.testing.assert_array_equal(stream.next(original), original)
    known.gate.set()
    known.doubt = "matched"
    drawn = settled(stream, original, lambda: changed(stream.next(original), original) > 19)
    assert statuses(stream) == ["matched"], "what was found is shown, and not counted"
    assert drawn.shape == original.shape


def test_a_change_fades_in_and_into_the_next(made: Made) -> None:
    stream, _ = made(still=True, unprotected="pass", fade=4, refresh_every=12, detect_every=1000)
    original = frame(0, still=True)
    settled(stream, original, lambda: stream.counts.refreshes == 1)
    stream._worker.close()  # nothing more comes
    seen = [changed(stream.next(original), original) for _ in range(6)]
    assert all(earlier <= later + 0.3 for earlier, later in pairwise(seen))
    assert 4 < seen[0] < 16 and seen[-1] == pytest.approx(20, abs=0.5)
    face = next(iter(stream._faces.values()))
    assert face.shown is not None
    face.waiting = type(face.shown)(face.shown.change * -1, face.shown.place)
    turned = [changed(stream.next(original), original) for _ in range(6)]
    steps = np.diff([seen[-1], *turned])
    assert turned[-1] == pytest.approx(-20, abs=0.5) and np.abs(steps).max() < 10


def test_a_change_that_does_not_count_takes_no_place_and_an_old_one_counts_no_more(made: Made) -> None:
    stream, known = made(still=True, synchronous=True, refresh_every=1, stale=5, fade=0)
    original = frame(0, still=True)
    stream.next(original)
    known.doubt, known.colour = "matched", -40.0
    for _ in range(5):
        assert changed(stream.next(original), original) == pytest.approx(20, abs=0.5)
    stream.next(original)
    assert statuses(stream) == ["matched"]


def test_a_cut_forgets_everybody(made: Made) -> None:
    stream, known = made(still=True, synchronous=True, detect_every=1000)
    stream.next(frame(0, still=True))
    known.there = False
    other = np.full((240, 320, 3), 30, np.uint8)
    other[:, :100] = 220
    drawn = stream.next(other)
    assert stream.faces == () and stream.looked
    np.testing.assert_array_equal(drawn, other)


def test_results_of_a_scene_that_has_passed_are_dropped(made: Made) -> None:
    stream, known = made(still=True)
    known.gate.clear()
    stream.next(frame(0, still=True))
    stream.reset()
    known.gate.set()
    deadline = time.monotonic() + 5
    while not stream._worker.done and time.monotonic() < deadline:
        time.sleep(0.002)
    stream._take(Small.of(frame(0, still=True)))
    assert stream.faces == () and not stream.looked


def test_a_face_that_is_gone_is_forgotten(made: Made) -> None:
    stream, known = made(still=True, synchronous=True, forget=4)
    original = frame(0, still=True)
    stream.next(original)
    known.there = False
    hidden = without_face(original)
    numbers = []
    for _ in range(8):
        stream.next(hidden)
        numbers.append(len(stream.faces))
    assert numbers[0] == 1 and numbers[-1] == 0
    known.there = True
    for _ in range(stream.settings.detect_every + 1):
        stream.next(original)
    assert [face.number for face in stream.faces] == [2], "somebody new, as far as anybody knows"


def test_a_lost_face_is_covered_and_found_again(made: Made) -> None:
    stream, known = made(still=True, synchronous=True, forget=50)
    original = frame(0, still=True)
    stream.next(original)
    known.there = False
    hidden = without_face(original)
    stream.next(hidden)
    assert statuses(stream) == ["lost"]
    known.there = True
    drawn = stream.next(original)
    assert statuses(stream) == ["protected"] and stream.faces[0].number == 1
    assert changed(drawn, original) == pytest.approx(20, abs=0.5)


def test_more_faces_than_are_followed_cover_the_frame(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, known = made(still=True, synchronous=True, most_faces=1)
    answer = Known.__call__

    def two(self: Known, job: object) -> object:
        done = answer(self, job)  # type: ignore[arg-type]
        return type(done)(done.job, (*done.faces, *(points + 100 for points in done.faces)), done.found)

    monkeypatch.setattr(Known, "__call__", two)
    stream.next(frame(0, still=True))
    assert (len(stream.faces), stream.counts.covered) == (1, 1)
    assert known.jobs


def test_an_error_of_the_worker_is_raised_once_and_the_stream_goes_on(made: Made) -> None:
    stream, known = made(still=True)
    known.error = ValueError("the network is ill")
    original = frame(0, still=True)
    with pytest.raises(ValueError, match="ill"):
        settled(stream, original, lambda: False)
    known.error = None
    settled(stream, original, lambda: statuses(stream) == ["protected"])


def test_closing_ends_the_worker(made: Made) -> None:
    stream, _ = made(still=True)
    stream.next(frame(0, still=True))
    stream.close()
    assert not any(thread.name == "faceprotect-stream" and thread.is_alive() for thread in threading.enumerate())
    with pytest.raises(UsageError, match="closed"):
        stream.next(frame(0, still=True))
    stream.close()


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), None]
)
def test_what_is_no_frame_is_refused(made: Made, bad: object) -> None:
    stream, _ = made()
    with pytest.raises(UsageError, match=r"uint8 array \[height, width, 3\]"):
        stream.next(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{"channel_order": "gbr"}, {"unprotected": "hide"}, {"detect_every": 0}, {"fade": -1}, {"threads": 1.5}, {"colour": 1}]
)
def test_settings_out_of_range_are_refused(changes: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(changes))):
        StreamSettings().but(**changes)


def test_a_stream_that_is_to_confirm_needs_a_judge(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(store), "names", lambda self: ["fast"])
    with pytest.raises(UsageError, match="is no judge.*confirm=False"):
        Stream("fast", store=store)
    Stream("fast", store=store, confirm=False).close()


def test_engines_of_a_pool_stay_open(store: Store) -> None:
    with EnginePool(store, "cpu") as pool:
        with Stream("fast", pool=pool) as stream:
            stream.warm()
        pool("fast")
        with pytest.raises(UsageError, match="belongs to the pool"):
            Stream("fast", pool=pool, store=store)


def test_memory_is_bounded(made: Made) -> None:
    """However long a worker is stuck, one job waits for each face and one for the look."""
    stream, known = made(still=True, refresh_every=1, detect_every=1)
    original = frame(0, still=True)
    settled(stream, original, lambda: bool(stream.faces))
    known.gate.clear()
    for _ in range(100):
        stream.next(original)
    assert len(stream._worker._jobs) <= 2 and len(stream._worker._results) <= 1

"""The command ``camera``: files, exit codes, outputs; and a stream over the engines that ship."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_tools import folder, run
from stream_clip import Known, frame

from faceprotect_engines.errors import EngineNotFound, WeightsMissing
from faceprotect_sdk import Stream, UsageError, WriteError
from faceprotect_sdk.stream import stream as module
from faceprotect_sdk.stream.recording import Source, sink_of


def clip(path: Path, frames: list[np.ndarray]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (320, 240))
    for one in frames:
        writer.write(one)
    writer.release()
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return clip(tmp_path / "in" / "clip.avi", [frame(index, still=True) for index in range(5)])


@pytest.fixture
def known(toy_cli: None, monkeypatch: pytest.MonkeyPatch) -> Known:
    """In place of the networks."""
    played = Known(still=True)
    played.warm = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "Work", lambda parts, settings: played)
    return played


def frames_of(path: Path) -> list[np.ndarray]:
    with Source(str(path)) as source:
        return list(source)


def test_a_file_comes_out_protected_from_its_first_frame_on(
    known: Known, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "clip.avi"
    code, (document,), _ = run(capsys, "camera", "--source", video, "--out", out, "--json")
    assert (code, document["frames"], document["most_faces"], document["blurred"]) == (0, 5, 1, 0)
    assert list(folder(out.parent)) == ["clip.avi"]
    before, after = frames_of(video), frames_of(out)
    assert len(after) == 5
    for first, second in zip(before, after, strict=True):
        assert np.abs(first[90:130, 110:150].astype(int) - second[90:130, 110:150]).mean() > 5


def test_a_clip_without_a_face_is_said_to_have_none(known: Known, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known.there = False
    code, (document,), _ = run(capsys, "camera", "--source", video, "--out", tmp_path / "o.avi", "--json", "--frames", "2")
    assert (code, document["frames"], document["most_faces"]) == (3, 2, 0)


@pytest.mark.parametrize(("options", "expected"), [((), 0), (("--unprotected", "pass"), 6)])
def test_a_face_that_the_judge_still_knows_is_blurred_or_reported(
    known: Known, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], expected: int
) -> None:
    known.doubt = "matched"
    code, (document,), said = run(capsys, "camera", "--source", video, "--out", tmp_path / "o.avi", "--json", *options)
    assert code == document["exit_code"] == expected
    assert document["blurred" if expected == 0 else "bare"] == 5
    assert ("WITH A FACE THAT WAS NOT PROTECTED" in said) == (expected == 6)


def test_what_cannot_be_read_or_written_is_refused(
    known: Known, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there.avi"
    there.write_bytes(b"kept")
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    for words, code, message in (
        (("--source", tmp_path / "none.mp4", "--out", tmp_path / "o.avi"), 4, "no such video file"),
        (("--source", text, "--out", tmp_path / "o.avi"), 4, "not a video"),
        (("--source", video, "--out", there), 2, "--force"),
        (("--source", video, "--out", tmp_path / "o.gif"), 2, "Name it"),
        (("--source", video, "--out", "-", "--json"), 2, "leave out --json"),
        (("--source", video, "--out", "window"), 2, "no screen"),
        (("--source", video, "--out", "virtual"), 2, "pip install pyvirtualcam"),
        (("--source", video, "--out", tmp_path / "o.avi", "--method", "none"), 2, "no method 'none'"),
        (("--source", video, "--out", tmp_path / "o.avi", "--strength", "huge"), 2, "no strength 'huge'"),
    ):
        found, _, said = run(capsys, "camera", *words)
        assert found == code, said
        assert message in said
    assert there.read_bytes() == b"kept"
    assert sorted(folder(tmp_path)) == ["text.mp4", "there.avi"]


def test_a_run_that_fails_leaves_nothing(known: Known, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known.error = UsageError("the network is ill")
    code, _, said = run(capsys, "camera", "--source", video, "--out", tmp_path / "out" / "o.avi")
    assert code == 2 and "ill" in said
    assert folder(tmp_path / "out") == {}


def test_an_interrupted_run_keeps_what_it_has(
    known: Known, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    after, count = Stream.next, []

    def stopping(self: Stream, shown: np.ndarray) -> np.ndarray:
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        return after(self, shown)

    monkeypatch.setattr(Stream, "next", stopping)
    out = tmp_path / "o.avi"
    code, _, _ = run(capsys, "camera", "--source", video, "--out", out)
    assert code == 130
    assert len(frames_of(out)) == 3


def test_a_live_file_is_taken_at_its_own_pace(known: Known, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, (document,), _ = run(capsys, "camera", "--source", video, "--out", tmp_path / "o.avi", "--json", "--live")
    assert code in (0, 3) and document["frames"] == 5
    assert document["covered"] >= 1, "nobody has looked before the first frame has to go out"


def test_raw_frames_and_a_reader_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    class Out(io.BytesIO):
        buffer = property(lambda self: self)

    out = Out()
    monkeypatch.setattr(sys, "stdout", out)
    shown = frame(0)
    sink = sink_of("-", (320, 240), 30)
    assert sink.send(shown)
    assert out.getvalue() == shown.tobytes()

    def gone(_: bytes) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(out, "write", gone)
    assert not sink.send(shown)


def test_a_virtual_camera_gets_bgr_frames_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strict double: pyvirtualcam's constructor, ``send`` and ``close`` as it documents them."""
    sent: list[np.ndarray] = []

    class Camera:
        def __init__(self, *, width: int, height: int, fps: float, fmt: str) -> None:
            assert (width, height, fps, fmt) == (320, 240, 30.0, "BGR")
            self.open = True

        def send(self, shown: np.ndarray) -> None:
            assert self.open and shown.shape == (240, 320, 3)
            sent.append(shown)

        def close(self) -> None:
            self.open = False

    monkeypatch.setitem(sys.modules, "pyvirtualcam", types.SimpleNamespace(Camera=Camera, PixelFormat=types.SimpleNamespace(BGR="BGR")))
    sink = sink_of("virtual", (320, 240), 30.0)
    assert sink.send(frame(0))
    sink.end(True)
    assert len(sent) == 1


def test_a_frame_of_another_size_is_no_part_of_a_video(tmp_path: Path) -> None:
    sink = sink_of(str(tmp_path / "o.avi"), (320, 240), 30.0)
    with pytest.raises(WriteError, match="100 x 50"):
        sink.send(np.zeros((50, 100, 3), np.uint8))
    sink.end(False)
    assert folder(tmp_path) == {}


def test_the_engines_that_ship_protect_a_clip_the_same_way_each_time() -> None:
    runs = []
    for order in ("bgr", "rgb"):
        try:
            with Stream("fast", device="cpu", channel_order=order, synchronous=True, refresh_every=3) as stream:  # type: ignore[arg-type]
                turned = slice(None, None, -1 if order == "rgb" else None)
                drawn = [stream.next(np.ascontiguousarray(frame(index)[..., turned]))[..., turned] for index in range(4)]
                assert [face.status for face in stream.faces] == ["protected"]
                assert stream.counts.refreshes == 2
        except (EngineNotFound, WeightsMissing) as error:
            pytest.skip(str(error))
        runs.append(np.stack(drawn))
    np.testing.assert_array_equal(*runs)
    original = np.stack([frame(index) for index in range(4)])
    assert np.abs(runs[0].astype(int) - original).max() > 10
    np.testing.assert_array_equal(runs[0][:, :, :20], original[:, :, :20])

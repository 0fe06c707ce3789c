"""Where a stream's frames come from and where they go: a camera, a video file, raw bytes, a window, a virtual camera. All are BGR."""

from __future__ import annotations

import importlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import OutputError, UnreadableInput, UsageError, WriteError

Frame = NDArray[np.uint8]
#: What a container is written with: codecs that OpenCV's wheels bring.
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}
#: Of a source that does not say.
FPS = 30.0
_MOST_FPS = 240.0
_QUIT = (ord("q"), 27)
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
_NO_SCREEN = "there is no screen that a window could open on. Write a file: --out FILE.mp4"


class Source:
    """Frames of a camera by its number, or of a video file. ``live``: whether they come at their own pace. A context manager."""

    def __init__(self, name: str) -> None:
        """Raises UnreadableInput where there is no such camera, or no video that can be read."""
        import cv2

        self.name, self.live = name, name.isdecimal()
        if not self.live and not Path(name).is_file():
            raise UnreadableInput(f"{name}: no such video file. Name one, or a camera by its number: 0")
        with _quietly():
            self._capture = cv2.VideoCapture(int(name) if self.live else name)
            if self.live:
                self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits in the camera's queue is late already
            self._first = self._read() if self._capture.isOpened() else None
        if self._first is None:
            self._capture.release()
            what = f"camera {name} gives no picture" if self.live else f"{name}: not a video that OpenCV reads"
            raise UnreadableInput(f"{what}. Try another: --source 1, or --source FILE")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate if 1.0 <= rate <= _MOST_FPS else FPS
        self.size = (self._first.shape[1], self._first.shape[0])

    def __enter__(self) -> Source:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Let the camera or file go."""
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        """Frames, uint8 BGR [H, W, 3], until there is none left."""
        frame, self._first = self._first, None
        while frame is not None:
            yield frame
            frame = self._read()

    def _read(self) -> Frame | None:
        there, frame = self._capture.read()
        return np.asarray(frame, np.uint8) if there else None


@contextmanager
def _quietly() -> Iterator[None]:
    """OpenCV tells of each way in which it could not open something: one sentence of ours says it."""
    logging = importlib.import_module("cv2").utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


class Sink(Protocol):
    """Takes frames. ``end``: the last has come; ``whole``: whether what was written is to be kept."""

    def send(self, frame: Frame) -> bool:
        """Take a frame; False once nobody wants another."""
        ...

    def end(self, whole: bool) -> None:
        """Nothing comes any more."""
        ...


def sink_of(out: str, size: tuple[int, int], fps: float, *, force: bool = False) -> Sink:
    """By its name: "-" raw bytes on standard output, "window", "virtual", or else a video file.

    ``size``: width and height. Raises OutputError and UsageError for what cannot be written to.
    """
    if out == "-":
        return _Raw(sys.stdout.buffer)
    if out == "window":
        return _Window()
    return _Virtual(size, fps) if out == "virtual" else _File(Path(out), size, fps, force=force)


def check_out(out: str, *, force: bool = False) -> None:
    """Raise OutputError or UsageError for an output that is refused before anything is opened."""
    if out == "-" and sys.stdout.isatty():
        raise UsageError("the frames would be printed on the terminal. Send them on: | ffmpeg ..., or name a file: --out FILE.mp4")
    if out == "window" and sys.platform.startswith("linux") and not any(os.environ.get(name) for name in _SCREENS):
        raise UsageError(_NO_SCREEN)  # Qt would end the whole process
    if out in ("-", "window", "virtual"):
        return
    path = Path(out)
    if path.suffix.lower() not in CODECS:
        raise OutputError(f"{path}: a video is written as {', '.join(CODECS)}. Name it {path.with_suffix('.mp4')}")
    if path.exists() and not force:
        raise OutputError(f"{path} exists. Replace it with --force, or choose another name")


class _File:
    """A video file that is either whole or not there; it has no sound."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float, *, force: bool) -> None:
        import cv2

        check_out(str(path), force=force)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._size = path, size
        self._part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
        codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(self._part), codec, fps, size)
        if not self._writer.isOpened():
            raise WriteError(f"{path}: OpenCV cannot write such a video here. Try another container: --out {path.with_suffix('.avi')}")

    def send(self, frame: Frame) -> bool:
        if frame.shape[1::-1] != self._size:  # which the writer would leave out without a word
            raise WriteError(f"{self._path}: a frame of {frame.shape[1]} x {frame.shape[0]} came into a video of {self._size}")
        self._writer.write(frame)
        return True

    def end(self, whole: bool) -> None:
        self._writer.release()
        if whole and self._part.exists():
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


class _Raw:
    """Bytes of one frame after the other, BGR, as ``ffmpeg -f rawvideo -pix_fmt bgr24`` reads them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def send(self, frame: Frame) -> bool:
        try:
            self._stream.write(frame.tobytes())
            self._stream.flush()
        except BrokenPipeError:
            return False
        return True

    def end(self, whole: bool) -> None:
        """The stream is not ours to close."""


class _Window:
    """A window on the screen, until q, Escape, or its closing."""

    _TITLE = "faceprotect-sdk"

    def __init__(self) -> None:
        import cv2

        try:
            cv2.namedWindow(self._TITLE)
        except cv2.error as error:
            raise UsageError(_NO_SCREEN) from error

    def send(self, frame: Frame) -> bool:
        import cv2

        cv2.imshow(self._TITLE, frame)
        return (cv2.waitKey(1) & 0xFF) not in _QUIT and cv2.getWindowProperty(self._TITLE, cv2.WND_PROP_VISIBLE) >= 1

    def end(self, whole: bool) -> None:
        import cv2

        cv2.destroyAllWindows()


class _Virtual:
    """A camera that other programs see, by pyvirtualcam and the driver that it needs."""

    def __init__(self, size: tuple[int, int], fps: float) -> None:
        try:
            package: Any = importlib.import_module("pyvirtualcam")
        except ImportError as error:
            raise UsageError("a virtual camera needs the package pyvirtualcam. Install it: pip install pyvirtualcam") from error
        try:
            self._camera = package.Camera(width=size[0], height=size[1], fps=fps, fmt=package.PixelFormat.BGR)
        except RuntimeError as error:
            said = str(error).strip().rstrip(".")
            raise UsageError(f"pyvirtualcam finds no virtual camera: {said}. Install one (OBS, or v4l2loopback on Linux)") from error

    def send(self, frame: Frame) -> bool:
        self._camera.send(frame)
        return True

    def end(self, whole: bool) -> None:
        self._camera.close()

"""Clips of still portraits that move as a camera or a head would: every frame comes with the matrix that says where the portrait went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.face.align import Points

Frame = NDArray[np.uint8]
KINDS = ("pan", "zoom", "tilt", "light", "blur")
SIZE = (640, 480)
FPS = 30.0


@dataclass(frozen=True)
class Portrait:
    """``pixels``: uint8 RGB [H, W, 3]; ``points``: five (x, y) of its face."""

    pixels: Frame
    points: Points


@dataclass(frozen=True)
class Shot:
    """A frame uint8 RGB [480, 640, 3], the five points of each face in it, and the matrix [2, 3] from the first portrait to it."""

    frame: Frame
    points: tuple[Points, ...]
    pose: NDArray[np.float64]


def clip(portraits: Sequence[Portrait], kind: str, frames: int) -> Iterator[Shot]:
    """Portraits side by side on a soft ground, moved by one of :data:`KINDS`, or "all" at once."""
    base, starts = _ground(portraits)
    for index in range(frames):
        move = _move(kind, index / FPS)
        frame = cv2.warpAffine(base, move, SIZE, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        frame = _seen(frame, kind, index / FPS)
        places = tuple(one.points @ start[:, :2].T + start[:, 2] for one, start in zip(portraits, starts, strict=True))
        yield Shot(frame, tuple(place @ move[:, :2].T + move[:, 2] for place in places), _after(move, starts[0]))


def _ground(portraits: Sequence[Portrait]) -> tuple[Frame, list[NDArray[np.float64]]]:
    """The portraits on a blurred enlargement of the first, and the matrix of each from portrait to ground."""
    width, height = SIZE
    base = cv2.GaussianBlur(cv2.resize(portraits[0].pixels, SIZE), (0, 0), 25)
    across = width / len(portraits)
    starts = []
    for index, portrait in enumerate(portraits):
        rows, cols = portrait.pixels.shape[:2]
        scale = min(0.75 * height / rows, 0.92 * across / cols)
        start = np.array([[scale, 0, (index + 0.5) * across - scale * cols / 2], [0, scale, height / 2 - scale * rows / 2]])
        drawn = cv2.warpAffine(portrait.pixels, start, SIZE, flags=cv2.INTER_AREA)
        weight = cv2.GaussianBlur(cv2.warpAffine(np.ones((rows, cols), np.float32), start, SIZE), (0, 0), 5)[..., None]
        inside = cv2.warpAffine(np.ones((rows, cols), np.float32), start, SIZE)[..., None]
        share = np.minimum(np.clip(2 * weight - 1, 0, 1), inside)
        base = np.rint(base * (1 - share) + drawn * share).astype(np.uint8)
        starts.append(start)
    return base, starts


def _move(kind: str, seconds: float) -> NDArray[np.float64]:
    """Where the ground is: up to 3 pixels a frame of panning, a tenth a second of zooming, ten degrees a second of tilting."""
    every = kind == "all"
    turn = 8 * np.sin(1.3 * seconds) if kind == "tilt" or every else 0.0
    zoom = 1 + (0.12 * np.sin(1.2 * seconds) if kind == "zoom" or every else 0.0)
    matrix = cv2.getRotationMatrix2D((SIZE[0] / 2, SIZE[1] / 2), turn, zoom)
    if kind in ("pan", "blur") or every:
        matrix[:, 2] += [60 * np.sin(1.5 * seconds), 25 * np.sin(1.1 * seconds)]
    return np.asarray(matrix, np.float64)


def _seen(frame: Frame, kind: str, seconds: float) -> Frame:
    """As the camera sees it: light that goes up and down by a quarter, and blur by motion of up to 9 pixels."""
    if kind in ("light", "all"):
        frame = np.clip(frame * (1 + 0.25 * np.sin(2.0 * seconds)), 0, 255).astype(np.uint8)
    if kind in ("blur", "all"):
        length = 1 + 2 * round(2 + 2 * np.sin(2.5 * seconds))
        frame = np.asarray(cv2.blur(frame, (length, 1)), np.uint8)
    return frame


def _after(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    both = np.vstack([second, [0, 0, 1]]) @ np.vstack([first, [0, 0, 1]])
    return both[:2]

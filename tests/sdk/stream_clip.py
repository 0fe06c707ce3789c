"""A clip of scikit-image's astronaut that moves as it is told, and networks that know where she is."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np

import faceprotect_sdk.bundle
from faceprotect_sdk.stream.followed import Found, at
from faceprotect_sdk.stream.layer import Layer, crop_to_frame
from faceprotect_sdk.stream.work import Done, Job, Look

PICTURE = Path(faceprotect_sdk.bundle.__file__).parent / "astronaut.png"
#: What the detector that ships sees on it.
POINTS = np.array([[106.7, 90.5], [151.5, 91.5], [127.7, 113.7], [108.2, 133.0], [146.2, 133.7]])
SIZE = (320, 240)


def astronaut() -> np.ndarray:
    """uint8 BGR [256, 256, 3]."""
    picture = cv2.imread(str(PICTURE))
    assert picture is not None
    return picture


def pose(index: int, *, still: bool = False) -> np.ndarray:
    """Matrix [3, 3] from the picture to the frame: pan, zoom and tilt."""
    time = 0.0 if still else index / 30
    turn = cv2.getRotationMatrix2D((128.0, 110.0), 7 * np.sin(1.5 * time), 0.8 + 0.1 * np.sin(1.1 * time))
    turn[:, 2] += [32 + 30 * np.sin(2.2 * time), 20 * np.sin(1.7 * time)]
    return np.vstack([turn, [0, 0, 1]])


def frame(index: int, *, still: bool = False) -> np.ndarray:
    """uint8 BGR [240, 320, 3]; the light changes too."""
    drawn = cv2.warpAffine(astronaut(), pose(index, still=still)[:2], SIZE, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    light = 1.0 if still else 1 + 0.15 * np.sin(index / 10)
    return np.clip(drawn * light, 0, 255).astype(np.uint8)


class Known:
    """In place of the networks: it sees the face where it is, and lays one colour upon it.

    ``gate``: jobs wait until it is set. ``there``: whether there is a face; ``doubt``: of what it finds; ``error``: to be raised.
    ``jobs``: that have been begun. ``colour``: of the next change, in grey levels.
    """

    def __init__(self, *, still: bool = False) -> None:
        self.still, self.there, self.doubt, self.colour = still, True, "", 20.0
        self.gate = threading.Event()
        self.gate.set()
        self.jobs: list[Job] = []
        self.error: Exception | None = None

    def __call__(self, job: Job) -> Done:
        self.jobs.append(job)
        self.gate.wait(20)
        if self.error is not None:
            raise self.error
        points = at(pose(job.index, still=self.still), POINTS)
        if isinstance(job, Look):
            return Done(job, faces=(points,) if self.there else ())
        change = np.zeros((256, 256, 3), np.float32)
        change[64:192, 64:192] = self.colour
        return Done(job, found=Found(points, Layer(change, crop_to_frame(points)), self.doubt) if self.there else Found(None, None, ""))

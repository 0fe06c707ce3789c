"""Protect stills from a camera or a video file.

python examples/camera.py 0 stills/               # camera 0: one still every 30 frames
python examples/camera.py clip.mp4 stills/ 15     # a file: one still every 15 frames
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from faceprotect_sdk import Protector


def frames(source: str, every: int) -> Iterator[Any]:
    """Every n-th frame of a camera index or a video file: uint8 BGR [H, W, 3], as OpenCV delivers it."""
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        raise SystemExit(f"{source}: no such camera or video file")
    try:
        index = 0
        while capture.grab():
            if index % every == 0:
                ok, frame = capture.retrieve()
                if ok:
                    yield frame
            index += 1
    finally:
        capture.release()


def save_stills(protector: Protector, source: str, folder: Path, every: int = 30) -> list[str]:
    """Write every confirmed still as PNG; returns the status of each frame looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    statuses = []
    for index, frame in enumerate(frames(source, every)):
        result = protector.protect(frame, channel_order="bgr")  # never guessed: say what the array holds
        statuses.append(result.status)
        if result.protected:
            result.save(folder / f"still_{index:04d}.png")
    return statuses


if __name__ == "__main__":
    step = int(sys.argv[3]) if len(sys.argv) > 3 else 30
    with Protector() as camera_protector:
        for status in save_stills(camera_protector, sys.argv[1], Path(sys.argv[2]), step):
            sys.stdout.write(status + "\n")

"""What a stream keeps of the protection that ``fast`` gives stills, how much it flickers, and how long a frame takes.

    python benchmarks/camera.py --faces PORTRAITS --fr FR --out benchmarks/results/camera.json
    python benchmarks/camera.py --faces PORTRAITS --fr FR --only latency --seconds 5 --out FILE.json

Clips are portraits that pan, zoom, tilt, change their light, and blur (harness/clips.py).

``unmatched_percent``: of every fifth frame of each clip, from the first that is protected on, how many a judge no longer matches with the
frame as it was; beside it the same frames with ``fast`` applied afresh, as to a still. A change is given ``--delay`` frames after its
crop, as by a worker that takes that long, so that the figures repeat. ``flicker``: mean change of what was added from frame to frame, the
portrait's own motion taken out, in grey levels of 255, where the mask lies; of the stream, and of ``fast`` afresh on every frame.
``lag_px``: how far a change of the greatest age (delay and refresh) lies from where the face is. ``latency``: with the worker's thread,
frames sent at their own pace; wall and processor milliseconds of ``next``, and beside them, frame by frame, the same of a small grey
picture and a copy, without which no frame goes: the p99 of ``idle_wall`` says how busy the machine was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk import EnginePool, Stream
from faceprotect_sdk.face.align import Points, aligned_crop
from faceprotect_sdk.face.detect import Face, face_in_place, find_faces
from faceprotect_sdk.face.paste import support
from faceprotect_sdk.judging.judge import anchor
from faceprotect_sdk.judging.recognisers import Recogniser
from faceprotect_sdk.parts import DETECTOR
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.stream.followed import at
from faceprotect_sdk.stream.layer import add, crop_to_frame, square
from faceprotect_sdk.stream.motion import Small
from faceprotect_sdk.stream.work import Done, Job
from faceprotect_sdk.stream.worker import Worker
from harness.clips import FPS, KINDS, Portrait, Shot, clip
from harness.panel import open_panel
from harness.provenance import command_line, environment
from harness.strong import strong_judges
from protection import write_result

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EVERY = 5
_CORNERS = np.array([[64.0, 64], [192, 64], [64, 192], [192, 192]])


class Delayed(Worker[Job, Done]):
    """Does each job at once, and gives its result some frames later: a worker that takes always the same time."""

    def __init__(self, stream: Stream, delay: int) -> None:
        super().__init__(lambda job: stream._work(job), synchronous=True)
        self._stream, self._delay = stream, delay
        self._held: dict[Hashable, Done] = {}

    def give(self, key: Hashable, job: Job) -> None:
        if key not in self._held:
            super().give(key, job)
            self._held[key] = self._results.pop()

    def busy(self, key: Hashable) -> bool:
        return key in self._held

    def take(self) -> list[Done]:
        now = self._stream._index
        ready = [key for key, done in self._held.items() if done.job.index + self._delay <= now or done.job.scene != self._stream._scene]
        return [self._held.pop(key) for key in ready]


def portraits_of(folder: Path, limit: int, pool: EnginePool) -> list[Portrait]:
    """The first portraits by name that show one face."""
    found = []
    for path in sorted(one for one in folder.rglob("*") if one.suffix.lower() in (".png", ".jpg", ".jpeg")):
        pixels = load(path).rgb8()
        faces = find_faces(pixels, pool(DETECTOR))
        if len(faces) == 1:
            found.append(Portrait(pixels, faces[0].points))
        if len(found) == limit:
            break
    if not found:
        raise click.ClickException(f"{folder}: no photo with one face. Name a folder of portraits: --faces DIR")
    return found


# Protection, flicker, lag


Followings = list[tuple[NDArray[np.float64], Points] | None]


def streamed(shots: Sequence[Shot], pool: EnginePool, delay: int, refresh: int) -> tuple[list[NDArray[np.uint8]], list[str], Followings]:
    """Frames as a stream gives them, the face's status in each, and how it has moved by then, with its points."""
    drawn, statuses, followed = [], [], Followings()
    with Stream("fast", pool=pool, channel_order="rgb", refresh_every=refresh) as stream:
        stream._worker = Delayed(stream, delay)
        for shot in shots:
            drawn.append(stream.next(shot.frame))
            face = next(iter(stream._faces.values()), None)
            statuses.append("none" if face is None else stream.faces[0].status)
            followed.append(None if face is None or face.lost_at is not None else (face.moved, face.now))
    return drawn, statuses, followed


def lags(shots: Sequence[Shot], followed: Followings, age: int) -> list[float]:
    """Pixels by which the corners of a change that is ``age`` frames old lie elsewhere than the portrait went."""
    found = []
    for index in range(age, len(shots)):
        first, second = followed[index - age], followed[index]
        if first is not None and second is not None:
            corners = at(crop_to_frame(first[1]), _CORNERS)
            true = square(shots[index].pose) @ np.linalg.inv(square(shots[index - age].pose))
            error = at(second[0] @ np.linalg.inv(first[0]), corners) - at(true, corners)
            found.append(float(np.linalg.norm(error, axis=1).mean()))
    return found


def afresh(shot: Shot, stream: Stream, pool: EnginePool) -> NDArray[np.uint8]:
    """The frame with ``fast`` applied to it as to a still: the face is looked for, and all of the budget asked for, as by a stream."""
    seen = face_in_place(shot.frame, face_of(shot), pool(DETECTOR))
    points = shot.points[0] if seen is None else seen.points
    change = stream._work._change(aligned_crop(shot.frame, points))[0]
    drawn = shot.frame.copy()
    add(drawn, np.ascontiguousarray(change.transpose(1, 2, 0)) * np.float32(255), crop_to_frame(points))
    return drawn


def face_of(shot: Shot) -> Face:
    """The first face where it truly is."""
    points = shot.points[0]
    low, high = points.min(0), points.max(0)
    return Face((*(low - (high - low) * 0.6), *(high + (high - low) * 0.6)), points, 1.0)


def unmatched(judges: Sequence[Recogniser], shot: Shot, drawn: NDArray[np.uint8]) -> dict[str, bool]:
    """Which judges do not match the frame with what was drawn, at the same place."""
    face, found = face_of(shot), {}
    for one in judges:
        first = anchor(one, shot.frame, face)
        found[one.name] = one.similarity(first.embedding, one.embed(drawn, first.place)) < one.threshold
    return found


def flicker(shots: Sequence[Shot], drawn: Sequence[NDArray[np.uint8]], mask: NDArray[np.float32]) -> float:
    """Mean change, in grey levels of 255, of what was added, from one frame to the next, where the mask lies."""
    changes = []
    for index in range(1, len(shots)):
        first, second = (drawn[one].astype(np.float32) - shots[one].frame for one in (index - 1, index))
        way = square(shots[index].pose) @ np.linalg.inv(square(shots[index - 1].pose))
        carried = cv2.warpAffine(first, way[:2], first.shape[1::-1], flags=cv2.INTER_LINEAR)
        inside = support(mask, shots[index].points[0], *first.shape[:2])
        changes.append(float(np.abs(second - carried)[inside].mean()))
    return float(np.mean(changes))


def measure_clip(
    portrait: Portrait, kind: str, frames: int, pool: EnginePool, judges: Sequence[Recogniser], delay: int, refresh: int, fresh: int
) -> dict[str, Any]:
    """All figures of one clip that do not depend on how busy the machine is."""
    shots = list(clip([portrait], kind, frames))
    drawn, statuses, followed = streamed(shots, pool, delay, refresh)
    steady = next((index for index, status in enumerate(statuses) if status == "protected"), frames)
    verdicts: dict[str, dict[str, list[bool]]] = {"stream": {}, "afresh": {}}
    with Stream("fast", pool=pool, channel_order="rgb") as still:
        for index in range(steady, frames, EVERY):
            pictures = {"stream": drawn[index], "afresh": afresh(shots[index], still, pool)}
            for name, picture in pictures.items():
                for judge, free in unmatched(judges, shots[index], picture).items():
                    verdicts[name].setdefault(judge, []).append(free)
        row: dict[str, Any] = {"kind": kind, "first_protected": steady, "protected": statuses[steady:].count("protected")}
        row |= {"steady": frames - steady, "rates": {name: _rates(found) for name, found in verdicts.items()}}
        if steady < frames - 2:
            last = min(steady + fresh, frames)
            anew = [afresh(shot, still, pool) for shot in shots[steady:last]]
            mask = still._work._parts.method.mask
            row["flicker"] = {"stream": round(flicker(shots[steady:last], drawn[steady:last], mask), 3)}
            row["flicker"]["afresh"] = round(flicker(shots[steady:last], anew, mask), 3)
            apart = lags(shots, followed, delay + refresh)
            row["lag_px"] = {f"p{part}": round(float(np.percentile(apart or [np.nan], part)), 2) for part in (50, 95)}
    return row


def _rates(found: dict[str, list[bool]]) -> dict[str, list[int]]:
    """Frames that are not matched, of how many."""
    return {judge: [sum(free), len(free)] for judge, free in found.items()}


def summary(rows: Sequence[dict[str, Any]], strong: Sequence[str]) -> dict[str, Any]:
    """Over all clips: percentages per judge and the mean of the strong ones, flicker, lag."""
    rates: dict[str, dict[str, float]] = {}
    for name in ("stream", "afresh"):
        judges = sorted({judge for row in rows for judge in row["rates"][name]})
        sums = {judge: np.sum([row["rates"][name].get(judge, [0, 0]) for row in rows], 0) for judge in judges}
        rates[name] = {judge: round(100 * float(free) / max(int(of), 1), 1) for judge, (free, of) in sums.items()}
        rates[name]["strong judges"] = (
            round(float(np.mean([rates[name][judge] for judge in strong if judge in judges])), 1) if judges else 0.0
        )
    measured = [row for row in rows if "flicker" in row]
    mean = {name: round(float(np.mean([row["flicker"][name] for row in measured])), 3) for name in ("stream", "afresh")}
    lag = {part: round(float(np.mean([row["lag_px"][part] for row in measured])), 2) for part in ("p50", "p95")}
    steady = sum(row["steady"] for row in rows)
    held = round(100 * sum(row["protected"] for row in rows) / max(steady, 1), 1)
    return {
        "unmatched_percent": rates,
        "flicker": mean,
        "lag_px": lag,
        "frames_held_percent": held,
        "never_confirmed": len(rows) - len(measured),
    }


# Latency


def latency(portraits: Sequence[Portrait], faces: int, seconds: float, threads: int) -> dict[str, Any]:
    """Frames at their own pace with a worker beside them; what comes after the next frame was due is a dropped frame."""
    shots = list(clip([portraits[index % len(portraits)] for index in range(faces)], "all", round(seconds * FPS)))
    times: dict[str, list[float]] = {name: [] for name in ("wall", "cpu", "idle_wall", "idle_cpu")}
    dropped = 0
    with Stream("fast", channel_order="rgb", device="cpu", threads=threads) as stream:
        stream.warm()
        _settle(stream, shots[0], faces)
        before, began = stream.counts, time.perf_counter()
        ages: list[int] = []
        for index, shot in enumerate(shots):
            time.sleep(max(began + index / FPS - time.perf_counter(), 0.0))
            for name, work in (
                ("idle", lambda shot=shot: (Small.of(shot.frame), shot.frame.copy())),
                ("", lambda shot=shot: stream.next(shot.frame)),
            ):
                wall, cpu = time.perf_counter(), time.thread_time()
                work()
                times[f"{name}_wall".lstrip("_")].append(time.perf_counter() - wall)
                times[f"{name}_cpu".lstrip("_")].append(time.thread_time() - cpu)
            dropped += times["wall"][-1] > 1 / FPS
            ages += [face.age for face in stream.faces if face.age is not None]
        took, after = time.perf_counter() - began, stream.counts
        seen = len(stream.faces)
    row: dict[str, Any] = {"faces": faces, "faces_followed": seen, "frames": len(shots), "paced_fps": FPS, "dropped": dropped}
    row |= {
        name: {f"p{part}_ms": round(1e3 * float(np.percentile(values, part)), 2) for part in (50, 90, 99)} for name, values in times.items()
    }
    row |= {"fps_by_cpu_time": round(1 / float(np.mean(times["cpu"])), 1), "fps_by_wall": round(1 / float(np.mean(times["wall"])), 1)}
    row["refreshes_per_second_and_face"] = round((after.refreshes - before.refreshes) / took / faces, 2)
    return row | {
        "age_of_change_frames": {f"p{part}": float(np.percentile(ages or [0], part)) for part in (50, 99)},
        "load_average": os.getloadavg()[0],
    }


def _settle(stream: Stream, shot: Shot, faces: int) -> None:
    """Until every face has its change, or half a minute is over."""
    end = time.monotonic() + 30
    while time.monotonic() < end and sum(face.age is not None for face in stream.faces) < faces:
        stream.next(shot.frame)
        time.sleep(1 / FPS)


@click.command(help=__doc__)
@click.option("--faces", "folder", required=True, type=FOLDER, help="A folder of portraits.")
@click.option("--fr", type=FOLDER, help="Recognisers with an fr.json; the judges of it score.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="Portraits, the first by name.")
@click.option("--frames", type=click.IntRange(20), default=75, show_default=True, help="Of each clip.")
@click.option("--delay", type=click.IntRange(0), default=12, show_default=True, help="Frames that a refresh takes.")
@click.option("--refresh", type=click.IntRange(1), default=15, show_default=True, help="Frames between two refreshes.")
@click.option("--fresh", type=click.IntRange(3), default=18, show_default=True, help="Frames of each clip on which flicker is measured.")
@click.option("--seconds", type=float, default=5.0, show_default=True, help="Of each run for latency.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--only", type=click.Choice(["protection", "latency"]))
def main(
    folder: Path,
    fr: Path | None,
    out: Path,
    limit: int,
    frames: int,
    delay: int,
    refresh: int,
    fresh: int,
    seconds: float,
    threads: int,
    only: str | None,
) -> None:
    result: dict[str, Any] = {"threads": threads, "size": [640, 480], "frames": frames, "delay": delay, "refresh": refresh}
    with EnginePool(device="cpu", threads=threads) as pool:
        portraits = portraits_of(folder, max(limit, 3), pool)
        if only != "latency":
            judges = open_panel(fr, ["judge"], dlib=False, threads=threads) if fr else []
            strong = strong_judges(fr, [one.name for one in judges], ()) if fr else ()
            rows = []
            for index, portrait in enumerate(portraits[:limit]):
                rows.append(measure_clip(portrait, KINDS[index % len(KINDS)], frames, pool, judges, delay, refresh, fresh))
                click.echo(rows[-1])
            result |= {"summary": summary(rows, strong), "clips": rows}
            click.echo(result["summary"])
    if only != "protection":
        result["latency"] = [latency(portraits, count, seconds, threads) for count in (1, 3)]
        for row in result["latency"]:
            click.echo(row)
    write_result(out, {"command": command_line(), **environment(1), **result})


if __name__ == "__main__":
    main()

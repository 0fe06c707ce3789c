"""Conformance: what a method finds on one photo, written down so that a port can be held to it.

``conformance/`` in a bundle holds a photo, ``conformance.json``, and arrays as ``.npy``: the detector's face, the crop, every surrogate's
reference and limit, each step's numbers for two seeds, the final difference, and what the judges say of it. ``observe`` makes all of that
from the photo, with whatever engines it is given; ``differences`` compares two observations.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceprotect_engines.recipes.philox import Purpose, Stream
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.align import CANONICAL_POINTS, aligned_crop
from faceprotect_sdk.face.detect import Face, find_faces
from faceprotect_sdk.judging import judge
from faceprotect_sdk.judging.recognisers import EngineRecogniser
from faceprotect_sdk.methods.base import Method, SearchRequest, Strength
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.pool import EnginePool

FOLDER, FILE, PHOTO = "conformance", "conformance.json", "photo.png"
SEEDS = (0, 1)
#: Of a run's first draws, those whose numbers are written down.
_DRAWS = 3
#: How far a port may be off. Numbers of the trace are compared relative to their largest magnitude over the search, of the first steps and
#: of all: rounding that differs by a bit is carried on, and grows from step to step. SPEC.md says what was measured.
TOLERANCE: Mapping[str, float] = {
    "points_px": 0.25,
    "score": 5e-3,
    "crop": 0.01,
    "reference": 0.02,
    "first_steps": 0.01,
    "steps": 0.05,
    "difference": 0.25,  # a search carries on what it rounds: a crop moved by 1e-7 gives the same search 0.145 here
    "judge": 0.02,
}
#: Steps that count as the first.
_FIRST = 5


@dataclass(frozen=True)
class Run:
    """One search: its seed, the trace's numbers per step, whether it passed, the difference [3, 256, 256], and judges' similarities."""

    seed: int
    rows: Sequence[Mapping[str, Any]]
    passed: bool | None
    difference: NDArray[np.float32]
    judges: Mapping[str, float]


@dataclass(frozen=True)
class Observation:
    """What was found on one photo: the face, its crop [1, 3, 256, 256], references [E] and limits by surrogate, and a run per seed."""

    strength: Strength
    face: Face
    crop: NDArray[np.float32]
    references: Mapping[str, NDArray[np.float32]]
    limits: Mapping[str, float]
    runs: Sequence[Run]


def observe(
    method: Method, pool: EnginePool, detector: str, photo: NDArray[np.uint8], strength: Strength, seeds: Sequence[int]
) -> Observation:
    """Run ``method`` on the largest face of ``photo`` (uint8 RGB [H, W, 3]), once per seed; raises UsageError where there is no face."""
    faces = find_faces(photo, pool(detector))
    if not faces:
        raise UsageError("the photo for the conformance run shows no face. Give another")
    crop = aligned_crop(photo, faces[0].points)
    surrogates = method.surrogates()
    references = {one.name: _unit(one.embed_crop(crop)) for one in surrogates}
    limits = {one.name: strength.limit(one) for one in surrogates}
    judges = [one for one in judge.shipped_judges(pool) if isinstance(one, EngineRecogniser)]
    runs = []
    for seed in seeds:
        request = SearchRequest(crop, method.mask, {name: one[None] for name, one in references.items()}, limits, strength.budget, seed)
        found = method.search(request)
        changed = np.clip(crop + found.difference[None], 0.0, 1.0).astype(np.float32)
        likeness = {one.name: one.similarity(one.embed_crop(crop), one.embed_crop(changed)) for one in judges}
        runs.append(Run(seed, [_numbers(row) for row in found.trace], found.passed, found.difference, likeness))
    return Observation(strength, faces[0], crop, references, limits, runs)


def write(observation: Observation, photo: NDArray[np.uint8], folder: Path) -> None:
    """Write ``conformance/`` into the bundle ``folder``; ``photo``: the picture that it was made from, uint8 RGB [H, W, 3]."""
    target = folder / FOLDER
    target.mkdir()
    Image.fromarray(photo).save(target / PHOTO, optimize=True)
    np.save(target / "crop.npy", observation.crop)
    for name, reference in observation.references.items():
        np.save(target / f"reference-{name}.npy", reference)
    for run in observation.runs:
        np.save(target / f"difference-{run.seed}.npy", run.difference)
    face = observation.face
    document = {
        "schema": 1,
        "photo": PHOTO,
        "strength": {"margin": observation.strength.margin, "budget": observation.strength.budget},
        "canonical_points": np.asarray(CANONICAL_POINTS).tolist(),
        "face": {"box": list(face.box), "points": face.points.tolist(), "score": face.score},
        "limits": dict(observation.limits),
        "tolerance": dict(TOLERANCE),
        "runs": [
            {"seed": run.seed, "draws": _draws(run), "steps": list(run.rows), "passed": run.passed, "judges": dict(run.judges)}
            for run in observation.runs
        ],
    }
    (target / FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[Observation, NDArray[np.uint8]]:
    """What a bundle's ``conformance/`` holds, and its photo; raises UsageError for one that cannot be read."""
    source = folder / FOLDER
    try:
        document = json.loads((source / FILE).read_text(encoding="utf-8"))
        face, strength = document["face"], document["strength"]
        observation = Observation(
            Strength(float(strength["margin"]), float(strength["budget"])),
            Face(tuple(face["box"]), np.array(face["points"], np.float64), float(face["score"])),
            np.load(source / "crop.npy", allow_pickle=False),
            {name: np.load(source / f"reference-{name}.npy", allow_pickle=False) for name in document["limits"]},
            document["limits"],
            [
                Run(
                    run["seed"],
                    run["steps"],
                    run["passed"],
                    np.load(source / f"difference-{run['seed']}.npy", allow_pickle=False),
                    run["judges"],
                )
                for run in document["runs"]
            ],
        )
        return observation, load(source / document["photo"]).rgb8()
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{source} is no conformance run that can be read: {error!r}. Pack the method again") from error


def differences(found: Observation, expected: Observation) -> dict[str, float]:
    """How far two observations are apart, by the names of :data:`TOLERANCE`; infinite where they cannot be compared."""
    if found.references.keys() != expected.references.keys() or len(found.runs) != len(expected.runs):
        return {"reference": float("inf")}
    pairs = list(zip(found.runs, expected.runs, strict=True))
    rows = [(first.rows, second.rows) for first, second in pairs]
    judged = [abs(value - second.judges.get(name, np.inf)) for first, second in pairs for name, value in first.judges.items()]
    return {
        "points_px": float(np.abs(found.face.points - expected.face.points).max()),
        "score": abs(found.face.score - expected.face.score),
        "crop": float(np.abs(found.crop - expected.crop).max()),
        "reference": max((_relative(found.references[name], expected.references[name]) for name in found.references), default=0.0),
        "first_steps": max((_apart(first[:_FIRST], second[:_FIRST]) for first, second in rows), default=0.0),
        "steps": max((_apart(first, second) for first, second in rows), default=0.0),
        "difference": max(_relative(first.difference, second.difference) for first, second in pairs),
        "judge": max(judged, default=0.0),
    }


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, (bool, int)) else float(value) for key, value in row.items()}


def _apart(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> float:
    """Largest difference of a number of the trace, over its largest magnitude; infinite for another number of steps."""
    if len(found) != len(expected):
        return float("inf")
    names = {name for row in expected for name in _floats(row)}
    worst = 0.0
    for name in names:
        pairs = [(ours.get(name, np.nan), theirs[name]) for ours, theirs in zip(found, expected, strict=True) if name in theirs]
        ours, theirs = np.array(pairs, np.float64).T
        worst = max(worst, float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-9)))
    return worst


def _floats(row: Mapping[str, Any]) -> Iterator[str]:
    return (name for name, value in row.items() if isinstance(value, float))


def _relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Norm of the difference over the norm."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), 1e-12))


def _unit(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(embedding / max(float(np.linalg.norm(embedding)), 1e-12), np.float32)


def _draws(run: Run) -> list[dict[str, Any]]:
    """The random numbers that the first steps of the first descent take, for a port's generator to be held to."""
    stage = next((int(row["stage"]) for row in run.rows if "stage" in row), None)
    if stage is None:
        return []
    stream = Stream(run.seed, stage)
    return [
        {
            "stage": stage,
            "step": step,
            "numbers": stream.uniform(8, step, Purpose.DRAW).tolist(),
            "noise": stream.normal((8,), step, Purpose.NOISE).tolist(),
        }
        for step in range(_DRAWS)
    ]

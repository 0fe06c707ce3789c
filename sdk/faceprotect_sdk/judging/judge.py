"""Verdicts: which recognisers are at hand, what each says of a face, and whether it took part in the search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.errors import WeightsMissing
from faceprotect_engines.files.manifest import MANIFEST_NAME
from faceprotect_sdk.errors import RecogniserError
from faceprotect_sdk.face.detect import Face
from faceprotect_sdk.judging import dlib_judge
from faceprotect_sdk.judging.recognisers import (
    EngineRecogniser,
    OnnxRecogniser,
    Recogniser,
)
from faceprotect_sdk.judging.specification import onnx_specification
from faceprotect_sdk.pool import EnginePool
from faceprotect_sdk.result import Verdict


@dataclass(frozen=True)
class Anchor:
    """A recogniser's view of the original face: where it lies, and its embedding there."""

    recogniser: Recogniser
    place: Any
    embedding: NDArray[np.float32]


def anchor(recogniser: Recogniser, pixels: NDArray[np.uint8], face: Face) -> Anchor:
    """Locate and embed a face of the original; ``pixels``: uint8 RGB [H, W, 3]."""
    place = recogniser.locate(pixels, face)
    return Anchor(recogniser, place, recogniser.embed(pixels, place))


def similarity_at(original: Anchor, pixels: NDArray[np.uint8], found: Sequence[Face] = (), *, same_place: bool = True) -> float:
    """Largest similarity to the original over several cuts of another photo.

    ``found``: where a detector sees faces there. ``same_place``: also at the original's own place, in a photo of the
    same size. A recogniser gets the best of the cuts, so that points which moved do not pass for protection.
    """
    recogniser = original.recogniser
    places = [original.place] if same_place else []
    places += [recogniser.locate(pixels, face) for face in found]
    return max(recogniser.similarity(original.embedding, recogniser.embed(pixels, place)) for place in places)


def verdict(
    recogniser: Recogniser, similarity: float, *, took_part: bool, before: float | None = None, decoy: float | None = None
) -> Verdict:
    """Verdict from a similarity. Not a number counts as matched: what cannot be measured is not protected."""
    distance = 1.0 - similarity if recogniser.measure == "distance" else None
    return Verdict(
        recogniser=recogniser.name,
        similarity=similarity,
        threshold=recogniser.threshold,
        matched=not similarity < recogniser.threshold,
        took_part=took_part,
        before=before,
        decoy=decoy,
        measure=recogniser.measure,
        distance=distance,
        distance_threshold=None if distance is None else 1.0 - recogniser.threshold,
    )


def shipped_judges(room: EnginePool) -> list[Recogniser]:
    """Engines of the store with the role "judge": kept out of every search."""
    return [EngineRecogniser(room(name), room.manifest(name)) for name in room.store.names() if room.manifest(name).role == "judge"]


def shipped_surrogates(room: EnginePool, notes: list[str]) -> list[Recogniser]:
    """Engines of the store with the role "surrogate"; one whose weights are not installed is left out with a note.

    One that waits to be fetched is left out without.
    """
    found: list[Recogniser] = []
    for name in room.store.names():
        if room.manifest(name).role != "surrogate" or room.store.waits(name):
            continue
        try:
            found.append(EngineRecogniser(room(name), room.manifest(name)))
        except WeightsMissing as error:
            notes.append(str(error))
    return found


def installed_judges() -> list[Recogniser]:
    """Recognisers of other packages that happen to be installed: dlib."""
    return [dlib_judge.DlibRecogniser()] if dlib_judge.available() else []


def given_judges(sources: Sequence[str | Path], room: EnginePool) -> list[Recogniser]:
    """Recognisers that the user named: an ONNX file, an engine's folder, a folder with fr.json, or "dlib".

    Of a folder with fr.json, the models with the role "judge" are taken. Raises RecogniserError, or an error of the
    engine floor for a folder that fails verification.
    """
    found: list[Recogniser] = []
    for source in sources:
        found += _given(source, room)
    return found


def _given(source: str | Path, room: EnginePool) -> list[Recogniser]:
    path = Path(source)
    if str(source) == "dlib" and not path.exists():
        return [dlib_judge.DlibRecogniser()]
    if path.is_file():
        spec, templates = onnx_specification(path)
        return [OnnxRecogniser(path, spec, templates, room.threads)]
    if (path / MANIFEST_NAME).is_file() or str(source) in room.store.names():
        return [EngineRecogniser(room(source), room.manifest(source))]
    if (path / "fr.json").is_file():
        return _of_collection(path, room.threads)
    raise RecogniserError(
        f"{source}: neither an ONNX file, an engine's folder (with {MANIFEST_NAME}), nor a folder with fr.json",
        hint="Check what was given as judges=[FILE]",
    )


def _of_collection(folder: Path, threads: int | None) -> list[Recogniser]:
    found: list[Recogniser] = []
    for path in sorted(folder.glob("*.onnx")):
        spec, templates = onnx_specification(path)
        if spec.get("role") == "judge":
            found.append(OnnxRecogniser(path, spec, templates, threads))
    if not found:
        raise RecogniserError(f"{folder / 'fr.json'}: no model with the role 'judge'", hint="Name one file: judges=[FILE]")
    return found


def unique(recognisers: Iterable[Recogniser]) -> list[Recogniser]:
    """Without repetitions of a recogniser, first ones kept.

    Raises RecogniserError where two different networks have one name: neither may be dropped without a word.
    """
    kept: dict[str, Recogniser] = {}
    for recogniser in recognisers:
        known = kept.setdefault(recogniser.name, recogniser)
        if not known.identity & recogniser.identity:
            raise RecogniserError(
                f"two different recognisers are called '{recogniser.name}'",
                hint="Rename a file given as judges=[FILE], or export a surrogate again under another name",
            )
    return list(kept.values())


def took_part(recogniser: Recogniser, searched: Iterable[frozenset[str]]) -> bool:
    """Whether the search used this recogniser, or another one with the same weights (by ``identity``)."""
    return any(recogniser.identity & identity for identity in searched)

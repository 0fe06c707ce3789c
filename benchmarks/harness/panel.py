"""The recognisers that score: models of an fr.json by role, and dlib where it is installed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.judging import dlib_judge
from faceprotect_sdk.judging.judge import took_part, unique
from faceprotect_sdk.judging.recognisers import OnnxRecogniser, Recogniser

FloatArray = NDArray[np.float32]


def open_panel(folder: Path, roles: Sequence[str], *, dlib: bool, threads: int | None) -> list[Recogniser]:
    """Recognisers of ``folder``/fr.json whose role is one of ``roles``, and dlib if ``dlib`` and it is installed."""
    listing = folder / "fr.json"
    if not listing.is_file():
        raise UsageError(f"{listing}: no such file. --fr needs a folder with an fr.json and the models that it lists")
    try:
        document = json.loads(listing.read_text(encoding="utf-8"))
        chosen = [model for model in document["models"].values() if model["role"] in roles]
        files = [folder / model["file"] for model in chosen]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{listing}: lacks or garbles {error}. It needs models, each with file, role, input and thresholds") from error
    if not chosen:
        raise UsageError(f"{listing}: no model has one of the roles {', '.join(roles)}. Choose others with --roles")
    templates = document.get("templates", {})
    panel: list[Recogniser] = [OnnxRecogniser(path, model, templates, threads) for path, model in zip(files, chosen, strict=True)]
    return unique([*panel, *([dlib_judge.DlibRecogniser()] if dlib and dlib_judge.available() else [])])


def refuse_searched(panel: Sequence[Recogniser], searched: Iterable[frozenset[str]], key: str) -> None:
    """Raise UsageError if a method searches on a recogniser that scores (dlib's own code aside, which is marked instead)."""
    identities = list(searched)
    for one in panel:
        if one.name != dlib_judge.DlibRecogniser.name and took_part(one, identities):
            raise UsageError(f"'{one.name}' scores, but {key} searches on it: its verdict would say nothing. Leave it out of --surrogates")


def similarity_matrix(first: FloatArray, second: FloatArray, measure: str) -> NDArray[np.float64]:
    """Similarities [N, M] of embeddings [N, E] and [M, E], as the recogniser's own ``similarity`` gives them pair by pair."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    if measure == "distance":
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
        return np.asarray(1.0 - np.sqrt(np.maximum(squared, 0.0)))
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    return np.asarray(a @ b.T)

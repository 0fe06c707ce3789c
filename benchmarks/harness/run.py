"""Runs settings over pairs in parallel processes; what is measured stays in a work folder, and a rerun goes on from there."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from faceprotect_sdk.errors import UsageError
from harness.measure import Look, Worker, read_rows
from harness.methods import WEIGHTS
from harness.pairs import Pair
from harness.panel import similarity_matrix
from harness.settings import CLEAN, LITERAL, Setting, describe
from harness.strong import strong_judges

Row = dict[str, Any]


@dataclass(frozen=True)
class Recogniser:
    """What the summaries need to know of one that scored; ``thresholds`` by what they are called, the verdict's first."""

    name: str
    measure: str
    thresholds: dict[str, float]


@dataclass(frozen=True)
class Measured:
    """Everything that was measured: rows per setting in the order of the pairs, those with a face in both photos.

    ``surrogates``: per setting, what it searched on. ``searched``: those who score that share weights with one of them.
    ``strong``: the judges whose mean is the headline.
    """

    recognisers: tuple[Recogniser, ...]
    variants: tuple[str, ...]
    rows: dict[str, list[Row]]
    surrogates: dict[str, list[str]]
    searched: dict[str, list[str]]
    left_out: list[str]
    strong: tuple[str, ...] = ()


_WORKER: list[Worker] = []


def _worker(look: Look) -> Worker:
    """The process's own worker, made at first use (what it raises then reaches the caller, unlike in an initializer)."""
    if not _WORKER or _WORKER[0].look != look:
        _WORKER[:] = [Worker(look)]
    return _WORKER[0]


def _measure(look: Look, setting: Setting, pair: Pair, index: int, folder: Path) -> None:
    _worker(look).measure(setting, pair, index, folder)


def _panel(look: Look, settings: Sequence[Setting]) -> tuple[tuple[Recogniser, ...], dict[str, list[str]], dict[str, list[str]]]:
    """Who scores; what each setting searches on, and which of those who score that is.

    In a worker, for engines are not to be open when processes are forked.
    """
    worker = _worker(look)
    surrogates = {one.key: worker.surrogates(one) for one in settings}
    searched = {one.key: worker.searched(one) for one in settings}
    panel = worker.panel
    recognisers = tuple(Recogniser(one.name, one.measure, dict(one.thresholds) or {"its own": one.threshold}) for one in panel)
    return recognisers, surrogates, searched


def run(settings: Sequence[Setting], pairs: list[Pair], look: Look, work: Path, workers: int, strong: Sequence[str] = ()) -> Measured:
    """Measure every setting on every pair; the clean row always, and first, for the pairs are checked on it.

    ``strong``: names of the judges whose mean is the headline (none: as in ``harness/strong.py``). Raises UsageError for a work folder
    of other settings, a recogniser that scores and is searched on, a strong judge that does not score, or pairs that are not of one person.
    """
    settings = [Setting(CLEAN, CLEAN, attempts=1), *(one for one in settings if one.key != CLEAN)]
    if len({one.key for one in settings}) < len(settings):
        raise UsageError(f"two settings have one name: {', '.join(one.key for one in settings)}")
    with ProcessPoolExecutor(workers) as pool:
        recognisers, surrogates, searched = pool.submit(_panel, look, settings).result()
        chosen = strong_judges(look.fr, [one.name for one in recognisers], strong)
        folders = {one.key: _folder(work, one, pairs, look, [r.name for r in recognisers], surrogates[one.key]) for one in settings}
        for setting in settings:
            _run_one(pool, look, setting, pairs, folders[setting.key])
            if setting.key == CLEAN:
                check_pairs(read_rows(folders[CLEAN], pairs), pairs, recognisers)
    rows: dict[str, list[Row]] = {key: list(read_rows(folder, pairs)) for key, folder in folders.items()}
    bad = {index for key in rows for index, row in enumerate(rows[key]) if "error" in row["facts"]}
    left_out = sorted({row["facts"]["error"] for key in rows for row in rows[key] if "error" in row["facts"]})
    if len(bad) == len(pairs):
        raise UsageError(f"no face was found in any pair: {left_out[0]}")
    rows = {key: [row for index, row in enumerate(all_rows) if index not in bad] for key, all_rows in rows.items()}
    return Measured(recognisers, look.variants, rows, surrogates, searched, left_out, chosen)


def _run_one(pool: ProcessPoolExecutor, look: Look, setting: Setting, pairs: list[Pair], folder: Path) -> None:
    jobs = [(index, pair) for index, pair in enumerate(pairs) if not (folder / f"{pair.number}.npz").exists()]
    futures = [pool.submit(_measure, look, setting, pair, index, folder) for index, pair in jobs]
    try:
        for future in tqdm(as_completed(futures), total=len(futures), desc=setting.key, disable=not futures):
            future.result()
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise


def _folder(work: Path, setting: Setting, pairs: list[Pair], look: Look, panel: list[str], surrogates: list[str]) -> Path:
    """The setting's folder, with a note of how it is made; one that was made otherwise is refused."""
    folder = work / setting.key.replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    note = {
        "setting": describe([setting])[0],
        "pairs": str(pairs[0].photo.parent.parent.resolve()),
        "panel": panel,
        "engines": engines_digest(look.zoo, WEIGHTS if setting.method in LITERAL else None) + _own_look(setting),
        "searched": surrogates,
        "surrogates": [str(Path(s).resolve()) for s in setting.surrogates],
        "look": {k: str(v) for k, v in asdict(look).items() if k not in ("fr", "zoo")},
    }
    text = json.dumps(note, indent=1, default=str) + "\n"
    path = folder / "settings.json"
    if path.exists() and path.read_text() != text:
        old = json.loads(path.read_text())
        other = [key for key in note if json.loads(text)[key] != old.get(key)]
        remedy = f"Choose another --work, or remove it: rm -r {shlex.quote(str(folder))}"
        raise UsageError(f"{folder} was made otherwise ({', '.join(other)} differ). {remedy}")
    path.write_text(text)
    return folder


def _own_look(setting: Setting) -> str:
    """The digest of a look that does not ship."""
    return engines_digest(Path(setting.look)) if setting.look and Path(setting.look).is_dir() else ""


def engines_digest(zoo: Path, weights: Path | None = None) -> str:
    """One sha256 over the manifests (which hold the sha256 of every file) and recipes of a zoo, and over a folder of weights."""
    digest = hashlib.sha256()
    for path in sorted([*zoo.glob("*/manifest.json"), *zoo.glob("recipes/*.json")]):
        digest.update(path.relative_to(zoo).as_posix().encode() + path.read_bytes())
    for path in sorted(weights.glob("*.safetensors")) if weights else ():
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def check_pairs(rows: Sequence[Row], pairs: list[Pair], recognisers: Sequence[Recogniser]) -> None:
    """Raise UsageError where the photos of a pair are not of one person.

    A pair is wrong when no recogniser matches its photos and all of them match its photo with one and the same partner
    of another pair; or when most pairs are not matched at all.
    """
    good = [index for index, row in enumerate(rows) if "error" not in row["facts"]]
    if not good:
        return
    own, others = np.ones((len(good), len(recognisers)), bool), np.ones((len(good), len(good)), bool)
    for k, one in enumerate(recognisers):
        similarity = similarity_matrix(*_stacked(rows, good, one.name), one.measure)
        matched = similarity >= next(iter(one.thresholds.values()))
        own[:, k], others = matched.diagonal(), others & matched
    swapped = [
        f"{pairs[good[i]].number} (its photo shows {pairs[good[int(others[i].argmax())]].number})"
        for i in range(len(good))
        if not own[i].any() and others[i].any()
    ]
    folder = pairs[0].photo.parent.parent
    if swapped:
        raise UsageError(f"{folder}: photo and partner show different people in {', '.join(swapped)}. Bring the numbers in order")
    if len(good) > 4 and own.any(1).mean() < 0.5:
        raise UsageError(f"{folder}: {int((~own.any(1)).sum())} of {len(good)} pairs are matched by no recogniser. Pair them again")


def _stacked(rows: Sequence[Row], good: Sequence[int], name: str) -> tuple[Any, Any]:
    return np.stack([rows[i][f"photo {name}"][0] for i in good]), np.stack([rows[i][f"partner {name}"] for i in good])

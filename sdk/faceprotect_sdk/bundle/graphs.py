"""Engines copied with their weights beside them, so that plain ONNX Runtime opens every graph.

What ships leaves weights where they are: in an installed package, a fetched file, or another engine's graph. In a bundle each engine's
folder holds all that its graph names, listed in its manifest with sizes and sha256.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faceprotect_engines.errors import EngineNotFound
from faceprotect_engines.files.hydrate import hydrate
from faceprotect_engines.files.manifest import FileEntry, Manifest, resolve_inside, write_manifest
from faceprotect_engines.store import Store

GRAPH = "graph"


@dataclass(frozen=True)
class Terms:
    """Whose the numbers of an engine are: where they come from, and under which terms."""

    engine: str
    origin: str
    terms: str


def copy_engine(store: Store, name: str, target: Path) -> Terms:
    """Put engine ``name`` into the new folder ``target``/``name``; the terms of its numbers.

    Raises EngineNotFound for an engine without a graph (a chain, which is no one graph), and what opening it would raise: WeightsMissing,
    EngineCorrupt, CacheUnwritable.
    """
    folder, manifest = store.folder(name), store.manifest(name)
    if GRAPH not in manifest.files:
        raise EngineNotFound(f"engine '{name}' is no graph of its own, so it cannot be packed. Pack a method whose engines are graphs")
    store.verify(name)
    beside = hydrate(folder, manifest, store.cache) if manifest.weights else folder
    made = target / name
    made.mkdir(parents=True)
    paths = {GRAPH: manifest.files[GRAPH].path, **_golden_files(manifest), **_weights(manifest)}
    for path in paths.values():
        source, destination = resolve_inside(beside, path), resolve_inside(made, path)
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, destination)
    entries = {key: FileEntry(path) for key, path in paths.items()}
    origins = [weights.origin for weights in manifest.weights]
    write_manifest(made, replace(manifest, files=entries, weights=(), source=_source(manifest)))
    return Terms(name, ", ".join(origins) or "faceprotect-sdk", str(manifest.source.get("licence", "not stated")))


def _weights(manifest: Manifest) -> dict[str, str]:
    return {f"weights {number}": weights.location for number, weights in enumerate(manifest.weights)}


def _golden_files(manifest: Manifest) -> dict[str, str]:
    """Arrays that the golden values lie in."""
    sides: list[Mapping[str, Any]] = [manifest.golden.get(side, {}) for side in ("inputs", "outputs")]
    listed = {str(entry["file"]) for side in sides for entry in side.values() if "file" in entry}
    return {f"golden {number}": path for number, path in enumerate(sorted(listed))}


def _source(manifest: Manifest) -> dict[str, Any]:
    """The source, and the digests by which the recognisers inside are known wherever their weights lie (``recognisers.identity_of``)."""
    known = {*manifest.source.get("same_network", ()), *(weights.sha256 for weights in manifest.weights)}
    origins = {"weights_from": [weights.origin for weights in manifest.weights]} if manifest.weights else {}
    return {**manifest.source, **origins, **({"same_network": sorted(known)} if known else {})}

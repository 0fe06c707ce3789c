"""TensorRT 10.3 to 11 and TensorRT-RTX: one builder path, strongly typed, for both.

The graph itself says what is computed in which precision: there is no flag that could change it. Plans are kept in the
cache (plans.py). Building needs no GPU where the library can do without (TensorRT-RTX), running does.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceprotect_engines.backends.cuda import Cuda
from faceprotect_engines.backends.device_inputs import Resident
from faceprotect_engines.backends.plans import PlanStore, plan_facts
from faceprotect_engines.backends.workspace import Scratch
from faceprotect_engines.engine import BaseEngine
from faceprotect_engines.errors import DeviceUnavailable, EngineCorrupt, EngineError, OutOfMemory
from faceprotect_engines.files.manifest import Manifest
from faceprotect_engines.spec import Array, EngineSpec

_BUNDLE = "onnxruntime_ep_nv_tensorrt_rtx"
_BUNDLED = ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so")
_INSTALL = {"tensorrt": "pip install 'faceprotect-sdk[tensorrt]'", "rtx": "pip install 'faceprotect-sdk[rtx]'"}
#: Scratch memory that a plan may take, in bytes; a device with less gives what it has.
WORKSPACE = 1 << 31


@dataclass(frozen=True)
class Library:
    """An imported TensorRT: `module` has its Python classes; `folders` may bundle the CUDA runtime."""

    name: str
    module: Any
    folders: tuple[Path, ...] = ()

    @property
    def version(self) -> str:
        """Full version."""
        return str(self.module.__version__)


def load_library(device: str) -> Library:
    """TensorRT for "tensorrt", TensorRT-RTX for "rtx"; raises DeviceUnavailable with the command that installs it."""
    try:
        if device == "tensorrt":
            return Library(device, importlib.import_module("tensorrt"))
        bundle = importlib.util.find_spec(_BUNDLE)
        folders = tuple(Path(folder) for folder in (bundle.submodule_search_locations or ())) if bundle else ()
        for name in _BUNDLED:
            for path in [path for folder in folders for path in sorted(folder.glob(f"{name}*"))][:1]:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        return Library(device, importlib.import_module("tensorrt_rtx_bindings"), folders)
    except (ImportError, OSError) as error:
        raise DeviceUnavailable(f"device '{device}' needs its library ({error}); run: {_INSTALL[device]}") from error


def ready_device() -> str:
    """The device whose plans can be built and run here: "tensorrt" where it is installed, else "rtx"; raises DeviceUnavailable."""
    try:
        library = load_library("tensorrt")
    except DeviceUnavailable:
        library = load_library("rtx")
    Cuda(library.folders).close()
    return library.name


@dataclass(frozen=True)
class Built:
    """A plan, what has been timed by now, and the layers of the network by type of what they give ("HALF", "FLOAT", ...)."""

    plan: bytes
    timings: bytes
    layers: Mapping[str, int]


def build_plan(library: Library, graph: Path, timings: bytes = b"", workspace: int = WORKSPACE) -> Built:
    """Parse the graph as a strongly typed network and compile it.

    Raises EngineCorrupt with the parser's own words, OutOfMemory or EngineError where the builder gives up.
    """
    trt = library.module
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        problems = "; ".join(str(parser.get_error(index)) for index in range(min(parser.num_errors, 3)))
        raise EngineCorrupt(f"{graph}: {library.name} cannot parse it: {problems}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    timed = None
    if library.name == "tensorrt":  # TensorRT-RTX times nothing at build: it compiles for the device when it loads the plan
        timed = config.create_timing_cache(timings)
        config.set_timing_cache(timed, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        words = " ".join(log.messages[-3:])
        if "memory" in words.lower():
            raise OutOfMemory(f"{graph}: {library.name} has not the memory to build it: {words}")
        raise EngineError(f"{graph}: {library.name} {library.version} cannot build it: {words or 'no reason given'}")
    return Built(bytes(plan), bytes(timed.serialize()) if timed is not None else b"", layer_types(network))


def layer_types(network: Any) -> dict[str, int]:
    """How many layers give which type."""
    found: dict[str, int] = {}
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        for output in range(layer.num_outputs):
            kind = str(layer.get_output(output).dtype).split(".")[-1]
            found[kind] = found.get(kind, 0) + 1
    return found


class TensorRTEngine(BaseEngine):
    """A plan on the GPU: buffers stay there between runs, static shapes, one stream. One run at a time: a second thread waits.

    The second run is recorded as a CUDA graph, which every further one launches: what that saves is the time between kernels, not their
    results, so that a plan that cannot be recorded runs without. (The first is not: a context sets itself up while it runs.)
    """

    def __init__(self, spec: EngineSpec, library: Library, plan: bytes, cuda: Cuda, scratch: Scratch) -> None:
        """Raises EngineError for a plan that the library refuses, EngineCorrupt for one with other tensors than `spec`."""
        super().__init__(spec, library.name)
        trt = library.module
        self._log, self._cuda, self._scratch = _log(trt), cuda, scratch
        self._place, self._runs, self._graph = (0, 0), 0, 0
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"engine '{spec.name}': {library.name} refuses the plan: {' '.join(self._log.messages[-2:])}")
        names = {self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)}
        wanted = {tensor.name for tensor in (*spec.inputs, *spec.outputs)}
        if names != wanted:
            raise EngineCorrupt(f"engine '{spec.name}': its plan and its manifest differ in {', '.join(sorted(names ^ wanted))}")
        self._context = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self._context is None:
            less = "Close other programs on it, or use device='cpu'"
            raise OutOfMemory(f"engine '{spec.name}': the GPU has not the memory for it", hint=less)
        self._buffers: dict[str, int] = {}
        self._resident = Resident(cuda)
        scratch.join(cuda, int(self._engine.device_memory_size_v2))
        try:
            for tensor in (*spec.inputs, *spec.outputs):
                self._buffers[tensor.name] = cuda.allocate(tensor.zeros().nbytes)
                self._context.set_tensor_address(tensor.name, self._buffers[tensor.name])
        except BaseException:
            self._release()  # what is left of a GPU that was full must not stay taken
            raise

    def _execute(self, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        found = {name: np.empty_like(self.spec.output(name).zeros()) for name in outputs}
        with self._scratch.lock:
            if self._context is None:
                raise EngineError(f"engine '{self.spec.name}' was closed while running")
            try:
                for name, array in feeds.items():
                    self._resident.send(self._buffers[name], array)
                self._move()
                self._compute()
                for name, array in found.items():
                    self._cuda.download(array, self._buffers[name])
            finally:
                self._cuda.synchronize()  # whatever happened: the next engine computes in the same memory
        return found

    def _move(self) -> None:
        """To where the scratch memory is by now."""
        if self._place != (self._scratch.address, self._scratch.size):
            self._place = (self._scratch.address, self._scratch.size)
            self._context.set_device_memory(*self._place)
            self._forget()

    def _compute(self) -> None:
        """Launch what was recorded, or run and, the second time, record."""
        if self._runs == 1:
            self._graph = self._cuda.record(self._enqueue)
        self._runs += 1
        if self._graph:
            self._cuda.launch(self._graph)
        elif not self._enqueue():
            raise EngineError(f"engine '{self.spec.name}' failed on {self.device}: {' '.join(self._log.messages[-2:])}")

    def _enqueue(self) -> bool:
        return bool(self._context.execute_async_v3(self._cuda.stream.value or 0))

    def _forget(self) -> None:
        """What was recorded at another place, so that it is recorded again."""
        if self._graph:
            self._cuda.forget(self._graph)
        self._graph, self._runs = 0, 0

    def _release(self) -> None:
        with self._scratch.lock:
            self._forget()
            for address in self._buffers.values():
                self._cuda.free(address)
            self._buffers.clear()
            self._resident.close()
            self._scratch.leave(self._cuda)
            self._context = self._engine = self._runtime = None
            self._cuda.close()


def open_tensorrt(manifest: Manifest, graph: Path, device: str, cache: Path, scratch: Scratch) -> TensorRTEngine:
    """The engine on the GPU, its plan from the cache or built now; `scratch` is shared with the engines that it takes turns with.

    Raises DeviceUnavailable without the library or a GPU, EngineCorrupt for a graph it cannot parse, OutOfMemory, CacheUnwritable.
    """
    library = load_library(device)

    def build(timings: bytes) -> tuple[bytes, bytes]:
        built = build_plan(library, graph, timings)
        return built.plan, built.timings

    cuda = Cuda(library.folders)
    try:
        facts = plan_facts(manifest, library.name, library.version, {"workspace": WORKSPACE}, {**cuda.facts(), **system_facts()})
        return TensorRTEngine(manifest.spec, library, PlanStore(cache).get(facts, build), cuda, scratch)
    except BaseException:
        cuda.close()
        raise


def system_facts() -> dict[str, Any]:
    """Operating system, processor architecture, and JetPack where this is a Jetson."""
    release = Path("/etc/nv_tegra_release")
    jetpack = release.read_text(encoding="utf-8").splitlines()[0] if release.is_file() else ""
    return {"system": platform.system(), "architecture": platform.machine(), "jetpack": jetpack}


def _log(trt: Any) -> Any:
    """A logger that keeps what the library says, so that errors can repeat it."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.messages.append(message)

    return Log()

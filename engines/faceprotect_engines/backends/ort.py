"""ONNX Runtime backend: one explicit execution provider, or an error."""

from __future__ import annotations

import importlib
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from faceprotect_engines.backends.cpu_count import bounded
from faceprotect_engines.engine import BaseEngine
from faceprotect_engines.errors import DeviceUnavailable, EngineCorrupt, EngineError, GradientMissing, OutOfMemory
from faceprotect_engines.files.manifest import Manifest
from faceprotect_engines.spec import Array, EngineSpec, TensorSpec, constant

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_INSTALL = {"cpu": "pip install 'faceprotect-sdk[cpu]'", "cuda": "pip install 'faceprotect-sdk[gpu]'"}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_ERRORS_ONLY = 3
#: ONNX Runtime records a CUDA graph in a mode in which no other thread may touch the GPU: bound engines take turns, in all of a process.
_TURN = threading.Lock()
#: Runs after which it has recorded one, if it can.
_RECORDED_BY = 3
#: How ONNX Runtime's allocators, the C++ library's and CUDA's say it.
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "BFCArena", "out of memory")
_LESS = "Close other programs, or use threads=1, or device='cpu' where this is a GPU"
#: Bytes of inputs from which on a run is large: a picture of two megapixels.
_LARGE = 24_000_000
_STATES = (
    *("Fail", "InvalidArgument", "NoSuchFile", "NoModel", "EngineError", "RuntimeException"),
    *("InvalidProtobuf", "ModelLoaded", "NotImplemented", "InvalidGraph", "EPFail"),
)


class OrtEngine(BaseEngine):
    """An ONNX graph in an ONNX Runtime session. Thread-safe to run, as sessions are."""

    def __init__(self, spec: EngineSpec, session: Any, device: str) -> None:
        """`session`: an onnxruntime.InferenceSession whose first provider is `device`'s."""
        super().__init__(spec, device)
        self._session: Any = session
        # An engine of free sizes gives back after a large run what it would keep for good; to take it anew costs a tenth of a second.
        free = device == "cpu" and any(None in tensor.shape for tensor in spec.inputs)
        self._options = _giving_back() if free else None

    def _execute(self, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        session = self._session
        if session is None:
            raise EngineError(f"engine '{self.spec.name}' was closed while running")
        try:
            return self._run(session, feeds, outputs)
        except runtime_errors() as error:
            if any(sign in str(error) for sign in _NO_MEMORY):
                raise OutOfMemory(f"engine '{self.spec.name}': {self.device} has no memory left for it", hint=_LESS) from error
            raise EngineError(f"engine '{self.spec.name}' failed on {self.device}: {error}") from error
        except MemoryError as error:
            raise OutOfMemory(f"engine '{self.spec.name}': no memory left for what it gives", hint=_LESS) from error

    def _run(self, session: Any, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        options = self._options if sum(array.nbytes for array in feeds.values()) > _LARGE else None
        return dict(zip(outputs, session.run(outputs, feeds, options), strict=True)) if outputs else {}

    def _release(self) -> None:
        self._session = None


def _giving_back() -> Any:
    options = importlib.import_module("onnxruntime").RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


class BoundOrtEngine(OrtEngine):
    """The same with buffers that stay on the device between runs, at addresses that a CUDA graph can be recorded with.

    For graphs of fixed sizes. One run at a time, of all engines of this kind: a second thread waits.
    """

    def __init__(self, spec: EngineSpec, session: Any, device: str) -> None:
        """As :class:`OrtEngine`; takes the device's memory for every input and output."""
        super().__init__(spec, session, device)
        value = importlib.import_module("onnxruntime").OrtValue
        self._binding = session.io_binding()
        self._there: dict[str, weakref.ref[Array]] = {}
        self._values = {tensor.name: value.ortvalue_from_numpy(tensor.zeros(), device, 0) for tensor in (*spec.inputs, *spec.outputs)}
        for tensor in spec.inputs:
            self._binding.bind_ortvalue_input(tensor.name, self._values[tensor.name])
        for tensor in spec.outputs:
            self._binding.bind_ortvalue_output(tensor.name, self._values[tensor.name])

    def _run(self, session: Any, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        with _TURN:
            if self._binding is None:
                raise EngineError(f"engine '{self.spec.name}' was closed while running")
            for name, array in feeds.items():
                self._send(name, array)
            session.run_with_iobinding(self._binding)
            return {name: np.array(self._values[name].numpy()) for name in outputs}

    def _send(self, name: str, array: Array) -> None:
        """Unless it lies there already and cannot have changed."""
        there = self._there.pop(name, None)
        if there is None or there() is not array:
            self._values[name].update_inplace(array)
        if constant(array):
            self._there[name] = weakref.ref(array)

    def _release(self) -> None:
        with _TURN:
            self._binding, self._values = None, {}
        super()._release()


def open_ort(manifest: Manifest, graph: Path, device: str, threads: int | None) -> OrtEngine:
    """Session of `graph` on "cpu" or "cuda".

    Raises DeviceUnavailable when the provider is missing or is not the one that really runs, EngineCorrupt when the
    graph cannot be loaded or differs from its manifest, GradientMissing when it lacks nothing but gradients.
    """
    check_provider(device)
    runtime, provider = _runtime(device), PROVIDERS[device]
    options = _options(runtime, threads, explicit=device != "cpu")
    bound = device != "cpu" and all(isinstance(size, int) for tensor in (*manifest.inputs, *manifest.outputs) for size in tensor.shape)
    try:
        session = _session(runtime, graph, options, provider, recorded=bound)
    except MemoryError as error:
        raise OutOfMemory(f"engine '{manifest.name}': no memory left to open it", hint=_LESS) from error
    except runtime_errors() as error:
        if any(sign in str(error) for sign in _NO_MEMORY):
            raise OutOfMemory(f"engine '{manifest.name}': {device} has no memory left to open it", hint=_LESS) from error
        if device != "cpu":
            raise DeviceUnavailable(f"device '{device}' cannot run engine '{manifest.name}': {error}") from error
        raise EngineCorrupt(f"{graph} cannot be loaded: {error}; see: faceprotect-sdk engines verify") from error
    active = session.get_providers()
    if not active or active[0] != provider:
        raise DeviceUnavailable(
            f"device '{device}' was asked for but {', '.join(active)} would run engine '{manifest.name}'; "
            f"see what is wrong with: faceprotect-sdk doctor"
        )
    missing = {tensor.name for tensor in manifest.outputs} - {tensor.name for tensor in session.get_outputs()}
    if missing and all(name.startswith("grad_") for name in missing):
        _check_signature(replace(manifest, outputs=tuple(one for one in manifest.outputs if one.name not in missing)), session)
        raise GradientMissing(
            f"engine '{manifest.name}' has no {', '.join(sorted(missing))} in its graph",
            hint="Use device='torch' where it has a program for that, or export it again",
        )
    _check_signature(manifest, session)
    if not bound:
        return OrtEngine(manifest.spec, session, device)
    try:
        engine = BoundOrtEngine(manifest.spec, session, device)
        if records(engine):
            return engine
        engine.close()
        del session  # or the GPU would hold the weights twice
        return BoundOrtEngine(manifest.spec, _session(runtime, graph, options, provider, recorded=False), device)
    except runtime_errors() as error:
        if any(sign in str(error) for sign in _NO_MEMORY):
            raise OutOfMemory(f"engine '{manifest.name}': {device} has no room for its inputs and outputs", hint=_LESS) from error
        raise DeviceUnavailable(f"device '{device}' cannot run engine '{manifest.name}': {error}") from error


def records(engine: OrtEngine) -> bool:
    """Whether runs on zeros go well for as long as recording takes: a graph that cannot be recorded may say so only then."""
    zeros = {tensor.name: tensor.zeros() for tensor in engine.spec.inputs}
    try:
        for _ in range(_RECORDED_BY):
            engine.run(zeros)
    except OutOfMemory:
        raise
    except EngineError:
        return False
    return True


def _session(runtime: Any, graph: Path, options: Any, provider: str, recorded: bool) -> Any:
    """A session; ``recorded``: whose runs are recorded as a CUDA graph, where the provider can do that with this graph.

    What a graph saves is the time between kernels, not their results, so that one that cannot be recorded is run without.
    """
    if recorded:
        try:
            return runtime.InferenceSession(str(graph), sess_options=options, providers=[(provider, {"enable_cuda_graph": "1"})])
        except runtime_errors() as error:
            if any(sign in str(error) for sign in _NO_MEMORY):
                raise
    return runtime.InferenceSession(str(graph), sess_options=options, providers=[provider])


def check_provider(device: str) -> None:
    """Raise DeviceUnavailable unless an onnxruntime is installed that has the provider of `device` (it may still fail to start)."""
    if PROVIDERS[device] not in _runtime(device).get_available_providers():
        raise DeviceUnavailable(
            f"device '{device}' needs {PROVIDERS[device]}, which this onnxruntime does not have; run: {_INSTALL[device]}"
        )


def provider_installed(device: str) -> bool:
    """Whether the installed onnxruntime has the provider of `device` (it may still fail to start)."""
    try:
        check_provider(device)
    except DeviceUnavailable:
        return False
    return True


def _runtime(device: str) -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise DeviceUnavailable(f"device '{device}' needs onnxruntime ({error}); run: {_INSTALL[device]}") from error


def runtime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions share no base class but Exception, so they are listed, with what pybind raises."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = tuple(getattr(state, name) for name in _STATES if hasattr(state, name))
    return (*own, RuntimeError, ValueError)


def _options(runtime: Any, threads: int | None, explicit: bool) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = bounded(threads)
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # several engines live in one process: workers that spin after a run would take cores from the next engine
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # weights stored in bytes are unpacked once, at load; nothing here computes in integers
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if explicit:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _check_signature(manifest: Manifest, session: Any) -> None:
    """The graph's own names, dtypes and shapes against the manifest's, so that a wrong file fails at open."""
    for kind, described, actual in (
        ("input", manifest.inputs, session.get_inputs()),
        ("output", manifest.outputs, session.get_outputs()),
    ):
        found = {tensor.name: tensor for tensor in actual}
        if set(found) != {tensor.name for tensor in described}:
            names = ", ".join(tensor.name for tensor in described)
            raise EngineCorrupt(
                f"engine '{manifest.name}': graph has the {kind}s {', '.join(found)}, its manifest {names}; export it again"
            )
        for tensor in described:
            _check_tensor(manifest.name, kind, tensor, found[tensor.name])


def _check_tensor(engine: str, kind: str, tensor: TensorSpec, actual: Any) -> None:
    dtype = _DTYPES.get(actual.type, actual.type)
    sizes = list(actual.shape or ())
    fits = len(sizes) == len(tensor.shape) and all(
        want is None or not isinstance(size, int) or size == want for want, size in zip(tensor.shape, sizes, strict=True)
    )
    if dtype != tensor.dtype or (kind == "input" and not fits):
        raise EngineCorrupt(
            f"engine '{engine}', {kind} '{tensor.name}': graph has {dtype} {sizes}, its manifest "
            f"{tensor.dtype} {list(tensor.shape)}; export it again"
        )

"""The few calls of the CUDA runtime that running a plan takes, by ctypes: no further package is needed on a device."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from faceprotect_engines.errors import DeviceUnavailable, EngineError, OutOfMemory
from faceprotect_engines.spec import Array

_OUT_OF_MEMORY = 2
_LESS = "Close other programs on it, or use device='cpu'"
_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3
_NON_BLOCKING = 1  # cudaStreamNonBlocking: else the default stream of others would wait for this one, and break its recording
_OWN_THREAD = 1  # cudaStreamCaptureModeThreadLocal: what other threads do meanwhile is theirs
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # cudaDevAttrComputeCapabilityMajor, -Minor, cudaDevAttrIntegrated


class Cuda:
    """One device: memory, copies, a stream. Addresses are ints."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        """Load libcudart, from `folders` (a package that bundles it) or the system; raises DeviceUnavailable without it or a GPU."""
        self._library = _load(folders)
        count = ctypes.c_int(0)
        code = self._library.cudaGetDeviceCount(ctypes.byref(count))
        if code or not count.value:
            reason = self._message(code) if code else "none found"
            raise DeviceUnavailable(f"no CUDA device is there ({reason}); see: faceprotect-sdk doctor")
        self.stream = ctypes.c_void_p()
        self._check(self._library.cudaStreamCreateWithFlags(ctypes.byref(self.stream), _NON_BLOCKING), "a stream")

    def facts(self) -> dict[str, Any]:
        """Name, compute capability, total memory, driver's and runtime's CUDA version of device 0."""
        numbers = [self._attribute(attribute) for attribute in (_MAJOR, _MINOR)]
        versions = []
        for call in (self._library.cudaDriverGetVersion, self._library.cudaRuntimeGetVersion):
            value = ctypes.c_int()
            self._check(call(ctypes.byref(value)), "the version of CUDA")
            versions.append(value.value)
        known = {"name": self._name(), "capability": f"{numbers[0]}.{numbers[1]}", "memory": self.memory()[1]}
        return {**known, "driver": versions[0], "cuda": versions[1]}

    def spare(self) -> int:
        """Bytes that may be taken for what could be sent again: half of what is free; none of memory that is the host's, too (a Jetson)."""
        return 0 if self._attribute(_INTEGRATED) else self.memory()[0] // 2

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._check(self._library.cudaDeviceGetAttribute(ctypes.byref(value), number, 0), "the device's attributes")
        return value.value

    def _name(self) -> str:
        """The device's, with which its properties begin, whatever else this version of CUDA has in them."""
        properties = ctypes.create_string_buffer(1 << 16)
        call = getattr(self._library, "cudaGetDeviceProperties_v2", None) or self._library.cudaGetDeviceProperties
        self._check(call(properties, 0), "the device's properties")
        return properties.value.decode()

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the device."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._check(self._library.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)), "the device's memory")
        return free.value, total.value

    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes; raises OutOfMemory."""
        pointer = ctypes.c_void_p()
        code = self._library.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        if code == _OUT_OF_MEMORY:
            self._library.cudaGetLastError()  # or the next call would report it to a caller who can do without
            raise OutOfMemory(f"the GPU has no {size} bytes left", hint=_LESS)
        self._check(code, f"{size} bytes")
        return int(pointer.value or 0)

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._library.cudaFree(ctypes.c_void_p(address))

    def upload(self, address: int, array: Array) -> None:
        """Copy a contiguous array to the device, in the stream."""
        source = ctypes.c_void_p(array.ctypes.data)
        self._check(self._copy(ctypes.c_void_p(address), source, array.nbytes, _TO_DEVICE), "a copy to the device")

    def duplicate(self, address: int, source: int, size: int) -> None:
        """Copy on the device, in the stream."""
        self._check(self._copy(ctypes.c_void_p(address), ctypes.c_void_p(source), size, _ON_DEVICE), "a copy on the device")

    def download(self, array: Array, address: int) -> None:
        """Copy to a contiguous array, in the stream; it is there after :meth:`synchronize`."""
        target = ctypes.c_void_p(array.ctypes.data)
        self._check(self._copy(target, ctypes.c_void_p(address), array.nbytes, _TO_HOST), "a copy from the device")

    def record(self, work: Callable[[], bool]) -> int:
        """What `work` puts into the stream, as a graph to launch, instead of running it; 0 where that cannot be recorded."""
        if self._library.cudaStreamBeginCapture(self.stream, _OWN_THREAD):
            self._library.cudaGetLastError()
            return 0
        done, graph, made = False, ctypes.c_void_p(), ctypes.c_void_p()
        try:
            done = work()
        finally:  # or the stream would stay in recording
            code = self._library.cudaStreamEndCapture(self.stream, ctypes.byref(graph))
            if not code and done:
                code = self._library.cudaGraphInstantiateWithFlags(ctypes.byref(made), graph, ctypes.c_ulonglong(0))
            if graph:
                self._library.cudaGraphDestroy(graph)
            if code or not done:
                self._library.cudaGetLastError()  # or the next call would report it
        return int(made.value or 0) if done and not code else 0

    def launch(self, graph: int) -> None:
        """Run what was recorded, in the stream."""
        self._check(self._library.cudaGraphLaunch(ctypes.c_void_p(graph), self.stream), "a recorded run")

    def forget(self, graph: int) -> None:
        """Release what was recorded."""
        self._library.cudaGraphExecDestroy(ctypes.c_void_p(graph))

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._check(self._library.cudaStreamSynchronize(self.stream), "the run")

    def close(self) -> None:
        """Release the stream."""
        if self.stream:
            self._library.cudaStreamDestroy(self.stream)
            self.stream = ctypes.c_void_p()

    def _copy(self, target: Any, source: Any, size: int, kind: int) -> int:
        return int(self._library.cudaMemcpyAsync(target, source, ctypes.c_size_t(size), kind, self.stream))

    def _check(self, code: int, what: str) -> None:
        if code == _OUT_OF_MEMORY:
            raise OutOfMemory(f"the GPU has no memory left for {what}", hint=_LESS)
        if code:
            raise EngineError(f"CUDA refused {what}: {self._message(code)}; see: faceprotect-sdk doctor")

    def _message(self, code: int) -> str:
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        return str(self._library.cudaGetErrorString(code).decode())


def _load(folders: Sequence[Path]) -> Any:
    names = [str(path) for folder in folders for path in sorted(Path(folder).glob("libcudart.so*"))]
    names += [name for name in (ctypes.util.find_library("cudart"), "libcudart.so.13", "libcudart.so.12") if name]
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise DeviceUnavailable("the CUDA runtime (libcudart) is not there; install the GPU's driver and CUDA, see: faceprotect-sdk doctor")

"""How long an engine or a whole protection takes on this machine, in this process."""

from __future__ import annotations

import gc
import platform
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.backends.cores import available_cores
from faceprotect_engines.spec import TensorSpec
from faceprotect_engines.store import Store
from faceprotect_sdk._version import __version__
from faceprotect_sdk.errors import NotProtected

_DYNAMIC = {2: 640, 3: 640}


@dataclass(frozen=True)
class Report:
    """Seconds and megabytes.

    ``cold_start_s``: from opening to the first result, imports of the runtime included.
    ``peak_rss_mb``: of the whole process since its start, or None where the platform does not say.
    """

    subject: str
    device: str
    p50_s: float
    p90_s: float
    p99_s: float
    cold_start_s: float
    peak_rss_mb: float | None
    repeat: int
    threads: int
    machine: str
    python: str
    runtime: str
    version: str

    def to_json(self) -> dict[str, Any]:
        """JSON object."""
        return asdict(self)


def benchmark_engine(
    name: str, *, device: str = "auto", repeat: int = 10, threads: int | None = None, store: Store | None = None
) -> Report:
    """Run one engine ``repeat`` times on random input (seed 0); raises what ``Store.open`` raises."""
    store = store or Store()
    started = time.perf_counter()
    with closing(store.open(name, device, threads)) as engine:
        generator = np.random.default_rng(0)
        feeds = {tensor.name: random_input(tensor, generator) for tensor in engine.spec.inputs}
        engine.run(feeds)
        cold = time.perf_counter() - started
        seconds = _measure(lambda: engine.run(feeds), repeat)
        return _report(f"engine {name}", engine.device, seconds, cold, threads)


def benchmark_method(
    method: str, photo: Path, *, device: str = "auto", repeat: int = 3, threads: int | None = None
) -> Report:
    """Protect one photo ``repeat`` times; raises what ``Protector.protect`` raises, NotProtected without a face."""
    started = time.perf_counter()
    from faceprotect_sdk.protector import Protector

    with Protector(method, device, threads=threads) as protector:
        first = protector.protect(photo)
        cold = time.perf_counter() - started
        if not first.faces:
            raise NotProtected(f"{photo}: no face found, so there is nothing to measure. Pass a photo with a face")
        seconds = _measure(lambda: protector.protect(photo), repeat)
        return _report(f"method {method}", first.device, seconds, cold, threads)


def random_input(tensor: TensorSpec, generator: np.random.Generator) -> NDArray[Any]:
    """Random values in the tensor's range (default 0..1); free sizes are 1, or 640 for an image's height and width."""
    shape = [_DYNAMIC.get(axis, 1) if size is None else size for axis, size in enumerate(tensor.shape)]
    low, high = tensor.range or (0.0, 1.0)
    return np.asarray(generator.uniform(low, high, shape).astype(tensor.dtype))


def _measure(run: Callable[[], object], repeat: int) -> list[float]:
    seconds = []
    gc.collect()
    for _ in range(repeat):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


def _report(subject: str, device: str, seconds: list[float], cold: float, threads: int | None) -> Report:
    p50, p90, p99 = (round(float(value), 6) for value in np.percentile(seconds, [50, 90, 99]))
    return Report(
        subject=subject,
        device=device,
        p50_s=p50,
        p90_s=p90,
        p99_s=p99,
        cold_start_s=round(cold, 4),
        peak_rss_mb=peak_rss_mb(),
        repeat=len(seconds),
        threads=threads or available_cores(),
        machine=f"{platform.machine()} {platform.system()}",
        python=platform.python_version(),
        runtime=_runtime(),
        version=__version__,
    )


def peak_rss_mb() -> float | None:
    """Largest resident memory of this process so far, in MB (10^6 bytes); None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1.0 if sys.platform == "darwin" else 1024.0) / 1e6, 1)


def _runtime() -> str:
    module = sys.modules.get("onnxruntime")
    return f"onnxruntime {module.__version__}" if module is not None else "torch"

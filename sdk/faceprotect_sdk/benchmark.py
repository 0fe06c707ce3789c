"""How long an engine or a whole protection takes on this machine, in this process, and what that is beside an earlier report."""

from __future__ import annotations

import gc
import json
import math
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.backends.cpu_count import bounded
from faceprotect_engines.backends.cuda import Cuda
from faceprotect_engines.backends.tensorrt import load_library
from faceprotect_engines.errors import DeviceUnavailable
from faceprotect_engines.spec import TensorSpec
from faceprotect_engines.store import Store
from faceprotect_sdk._version import __version__
from faceprotect_sdk.errors import NoFace, UsageError

_DYNAMIC = {2: 640, 3: 640}
_PERCENTILES = (50, 90, 95, 99)
#: What a comparison divides.
_NUMBERS = (*(f"p{rank}_s" for rank in _PERCENTILES), "cold_start_s", "peak_rss_mb", "device_mb")
#: Numbers and words that every report has had.
_ALWAYS, _WORDS = ("p50_s", "p90_s", "p99_s", "cold_start_s"), ("subject", "device", "machine", "runtime")
#: How Jetsons name their GPU under /sys/class/devfreq: by its chip, or as such.
_GPUS = ("gpu", "gm20b", "gp10b", "gv11b", "ga10b", "gb10b")


#: Told how many runs are done, and of how many, before each of them.
Count = Callable[[int, int], None]


@dataclass(frozen=True)
class Report:
    """Seconds and megabytes.

    ``per_second``: 1 / ``p50_s``. ``cold_start_s``: from opening to the first result, imports of the runtime included.
    ``peak_rss_mb``: of the whole process since its start, or None where the platform does not say.
    ``device_mb``: how much less of the GPU's memory is free at the end than before opening, whoever took it: what stays taken, without the
    CUDA context itself and without what building a plan took meanwhile; None where there is no GPU.
    ``stages``: of a method, per stage of ``ProtectResult.timings``, seconds by the names p50_s to p99_s; None for an engine.
    ``power``: see :func:`power_state`.
    """

    subject: str
    device: str
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    per_second: float
    cold_start_s: float
    peak_rss_mb: float | None
    device_mb: float | None
    stages: Mapping[str, Mapping[str, float]] | None
    repeat: int
    threads: int
    machine: str
    power: Mapping[str, Any] | None
    python: str
    runtime: str
    version: str

    def to_json(self) -> dict[str, Any]:
        """JSON object."""
        return asdict(self)


def engine_subject(engine: str | Path, store: Store | None = None) -> str:
    """What a report on ``engine`` (a name or a folder) is about: the name in its manifest. Raises what ``Store.manifest`` raises."""
    return f"engine {(store or Store()).manifest(engine).name}"


def method_subject(method: str) -> str:
    """What a report on ``method`` is about."""
    return f"method {method}"


def benchmark_engine(
    name: str | Path,
    *,
    device: str = "auto",
    repeat: int = 10,
    threads: int | None = None,
    store: Store | None = None,
    progress: Count | None = None,
) -> Report:
    """Run one engine (a name or a folder) ``repeat`` times on random input (seed 0); raises what ``Store.open`` raises."""
    store = store or Store()
    subject = engine_subject(name, store)
    started = time.perf_counter()
    memory = DeviceMemory(device)
    with closing(store.open(name, device, threads)) as engine:
        generator = np.random.default_rng(0)
        feeds = {tensor.name: random_input(tensor, generator) for tensor in engine.spec.inputs}
        engine.run(feeds)
        cold = time.perf_counter() - started
        seconds = _measure(lambda: engine.run(feeds), repeat, progress)
        return _report(subject, engine.device, seconds, cold, threads, None, memory)


def benchmark_method(
    method: str,
    photo: Path,
    *,
    device: str = "auto",
    repeat: int = 3,
    threads: int | None = None,
    progress: Count | None = None,
) -> Report:
    """Protect one photo ``repeat`` times; raises what ``Protector.protect`` raises, NoFace without one."""
    started = time.perf_counter()
    memory = DeviceMemory(device)
    from faceprotect_sdk.protector import Protector

    with Protector(method, device, threads=threads) as protector:
        first = protector.protect(photo)
        cold = time.perf_counter() - started
        if not first.faces:
            raise NoFace(f"{photo}: no face found, so there is nothing to measure. Pass a photo with a face")
        timings: list[Mapping[str, float]] = []
        seconds = _measure(lambda: timings.append(protector.protect(photo).timings), repeat, progress)
        return _report(method_subject(method), first.device, seconds, cold, threads, stage_percentiles(timings), memory)


class DeviceMemory:
    """The GPU's memory, from now on, for a measurement on ``device``."""

    def __init__(self, device: str) -> None:
        try:
            folders = load_library(device).folders if device == "rtx" else ()  # it bundles the CUDA runtime
            self._cuda = None if device.endswith("cpu") else Cuda(folders)
        except DeviceUnavailable:
            self._cuda = None
        self._free = self._cuda.memory()[0] if self._cuda else 0

    def taken_mb(self) -> float | None:
        """MB (10^6 bytes) by which less is free than at the start; None without a GPU. To be asked once."""
        if self._cuda is None:
            return None
        with closing(self._cuda) as cuda:
            return round((self._free - cuda.memory()[0]) / 1e6, 1)


def random_input(tensor: TensorSpec, generator: np.random.Generator) -> NDArray[Any]:
    """Random values in the tensor's range (default 0..1); free sizes are 1, or 640 for an image's height and width."""
    shape = [_DYNAMIC.get(axis, 1) if size is None else size for axis, size in enumerate(tensor.shape)]
    low, high = tensor.range or (0.0, 1.0)
    return np.asarray(generator.uniform(low, high, shape).astype(tensor.dtype))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50_s, p90_s, p95_s and p99_s in seconds, linear between neighbours."""
    found = np.percentile(seconds, _PERCENTILES)
    return {f"p{rank}_s": round(float(value), 6) for rank, value in zip(_PERCENTILES, found, strict=True)}


def stage_percentiles(timings: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Percentiles of every stage over the ``timings`` (seconds) of several runs; a run that left a stage out spent 0 s on it."""
    stages = dict.fromkeys(stage for timing in timings for stage in timing)
    return {stage: percentiles([timing.get(stage, 0.0) for timing in timings]) for stage in stages}


def _measure(run: Callable[[], object], repeat: int, progress: Count | None) -> list[float]:
    seconds = []
    gc.collect()
    for done in range(repeat):
        if progress is not None:
            progress(done, repeat)  # outside of what is measured
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


def _report(
    subject: str,
    device: str,
    seconds: list[float],
    cold: float,
    threads: int | None,
    stages: Mapping[str, Mapping[str, float]] | None,
    memory: DeviceMemory,
) -> Report:
    return Report(
        subject=subject,
        device=device,
        **percentiles(seconds),
        per_second=round(1 / float(np.median(seconds)), 4),
        cold_start_s=round(cold, 4),
        peak_rss_mb=peak_rss_mb(),
        device_mb=memory.taken_mb(),
        stages=stages,
        repeat=len(seconds),
        threads=bounded(threads),
        machine=f"{platform.machine()} {platform.system()}",
        power=power_state(),
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


def power_state(root: Path = Path("/")) -> dict[str, Any] | None:
    """How fast a Jetson may be, and is right now: its power mode, and the clocks of CPU and GPU in MHz. None on other machines.

    Read it straight after a measurement: the clocks fall when nothing runs. ``root``: where /etc and /sys are.
    """
    program = shutil.which("nvpmodel")
    if program is None and not (root / "etc/nv_tegra_release").is_file():
        return None
    cores = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"), key=_core)
    devices = sorted((root / "sys/class/devfreq").glob("*/cur_freq"))
    return {
        "mode": None if program is None else _power_mode(program),
        "cpu_mhz": _clocks({path.parent.parent.name: path for path in cores}, 1e3),  # the kernel counts these in kHz
        "gpu_mhz": _clocks({path.parent.name: path for path in devices if any(gpu in path.parent.name for gpu in _GPUS)}, 1e6),
    }


def _core(path: Path) -> int:
    return int(path.parent.parent.name[len("cpu") :])


def _clocks(files: Mapping[str, Path], per_mhz: float) -> dict[str, float]:
    """MHz by name, without what cannot be read."""
    found = {}
    for name, path in files.items():
        try:
            found[name] = round(int(path.read_text(encoding="ascii")) / per_mhz, 1)
        except (OSError, ValueError):
            continue  # a core that is switched off has the file and no number
    return found


def _power_mode(program: str) -> str | None:
    """The first lines of ``nvpmodel -q`` (name and number of the mode), warnings left out; None where it fails."""
    try:
        done = subprocess.run([program, "-q"], capture_output=True, text=True, errors="replace", timeout=5, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip() and not line.startswith("NVPM")]
    return ", ".join(lines[:2]) or None


def read_report(path: Path, subject: str) -> dict[str, Any]:
    """A report that ``faceprotect-sdk benchmark --json`` gave earlier.

    Raises UsageError where the file cannot be read, holds something else, or is about another subject.
    """
    again = "make one with: faceprotect-sdk benchmark --json ... > FILE"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}); {again}") from error
    except ValueError as error:
        raise UsageError(f"{path}: is no single JSON object ({error}); {again}") from error
    if not _is_report(report):
        raise UsageError(f"{path}: is no report of the command benchmark; {again}")
    if report["subject"] != subject:
        raise UsageError(f"{path}: is about {report['subject']}, and {subject} would be measured; give --compare a report on that")
    return dict(report)


def _is_report(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and all(isinstance(document.get(key), str) for key in _WORDS)
        and all(_is_number(document.get(key)) for key in (*_ALWAYS, "threads"))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def compare(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """What two reports on the same subject (see ``Report.to_json``) have in common, divided.

    ``ratios``: new / old of every number that both have, so that 0.5 is twice as fast or half the memory; ``stages``: the same per stage.
    ``warnings``: conditions that are not the same, where a ratio says little.
    """
    before, after = _stages(old), _stages(new)
    stages = {stage: _ratios(after[stage], before[stage]) for stage in after if stage in before}
    was, now = _conditions(old), _conditions(new)
    differing = [f"{name} was {was[name]}, is {now[name]}" for name in now if was[name] != now[name]]
    return {"ratios": _ratios(new, old), "stages": stages, "warnings": differing}


def _ratios(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, float]:
    """Rounded to 4 digits; a number that was 0 has no ratio."""
    both = (name for name in _NUMBERS if _is_number(new.get(name)) and _is_number(old.get(name)) and old[name] > 0)
    return {name: float(f"{new[name] / old[name]:.4g}") for name in both}


def _stages(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = report.get("stages")
    return {name: stage for name, stage in found.items() if isinstance(stage, Mapping)} if isinstance(found, Mapping) else {}


def _conditions(report: Mapping[str, Any]) -> dict[str, Any]:
    power = report.get("power")
    mode = power.get("mode") if isinstance(power, Mapping) else None
    return {**{name: report.get(name) for name in ("device", "machine", "threads", "runtime")}, "power mode": mode}

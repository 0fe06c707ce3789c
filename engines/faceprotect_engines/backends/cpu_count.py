"""How many cores this process may really use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def bounded(threads: int | None) -> int:
    """Threads to compute with when ``threads`` are asked for (None: every core): never more than there are cores, which only costs."""
    cores = available_cores()
    return cores if threads is None else max(1, min(threads, cores))


def available_cores(quota_file: Path = _CGROUP_QUOTA) -> int:
    """Cores of the affinity mask, capped by the cgroup quota (a container's limit, which runtimes overlook); >= 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return max(1, cores)  # no quota ("max 100000"), or no cgroup v2

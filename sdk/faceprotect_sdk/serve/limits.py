"""What a service accepts: sizes, seconds, and how much waits at once."""

from __future__ import annotations

from dataclasses import dataclass

from faceprotect_sdk.arguments import whole
from faceprotect_sdk.settings import seconds


@dataclass(frozen=True)
class Limits:
    """Bounds of a service; making one raises UsageError for a value out of range.

    ``workers``: processes that work on photos. ``queue``: photos that wait for one; beyond, 429. ``body_bytes``: of a photo; beyond, 413.
    ``held_bytes``: of all uploads that are in memory at once; beyond, 429. ``pixels``: of a photo; beyond, 413. ``work_seconds``: of a
    photo in its process, a search ending a fifth before; beyond, 503 and the process is replaced. ``upload_seconds``: of a whole body, and
    ``idle_seconds`` between two pieces of it, of its headers, and of an answer that nobody takes. ``connections``: at once; beyond, 503.
    """

    workers: int = 1
    queue: int = 16
    body_bytes: int = 32 * 2**20
    held_bytes: int = 512 * 2**20
    pixels: int = 50_000_000
    work_seconds: float = 120.0
    upload_seconds: float = 60.0
    idle_seconds: float = 10.0
    connections: int = 512

    def __post_init__(self) -> None:
        """Check."""
        for name in ("workers", "body_bytes", "held_bytes", "pixels", "connections"):
            whole(name, getattr(self, name), 1)
        whole("queue", self.queue, 0)
        for name in ("work_seconds", "upload_seconds", "idle_seconds"):
            seconds(name, getattr(self, name))

    @property
    def search_seconds(self) -> float:
        """After which no search goes on, so that what it has found can still be scored in time."""
        return 0.8 * self.work_seconds

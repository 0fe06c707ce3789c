"""What ``/metrics`` tells: numbers of requests, seconds and processes; nothing of what was in a photo."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SPACE = "faceprotect"
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)


class Metrics:
    """Numbers of one service, in a registry of its own."""

    def __init__(
        self, waiting: Callable[[], float], working: Callable[[], float], ready: Callable[[], float], held: Callable[[], float]
    ) -> None:
        """The functions tell what is so now: photos that wait and are worked on, processes that are ready, bytes of uploads in memory."""
        own = self._registry = CollectorRegistry()
        self._requests = Counter(f"{_SPACE}_requests", "Answers by path, HTTP status and code.", ["path", "status", "code"], registry=own)
        self._seconds = Histogram(f"{_SPACE}_request_seconds", "From headers to answer.", ["path"], buckets=_SECONDS, registry=own)
        self._lost = Counter(f"{_SPACE}_workers_lost", "Processes that were replaced.", registry=own)
        for name, words, now in (
            ("waiting", "Photos that wait for a process.", waiting),
            ("working", "Photos that are worked on.", working),
            ("workers_ready", "Processes that are ready or at work.", ready),
            ("held_bytes", "Bytes of uploads in memory.", held),
        ):
            Gauge(f"{_SPACE}_{name}", words, registry=own).set_function(now)

    def answered(self, path: str, status: int, code: str, seconds: float) -> None:
        """An answer was made."""
        self._requests.labels(path, str(status), code).inc()
        self._seconds.labels(path).observe(seconds)

    def lost(self) -> None:
        """A process was replaced."""
        self._lost.inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        text: bytes = generate_latest(self._registry)
        return text

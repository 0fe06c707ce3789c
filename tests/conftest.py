"""Sockets that refuse, and cores of its own for every worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_info

import faceprotect_engines.telemetry  # noqa: F401 - before any test imports ONNX Runtime
from faceprotect_engines.backends.cpu_count import available_cores
from faceprotect_engines.shared import BLAS_THREADS

_PINS = hasattr(os, "sched_setaffinity")  # Linux
_ALL = os.sched_getaffinity(0) if _PINS else set()


def pytest_configure() -> None:
    """Each worker keeps to its share of the cores, for ONNX Runtime's threads spin: on the cores of others they take half as much again."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if _PINS and workers > 1:
        number, each = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")), max(1, available_cores() // workers)
        cores = sorted(_ALL)
        own = {cores[(number * each + k) % len(cores)] for k in range(each)}
        os.sched_setaffinity(0, own)
        BLAS_THREADS.limit(len(own))  # NumPy was imported when there were more


@pytest.fixture
def every_core() -> Iterator[None]:
    """For a test of threads: all the cores that the workers share."""
    if not _PINS:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _ALL)
    yield
    os.sched_setaffinity(0, own)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library works offline: any socket is a failure."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the library opened a socket")

    class Refusing(socket.socket):
        """Still a class, so that modules which derive from it can be imported."""

        __init__ = refuse

    monkeypatch.setattr(socket, "socket", Refusing)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def two_blas_threads() -> Iterator[None]:
    """NumPy multiplies in two threads, also where there is one core; skips where its library has no such setting."""
    put_back = BLAS_THREADS.limit(2)
    try:
        if {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} != {2}:
            pytest.skip("this NumPy has no BLAS library whose threads can be set")
        yield
    finally:
        put_back()

"""Sockets that refuse, for every test."""

from __future__ import annotations

import socket

import pytest

import faceprotect_engines.telemetry  # noqa: F401 - before any test imports ONNX Runtime


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

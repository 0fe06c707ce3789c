"""The page's tests may open sockets to this machine, and to no other."""

from __future__ import annotations

import socket

import pytest

HERE = ("127.0.0.1", "localhost")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the suite's: the server under test is asked over a socket."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in HERE:
            raise AssertionError(f"a socket to {address[0]} was opened")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect_here)

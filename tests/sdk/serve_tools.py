"""Processes without engines for tests of the service, and a client that speaks to it over a socket."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faceprotect_sdk.serve.desk import Order, Reply


@contextmanager
def make_toy(given: Any) -> Iterator[Callable[[Order], Reply]]:
    """A process that does what the photo says: "die", "die once FILE", "sleep SECONDS"; else it gives the digest of its bytes."""

    def reply(order: Order) -> Reply:
        word, _, rest = order.photos[0].decode("ascii", "replace").partition(" ")
        if word == "die" or (word == "once" and not Path(rest).exists()):
            if rest:
                Path(rest).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "sleep":
            time.sleep(float(rest))
        return Reply(
            order.number, 200, "not_matched", facts={"input_sha256": hashlib.sha256(order.photos[0]).hexdigest(), "pid": os.getpid()}
        )

    yield reply


def ask(
    port: int, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, timeout: float = 60.0
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower case) and body of a request; POST where there is a body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def code_of(body: bytes) -> str:
    """The code of an error."""
    return str(json.loads(body)["error"]["code"])


def form(**parts: bytes) -> tuple[bytes, dict[str, str]]:
    """A multipart/form-data body and its header."""
    pieces = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in parts.items()
    ]
    return b"".join(pieces) + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}

"""The service as a process: its socket, uvicorn, and an end that waits for what is being worked on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn

from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.serve.app import Service
from faceprotect_sdk.serve.limits import Limits
from faceprotect_sdk.serve.protocol import bounded

_KEEP_ALIVE = 5
_BACKLOG = 512
#: Seconds beyond those of a photo in which answers are still sent at the end.
_PARTING = 10.0


def serve(given: Any, limits: Limits, host: str, port: int, ready: Callable[[str], None]) -> bool:
    """Answer requests until SIGTERM or Ctrl-C, and then those that have come already; False where it could not begin.

    ``given``: of each process (``desk.Given``). ``port``: 0 for any that is free. ``ready``: called with the address once photos are taken.
    Raises UsageError for an address that cannot be listened at.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG)
    except OSError as error:
        raise UsageError(
            f"{host}, port {port}: cannot be listened at ({error.strerror or error}). Choose another --host or --port"
        ) from error
    shown = f"[{host}]" if ":" in host else host
    service = Service(given, limits, ready=lambda: ready(f"http://{shown}:{listener.getsockname()[1]}"))
    config = uvicorn.Config(
        service.app(),
        http=bounded(limits.idle_seconds),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=round(limits.upload_seconds + limits.work_seconds + _PARTING),
    )
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):  # uvicorn passes the signal on that it has heeded
        server.run(sockets=[listener])
    began: bool = server.started
    return began

"""The command ``serve``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from faceprotect_sdk.cli.help import GroupedCommand, option
from faceprotect_sdk.cli.methods import MethodOption
from faceprotect_sdk.cli.options import FILE, device_options, panel_options, settings_of
from faceprotect_sdk.errors import EngineError, ExitCode, UsageError
from faceprotect_sdk.methods import STRENGTHS

ADDRESS, LIMITS, HOW = "Where it listens", "What it accepts", "How photos are changed"
_PACKAGES = ("starlette", "uvicorn", "prometheus_client", "python_multipart")
_MB = 2**20


@click.command(cls=GroupedCommand)
@option(ADDRESS, "--host", default="127.0.0.1", show_default=True, help="This machine alone by default; it speaks HTTP without a key.")
@option(ADDRESS, "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any that is free.")
@option(LIMITS, "--jobs", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="Processes that work on photos.")
@option(LIMITS, "--queue", type=click.IntRange(0), metavar="N", default=16, show_default=True, help="Photos that wait; beyond, 429.")
@option(LIMITS, "--max-mb", type=click.IntRange(1), default=32, show_default=True, help="Of a photo's file; beyond, 413.")
@option(LIMITS, "--max-megapixels", type=click.IntRange(1), default=50, show_default=True, help="Of a photo; beyond, 413.")
@option(LIMITS, "--held-mb", type=click.IntRange(1), default=512, show_default=True, help="Of all uploads in memory; beyond, 429.")
@option(
    LIMITS,
    "--work-seconds",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="Of a photo in its process: a search ends a fifth before; beyond, 503.",
)
@option(
    LIMITS,
    "--upload-seconds",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="In which a photo has to come; beyond, 408.",
)
@option(
    LIMITS,
    "--idle-seconds",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="In which headers, the next piece of a photo, and the taking of an answer have to come.",
)
@option(HOW, "--method", cls=MethodOption)
@option(HOW, "--strength", type=click.Choice(STRENGTHS), default="medium", show_default=True, help="Of requests that ask for none.")
@option(HOW, "--engines", type=FILE, metavar="DIR", help="Look for engines there first.")
@panel_options
@device_options
def serve(host: str, port: int, engines: Path | None, **options: Any) -> None:
    """Protect photos that come over HTTP, in memory alone: POST /v1/protect, /v1/check; GET /healthz, /metrics.

    It needs the extra [serve]. SIGTERM and Ctrl-C let the photos that have come be answered first.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"the service needs {', '.join(missing)}. Install: pip install 'faceprotect-sdk[serve]'")
    from faceprotect_engines.store import Store
    from faceprotect_sdk.cli.files import store_of
    from faceprotect_sdk.protector import Protector
    from faceprotect_sdk.serve.desk import Given
    from faceprotect_sdk.serve.limits import Limits
    from faceprotect_sdk.serve.run import serve as run
    from faceprotect_sdk.workers.worker import share

    settings, others = settings_of(options)
    limits = Limits(
        workers=others["jobs"],
        queue=others["queue"],
        body_bytes=others["max_mb"] * _MB,
        held_bytes=max(others["held_mb"], others["max_mb"]) * _MB,
        pixels=others["max_megapixels"] * 10**6,
        work_seconds=others["work_seconds"],
        upload_seconds=others["upload_seconds"],
        idle_seconds=others["idle_seconds"],
    )
    store = store_of(engines) or Store()
    Protector(settings, store=store).close()  # what is wrong with the settings is said here, and not by every process
    shared = settings.but(threads=share(settings.threads, limits.workers))
    given = Given(shared, store.roots, store.cache, limits.pixels, limits.search_seconds)
    if not run(given, limits, host, port, lambda address: click.echo(f"listening at {address}", err=True)):
        raise EngineError("the service could not begin: a process did not get ready; what it said stands above")
    raise SystemExit(int(ExitCode.PROTECTED))

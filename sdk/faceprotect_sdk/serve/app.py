"""The paths of the service, as an ASGI app: ``POST /v1/protect``, ``POST /v1/check``, ``/healthz``, ``/metrics``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from faceprotect_sdk.errors import WorkerLost
from faceprotect_sdk.serve.answers import answer, refusal
from faceprotect_sdk.serve.crew import Busy, Crew, TookTooLong
from faceprotect_sdk.serve.desk import Order, Reply, make
from faceprotect_sdk.serve.limits import Limits
from faceprotect_sdk.serve.metrics import Metrics
from faceprotect_sdk.serve.query import order_of
from faceprotect_sdk.serve.upload import Held, Refused, drop, photos_of
from faceprotect_sdk.workers.child import Make

_PHOTOS = {"protect": ("photo",), "check": ("original", "protected")}


class Service:
    """The processes of a service and what comes to them."""

    def __init__(self, given: Any, limits: Limits, make: Make = make, ready: Callable[[], None] = lambda: None) -> None:
        """``given``, ``make``: of each process (``desk``); ``ready``: called once all are."""
        self._limits, self._ready = limits, ready
        self.crew = Crew(make, given, limits, on_lost=lambda: self.metrics.lost())
        self.held = Held(limits.held_bytes)
        crew = self.crew
        self.metrics = Metrics(lambda: crew.waiting, lambda: crew.working, lambda: len(crew.pids), lambda: self.held.bytes)

    def app(self) -> Starlette:
        """The ASGI app; its lifespan is that of the processes."""
        photos = [Route(f"/v1/{kind}", partial(self._photo, kind), methods=["POST"]) for kind in _PHOTOS]
        others = [Route("/healthz", self._health), Route("/metrics", self._metrics)]
        return Starlette(routes=photos + others, lifespan=self._lifespan, exception_handlers={HTTPException: _http_error})

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await self.crew.start()
        self._ready()
        try:
            yield
        finally:
            await self.crew.close()

    async def _photo(self, kind: str, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        began = loop.time()
        code = "internal"
        status = 500
        try:
            reply = await self._reply(kind, request)
            if reply.log:
                sys.stderr.write(f"{request.url.path}: {reply.code}: {reply.log}\n")
            code, status = reply.code, reply.status
            return answer(reply, request.headers.get("accept", ""))
        except Refused as refused:
            code, status = refused.code, refused.status
            if code != "gone":
                await drop(request)
            response = refusal(refused)
            response.headers["Connection"] = "close"  # what is left of the body is not to be taken for a request
            return response
        finally:
            self.metrics.answered(f"/v1/{kind}", status, code, loop.time() - began)

    async def _reply(self, kind: str, request: Request) -> Reply:
        """The reply to a request; raises Refused."""
        with self.held() as hold, _refusing():
            self.crew.check()
            order_of(kind, (), request.query_params.multi_items())  # before the photo is waited for
            photos = await photos_of(request, _PHOTOS[kind], self._limits, hold)
            return await self._answered(request, order_of(kind, photos, request.query_params.multi_items()))

    async def _answered(self, request: Request, order: Order) -> Reply:
        """The crew's reply, unless the client goes away first; raises Refused."""
        work = asyncio.create_task(self.crew.run(order))
        gone = asyncio.create_task(_gone(request))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Refused(400, "gone", "the client has gone")
            return work.result()
        finally:
            for task in (work, gone):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _health(self, _: Request) -> Response:
        ready, wanted = len(self.crew.pids), self._limits.workers
        document = {
            "status": "ok" if ready else "no process is ready",
            "workers_ready": ready,
            "workers": wanted,
            "waiting": self.crew.waiting,
        }
        return JSONResponse(document, 200 if ready else 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")


class _refusing:
    """A block whose errors of the crew become answers."""

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Raise Refused in place of an error of the crew."""
        if isinstance(error, Busy):
            raise Refused(429, "busy", "as many photos wait as may", error.seconds) from error
        if isinstance(error, TookTooLong):
            raise Refused(503, "took_too_long", "the photo had had its time before it was done") from error
        if isinstance(error, WorkerLost):
            raise Refused(503, error.code, "the processes that worked on the photo were lost", 1) from error


async def _gone(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http")
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse({"error": {"code": code, "message": str(getattr(error, "detail", ""))}}, status, headers)

"""Bodies of requests, in memory alone: within their limits of bytes and seconds, and of the bytes that all requests hold together."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from faceprotect_sdk.serve.limits import Limits

#: What a form adds to its photos.
_FRAME = 64 * 1024
_PARTS = 8
_NAME = re.compile(rb"[\w-]{1,40}")
#: Seconds in which a body that is refused may still come, and is dropped: or its sender would see a broken pipe in place of the answer.
_DROPPING = 2.0


class Refused(Exception):
    """A request that is answered with an error: HTTP status, code, message, and seconds after which to try again."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


class Held:
    """Counts the bytes of all bodies that are in memory."""

    def __init__(self, limit: int) -> None:
        """``limit``: of all together."""
        self._limit, self.bytes = limit, 0

    @contextmanager
    def __call__(self) -> Iterator[Hold]:
        """The share of one request, which ends with the block."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            self.bytes -= hold.bytes

    def take(self, count: int) -> None:
        """Raise Refused (429) where there is no room."""
        if self.bytes + count > self._limit:
            raise Refused(429, "too_many_uploads", "too many uploads at once", 1)
        self.bytes += count


@dataclass
class Hold:
    """What one request holds."""

    held: Held
    bytes: int = 0

    def add(self, count: int) -> None:
        """So many bytes more; raises Refused."""
        self.held.take(count)
        self.bytes += count


async def photos_of(request: Request, names: tuple[str, ...], limits: Limits, hold: Hold) -> tuple[bytes, ...]:
    """The photos of a request: the body, where one is asked for, or the parts of a form that have these names.

    Raises Refused: 408 for a body that does not come, 413 for one that is too long, 415 for another kind, 400 for a form without its parts.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    form = kind == b"multipart/form-data"
    if not form and (len(names) > 1 or not (kind in (b"", b"application/octet-stream") or kind.startswith(b"image/"))):
        wanted = "multipart/form-data" if len(names) > 1 else "the photo as the body (image/*), or multipart/form-data"
        raise Refused(415, "unsupported_media_type", f"send {wanted}, with {' and '.join(names)}")
    limit = limits.body_bytes * len(names) + _FRAME * form
    body = await _body(request, limit, limits, hold)
    parts = _parts(body, options.get(b"boundary", b"")) if form else {names[0]: body}
    if set(parts) != set(names):
        raise Refused(400, "bad_form", f"the form needs {' and '.join(names)} and nothing else")
    if any(len(parts[name]) > limits.body_bytes for name in names):
        raise Refused(413, "too_large", f"a photo may have {limits.body_bytes} bytes")
    if not all(parts[name] for name in names):
        raise Refused(422, "unreadable_input", "the photo is empty")
    return tuple(bytes(parts[name]) for name in names)


async def drop(request: Request) -> None:
    """Let the rest of a body come and go, for a moment, unless its sender waits for leave to send it."""
    if request.headers.get("expect"):
        return
    end = time.monotonic() + _DROPPING
    while (left := end - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(request.receive(), left)
        except asyncio.TimeoutError:
            return
        if message["type"] != "http.request" or not message.get("more_body"):
            return


async def _body(request: Request, limit: int, limits: Limits, hold: Hold) -> bytearray:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise Refused(413, "too_large", f"the body may have {limit} bytes")
    body = bytearray()
    async for piece in _pieces(request, limits):
        if len(body) + len(piece) > limit:
            raise Refused(413, "too_large", f"the body may have {limit} bytes")
        hold.add(len(piece))
        body += piece
    return body


async def _pieces(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    end = time.monotonic() + limits.upload_seconds
    while True:
        left = min(end - time.monotonic(), limits.idle_seconds)
        try:
            message = await asyncio.wait_for(request.receive(), max(left, 0.001))
        except asyncio.TimeoutError as error:
            raise Refused(408, "upload_too_slow", "the photo did not come in time") from error
        if message["type"] == "http.disconnect":
            raise Refused(400, "gone", "the client has gone")
        if piece := message.get("body", b""):
            yield piece
        if not message.get("more_body"):
            return


def _parts(body: bytearray, boundary: bytes) -> dict[str, bytearray]:
    """The parts of a form by their names; python-multipart's own form would spool large ones to the disk."""
    found: dict[str, bytearray] = {}
    header, value, name = bytearray(), bytearray(), [""]

    def header_end() -> None:
        if bytes(header).lower() == b"content-disposition":
            named = parse_options_header(bytes(value))[1].get(b"name", b"")
            name[0] = named.decode("ascii") if _NAME.fullmatch(named) else ""
        header.clear()
        value.clear()

    def begin() -> None:
        if not name[0] or name[0] in found or len(found) >= _PARTS:
            raise Refused(400, "bad_form", "every part of the form needs a name of its own")
        found[name[0]] = bytearray()

    def part_begin() -> None:
        name[0] = ""

    ended: list[bool] = []
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": part_begin,
                "on_header_field": lambda data, start, end: header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": header_end,
                "on_headers_finished": begin,
                "on_part_data": lambda data, start, end: found[name[0]].extend(data[start:end]),
                "on_end": lambda: ended.append(True),
            },
        )
        parser.write(bytes(body))
    except ValueError as error:  # python-multipart's errors are such
        raise Refused(400, "bad_form", "the form cannot be read") from error
    if not ended:
        raise Refused(400, "bad_form", "the form is cut off")
    return found

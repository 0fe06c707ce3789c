"""What is sent back: a protected photo with its facts, or an error that cannot be taken for one."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from faceprotect_sdk.serve.desk import Reply
from faceprotect_sdk.serve.upload import Refused

#: The header that a photo's facts stand in, as JSON.
FACTS = "Faceprotect-Facts"
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "AVIF": "image/avif", "HEIC": "image/heic"}
#: What of the facts a header holds: those of many faces would be longer than clients read.
_SHORT = ("status", "faces_found", "container", "size", "method", "goal", "strength", "seed", "version", "input_sha256", "output_sha256")
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def answer(reply: Reply, accept: str) -> Response:
    """The response to a reply; ``accept``: the header, by which the photo comes alone, in a multipart/mixed with its facts, or in JSON."""
    if reply.status != 200:
        return _json({"error": {"code": reply.code, "message": reply.message}, "facts": dict(reply.facts)}, reply.status)
    if reply.photo is None:
        return _json(dict(reply.facts), 200)
    kind = _TYPES[str(reply.facts["container"])]
    if "application/json" in accept:
        return _json({**reply.facts, "photo": {"type": kind, "base64": base64.b64encode(reply.photo).decode("ascii")}}, 200)
    if "multipart/mixed" in accept:
        return _multipart(reply.facts, kind, reply.photo)
    short = {name: reply.facts[name] for name in _SHORT if name in reply.facts}
    return Response(reply.photo, 200, {**_HEADERS, FACTS: json.dumps(short, allow_nan=False)}, kind)


def refusal(refused: Refused) -> Response:
    """The response to a request that is refused."""
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    return _json({"error": {"code": refused.code, "message": refused.message}}, refused.status, headers)


def _json(document: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(document, status, {**_HEADERS, **(headers or {})})


def _multipart(facts: Mapping[str, Any], kind: str, photo: bytes) -> Response:
    boundary = secrets.token_hex(16)
    parts = (("application/json", json.dumps(facts, allow_nan=False).encode()), (kind, photo))
    body = b"".join(f"--{boundary}\r\nContent-Type: {name}\r\n\r\n".encode() + data + b"\r\n" for name, data in parts)
    return Response(body + f"--{boundary}--\r\n".encode(), 200, {**_HEADERS, "Content-Type": f"multipart/mixed; boundary={boundary}"})

"""The server of ``faceprotect-sdk web``: two folders of files, for browsers on this machine only.

It answers GET and HEAD of the built page at ``/`` and of a bundle at ``/bundle/``; nothing is taken from a client but a path. A request
under a foreign host name is refused: a page elsewhere may have its name lead to this machine (DNS rebinding).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from faceprotect_sdk._version import __version__

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
INDEX = "index.html"
BUNDLE = "bundle"
#: The browser lets the page ask its own origin, and nobody else; WebAssembly may be compiled.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "style-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: With the first two the browser gives the page threads (SharedArrayBuffer).
HEADERS: Mapping[str, str] = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
#: Written down, since the system's own table may say otherwise (on Windows: the registry); browsers refuse scripts of another type.
TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".md": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


def serve(page: Path, bundle: Path, port: int) -> ThreadingHTTPServer:
    """A server that is bound and listens, for :meth:`serve_forever`. ``port``: 0 for a free one. Raises OSError where it is taken."""

    class Handler(_Handler):
        roots: Mapping[str, Path] = {"": page.resolve(), BUNDLE: bundle.resolve()}

    return _Server((HOST, port), Handler)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # On Windows, SO_REUSEADDR lets a second server take a port that is in use, and nobody knows which one answers.
    allow_reuse_address = os.name != "nt"


class _Handler(BaseHTTPRequestHandler):
    roots: Mapping[str, Path]
    protocol_version = "HTTP/1.1"
    server_version = f"faceprotect-sdk/{__version__}"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        if not self._is_ours(self.headers.get("Host", "")):
            return self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This server answers on this machine only")
        path = self._file(self.path)
        try:
            file = path.open("rb") if path is not None and path.is_file() else None
        except OSError:
            file = None
        if file is None:
            return self.send_error(HTTPStatus.NOT_FOUND)
        with file:
            self._send(path, file, body)  # type: ignore[arg-type]
        return None

    def _send(self, path: Path, file: BinaryIO, body: bool) -> None:
        facts = os.fstat(file.fileno())
        tag = f'"{facts.st_size:x}-{facts.st_mtime_ns:x}"'
        if self.headers.get("If-None-Match") == tag:
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.send_header("ETag", tag)
            self.end_headers()
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(path.suffix.lower(), "application/octet-stream"))
        self.send_header("Content-Length", str(facts.st_size))
        self.send_header("ETag", tag)
        self.end_headers()
        if body and stat.S_ISREG(facts.st_mode):
            shutil.copyfileobj(file, self.wfile)

    def _is_ours(self, host: str) -> bool:
        return host in {f"{name}:{self.connection.getsockname()[1]}" for name in NAMES}

    def _file(self, target: str) -> Path | None:
        """The file of a request's target; None for one that leads nowhere, or out of the two folders."""
        path = unquote(urlsplit(target).path)
        parts = PurePosixPath(path).parts[1:]
        if not path.startswith("/") or any(bad in path for bad in ("\\", "\0", ":")) or any(part.startswith(".") for part in parts):
            return None
        root = self.roots[BUNDLE] if parts[:1] == (BUNDLE,) else self.roots[""]
        inside = parts[1:] if parts[:1] == (BUNDLE,) else parts
        try:
            found = root.joinpath(*inside or (INDEX,)).resolve()
        except OSError:
            return None
        return found if found.is_relative_to(root) else None

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: which photos a person looks at is nobody's business, and the page's files are no news."""

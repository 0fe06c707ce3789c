"""The server of ``faceprotect-sdk web``: what it gives, under which headers, and what it refuses."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from faceprotect_sdk.web.server import serve


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    page, bundle = tmp_path / "page", tmp_path / "auto.fp"
    (bundle / "fast").mkdir(parents=True)
    page.mkdir()
    (page / "index.html").write_text("<!doctype html>")
    (page / "page.js").write_text("1")
    (page / "ort.wasm").write_bytes(b"\0asm")
    (page / ".hidden").write_text("secret")
    (bundle / "recipe.json").write_text("{}")
    (bundle / "fast" / "model.onnx").write_bytes(bytes(100_000))
    (tmp_path / "secret.txt").write_text("secret")
    (page / "out.txt").symlink_to(tmp_path / "secret.txt")
    with serve(page, bundle, 0) as served:
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield served
        served.shutdown()


def ask(server: ThreadingHTTPServer, target: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, target, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read()


def test_page_and_bundle_are_served_with_their_types(server: ThreadingHTTPServer) -> None:
    types = {
        "/": "text/html; charset=utf-8", "/page.js": "text/javascript; charset=utf-8", "/ort.wasm": "application/wasm",
        "/bundle/recipe.json": "application/json", "/bundle/fast/model.onnx": "application/octet-stream",
    }  # fmt: skip
    for target, expected in types.items():
        answer, _ = ask(server, target)
        assert (answer.status, answer.headers["Content-Type"]) == (200, expected), target
    assert ask(server, "/bundle/fast/model.onnx?x=1")[1] == bytes(100_000)


def test_every_answer_confines_the_page(server: ThreadingHTTPServer) -> None:
    for target in ("/", "/page.js", "/nowhere"):
        headers = ask(server, target)[0].headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/bundle/../../secret.txt", "/bundle/..", "/bundle/%2e%2e/secret.txt",
        "/..\\secret.txt", "//etc/passwd", "/bundle//etc/passwd", "/out.txt", "/.hidden", "/bundle/fast", "/c:/x", "/%00", "etc/passwd",
        "*", "/bundle/" + "x" * 5000,
    ],
)  # fmt: skip
def test_nothing_outside_is_served(server: ThreadingHTTPServer, target: str) -> None:
    answer, body = ask(server, target)
    assert answer.status == 404
    assert b"secret" not in body.replace(target.encode(), b"")


def test_foreign_host_names_are_refused(server: ThreadingHTTPServer) -> None:
    port = server.server_address[1]
    assert ask(server, "/", Host=f"localhost:{port}")[0].status == 200
    for host in ("example.org", f"example.org:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", f"127.0.0.1:{port}.example.org", ""):
        assert ask(server, "/", Host=host)[0].status == 421, host


def test_other_methods_are_refused(server: ThreadingHTTPServer) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, "/", method)[0].status == 501
    answer, body = ask(server, "/page.js", "HEAD")
    assert (answer.status, answer.headers["Content-Length"], body) == (200, "1", b"")


def test_a_file_that_did_not_change_is_not_sent_again(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    tag = ask(server, "/bundle/recipe.json")[0].headers["ETag"]
    again, body = ask(server, "/bundle/recipe.json", **{"If-None-Match": tag})
    assert (again.status, body) == (304, b"")
    (tmp_path / "auto.fp" / "recipe.json").write_text("[]")
    assert ask(server, "/bundle/recipe.json", **{"If-None-Match": tag})[1] == b"[]"


def test_it_is_bound_to_this_machine_only(server: ThreadingHTTPServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.socket.family == socket.AF_INET

"""The service from outside, over a socket, on the toy zoo: what it answers, what it refuses, and what it leaves behind."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import toy_zoo
from serve_tools import ask, code_of, form

from faceprotect_sdk.photo.mark import mark_of_file
from faceprotect_sdk.photo.reading import load
from harness.command import command, surroundings

NEEDED = ("starlette", "uvicorn", "prometheus_client", "python_multipart")
pytestmark = pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason="the extra [serve] is not installed")
PATIENCE = 90.0
PROTECT = "/v1/protect?even_covered=true"
PNG = {"Content-Type": "image/png"}


@pytest.fixture(autouse=True)
def no_network() -> None:
    """These tests speak to a server on this machine."""


@dataclass
class Server:
    """A service that runs, and the folder that it was started in and that its temporary files would go to."""

    process: subprocess.Popen[str]
    port: int
    folder: Path

    def workers(self) -> list[psutil.Process]:
        return [one for one in psutil.Process(self.process.pid).children() if "spawn_main" in " ".join(one.cmdline())]


def start(zoo: Path, folder: Path, *options: str) -> Server:
    (folder / "temporary").mkdir(parents=True)
    words = ["serve", "--port", "0", "--device", "cpu", "--no-installed-judges", "--method", "latent", *options]
    environment = {**surroundings(folder.parent / f"{folder.name}-cache"), "TMPDIR": str(folder / "temporary")}
    process = subprocess.Popen(command(*words, zoo=zoo), env=environment, cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"listening at http://127\.0\.0\.1:(\d+)", line)
    assert found, line + process.stderr.read()
    return Server(process, int(found[1]), folder)


@pytest.fixture(scope="module")
def server(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = ["--max-mb", "1", "--max-megapixels", "1", "--idle-seconds", "1", "--queue", "4"]
    running = start(zoo, tmp_path_factory.mktemp("serve") / "here", *limits)
    yield running
    running.process.terminate()
    running.process.communicate(timeout=PATIENCE)


@pytest.fixture
def photo(png: Path) -> bytes:
    return png.read_bytes()


def test_a_protected_photo_comes_back_with_its_facts_in_three_forms(server: Server, photo: bytes, tmp_path: Path) -> None:
    status, headers, alone = ask(server.port, f"{PROTECT}&seed=3", photo, PNG)
    facts = json.loads(headers["faceprotect-facts"])
    assert (status, headers["content-type"], facts["status"], facts["seed"]) == (200, "image/png", "protected", 3)
    assert load(alone).size == load(photo).size
    (tmp_path / "a.png").write_bytes(alone)
    assert mark_of_file(tmp_path / "a.png") is not None
    status, _, body = ask(server.port, f"{PROTECT}&seed=3", photo, {**PNG, "Accept": "application/json"})
    document = json.loads(body)
    assert base64.b64decode(document["photo"]["base64"]) == alone, "the same seed gives the same bytes"
    assert document["faces"][0]["verdicts"]
    body, kind = form(photo=photo)
    status, headers, mixed = ask(server.port, f"{PROTECT}&seed=3", body, {**kind, "Accept": "multipart/mixed"})
    assert status == 200
    assert alone in mixed
    assert headers["content-type"].startswith("multipart/mixed; boundary=")
    body, kind = form(original=photo, protected=alone)
    status, _, checked = ask(server.port, "/v1/check", body, kind)
    assert (status, json.loads(checked)["status"]) == (200, "not_matched")


def test_what_is_not_protected_is_never_sent(server: Server, photo: bytes, png: Path) -> None:
    from PIL import Image

    Image.fromarray(toy_zoo.photo(faces=0)).save(png)
    for data, code in (
        (png.read_bytes(), "no_face"),
        (b"no photo", "unreadable_input"),
        (photo[:2000], "unreadable_input"),
        (b"", "unreadable_input"),
    ):
        status, headers, body = ask(server.port, PROTECT, data, PNG)
        assert (status, code_of(body), headers["content-type"]) == (422, code, "application/json")
    status, _, body = ask(server.port, "/v1/protect", photo, PNG)
    assert (status, code_of(body)) == (422, "covered"), "a dot has no nose and mouth"
    _, _, protected = ask(server.port, PROTECT, photo, PNG)
    assert code_of(ask(server.port, PROTECT, protected, PNG)[2]) == "already_protected"


def test_what_is_asked_wrongly_is_refused(server: Server, photo: bytes) -> None:
    for query in ("strength=nope", "strength=/etc/passwd", "seed=-1", "look=..", "quality=0", "faces=2", "method=fast", "seed=1&seed=2"):
        status, _, body = ask(server.port, f"/v1/protect?{query}", photo, PNG)
        assert (status, code_of(body)) == (400, "usage"), query
    assert ask(server.port, PROTECT, b"a=b", {"Content-Type": "application/x-www-form-urlencoded"})[0] == 415
    for parts in ({"file": photo}, {"photo": photo, "more": b"x"}):
        body, kind = form(**parts)
        assert ask(server.port, PROTECT, body, kind)[0] == 400
    body, kind = form(photo=photo)
    assert code_of(ask(server.port, PROTECT, body[:-8], kind)[2]) == "bad_form"
    assert (ask(server.port, PROTECT)[0], ask(server.port, "/nothing")[0]) == (405, 404)


def _bomb(side: int) -> bytes:
    """A PNG of side x side white pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes((side // 8 + 1) * side))) + chunk(b"IEND", b"")


def test_what_is_too_large_is_refused(server: Server) -> None:
    for side in (4000, 40000):
        status, _, body = ask(server.port, PROTECT, _bomb(side), PNG)
        assert (status, code_of(body)) == (413, "too_many_pixels")
    status, headers, body = ask(server.port, PROTECT, bytes(3 * 2**20), PNG)
    assert (status, code_of(body), headers["connection"]) == (413, "too_large", "close")

    def pieces() -> Iterator[bytes]:
        yield from (bytes(2**16) for _ in range(40))

    assert ask(server.port, PROTECT, pieces(), PNG)[0] == 413  # type: ignore[arg-type]


def test_slow_clients_are_let_go(server: Server, photo: bytes) -> None:
    for begun in (b"POST /v1/protect HTTP/1.1\r\nHost: x\r\n", b"POST /v1/protect HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as slow:
            slow.sendall(begun)
            said = b"".join(iter(lambda: slow.recv(4096), b""))  # until the server closes
        assert said == b"" or (said.startswith(b"HTTP/1.1 408") and b"upload_too_slow" in said)
        assert bool(said) == (b"Content-Length" in begun)
    assert ask(server.port, PROTECT, photo, PNG)[0] == 200


def test_many_at_once_are_answered_or_told_to_come_back(server: Server, photo: bytes) -> None:
    """All uploads lack their last byte until every one of them has come so far; then they are there at once."""
    answers: list[tuple[int, dict[str, str]]] = []
    here = threading.Barrier(16)

    def all_but_the_last() -> Iterator[bytes]:
        yield photo[:-1]
        here.wait(PATIENCE)
        yield photo[-1:]

    def one() -> None:
        sent = {**PNG, "Content-Length": str(len(photo))}
        answers.append(ask(server.port, PROTECT, all_but_the_last(), sent, timeout=PATIENCE)[:2])  # type: ignore[arg-type]

    threads = [threading.Thread(target=one) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 429}
    assert all(int(headers["retry-after"]) >= 1 for status, headers in answers if status == 429)
    numbers = ask(server.port, "/metrics")[2].decode()
    assert 'faceprotect_requests_total{code="busy",path="/v1/protect",status="429"}' in numbers
    assert "faceprotect_held_bytes 0.0" in numbers


def test_a_killed_process_is_replaced_and_nothing_lies_on_the_disk(server: Server, photo: bytes) -> None:
    server.workers()[0].kill()
    assert ask(server.port, PROTECT, photo, PNG)[0] == 200
    assert ask(server.port, "/healthz")[0] == 200
    assert "faceprotect_workers_lost_total 1.0" in ask(server.port, "/metrics")[2].decode()
    assert [path for path in server.folder.rglob("*") if path.is_file()] == []


def test_sigterm_lets_the_photo_at_work_be_answered(zoo: Path, photo: bytes, tmp_path: Path) -> None:
    running = start(zoo, tmp_path / "here")
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(ask(running.port, PROTECT, photo, PNG, timeout=PATIENCE)[0]))
    thread.start()
    while "faceprotect_working 1.0" not in ask(running.port, "/metrics")[2].decode():
        time.sleep(0.005)
    workers = running.workers()
    for process in (running.process.pid, *(one.pid for one in workers)):  # as a service's manager does, to all
        os.kill(process, signal.SIGTERM)
    _, said = running.process.communicate(timeout=PATIENCE)
    thread.join()
    assert found == [200]
    assert running.process.returncode == 0
    assert said == "", "nothing is logged"
    assert not psutil.wait_procs(workers, timeout=15)[1]


def test_a_service_that_cannot_begin_says_why(zoo: Path, tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    words = ["serve", "--port", str(taken.getsockname()[1]), "--device", "cpu"]
    done = subprocess.run(command(*words, zoo=zoo), env=surroundings(tmp_path), capture_output=True, text=True)
    taken.close()
    assert done.returncode == 2
    assert "cannot be listened at" in done.stderr

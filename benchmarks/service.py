"""The service under 200 clients at once, some of them slow or hostile, while a process is killed: what is answered, and what is left.

    python benchmarks/service.py --out benchmarks/results/service.json

``faceprotect-sdk serve`` runs with the method ``fast`` and the fewest engines that ship. Each client uploads a photo of its own, and comes
back for as long as it is told to.
Beside them: clients that send a byte now and then or never end their headers, small PNGs of 1.6 gigapixels, and bodies of 100 MB. In
the middle one process is killed outright. Demanded: every client gets one answer, which holds the sha256 of what it sent; every photo
that comes differs from what was sent, has the digest that its facts name, and bears the mark; hostile clients get 4xx or are closed;
memory stays within its bound; no file holds a photo: neither is one left in the folder that the service ran in or in that for temporary
files, nor is any opened for writing but in the cache, as ``strace`` sees it, where there is one. Exits with 1 where something else came
about.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from PIL import Image

from fuzz import astronaut
from harness.command import command, few_engines, surroundings
from harness.provenance import command_line, environment

_PATIENCE = 3600.0
_HOSTILE = 8
_BYTES = 100 * 2**20
_SIDE = 40000
_QUERY = "/v1/protect?even_covered=true&strength=high"
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")


@dataclass
class Found:
    """What came about, filled by many threads."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    tries: int = 0
    peak: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, said: str) -> None:
        """Something that must not be."""
        with self.lock:
            self.faults.append(said)


def photos(picture: Image.Image, count: int) -> list[bytes]:
    """The same face in JPEGs of their own."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        noisy = np.asarray(picture, np.float32) + rng.normal(0, 3, (picture.height, picture.width, 3))
        stream = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=92)
        made.append(stream.getvalue())
    return made


def bomb() -> bytes:
    """A PNG of 40,000 x 40,000 white pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compressobj(1)
    data = b"".join(pixels.compress(bytes(_SIDE // 8 + 1)) for _ in range(_SIDE)) + pixels.flush()
    head = struct.pack(">IIBBBBB", _SIDE, _SIDE, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def post(port: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to an upload."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("POST", _QUERY, body, {"Content-Type": "image/jpeg"})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def client(port: int, number: int, photo: bytes, found: Found) -> None:
    """Upload a photo, and come back for as long as there is no room; what it gets has to be its own."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        began = time.perf_counter()
        try:
            status, headers, body = post(port, photo)
        except OSError as error:
            found.fault(f"client {number}: no answer ({type(error).__name__})")
            return
        with found.lock:
            found.tries += 1
        if status == 429:
            time.sleep(float(headers["retry-after"]))
            continue
        with found.lock:
            found.seconds.append(time.perf_counter() - began)
        judge(number, photo, status, headers, body, found)
        return
    found.fault(f"client {number}: never had its turn")


def judge(number: int, photo: bytes, status: int, headers: dict[str, str], body: bytes, found: Found) -> None:
    """Count an answer, and say what is wrong with it."""
    own = hashlib.sha256(photo).hexdigest()
    if status == 200:
        facts = json.loads(headers["faceprotect-facts"])
        code = str(facts["status"])
        if facts["output_sha256"] != hashlib.sha256(body).hexdigest() or body == photo or b"faceprotect-sdk" not in body:
            found.fault(f"client {number}: what came is not the photo that its facts are about")
    else:
        document = json.loads(body)
        facts, code = document.get("facts", {}), str(document["error"]["code"])
        if status not in (422, 503):
            found.fault(f"client {number}: status {status}")
    if facts.get("input_sha256") != own and status != 503:
        found.fault(f"client {number}: the answer is about another photo")
    with found.lock:
        found.statuses[f"{status} {code}"] += 1


def hostile(name: str, work: Callable[[], str], expected: tuple[str, ...], found: Found) -> None:
    """Do what a client should not, and say where the service takes it otherwise than it should."""
    try:
        said = work()
    except OSError as error:
        said = type(error).__name__
    with found.lock:
        found.refusals[f"{name}: {said}"] += 1
    if said not in expected:
        found.fault(f"{name}: {said}")


def refused(port: int, body: bytes) -> str:
    """Status and code of an upload that is refused."""
    while True:
        status, headers, answer = post(port, body)
        if status != 429:
            return f"{status} {json.loads(answer)['error']['code']}"
        time.sleep(float(headers["retry-after"]))


def trickle(port: int, first: bytes) -> str:
    """Send a byte now and then until the service has had enough; the status it says, or that it closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as slow:
        slow.sendall(first)
        slow.settimeout(0.7)
        said = b""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            try:
                piece = slow.recv(4096)
            except TimeoutError:
                slow.sendall(b"x")
                continue
            if not piece:
                break
            said += piece
        return said.split(b" ")[1].decode() if said else "closed"


def pour(port: int, count: int) -> str:
    """Send a body of so many bytes whether it is wanted or not; the status, or that the service closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as stream:
        stream.sendall(f"POST {_QUERY} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(count >> 20):
                stream.sendall(b"100000\r\n" + bytes(2**20) + b"\r\n")
        with suppress(ConnectionResetError):
            if said := stream.recv(4096):
                return said.split(b" ")[1].decode()
    return "closed"


def resident(process: psutil.Process) -> int:
    """Bytes of a process and those below it that are their own."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            total += one.memory_full_info().uss
    return total


def watch(process: psutil.Process, found: Found, over: threading.Event) -> None:
    """Keep the peak of its memory."""
    while not over.wait(0.25):
        with suppress(psutil.Error):
            found.peak = max(found.peak, resident(process))


def spawned(process: psutil.Process) -> list[psutil.Process]:
    """The processes that work on photos."""
    return [one for one in process.children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]


@dataclass(frozen=True)
class Server:
    """A service that runs: what was started, its own process, and its port."""

    started: subprocess.Popen[str]
    process: psutil.Process
    port: int


def start(zoo: Path, folder: Path, jobs: int, method: str, slow: float, trace: Path | None) -> Server:
    """The service in ``folder``/here, its temporary files in ``folder``/temporary, under strace where there is a ``trace``."""
    for name in ("here", "temporary"):
        (folder / name).mkdir(parents=True)
    limits = ["--jobs", str(jobs), "--queue", "32", "--idle-seconds", str(slow / 2), "--upload-seconds", str(slow), "--held-mb", "64"]
    words = ["serve", "--port", "0", "--method", method, "--device", "cpu", "--no-installed-judges", *limits]
    spy = [] if trace is None else ["strace", "-f", "--seccomp-bpf", "-e", "trace=openat,open,creat,memfd_create", "-o", str(trace)]
    started = subprocess.Popen(  # noqa: S603
        [*spy, *command(*words, zoo=zoo)],
        env={**surroundings(folder / "cache"), "TMPDIR": str(folder / "temporary"), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=folder / "here",
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stderr is not None  # noqa: S101
    line = started.stderr.readline()
    address = re.search(r"listening at http://127\.0\.0\.1:(\d+)", line)
    if address is None:
        started.kill()
        raise click.ClickException(f"the service does not begin: {line}{started.stderr.read()}")
    process = psutil.Process(started.pid)
    return Server(started, process.children()[0] if spy else process, int(address[1]))


def storm(server: Server, uploads: list[bytes], found: Found) -> None:
    """All clients at once; a process is killed once a quarter of them have their answers."""
    port = server.port
    honest = [threading.Thread(target=client, args=(port, number, photo, found)) for number, photo in enumerate(uploads)]
    others = []
    head = f"POST {_QUERY} HTTP/1.1\r\nHost: x\r\n".encode()
    white = bomb()
    for name, work, expected in (
        ("slow body", lambda: trickle(port, head + b"Content-Length: 99999\r\n\r\n"), ("408", "429")),
        ("slow headers", lambda: trickle(port, head), ("closed",)),
        ("bomb", lambda: refused(port, white), ("413 too_many_pixels",)),
        ("100 MB", lambda: pour(port, _BYTES), ("413", "429", "closed")),
    ):
        others += [threading.Thread(target=hostile, args=(name, work, expected, found)) for _ in range(_HOSTILE)]
    for thread in others:
        thread.start()
    time.sleep(0.5)  # they are let in, where a queue that is full would keep them out
    for thread in honest:
        thread.start()
    while len(found.seconds) < len(uploads) // 4 and any(thread.is_alive() for thread in honest):
        time.sleep(0.02)
    spawned(server.process)[0].kill()
    for thread in (*honest, *others):
        thread.join()


def files_with_photos(folder: Path, trace: Path | None) -> tuple[list[str], list[str]]:
    """Files below the folder but for the cache, and names that processes opened for writing elsewhere than in the cache."""
    left = [str(path.relative_to(folder)) for name in ("here", "temporary") for path in (folder / name).rglob("*") if path.is_file()]
    if trace is None:
        return left, []
    opened = set()
    for line in trace.read_text(errors="replace").splitlines():
        if " = -1 " not in line and (_WRITES.search(line) or "memfd_create" in line or "creat(" in line):
            opened |= {name for name in re.findall(r'"([^"]*)"', line) if not name.startswith((str(folder / "cache"), "/dev/", "/proc/"))}
    return left, sorted(opened)


def percentile(seconds: list[float], part: float) -> float:
    """In seconds."""
    return round(float(np.percentile(seconds, part)), 3) if seconds else float("nan")


@click.command()
@click.option("--uploads", default=200, show_default=True, type=click.IntRange(4), help="At once.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1))
@click.option("--side", default=256, show_default=True, type=click.IntRange(64), help="Of the photos, in pixels.")
@click.option("--memory-mb", default=2500, show_default=True, help="What all processes may take together.")
@click.option("--method", default="fast", show_default=True)
@click.option("--slow-seconds", default=10.0, show_default=True, help="After which an upload is given up; half of it, between two pieces.")
@click.option("--photo", type=click.Path(exists=True, path_type=Path), help="The photo.  [default: scikit-image's astronaut]")
@click.option("--zoo", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Engines instead of those that ship.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
def main(uploads: int, jobs: int, side: int, memory_mb: int, photo: Path | None, zoo: Path | None, out: Path, **settings: Any) -> None:
    """Let a storm loose on the service, and say what went wrong."""
    picture = astronaut(side) if photo is None else Image.open(photo).convert("RGB")
    facts = {
        "schema": 1,
        "command": command_line(),
        **environment(jobs),
        "uploads": uploads,
        "photo": f"{picture.width} x {picture.height}",
    }
    found, over = Found(), threading.Event()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        trace = folder / "trace" if shutil.which("strace") else None
        server = start(zoo or few_engines(folder / "zoo"), folder / "service", jobs, settings["method"], settings["slow_seconds"], trace)
        watcher = threading.Thread(target=watch, args=(server.process, found, over))
        watcher.start()
        began = time.monotonic()
        storm(server, photos(picture, uploads), found)
        took = time.monotonic() - began
        over.set()
        watcher.join()
        os.kill(server.process.pid, 15)
        _, said = server.started.communicate(timeout=_PATIENCE)
        left, opened = files_with_photos(folder / "service", trace)
    found.faults += [f"left on the disk: {name}" for name in left] + [f"opened for writing: {name}" for name in opened]
    found.faults += [f"logged: {said}"] if said else []
    if len(found.seconds) != uploads or not found.statuses["200 protected"]:
        found.faults.append(f"{len(found.seconds)} answers for {uploads} uploads, {found.statuses['200 protected']} of them photos")
    if found.peak > memory_mb * 2**20:
        found.faults.append(f"{found.peak >> 20} MB of memory")
    measured = {
        "seconds": round(took, 1),
        "load_of_the_machine": round(os.getloadavg()[0], 1),
        "requests_with_those_told_to_come_back": found.tries,
        "answers": dict(sorted(found.statuses.items())),
        "answer_seconds": {f"p{part}": percentile(found.seconds, part) for part in (50, 95, 99)},
        "hostile": dict(sorted(found.refusals.items())),
        "peak_memory_mb": found.peak >> 20,
        "files_left": len(left),
        "opened_for_writing": len(opened) if trace is not None else None,
        "faults": found.faults,
    }
    out.write_text(json.dumps({**facts, **measured}, indent=1) + "\n")
    click.echo(json.dumps(measured))
    raise SystemExit(1 if found.faults else 0)


if __name__ == "__main__":
    main()

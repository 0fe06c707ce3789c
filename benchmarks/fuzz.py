"""Broken photo files through the command line: what it says of each, what it writes, how much memory it takes.

    python benchmarks/fuzz.py --files 1000 --out benchmarks/results/fuzz.json

Files of every container (``harness/broken.py``), each broken in one way by random numbers that ``--seed`` and its place in the row
determine, are given to ``faceprotect-sdk protect --method fast`` in batches, each a process with a limit on its address space. Demanded of
each: an exit code of a bad input (4), of one without a face (3), or of a photo that was read (0, 6); no stack; a file beside the outputs
only for code 0, and one that can be read; less memory than the limit. Exits with 1 where something else came about. It runs on the
smallest engines that ship, or those of ``--zoo``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from faceprotect_sdk.errors import FaceprotectError
from faceprotect_sdk.photo.reading import load
from harness.broken import BREAKERS, sources
from harness.command import command, few_engines, surroundings
from harness.provenance import command_line, environment

#: Bytes of address space that a process gets, and at most of memory that it may have taken.
LIMIT = 1_500_000_000
GOOD_CODES = (0, 3, 4, 6)
BATCH = 50
_PATIENCE = 60.0  # seconds for a file


@dataclass(frozen=True)
class Broken:
    """One file: what it was, and how it was broken."""

    path: Path
    source: str
    way: str


@dataclass(frozen=True)
class Batch:
    """What a process said: input to its JSON object; its exit code, stderr and largest resident set in bytes."""

    said: dict[str, dict[str, Any]]
    code: int
    stderr: str
    peak: int


def break_files(picture: Image.Image, folder: Path, count: int, seed: int) -> list[Broken]:
    """``count`` files, over all sources and ways in turn."""
    whole = list(sources(picture).items())
    ways = list(BREAKERS.items())
    made = []
    for number in range(count):
        (name, data), (way, breaker) = whole[number % len(whole)], ways[number // len(whole) % len(ways)]
        path = folder / f"{number:04}-{way}-{name}"
        path.write_bytes(breaker(data, np.random.default_rng([seed, number])))
        made.append(Broken(path, name, way))
    return made


def protect(files: Sequence[Broken], outputs: Path, zoo: Path, cache: Path) -> Batch:
    """One process over ``files``."""
    options = ["-o", str(outputs), "--method", "fast", "--device", "cpu", "--threads", "1", "--no-installed-judges", "--json"]
    photos = (str(one.path) for one in files)
    words = command("protect", *photos, "--even-covered", *options, zoo=zoo, memory=LIMIT)
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+", errors="replace") as stderr:
        started = subprocess.Popen(words, env=surroundings(cache), stdout=stdout, stderr=stderr)  # noqa: S603
        status, usage = _waited(started.pid, _PATIENCE * (len(files) + 1))
        started.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0), stderr.seek(0)
        objects = [json.loads(line) for line in stdout if line.startswith("{") and line.endswith("}\n")]
        return Batch({one["input"]: one for one in objects}, started.returncode, stderr.read(), usage.ru_maxrss * 1024)


def _waited(pid: int, seconds: float) -> tuple[int, Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return status, usage
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return os.wait4(pid, 0)[1:]


def faults(files: Sequence[Broken], batch: Batch, outputs: Path) -> list[str]:
    """What a batch did that it must not."""
    found = [
        f"{Path(name).name}: exit code {one['exit_code']} ({one.get('error')})"
        for name, one in batch.said.items()
        if one["exit_code"] not in GOOD_CODES
    ]
    if "Traceback" in batch.stderr:
        found.append(f"a stack on stderr: {batch.stderr[-2000:]}")
    if batch.peak >= LIMIT:
        found.append(f"{batch.peak / 1e9:.2f} GB of memory")
    written = {path.name for path in outputs.iterdir()}
    protected = {Path(str(one["output"])).name for one in batch.said.values() if one["exit_code"] == 0}
    of_batch = {name for name in written if any(name.startswith(one.path.name[:5]) for one in files) or name.startswith(".")}
    found += [f"{name}: is there, or is not, unlike what was said" for name in sorted(of_batch ^ protected)]
    for name in sorted(of_batch & protected):
        try:
            load(outputs / name)
        except FaceprotectError as error:
            found.append(f"{name}: the output cannot be read ({error})")
    return found


def run(files: Sequence[Broken], outputs: Path, zoo: Path, cache: Path) -> tuple[dict[str, dict[str, Any]], list[str], int]:
    """What was said of every file, the faults, and the largest memory. What a process that died had not come to goes to the next."""
    said: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    peak, left = 0, list(files)
    while left:
        part = left[:BATCH]
        batch = protect(part, outputs, zoo, cache)
        wrong += faults(part, batch, outputs)
        said |= batch.said
        peak = max(peak, batch.peak)
        missing = [one for one in part if str(one.path) not in batch.said]
        if missing:
            wrong.append(f"{missing[0].path.name}: the process ended with {batch.code}: {batch.stderr[-500:]}")
        left = missing[1:] + left[BATCH:]
    return said, wrong, peak


def summary(files: Sequence[Broken], said: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Source to exit code to how many files."""
    table: dict[str, Counter[str]] = {}
    for one in files:
        code = said[str(one.path)]["exit_code"] if str(one.path) in said else "none"
        table.setdefault(one.source, Counter())[str(code)] += 1
    return {name: dict(sorted(counts.items())) for name, counts in table.items()}


def astronaut(side: int = 160) -> Image.Image:
    """The face of scikit-image's astronaut."""
    from skimage import data

    return Image.fromarray(data.astronaut()).crop((130, 0, 330, 200)).resize((side, side))


@click.command()
@click.option("--files", "count", default=1000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
@click.option("--photo", type=click.Path(exists=True, path_type=Path), help="The photo to break.  [default: scikit-image's astronaut]")
@click.option("--zoo", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Engines instead of those that ship.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Leave the broken files there.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
def main(count: int, seed: int, photo: Path | None, zoo: Path | None, keep: Path | None, out: Path) -> None:
    """Break files, protect them, and say what went wrong."""
    picture = astronaut() if photo is None else Image.open(photo).convert("RGB")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        folder, outputs = keep or Path(made, "broken"), Path(made, "outputs")
        folder.mkdir(exist_ok=True), outputs.mkdir()
        files = break_files(picture, folder, count, seed)
        said, wrong, peak = run(files, outputs, zoo or few_engines(Path(made, "zoo")), Path(made, "cache"))
    codes = Counter(str(one["exit_code"]) for one in said.values())
    facts = {"schema": 1, "command": command_line(), "seed": seed, **environment(1)}
    measured = {"seconds": round(time.monotonic() - began, 1), "peak_memory_mb": round(peak / 1e6), "limit_mb": LIMIT // 10**6}
    found = {"exit_codes": dict(sorted(codes.items())), "faults": wrong, "sources": summary(files, said)}
    document = {**facts, "files": count, **measured, **found}
    out.write_text(json.dumps(document, indent=1) + "\n")
    click.echo(json.dumps({key: document[key] for key in ("files", "seconds", "peak_memory_mb", "exit_codes", "faults")}))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()

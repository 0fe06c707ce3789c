"""A batch of photos that is killed at random moments: what is there to see afterwards, and whether the next run puts it right.

    python benchmarks/kills.py --kills 50 --out benchmarks/results/kills.json

``faceprotect-sdk protect`` over a few photos is hit by SIGKILL, SIGTERM and SIGHUP in turn: half of the time at a moment drawn over the
whole run, half of the time when it has just begun to write one of its outputs; every fifth time with an empty cache, so that weights are
being put there. Demanded: at no moment, while it runs and after, does an output's name show anything but the whole file, byte for
byte that of a run that nobody disturbed; SIGTERM and SIGHUP leave nothing else and are told by the exit code; the same command with
``--force`` then succeeds, and leaves nothing but its outputs, in the folder and in the cache. Exits with 1 where something else came about.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
from PIL import Image

from fuzz import astronaut
from harness.command import command, few_engines, surroundings
from harness.provenance import command_line, environment

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
_GLANCE = 0.0005  # seconds between looks
_PATIENCE = 1800.0  # seconds for a run, which may be one of many on a busy machine


@dataclass(frozen=True)
class Bench:
    """What every run has: photos, engines, a cache, and, once a run was left alone, its outputs and its seconds."""

    photos: Path
    zoo: Path
    cache: Path
    whole: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0

    def start(self, outputs: Path, cache: Path) -> subprocess.Popen[bytes]:
        """The batch, in a process of its own."""
        photos = sorted(str(path) for path in self.photos.iterdir())
        options = ["-o", str(outputs), "--method", "fast", "--device", "cpu", "--threads", "1", "--no-installed-judges", "--force"]
        words = command("protect", *photos, "--keep-unconfirmed", "--even-covered", *options, zoo=self.zoo)
        return subprocess.Popen(words, env=surroundings(cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


def ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit code; a process that does not end is killed for good."""
    try:
        return process.wait(_PATIENCE)
    finally:
        process.kill()


def undisturbed(photos: Path, zoo: Path, folder: Path) -> Bench:
    """A bench with the outputs of a run that was left alone, its cache filled by the run before."""
    bench, outputs = Bench(photos, zoo, folder / "cache"), folder / "whole"
    outputs.mkdir()
    for _ in range(2):
        began = time.monotonic()
        code = ended(bench.start(outputs, bench.cache))
        seconds = time.monotonic() - began
    whole = {path.name: path.read_bytes() for path in outputs.iterdir()}
    if code not in (0, 6) or len(whole) != len(list(photos.iterdir())):
        raise click.ClickException(f"the batch by itself ends with {code} and {len(whole)} outputs")
    return Bench(photos, zoo, bench.cache, whole, seconds)


def watch(bench: Bench, process: subprocess.Popen[bytes], outputs: Path, moment: float | None, part: int) -> list[str]:
    """Look on until ``moment`` seconds have passed, or without it until the file number ``part`` has begun; what was seen that must not."""
    wrong: list[str] = []
    begun: set[str] = set()
    seen: set[str] = set()
    end = time.monotonic() + (_PATIENCE if moment is None else moment)
    while process.poll() is None and time.monotonic() < end:
        names = set(os.listdir(outputs))  # noqa: PTH208 - as quick as can be
        begun |= {name for name in names if name.endswith(".part")}
        for name in names - begun - seen:
            seen.add(name)
            wrong += _unlike(bench, outputs, name, "while it ran")
        if moment is None and len(begun) > part:
            break
        time.sleep(_GLANCE)
    return wrong


def _unlike(bench: Bench, outputs: Path, name: str, when: str) -> list[str]:
    data = (outputs / name).read_bytes()
    return [] if data == bench.whole.get(name) else [f"{name} {when}: {len(data)} bytes that are not the whole file"]


def strike(bench: Bench, folder: Path, number: int, seed: int) -> tuple[str, list[str]]:
    """One kill and the run after it: how the process ended, and what was wrong."""
    rng = np.random.default_rng([seed, number])
    kind, cold = SIGNALS[number % len(SIGNALS)], number % 5 == 4
    outputs, cache = folder / "outputs", folder / "cold" if cold else bench.cache
    outputs.mkdir()
    moment = float(rng.uniform(0, bench.seconds)) if number % 2 or cold else None
    process = bench.start(outputs, cache)
    wrong = watch(bench, process, outputs, moment, int(rng.integers(len(bench.whole))))
    time.sleep(float(rng.uniform(0, 0.003)))
    process.send_signal(kind)
    code = ended(process)
    left = sorted(os.listdir(outputs))  # noqa: PTH208
    parts = [name for name in left if name.endswith(".part")]
    wrong += [line for name in left if name not in parts for line in _unlike(bench, outputs, name, "afterwards")]
    if kind != signal.SIGKILL:
        wrong += [f"{name}: left by {kind.name}" for name in parts]
        if code not in (128 + kind, -kind, 0, 6):
            wrong.append(f"{kind.name} gave the exit code {code}")
    wrong += _repeated(bench, outputs, cache)
    for made in (outputs, folder / "cold"):
        shutil.rmtree(made, ignore_errors=True)
    how = "had ended" if code in (0, 6) else "was writing" if parts else "was stopped"
    return f"{kind.name} {how}", [f"kill {number}: {line}" for line in wrong]


def _repeated(bench: Bench, outputs: Path, cache: Path) -> list[str]:
    """Run the same command again, and say what is not as if nothing had happened."""
    code = ended(bench.start(outputs, cache))
    there = {path.name: path.read_bytes() for path in outputs.iterdir()}
    wrong = [] if code in (0, 6) else [f"the next run ends with {code}"]
    differ = [name for name in there.keys() | bench.whole if there.get(name) != bench.whole.get(name)]
    wrong += [f"{name}: not as without the kill, after the next run" for name in differ]
    return wrong + [f"{path.name}: left in the cache" for path in cache.rglob(".*") if path.is_dir() or path.suffix == ".part"]


def draw_photos(folder: Path, picture: Image.Image, count: int) -> Path:
    """The same face in files of its own, each a little different, large enough that writing takes a while."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        noisy = np.asarray(picture, np.float32) + rng.normal(0, 3, (picture.height, picture.width, 3))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@click.command()
@click.option("--kills", default=50, show_default=True, type=click.IntRange(1))
@click.option("--photos", default=4, show_default=True, type=click.IntRange(1), help="In the batch.")
@click.option("--seed", default=0, show_default=True)
@click.option("--photo", type=click.Path(exists=True, path_type=Path), help="The photo.  [default: scikit-image's astronaut]")
@click.option("--zoo", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Engines instead of those that ship.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
def main(kills: int, photos: int, seed: int, photo: Path | None, zoo: Path | None, out: Path) -> None:
    """Kill a batch again and again, and say what went wrong."""
    for kind in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, signal.SIG_DFL)  # what is ignored here would be ignored by the batch as well: under nohup, say
    picture = astronaut(320) if photo is None else Image.open(photo).convert("RGB")
    began = time.monotonic()
    wrong: list[str] = []
    ways: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        bench = undisturbed(draw_photos(folder / "photos", picture, photos), zoo or few_engines(folder / "zoo"), folder)
        for number in range(kills):
            how, found = strike(bench, folder, number, seed)
            ways[how] += 1
            wrong += found
    facts = {"schema": 1, "command": command_line(), "seed": seed, **environment(1), "kills": kills, "photos": photos}
    measured = {"seconds": round(time.monotonic() - began, 1), "seconds_of_a_run": round(bench.seconds, 1)}
    document = {**facts, **measured, "ended": dict(sorted(ways.items())), "faults": wrong}
    out.write_text(json.dumps(document, indent=1) + "\n")
    click.echo(json.dumps({key: document[key] for key in ("kills", "seconds", "ended", "faults")}))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""The commands about engines: ``engines``, ``benchmark``, ``doctor``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceprotect_sdk.cli.fetch import fetch
from faceprotect_sdk.cli.options import DEVICES, FILE
from faceprotect_sdk.cli.progress import ProgressLine
from faceprotect_sdk.cli.report import emit
from faceprotect_sdk.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from faceprotect_engines.store import Store

json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


@click.group()
def engines() -> None:
    """List, describe and verify engines."""


@engines.command("list")
@json_option
def list_engines(as_json: bool) -> None:
    """Engines that ship, one per line: name, role, version, size, and where its weights come from."""
    from faceprotect_engines.store import Store

    store = Store()
    for name in store.names():
        manifest = store.manifest(name)
        size = sum(entry.bytes for entry in manifest.files.values())
        sources = sorted({weights.origin for weights in manifest.weights})
        there = store.has_weights(name)
        pictures = {look: store.folder(name) / "looks" / f"{look}.jpg" for look in manifest.metadata.get("looks", ())}
        looks = {look: str(picture) if picture.is_file() else None for look, picture in pictures.items()}
        if as_json:
            row = {"name": name, "role": manifest.role, "version": manifest.version, "bytes": size, "weights": sources}
            emit({**row, "ready": there, **({"looks": looks} if looks else {})})
        else:
            source = f"  weights from {', '.join(sources)}" if sources else ""
            source += "" if there else ", not there yet"
            click.echo(f"{name:<20} {manifest.role:<12} {manifest.version:<8} {size / 1e6:6.2f} MB{source}")
            for look, picture in looks.items():
                click.echo(f"  look {look:<13} {picture}")


@engines.command()
@click.argument("engine")
def info(engine: str) -> None:
    """The manifest of ENGINE (a name or a folder) as JSON."""
    from faceprotect_engines.store import Store

    click.echo(json.dumps(Store().manifest(engine).to_json(), indent=2))


engines.add_command(fetch)


@engines.command()
@click.argument("names", nargs=-1, metavar="[ENGINE|BUNDLE]...")
@click.option("--files-only", is_flag=True, help="Sizes and sha256 alone: run nothing.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Processor threads.  [default: all cores]")
@json_option
def verify(names: tuple[str, ...], files_only: bool, threads: int | None, as_json: bool) -> None:
    """Check every file of every ENGINE, and that it computes what it did when it was made. Exit code 5 if one fails.

    Of a BUNDLE, all engines, and the run that was packed with it. Default: all that ship; one whose weights have not been fetched is named,
    and no failure.
    """
    from faceprotect_engines.store import Store
    from faceprotect_sdk.bundle.verify import verified

    failed = False
    for finding in verified(Store(), names, files_only, threads):
        failed = failed or finding.ok is False
        if as_json:
            emit(finding.to_json())
        else:
            said = f"FAILED: {finding.problem}" if finding.problem else "ok" if finding.ok else "not fetched"
            click.echo(f"{finding.name:<20} {said}{finding.worst}")
    raise SystemExit(int(ExitCode.ENGINE) if failed else 0)


@engines.command()
@click.argument("names", nargs=-1, metavar="[ENGINE]...")
@click.option("--device", type=click.Choice(["tensorrt", "rtx"]), required=True, help="Which library compiles.")
@json_option
def build(names: tuple[str, ...], device: str, as_json: bool) -> None:
    """Compile every ENGINE (default: all that ship) for this machine's GPU now, so that the first photo need not wait for it."""
    from faceprotect_engines.store import Store

    store = Store()
    for name, seconds in compiled(store, names or [name for name in store.names() if not store.waits(name)], device):
        if as_json:
            emit({"name": name, "device": device, "seconds": seconds})
        else:
            click.echo(f"{name:<20} {seconds:6.1f} s")


def compiled(store: Store, engines: Sequence[str | Path], device: str) -> Iterator[tuple[str, float]]:
    """Name and seconds of every engine (a name or a folder), as soon as its plan is there; an engine for any size of input has none.

    What is to come, and about how long it will take, goes to stderr.
    """
    manifests = {engine: store.manifest(engine) for engine in engines}
    fixed = {engine: found for engine, found in manifests.items() if all(None not in tensor.shape for tensor in found.inputs)}
    sizes = {engine: sum(entry.bytes for entry in found.files.values()) for engine, found in fixed.items()}
    took, done = 0.0, 0
    for number, (engine, manifest) in enumerate(fixed.items()):
        left = f", about {took / done * (sum(sizes.values()) - done):.0f} s left" if done else ""
        click.echo(f"{manifest.name}: plan {number + 1} of {len(fixed)}{left}", err=True)
        began = time.perf_counter()
        store.open(engine, device).close()
        seconds = time.perf_counter() - began
        took, done = took + seconds, done + sizes[engine]
        yield manifest.name, round(seconds, 3)


@engines.command()
@click.argument("engine")
def path(engine: str) -> None:
    """The folder of ENGINE, for an app that opens it by itself."""
    from faceprotect_engines.store import Store

    click.echo(str(Store().folder(engine)))


@click.command()
@click.option("--engine", metavar="ENGINE", help="Measure one engine, a name or a folder, on random input.")
@click.option("--method", metavar="NAME|DIR", help="Measure a whole protection of PHOTO.")
@click.option("--photo", type=FILE, metavar="PHOTO", help="Photo for --method.")
@click.option("--repeat", type=click.IntRange(1), metavar="N", default=10, show_default=True, help="How often.")
@click.option("--device", default="auto", show_default=True, metavar=DEVICES, help="What to compute on.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Processor threads, at most one a core.  [default: all cores]")
@click.option("--compare", "earlier", type=FILE, metavar="FILE", help="What --json gave earlier: print new / old of every number.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def benchmark(
    engine: str | None, method: str | None, photo: Path | None, earlier: Path | None, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Latency (p50, p90, p95, p99), stages, cold start, peak memory, and the backend that really ran.

    \b
      faceprotect-sdk benchmark --method auto --photo me.jpg
      faceprotect-sdk benchmark --engine face-detector
    """  # noqa: D301 - the letter that keeps click from wrapping the lines
    from faceprotect_sdk.benchmark import benchmark_engine, benchmark_method, compare, engine_subject, method_subject, read_report
    from faceprotect_sdk.methods import DEFAULT

    if (engine is None) == (method is None):
        raise UsageError(f"name one thing to measure: --engine NAME, or --method {DEFAULT} --photo PHOTO")
    if method is not None and photo is None:
        raise UsageError("--method needs a photo with a face: --photo PHOTO")
    subject = method_subject(str(method)) if engine is None else engine_subject(engine)
    old = None if earlier is None else read_report(earlier, subject)  # refused before anything is measured
    with ProgressLine("measurement", quiet=quiet) as line:
        line.start(subject)
        if engine is not None:
            report = benchmark_engine(engine, progress=line.count, **options)
        else:
            report = benchmark_method(str(method), Path(str(photo)), progress=line.count, **options)
    document = report.to_json()
    if old is not None:
        document["compared"] = {"file": str(earlier), **compare(document, old)}
    if as_json:
        emit(document)
    else:
        _show_benchmark(document)


def _show_benchmark(document: dict[str, Any]) -> None:
    """A report as text: a line per number, one per stage, and the ratios to an earlier report."""
    compared = document.pop("compared", None)
    stages = document.pop("stages") or {}
    for key, value in document.items():
        click.echo(f"{key:<18} {value}")
    for stage, numbers in stages.items():
        click.echo(f"stage {stage:<12} {_in_line(numbers)}")
    if compared is None:
        return
    click.echo(f"\nnew / old, old being {compared['file']}")
    for name, ratio in compared["ratios"].items():
        click.echo(f"{name:<18} {ratio}")
    for stage, ratios in compared["stages"].items():
        click.echo(f"stage {stage:<12} {_in_line(ratios)}")
    for warning in compared["warnings"]:
        click.echo(f"warning: not measured alike: {warning}")


def _in_line(numbers: dict[str, float]) -> str:
    return "  ".join(f"{name} {value}" for name, value in numbers.items())


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look at the installation: versions, providers, clashes, cache, weights. Exit code 5 if it cannot work."""
    from faceprotect_sdk.doctor import examine

    findings = examine()
    for finding in findings:
        if as_json:
            emit(finding.to_json())
        else:
            click.echo(f"{finding.level:<8} {finding.name:<22} {finding.message}")
    raise SystemExit(int(ExitCode.ENGINE) if any(finding.level == "error" for finding in findings) else 0)

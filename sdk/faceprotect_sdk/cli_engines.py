"""The commands about engines: ``engines``, ``export``, ``benchmark``, ``doctor``."""

from __future__ import annotations

import importlib
import json
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from faceprotect_sdk.cli_report import emit
from faceprotect_sdk.errors import ExitCode, FaceprotectError, OutputError, RecogniserError, UsageError

FILE = click.Path(path_type=Path)
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
        sources = sorted({weights.package or weights.url or weights.file for weights in manifest.weights})
        there = store.has_weights(name)
        if as_json:
            row = {"name": name, "role": manifest.role, "version": manifest.version, "bytes": size, "weights": sources}
            emit({**row, "ready": there})
        else:
            source = f"  weights from {', '.join(sources)}" if sources else ""
            source += "" if there else ", not there yet"
            click.echo(f"{name:<20} {manifest.role:<12} {manifest.version:<8} {size / 1e6:6.2f} MB{source}")


@engines.command()
@click.argument("engine")
def info(engine: str) -> None:
    """The manifest of ENGINE (a name or a folder) as JSON."""
    from faceprotect_engines.store import Store

    click.echo(json.dumps(Store().manifest(engine).to_json(), indent=2, ensure_ascii=False))


@engines.command()
@click.argument("engine")
@click.option("--from", "source", type=FILE, metavar="FILE", help="The file, downloaded otherwise: nothing is fetched then.")
@json_option
def fetch(engine: str, source: Path | None, as_json: bool) -> None:
    """Download the weights of ENGINE once (the only command that uses the network). `sface` joins every search from then on."""
    from faceprotect_engines.store import Store

    with click.progressbar(length=1, label=engine, file=sys.stderr) as bar:

        def report(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        files = Store().fetch(engine, source, report)
    if as_json:
        emit({"name": engine, "files": [str(path) for path in files]})
    else:
        click.echo("\n".join(str(path) for path in files))


@engines.command()
@click.argument("names", nargs=-1, metavar="[ENGINE]...")
@json_option
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Check size and sha256 of every file of every ENGINE. Exit code 5 if one fails.

    Default: all that ship; one whose weights have not been fetched is named, and no failure.
    """
    from faceprotect_engines.errors import EngineError
    from faceprotect_engines.store import Store

    store = Store()
    failed = False
    for name in names or store.names():
        problem, waits = "", not names and store.waits(name)
        try:
            if not waits:
                store.verify(name)
        except EngineError as error:
            failed, problem = True, str(error)
        if as_json:
            emit({"name": name, "ok": None if waits else not problem, "error": problem or None})
        else:
            click.echo(f"{name:<20} {'FAILED: ' + problem if problem else 'not fetched' if waits else 'ok'}")
    raise SystemExit(int(ExitCode.ENGINE) if failed else 0)


@engines.command()
@click.argument("engine")
def path(engine: str) -> None:
    """The folder of ENGINE, for an app that opens it by itself."""
    from faceprotect_engines.store import Store

    click.echo(str(Store().folder(engine)))


@click.group()
def export() -> None:
    """Make engines (needs the extra 'export', with torch)."""


@export.command()
@click.argument("model", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Folder for the engine; must not exist or be empty.")
@click.option("--spec", type=FILE, help="JSON like an entry of fr.json. Default: MODEL.json or fr.json beside MODEL.")
@click.option("--name", help="Name of the engine (default: the file's stem).")
@click.option("--template", help="Template of the five points, e.g. arcface112.")
@click.option("--size", type=click.IntRange(16, 1024), help="Side of the square input in pixels.")
@click.option("--range", "value_range", nargs=2, type=float, help="Value range of the input, e.g. -1 1.")
@click.option("--color", type=click.Choice(["RGB", "BGR"]), help="Channel order of the input.")
@click.option("--threshold", type=float, help="Cosine from which two faces match (at FAR 1e-2).")
def surrogate(model: Path, output: Path, spec: Path | None, **options: Any) -> None:
    """Turn a face recognition MODEL (ONNX) into a gradient engine for --surrogates."""
    from faceprotect_engines.errors import EngineError

    if not model.is_file():
        raise UsageError(f"{model}: no such file. Check the path")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: exists and is not an empty folder. Choose another -o")
    build = _builder()
    specification = surrogate_specification(model, spec, **options)
    part = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")  # an engine is whole or not there
    try:
        manifest = build(model, part, **specification)
        part.replace(output)
    except (ValueError, RuntimeError, RecogniserError, EngineError) as error:
        raise UsageError(f"{model}: cannot be made into a surrogate: {error}") from error
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror or error}). Choose another -o") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    emit({"engine": manifest.name, "folder": str(output), "parity": dict(manifest.parity)})


def surrogate_specification(
    model: Path,
    spec: Path | None,
    *,
    name: str | None = None,
    template: str | None = None,
    size: int | None = None,
    value_range: tuple[float, float] | None = None,
    color: str | None = None,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Keyword arguments for ``build_surrogate``: the JSON specification with the options laid over it."""
    from faceprotect_sdk.specification import THRESHOLD, onnx_specification

    has_file = spec is not None or model.with_suffix(".json").is_file() or model.with_name("fr.json").is_file()
    document: dict[str, Any] = {}
    templates: dict[str, Any] = {}
    if has_file:
        found, known = onnx_specification(model, spec)
        document, templates = json.loads(json.dumps(dict(found))), dict(known)
    entry = document.setdefault("input", {})
    if size is not None:
        entry["shape"] = ["batch", 3, size, size]
    for key, value in (("template", template), ("range", list(value_range) if value_range else None), ("color", color)):
        if value is not None:
            entry[key] = value
    if threshold is not None:
        document.setdefault("thresholds", {})[THRESHOLD] = threshold
    if "shape" not in entry or THRESHOLD not in document.get("thresholds", {}):
        raise UsageError(f"{model}: give its input and threshold: --size 112 --threshold 0.3 (or --spec FILE.json)")
    return {"spec": document, "templates": templates, "name": name or model.stem}


def _builder() -> Callable[..., Any]:
    try:
        importlib.import_module("torch")
        importlib.import_module("onnx")
        module = importlib.import_module("faceprotect_export.surrogate")
    except ImportError as error:
        raise FaceprotectError(
            f"exporting needs torch and onnx, and '{error.name}' is missing; run: pip install 'faceprotect-sdk[export]'"
        ) from error
    build: Callable[..., Any] = module.build_surrogate
    return build


@click.command()
@click.option("--engine", metavar="NAME", help="Measure one engine on random input.")
@click.option("--method", metavar="NAME", help="Measure a whole protection of PHOTO.")
@click.option("--photo", type=FILE, help="Photo for --method.")
@click.option("--repeat", type=click.IntRange(1), default=10, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1))
@json_option
def benchmark(
    engine: str | None,
    method: str | None,
    photo: Path | None,
    repeat: int,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Latency (p50, p90, p99), cold start, peak memory, and the backend that really ran."""
    from faceprotect_sdk.benchmark import benchmark_engine, benchmark_method

    if (engine is None) == (method is None):
        raise UsageError("name one thing to measure: --engine NAME, or --method latent --photo PHOTO")
    if method is not None and photo is None:
        raise UsageError("--method needs a photo with a face: --photo PHOTO")
    if engine is not None:
        report = benchmark_engine(engine, device=device, repeat=repeat, threads=threads)
    else:
        report = benchmark_method(str(method), Path(str(photo)), device=device, repeat=repeat, threads=threads)
    if as_json:
        emit(report.to_json())
        return
    for key, value in report.to_json().items():
        click.echo(f"{key:<18} {value}")


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

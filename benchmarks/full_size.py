"""Networks of the true size of Stable Diffusion, CLIP, StyleGAN2 and face recognisers, with random weights, exported with their gradients.

    python benchmarks/full_size.py --out benchmarks/results/full_size.json --only unet --precision fp32

Of each network and precision: parity with torch autograd, output by output, seconds, bytes, peak memory, ONNX's checker, and whether
TensorRT-RTX takes the graph. Nothing is downloaded: what a size costs and whether the operators hold does not depend on the numbers; how
far float16 is off does, and is with trained weights mostly less. ``--fr`` and ``--taef2`` add networks with real weights: a folder with an
``fr.json``, whose surrogates are exported from their ONNX files, and a tiny autoencoder of 32 channels (``encoder.safetensors``,
``decoder.safetensors``, with the layers numbered as TAESD's authors do).

Each export and each plan has a process of its own, so that its peak memory is its own. A rerun leaves out what ``--out`` holds of the
same commit.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from faceprotect_engines.backends.tensorrt import build_plan, load_library
from faceprotect_engines.errors import DeviceUnavailable, EngineError
from faceprotect_sdk.photo.write import write_atomic
from harness.networks import NETWORKS, RANDOM, Network, Row, real_networks
from harness.provenance import command_line, environment

if TYPE_CHECKING:  # torch is imported by the processes that export, not by the one that starts them
    from faceprotect_engines.files.manifest import Manifest
    from faceprotect_export.build.folder import EngineRecipe

GRAPH = "model.onnx"
PRECISIONS = ("fp32", "fp16")
#: Refuses nothing that is finite: for the figures of an engine that was refused.
_ANY = {"tolerance": 1e30, "cosine": -1.0}


# What the processes do


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    write_atomic(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode(), force=True)


def peak_gb() -> float:
    """Most memory that this process has had, in 1e9 bytes.

    On Linux a process's ``ru_maxrss`` begins with that of the one that started it, so the kernel's own count goes before it.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    counted = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    if counted is None:
        counted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    return round(counted * 1024 / 1e9, 2)


def export_network(network: Network, precision: str, out: Path) -> None:
    """Make the engines of a network in folders beside ``out``, which is written anew after each."""
    import torch

    from faceprotect_export.pretrained.common import Options

    torch.manual_seed(0)
    began = time.perf_counter()
    net = network.build().requires_grad_(False).eval()
    row: Row = {"parameters_m": round(sum(p.numel() for p in [*net.parameters()] or net.buffers()) / 1e6, 2), "torch": torch.__version__}
    row["threads"] = torch.get_num_threads()
    options = Options(precision=cast(Any, precision), threshold=0.3, licence=RANDOM["licence"])
    recipes = network.recipes(net, options)
    row["prepared_seconds"] = round(time.perf_counter() - began, 1)
    row["engines"] = []
    write_json(out, row)
    for recipe in recipes:
        row["engines"].append(export_engine(recipe, out.parent / recipe.name))
        row |= {"seconds": round(time.perf_counter() - began, 1), "peak_gb": peak_gb()}
        write_json(out, row)


def export_engine(recipe: EngineRecipe, folder: Path) -> Row:
    """One engine, and what was measured of it; of one that is refused the same, if it gives finite numbers at all."""
    from faceprotect_export.build.folder import ParityError, build_engine

    row: Row = {"engine": recipe.name, "gradients": [f"grad_{name}" for name in recipe.variables]}
    began = time.perf_counter()
    manifest = None
    try:
        manifest = build_engine(recipe, folder)
    except ParityError as error:
        row["refused"] = str(error)
    row["seconds"] = round(time.perf_counter() - began, 1)
    if manifest is None:  # not where the error is caught: it holds the first graph in memory
        try:
            manifest = build_engine(replace(recipe, **cast(Any, _ANY)), folder)
        except ParityError:
            return row
    row |= {"peak_gb": peak_gb(), "bytes": sum(entry.bytes for entry in manifest.files.values())}
    return row | {"onnx_checker": checked(folder / GRAPH)} | parity_of(manifest, recipe)


def parity_of(manifest: Manifest, recipe: EngineRecipe) -> Row:
    """The least cosine of a gradient, the manifest's figures, and what the recipe asks for."""
    found = {**manifest.parity, "least_cosine": recipe.cosine}
    if found["tolerance"] == _ANY["tolerance"]:
        found["tolerance"] = recipe.tolerance
    cosines = [found["outputs"][f"grad_{name}"]["cosine"] for name in recipe.variables]
    return {"gradient_cosine": min(cosines, default=None), "parity": found}


def checked(graph: Path) -> str:
    """Either "passed" or what ONNX's checker says. By the path: it looks for the file of tensors beside it."""
    import onnx

    try:
        onnx.checker.check_model(str(graph))
    except onnx.checker.ValidationError as error:
        return _brief(str(error), graph.parent)
    return "passed"


def plan_graph(graph: Path, out: Path) -> None:
    """Compile a graph by TensorRT-RTX, and write what it took, or why there is no plan."""
    try:
        library = load_library("rtx")
    except DeviceUnavailable as error:
        write_json(out, {"status": "not built", "reason": str(error)})
        return
    row: Row = {"version": library.version}
    began = time.perf_counter()
    try:
        built = build_plan(library, graph)
        row |= {"status": "accepted", "bytes": len(built.plan), "layers": dict(built.layers)}
    except EngineError as error:
        row |= {"status": "refused", "reason": _brief(str(error), graph.parent)}
    write_json(out, row | {"seconds": round(time.perf_counter() - began, 1), "peak_gb": peak_gb()})


# The process that starts them


def _brief(words: str, folder: Path) -> str:
    """Without the machine's folder, and not longer than a paragraph."""
    return " ".join(words.replace(f"{folder}/", "").split())[:600]


def started(words: list[str], out: Path) -> Row:
    """What a process of this script wrote into ``out`` until it ended; ``crashed`` says how it did, if not by itself."""
    paths = os.pathsep.join(path for path in sys.path if path)  # wherever this process has its packages from
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(Path(__file__).resolve()), *words, "--out", str(out)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    row: Row = json.loads(out.read_text()) if out.is_file() else {}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith((" ", "Traceback"))]
        how = f"killed by signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        row["crashed"] = _brief(": ".join([how, *lines[-3:]]), out.parent)
    return row


def measure(name: str, precision: str, folders: Sequence[str], scratch: Path | None) -> Row:
    """Export a network and compile its graphs, in processes of their own; of what they write nothing stays."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix=f"{name}-{precision}-") as made:
        folder = Path(made)
        row = started(["--one", name, precision, *folders], folder / "export.json")
        for engine in row.get("engines", []):
            engine["rtx"] = planned(folder / engine["engine"])
    return row


def planned(folder: Path) -> Row:
    """The plan of an engine in ``folder``."""
    if not (folder / GRAPH).is_file():
        return {"status": "not built", "reason": "the export was refused"}
    row = started(["--plan", str(folder / GRAPH)], folder / "plan.json")
    return {"status": "crashed", **row} if "crashed" in row else row


def same_commit(out: Path, commit: str) -> dict[tuple[str, str], Row]:
    """The entries of ``out`` that this commit made, by network and precision (a "+" is no difference: ``out`` itself is a change)."""
    rows = json.loads(out.read_text())["entries"] if out.is_file() else []
    return {(row["network"], row["precision"]): row for row in rows if row["commit"].rstrip("+") == commit.rstrip("+")}


def run(
    names: Sequence[str], precisions: tuple[str, ...], out: Path, scratch: Path | None = None, folders: Sequence[str] = ()
) -> Iterator[Row]:
    """Measure what ``out`` lacks, write ``out`` after each, and give each entry that is new. ``folders``: options of real weights."""
    facts = environment(1)
    entries = same_commit(out, facts["commit"])
    asked = [(name, precision) for name in names for precision in PRECISIONS if precision in precisions]
    order = [*entries, *(key for key in asked if key not in entries)]
    for key in asked:
        if key in entries:
            continue
        named = {"network": key[0], "precision": key[1], "commit": facts["commit"]}
        entries[key] = {**named, **measure(*key, folders, scratch)}
        rows = [entries[one] for one in order if one in entries]
        write_json(out, {"schema": 1, "command": command_line(), **facts, "entries": rows})
        yield entries[key]


def line_of(row: Row) -> Row:
    """What of an entry fits on a line."""
    short: Row = {key: row[key] for key in ("network", "precision", "parameters_m", "seconds", "peak_gb", "crashed") if key in row}
    for engine in row.get("engines", []):
        verdict = engine.get("refused", engine.get("gradient_cosine"))
        short[engine["engine"]] = [verdict, engine.get("onnx_checker"), engine["rtx"].get("status")]
    return short


@click.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Entries of other commits are dropped from it.")
@click.option("--only", multiple=True, help="Again for each network; all by default.")
@click.option("--fr", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Recognisers, with an fr.json: adds real_NAME.")
@click.option("--taef2", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A tiny autoencoder: adds real_taef2.")
@click.option("--precision", default="both", show_default=True, type=click.Choice([*PRECISIONS, "both"]))
@click.option("--scratch", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where up to 4 GB lie meanwhile.")
@click.option("--one", nargs=2, type=(str, click.Choice(PRECISIONS)), hidden=True)
@click.option("--plan", type=click.Path(exists=True, dir_okay=False, path_type=Path), hidden=True)
def main(
    out: Path,
    only: tuple[str, ...],
    fr: Path | None,
    taef2: Path | None,
    precision: str,
    scratch: Path | None,
    one: tuple[str, str] | None,
    plan: Path | None,
) -> None:
    """Export networks of true size, and write what each took."""
    known = {**NETWORKS, **real_networks(fr, taef2)}
    if unknown := {*only, *([one[0]] if one else [])} - set(known):
        raise click.UsageError(f"no network is called {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if one is not None:
        export_network(known[one[0]], one[1], out)
    elif plan is not None:
        plan_graph(plan, out)
    else:
        folders = [word for flag, path in (("--fr", fr), ("--taef2", taef2)) if path for word in (flag, str(path))]
        for row in run(only or tuple(known), PRECISIONS if precision == "both" else (precision,), out, scratch, folders):
            click.echo(json.dumps(line_of(row)))


if __name__ == "__main__":
    main()

"""Our exports of a UNet, an autoencoder and CLIP's image tower beside those of optimum-onnx: what they give, their size, their speed.

    python3 -m venv optimum && optimum/bin/pip install ".[optimum]"
    python benchmarks/optimum_parity.py --python optimum/bin/python --out benchmarks/results/optimum_parity.json

optimum-onnx 0.1.0 cannot be installed beside our diffusers, so it has an environment of its own, in which ``optimum_reference.py`` makes
small networks of Stable Diffusion's and CLIP's classes with random weights, exports them, and runs them by optimum's own pipeline and by
torch. Here the same weights are exported by ours, forward alone and with gradients. Speed is that of all graphs in one ONNX Runtime, in
turn; optimum's graphs take any size, ours one, and only ours have gradients.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from faceprotect_engines.files.manifest import Manifest
from faceprotect_engines.spec import Array
from faceprotect_export.build.parity import compare
from faceprotect_export.pretrained import kinds
from faceprotect_export.pretrained.common import Options
from faceprotect_sdk.benchmark import random_input
from full_size import write_json
from harness.provenance import command_line, environment

Row = dict[str, Any]
Arrays = Mapping[str, Array]
SIZE = 256
#: Ours to optimum's: kind of export, where its graph lies, and the names of what goes in.
NETWORKS = {
    "unet": ("unet", "onnx-pipeline/unet", {"sample": "latent", "timestep": "time", "encoder_hidden_states": "embedding"}),
    "vae-encoder": ("vae", "onnx-pipeline/vae_encoder", {"sample": "signed"}),
    "vae-decoder": ("vae", "onnx-pipeline/vae_decoder", {"latent_sample": "latent"}),
    "clip-image": ("clip", "onnx-clip", {"pixel_values": "pixel_values"}),
}
SOURCES = {"unet": "pipeline", "vae": "pipeline", "clip": "clip"}


def reference(python: str, folder: Path) -> Row:
    """Run the other environment's script; gives its versions and seconds."""
    script = Path(__file__).with_name("optimum_reference.py")
    try:
        done = subprocess.run([python, str(script), str(folder)], capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    except OSError as error:
        raise click.ClickException(f"{python}: cannot be run ({error.strerror}). This script's first lines say how to make it") from error
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-2:])
        raise click.ClickException(f"{python}: optimum_reference.py ended with {done.returncode}: {last}")
    facts: Row = json.loads((folder / "facts.json").read_text())
    return facts


def export(kind: str, folder: Path, *, forward: bool) -> tuple[dict[str, tuple[Path, Manifest]], float]:
    """Our engines of a kind by name, with their folders, and the seconds that they took."""
    out = folder / f"ours-{kind}-{'forward' if forward else 'gradient'}"
    began = time.perf_counter()
    made = kinds.export(kind, folder / SOURCES[kind], out, Options(size=SIZE, forward_only=forward))
    seconds = round(time.perf_counter() - began, 1)
    return {one.name: (out if len(made) == 1 else out / one.name, one) for one in made}, seconds


def image_tower(graph: Path) -> Path:
    """CLIP's image tower out of a graph that holds both towers and their products."""
    tower = graph.with_name("tower.onnx")
    onnx.utils.extract_model(str(graph), str(tower), ["pixel_values"], ["image_embeds"])
    return tower


def session(graph: Path, threads: int) -> Any:
    """The same options for every graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(str(graph), options, ["CPUExecutionProvider"])


def call(graph: Path, feeds: Arrays, threads: int) -> Callable[[], list[Array]]:
    """One run of a graph, its feeds in the types that it names."""
    opened = session(graph, threads)
    kinds_of = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
    typed = {value.name: np.asarray(feeds[value.name]).astype(kinds_of[value.type]) for value in opened.get_inputs()}
    return partial(opened.run, None, typed)


def medians(calls: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Milliseconds of each, taken in turn, so that a machine that slows down slows all of them."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for one in calls.values():
        one()
    for _ in range(repeat):
        for name, one in calls.items():
            began = time.perf_counter()
            one()
            taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: round(float(np.median(times)), 2) for name, times in taken.items()}


def result(name: str, found: Arrays, scaling: float) -> Array:
    """What an engine of ours gives, as optimum's graph has it: latents without the scaling, images in -1..1."""
    if name == "vae-encoder":
        return found["latent"] / scaling
    if name == "vae-decoder":
        return found["decoded"] * 2 - 1
    return found["noise" if name == "unet" else "embedding"]


def feeds_of(manifest: Manifest, arrays: Arrays, scaling: float) -> dict[str, Array]:
    """Of an engine of ours; cotangents and the like are random."""
    own = {"image": arrays["image"], "latent": arrays["latent"], "embedding": arrays["embedding"], "time": arrays["time"].reshape(1)}
    if manifest.name == "vae-decoder":
        own["latent"] = arrays["latent"] * scaling
    random = np.random.default_rng(0)
    return {spec.name: own[spec.name] if spec.name in own else random_input(spec, random) for spec in manifest.inputs}


def measure(name: str, folder: Path, arrays: Arrays, ours: Mapping[str, tuple[Path, Manifest]], threads: int, repeat: int) -> Row:
    """One network: ``ours`` by "forward" and "gradient" against optimum's graph."""
    _, where, names = NETWORKS[name]
    graphs = {"optimum": folder / where / "model.onnx"}
    if name == "clip-image":
        graphs["optimum"] = image_tower(graphs["optimum"])
    calls = {"optimum": call(graphs["optimum"], {theirs: arrays[own] for theirs, own in names.items()}, threads)}
    given = {"optimum": arrays[f"optimum:{name}"], "torch": arrays[f"torch:{name}"]}
    for way, (place, manifest) in ours.items():
        scaling = float(manifest.metadata.get("scaling", 1.0))
        graphs[way] = place / "model.onnx"
        calls[way] = call(graphs[way], feeds_of(manifest, arrays, scaling), threads)
        given[way] = result(name, dict(zip((spec.name for spec in manifest.outputs), calls[way](), strict=True)), scaling)
    pairs = [(way, other) for way in given for other in ("optimum", "torch") if way != other and (way, other) != ("torch", "optimum")]
    return {
        "agreement": {f"{way} with {other}": asdict(compare(given[other], given[way])) for way, other in pairs},
        "bytes": {way: graph.stat().st_size for way, graph in graphs.items()},
        "opset": {way: onnx.load(str(graph)).opset_import[0].version for way, graph in graphs.items()},
        "p50_ms": medians(calls, repeat),
    }


def line_of(name: str, row: Row) -> str:
    """What of a network fits on a line."""
    worst = max(found["relative_error"] for pair, found in row["agreement"].items() if pair.endswith("with optimum"))
    sizes = ", ".join(f"{way} {size / 1e6:.2f} MB" for way, size in row["bytes"].items())
    return f"{name}: within {worst:.1e} of optimum; {sizes}; " + ", ".join(f"{way} {ms} ms" for way, ms in row["p50_ms"].items())


@click.command()
@click.option("--python", required=True, help="Of the environment that has optimum-onnx.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=30, show_default=True)
def main(python: str, out: Path, threads: int, repeat: int) -> None:
    """Export the same networks twice, and compare."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        facts = reference(python, folder)
        with np.load(folder / "arrays.npz") as stored:
            arrays = dict(stored)
        arrays["signed"] = arrays["image"] * 2 - 1
        ours: dict[str, dict[str, tuple[Path, Manifest]]] = {name: {} for name in NETWORKS}
        seconds: Row = {}
        for kind in SOURCES:
            for way in ("forward", "gradient"):
                engines, seconds[f"{kind}, {way}"] = export(kind, folder, forward=way == "forward")
                for name, engine in engines.items():
                    if way == "forward" or engine[1].gradient:
                        ours[name][way] = engine
        rows = {}
        for name in NETWORKS:
            rows[name] = measure(name, folder, arrays, ours[name], threads, repeat)
            click.echo(line_of(name, rows[name]))
    described = {"optimum": facts["versions"], "seconds of export": {"optimum": facts["export_seconds"], "ours, parity measured": seconds}}
    here = environment(1)
    write_json(out, {"schema": 1, "command": command_line(), **here, "threads": threads, "repeat": repeat, **described, "networks": rows})


if __name__ == "__main__":
    main()

"""Does the builder of TensorRT-RTX, which needs no GPU, take every engine that ships?

    python benchmarks/rtx_builds.py --out benchmarks/results/rtx_builds.json

Each graph is put beside its weights, as the store does before it opens an engine, and compiled in a process of its own, so that its peak
memory is its own and a builder that crashes is an entry. An engine of any size has no plan. Where weights were not fetched, random numbers
stand in for them: what the builder takes depends on operators and shapes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

import full_size
from faceprotect_engines.errors import EngineError
from faceprotect_engines.files.hydrate import hydrate
from faceprotect_engines.files.manifest import Manifest
from faceprotect_engines.store import Store
from harness.provenance import command_line, environment

Row = dict[str, Any]


def build(store: Store, name: str) -> Row:
    """What the builder says of one engine: accepted, refused, crashed or not built, with the reason."""
    manifest = store.manifest(name)
    row: Row = {"engine": name, "graph_sha256": manifest.files["graph"].sha256}
    if any(size is None for tensor in manifest.inputs for size in tensor.shape):
        return {**row, "status": "not built", "reason": "takes images of any size; a plan has one"}
    with tempfile.TemporaryDirectory() as made:
        folder = store.folder(name)
        if not store.has_weights(name):
            row["weights"] = "random numbers: they are not here"
            folder = random_weights(folder, manifest, Path(made, "engine"))
        elif manifest.weights:
            folder = hydrate(folder, manifest, store.cache)
        plan = full_size.started(["--plan", str(folder / manifest.files["graph"].path)], Path(made, "plan.json"))
    return {**row, "status": "crashed", **plan}


def random_weights(engine: Path, manifest: Manifest, folder: Path) -> Path:
    """The graph in ``folder``, beside files of the size of its weights."""
    folder.mkdir()
    graph = manifest.files["graph"].path
    shutil.copyfile(engine / graph, folder / graph)
    for weights in manifest.weights:
        numbers = np.random.default_rng(0).normal(0, 0.05, weights.bytes // 4 + 1).astype(np.float32)
        (folder / weights.location).write_bytes(numbers.tobytes()[: weights.bytes])
    return folder


@click.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--only", multiple=True, metavar="ENGINE", help="Again for each engine; all that ship by default.")
def main(out: Path, only: tuple[str, ...]) -> None:
    """Build every engine that ships by TensorRT-RTX, one after another."""
    store, rows, facts = Store(), [], environment(1)
    for name in only or store.names():
        try:
            rows.append(build(store, name))
        except EngineError as error:
            raise click.ClickException(str(error)) from error
        click.echo(json.dumps({key: value for key, value in rows[-1].items() if key not in ("graph_sha256", "layers")}))
        full_size.write_json(out, {"schema": 1, "command": command_line(), **facts, "entries": rows})


if __name__ == "__main__":
    main()

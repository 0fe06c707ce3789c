"""Every engine's latency on this machine, beside the least time that the machine could take for it.

    python benchmarks/latency.py                                # results/<machine>-<backend>-<precision>.json
    python benchmarks/latency.py --engines keypoints --engines latent-step --threads 1 --out FILE

Engines run in turn, one repetition of each after the other, so that a machine that slows down slows all of them; each therefore finds its
weights out of the caches, as in a protection. The ceilings (a matrix product, a convolution, a copy) are measured in the same rounds on as
many threads, and the best of each is taken. The floor is the longer of an engine's arithmetic at the best rate and its bytes once through
the memory (harness/work.py).
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from onnx import TensorProto, helper

from faceprotect_engines.backends.cpu_count import available_cores
from faceprotect_engines.backends.ort import PROVIDERS
from faceprotect_engines.engine import Engine
from faceprotect_engines.errors import EngineError
from faceprotect_engines.spec import Array
from faceprotect_engines.store import Store
from faceprotect_sdk.benchmark import percentiles, power_state, random_input
from faceprotect_sdk.photo.write import write_atomic
from faceprotect_sdk.pool import ONE_SIZE
from harness.provenance import command_line, environment
from harness.work import Ceilings, Work, work_of

RESULTS = Path(__file__).resolve().parent / "results"
SIDE = 1024
CHANNELS, FIELD = 128, 64
COPIED = 1 << 28  # bytes, so many that no cache holds them
PAUSE_S = 0.05  # the threads of whatever ran before spin on for a while


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call, after a pause."""
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# Ceilings


def operator_call(kind: str, shapes: Sequence[Sequence[int]], out: Sequence[int], threads: int, **attributes: Any) -> Callable[[], object]:
    """A call of one float32 operator in ONNX Runtime on the CPU; the second of its two inputs is a weight."""
    rng = np.random.default_rng(0)
    data, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "w"], ["y"], **attributes)],
        kind,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [helper.make_tensor("w", TensorProto.FLOAT, shapes[1], weight.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # as the engines have it
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[PROVIDERS["cpu"]])
    return lambda: session.run(None, {"x": data})


class Machine:
    """The work whose rates are the ceilings: a 1024^3 product, a 3x3 convolution of 128 channels at 64x64, a copy of 256 MiB."""

    def __init__(self, threads: int, pool: ThreadPoolExecutor) -> None:
        square, image = (SIDE, SIDE), (1, CHANNELS, FIELD, FIELD)
        self._source, self._target = (np.ones(COPIED // 4, np.float32) for _ in range(2))
        parts = list(zip(np.array_split(self._target, threads), np.array_split(self._source, threads), strict=True))
        self._calls: dict[str, tuple[float, Callable[[], object]]] = {
            "matmul": (2 * SIDE**3, operator_call("MatMul", (square, square), square, threads)),
            "conv": (
                2 * CHANNELS**2 * 9 * FIELD**2,
                operator_call("Conv", (image, (CHANNELS, CHANNELS, 3, 3)), image, threads, pads=[1, 1, 1, 1]),
            ),
            "copy": (2 * COPIED, lambda: list(pool.map(lambda part: np.copyto(*part), parts))),
        }
        self._best: dict[str, float] = {}

    def round(self) -> None:
        """Measure each once more."""
        for name, (amount, call) in self._calls.items():
            self._best[name] = max(self._best.get(name, 0.0), amount / seconds(call) / 1e9)

    def ceilings(self) -> Ceilings:
        """The best rates so far."""
        return Ceilings(**{name: round(best, 2) for name, best in self._best.items()})


@contextmanager
def machine_of(threads: int) -> Iterator[Machine]:
    """Warmed up."""
    with ThreadPoolExecutor(threads) as pool:
        machine = Machine(threads, pool)
        machine.round()
        yield machine


# Engines


class Candidate:
    """An engine that is open, its random inputs, and how long its runs took."""

    def __init__(self, name: str, store: Store, device: str, threads: int) -> None:
        self._manifest, self._folder = store.manifest(name), store.folder(name)
        generator = np.random.default_rng(0)
        self._feeds = {tensor.name: random_input(tensor, generator) for tensor in self._manifest.inputs}
        began = time.perf_counter()
        self.engine: Engine = store.open(name, device, threads)
        self._open_s = time.perf_counter() - began
        outputs: dict[str, Array] = {}
        self._first_s = seconds(lambda: outputs.update(self.engine.run(self._feeds)))
        self._work = self._count(outputs)
        self._seconds: list[float] = []

    def _count(self, outputs: Mapping[str, Array]) -> Work | None:
        """None for an engine without a graph of its own."""
        if "graph" not in self._manifest.files:
            return None
        return work_of(self._folder / self._manifest.files["graph"].path, self._feeds, outputs)

    @property
    def precision(self) -> str:
        """What it computes in."""
        return str(self._manifest.precision.get("arithmetic", "float32"))

    def round(self) -> None:
        """Run once more."""
        self._seconds.append(seconds(lambda: self.engine.run(self._feeds)))

    def entry(self, ceilings: Ceilings | None) -> dict[str, Any]:
        """Seconds; of an engine on the CPU also the floor, what sets it, and p50 / floor."""
        work = self._work
        row: dict[str, Any] = {"device": self.engine.device, "precision": self.precision}
        row |= {"macs": work and work.macs, "bytes": work and work.bytes}
        row |= {"open_s": round(self._open_s, 4), "first_run_s": round(self._first_s, 6), **percentiles(self._seconds)}
        if work is None or ceilings is None or self.engine.device != "cpu":
            return row | {"floor_s": None, "bound": None, "ratio": None}
        floor, bound = ceilings.floor(work)
        return row | {"floor_s": round(floor, 9), "bound": bound, "ratio": round(row["p50_s"] / floor, 3)}


def measure(names: Sequence[str], device: str, threads: int, repeat: int) -> dict[str, Any]:
    """Open all engines, run them in turn, and give ``ceilings`` (None where none of them runs on the CPU) and ``engines`` by name.

    Raises ValueError for two engines of one name and for a graph that cannot be counted, and what ``Store.open`` raises.
    """
    with ExitStack() as stack:
        candidates: dict[str, Candidate] = {}
        for given in dict.fromkeys(names):
            name = Path(given).name  # of a folder, for where it lies is no part of a result
            if name in candidates:
                raise ValueError(f"two engines are called '{name}'; measure them one after the other, each with its own --out")
            candidates[name] = Candidate(given, Store(), device, threads)
            stack.enter_context(closing(candidates[name].engine))
        on_cpu = any(one.engine.device == "cpu" for one in candidates.values())
        machine = stack.enter_context(machine_of(threads)) if on_cpu else None
        turns = [*([machine.round] if machine else []), *(one.round for one in candidates.values())]
        for _ in range(repeat):
            for turn in turns:
                turn()
        power = power_state()  # while the clocks are still up
        ceilings = machine.ceilings() if machine else None
        rows = {name: one.entry(ceilings) for name, one in candidates.items()}
    return {"power": power, "ceilings": ceilings and asdict(ceilings), "engines": rows}


# What is written


def result_name(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """``<machine>-<backend>-<precision>.json``; several backends or precisions are joined by a plus."""
    parts = [platform.machine(), *("+".join(sorted({str(row[key]) for row in rows.values()})) for key in ("device", "precision"))]
    return "-".join(part.replace(":", "-") for part in parts) + ".json"


def line_of(name: str, row: Mapping[str, Any]) -> str:
    """A row of the table."""
    macs, floor, ratio = (
        "" if row[key] is None else f"{row[key] * scale:.{digits}f}"
        for key, scale, digits in (("macs", 1e-6, 0), ("floor_s", 1e3, 2), ("ratio", 1, 1))
    )
    times = " ".join(f"{1e3 * row[key]:9.2f}" for key in ("open_s", "first_run_s", "p50_s", "p90_s", "p95_s", "p99_s"))
    return f"{name:<20} {row['device']:<10} {macs:>7} {times} {floor:>9} {row['bound'] or '':<8} {ratio:>6}"


HEADER = f"{'engine':<20} {'device':<10} {'MMAC':>7} " + " ".join(
    f"{word:>9}" for word in ("open ms", "first ms", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "floor ms")
)
HEADER += f" {'bound':<8} {'ratio':>6}"


def show(document: Mapping[str, Any]) -> None:
    """The table, and the ceilings under it."""
    click.echo(HEADER)
    for name, row in document["engines"].items():
        click.echo(line_of(name, row))
    if document["ceilings"]:
        best = document["ceilings"]
        click.echo(f"ceilings: MatMul {best['matmul']} GFLOP/s, Conv {best['conv']} GFLOP/s, copy {best['copy']} GB/s")
    if document["left_out"]:
        click.echo(f"left out: {', '.join(document['left_out'])} (not fetched, or of any size where a plan has one)")


def all_engines(store: Store, device: str) -> tuple[list[str], list[str]]:
    """What is measured where none is named, and what is left out: weights not fetched, and sizes that no plan on ``device`` can have."""
    left_out = [
        name
        for name in store.names()
        if store.waits(name) or (device in ONE_SIZE and any(None in tensor.shape for tensor in store.manifest(name).inputs))
    ]
    return [name for name in store.names() if name not in left_out], left_out


@click.command()
@click.option("--engines", multiple=True, metavar="NAME", help="Again for each engine, a name or a folder; all that ship by default.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=available_cores(), show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=20, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: results/<machine>-<backend>-<precision>.json.")
def main(engines: tuple[str, ...], device: str, threads: int, repeat: int, out: Path | None) -> None:
    """Measure engines in turn, print a table, and write it as JSON."""
    names, left_out = (list(engines), []) if engines else all_engines(Store(), device)
    try:
        found = measure(names, device, threads, repeat)
    except (EngineError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    facts = {"schema": 1, "command": command_line(), **environment(1), "threads": threads, "repeat": repeat}
    document = {**facts, **found, "left_out": left_out}
    show(document)
    out = out or RESULTS / result_name(document["engines"])
    write_atomic(out, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode(), force=True)
    click.echo(f"written: {out}")


if __name__ == "__main__":
    main()

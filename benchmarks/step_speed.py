"""The fused step engine against eager torch autograd, in turn, in one process: medians and their ratio.

    python benchmarks/step_speed.py --out benchmarks/results/step_speed.json
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

from faceprotect_engines.backends.cores import available_cores
from faceprotect_engines.store import Store
from faceprotect_export.surrogate import smooth_samples
from faceprotect_export.vjp import gradient_function
from faceprotect_export.zoo import Sources, latent_step_recipe


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@click.command()
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path))
@click.option("--rounds", default=15, show_default=True)
@click.option("--threads", default=available_cores(), show_default=True)
def main(weights: Path, out: Path | None, rounds: int, threads: int) -> None:
    """Print the medians, the ratio, and the gradient's error."""
    torch.set_num_threads(threads)
    recipe = latent_step_recipe(Sources(weights, tuple(smooth_samples(1))))
    inputs = {**{k: v.detach() for k, v in recipe.samples[0].items()}, **recipe.weights_inputs}
    eager = gradient_function(recipe.function, recipe.variables, recipe.loss)
    feeds = {k: v.detach().numpy() for k, v in recipe.samples[0].items()}
    with Store().open("latent-step", "cpu", threads) as engine:
        reference, measured = eager(inputs)["grad_offset"].numpy(), engine.run(feeds)["grad_offset"]
        pairs = [(seconds(lambda: engine.run(feeds)), seconds(lambda: eager(inputs))) for _ in range(rounds)]
    engine_s, torch_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    result = {
        "command": "python benchmarks/step_speed.py",
        "machine": f"{platform.machine()}, {threads} threads",
        "torch": torch.__version__,
        "engine_ms": round(1e3 * engine_s, 1),
        "torch_ms": round(1e3 * torch_s, 1),
        "ratio_median": round(statistics.median(t / e for e, t in pairs), 2),
        "gradient_relative_error": float(np.linalg.norm(measured - reference) / np.linalg.norm(reference)),
    }
    click.echo(json.dumps(result))
    if out:
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

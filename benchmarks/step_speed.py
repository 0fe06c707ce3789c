"""The fused step engines against eager torch autograd, and beside each other, in turn, in one process: medians and ratios.

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

from faceprotect_engines.backends.cpu_count import available_cores
from faceprotect_engines.store import Store
from faceprotect_export.build.folder import EngineRecipe
from faceprotect_export.surrogates.surrogate import smooth_samples
from faceprotect_export.trace.vjp import gradient_function
from faceprotect_export.zoo.builders import latent_step_recipe
from faceprotect_export.zoo.sources import Sources
from faceprotect_export.zoo.style import style_step_recipe


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call, after a pause: the threads of whatever ran before spin on for a while."""
    time.sleep(0.1)
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


STEPS: dict[str, Callable[[Sources], EngineRecipe]] = {"latent": latent_step_recipe, "style": style_step_recipe}


class Pair:
    """The step of one method, as engine and as eager torch, on the same inputs."""

    def __init__(self, method: str, sources: Sources, threads: int) -> None:
        recipe = STEPS[method](sources)
        self.inputs = {**{k: v.detach() for k, v in recipe.samples[0].items()}, **recipe.weights_inputs}
        self.feeds = {k: v.detach().numpy() for k, v in recipe.samples[0].items()}
        self.eager = gradient_function(recipe.function, recipe.variables, recipe.loss)
        self.engine = Store().open(f"{method}-step", "cpu", threads)

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()

    def round(self) -> tuple[float, float]:
        """Seconds of engine and eager torch."""
        return seconds(lambda: self.engine.run(self.feeds)), seconds(lambda: self.eager(self.inputs))

    def error(self) -> float:
        """Of the engine's gradient, relative to torch's."""
        reference, measured = self.eager(self.inputs)["grad_offset"].numpy(), self.engine.run(self.feeds)["grad_offset"]
        return float(np.linalg.norm(measured - reference) / np.linalg.norm(reference))


@click.command()
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path))
@click.option("--rounds", default=15, show_default=True)
@click.option("--threads", default=available_cores(), show_default=True)
def main(weights: Path, out: Path | None, rounds: int, threads: int) -> None:
    """Print, per method, the medians, their ratio and the gradient's error; and the step of style in steps of latent."""
    torch.set_num_threads(threads)
    sources = Sources(weights, tuple(smooth_samples(1)))
    pairs = {method: Pair(method, sources, threads) for method in STEPS}
    errors = {method: pair.error() for method, pair in pairs.items()}  # warms both up
    times = [{method: pair.round() for method, pair in pairs.items()} for _ in range(rounds)]
    rows = {}
    for method in STEPS:
        engine, eager = zip(*(row[method] for row in times), strict=True)
        rows[method] = {
            "engine_ms": round(1e3 * statistics.median(engine), 1),
            "torch_ms": round(1e3 * statistics.median(eager), 1),
            "ratio_median": round(statistics.median(t / e for e, t in zip(engine, eager, strict=True)), 2),
            "gradient_relative_error": errors[method],
        }
    for pair in pairs.values():
        pair.close()
    result = {
        "command": "python benchmarks/step_speed.py",
        "machine": f"{platform.machine()}, {threads} threads",
        "torch": torch.__version__,
        "steps": rows,
        "style_in_latent_steps": round(statistics.median(row["style"][0] / row["latent"][0] for row in times), 2),
    }
    click.echo(json.dumps(result))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

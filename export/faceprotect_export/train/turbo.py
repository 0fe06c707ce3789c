"""Train a denoiser that comes down in one step where the one that ships takes three.

``python -m faceprotect_export.train.turbo LATENTS.npy -o DIR`` with latents float16 [2, N, C, h, h] as ``train/diffusion.py`` leaves them.
Progressive distillation (Salimans and Ho 2022, section 3) at the levels of the method ``diffusion`` only: what the student makes of an
inverted latent, moved as a search moves it, is to be what three steps of the denoiser make of it. Resumes from
``DIR/state.safetensors``; writes ``DIR/diffusion.safetensors``, which stands in for that file among the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from faceprotect_export.modules.diffusion import DiffusionConfig, LatentDiffusion
from faceprotect_export.objectives.diffusion import ALIGNED, LEVELS
from faceprotect_export.train import checkpoint
from faceprotect_export.train.loop import scheduled, train, updated
from faceprotect_export.train.precision import mixed
from faceprotect_export.zoo.sources import Sources

HELD_OUT = 64
#: Standard deviation of the offsets of a search at medium, in units of the scaled latent, and their largest here.
SPREAD = (0.0, 0.4)


def along(model: LatentDiffusion, latent: Tensor, levels: Sequence[int]) -> Tensor:
    """The scaled latent [N, C, h, w] moved through the time steps, up or down."""
    empty = model.empty.expand(len(latent), -1, -1)
    for here, there in pairwise(levels):
        latent = model.moved(latent, model.predict(latent, here, empty)[0], here, there)
    return latent


class Trainer:
    """The denoiser that ships, the student that begins as it, and the average of that."""

    def __init__(self, weights: Path, rate: float) -> None:
        self.teacher, self.student = Sources(weights, ()).diffusion(), Sources(weights, ()).diffusion()
        self.student.unet.requires_grad_(True)
        self.rate = rate
        self.optimiser = torch.optim.AdamW(self.student.unet.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.0)
        self.average = {k: v.detach().clone() for k, v in self.student.unet.state_dict().items()}

    def error(self, latents: Tensor, spread: Tensor) -> Tensor:
        """Squared error to the three steps, per sample [N]; ``spread`` [N]: of the offsets."""
        with torch.no_grad(), mixed():
            above = along(self.teacher, latents, LEVELS).float() + spread.reshape(-1, 1, 1, 1) * torch.randn_like(latents)
            wanted = along(self.teacher, above, ALIGNED).float()
        with mixed():
            made = along(self.student, above, (ALIGNED[0], ALIGNED[-1])).float()
        return (made - wanted).square().mean((1, 2, 3))

    def step(self, latents: Tensor, number: int, steps: int) -> dict[str, float]:
        """One update."""
        scheduled(self.optimiser, self.rate, number, steps)
        error = self.error(latents, torch.empty(len(latents)).uniform_(*SPREAD)).mean()
        updated(self.optimiser, 100 * error, dict(self.student.unet.named_parameters()), self.average, number)
        return {"error": error.item()}

    @torch.no_grad()
    def figures(self, latents: Tensor) -> dict[str, float]:
        """Of photos that were not trained on: root of the error without offset and with, of the average and of the denoiser that ships."""
        kept, found = {k: v.clone() for k, v in self.student.unet.state_dict().items()}, {}
        for name, weights in (("student", self.average), ("untrained", self.teacher.unet.state_dict())):
            self.student.unet.load_state_dict(weights)
            for spread in (0.0, 0.2):
                torch.manual_seed(0)
                found[f"{name}_{spread}"] = round(float(self.error(latents, torch.full((len(latents),), spread)).mean().sqrt()), 5)
        self.student.unet.load_state_dict(kept)
        return found


@click.command()
@click.argument("latents", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--steps", default=1200, show_default=True)
@click.option("--count", default=8, show_default=True, help="Latents per step.")
@click.option("--rate", default=3e-4, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(latents: Path, weights: Path, out: Path, steps: int, count: int, rate: float, seed: int) -> None:
    """Train, logging to DIR/curve.jsonl."""
    data = np.load(latents, mmap_mode="r")
    order = np.random.default_rng(seed).permutation(data.shape[1])
    held, known = order[:HELD_OUT], order[HELD_OUT:]
    facts = checkpoint.load(weights / "diffusion.safetensors")[1]
    trainer, first = Trainer(weights, rate), 0
    if (out / "state.safetensors").exists():
        tensors, before = checkpoint.load(out / "state.safetensors")
        trainer.average = checkpoint.restore(tensors, trainer.student.unet, trainer.optimiser)
        first = int(before["step"])
    rng = np.random.default_rng([seed, first])

    def taken(sides: np.ndarray, rows: np.ndarray) -> Tensor:
        return float(facts["scaling"]) * torch.from_numpy(data[sides, rows].astype(np.float32))

    def step(number: int) -> dict[str, float]:
        torch.manual_seed(seed * steps + number)
        return trainer.step(taken(rng.integers(0, 2, count), rng.choice(known, count, replace=False)), number, steps)

    def save(done: int) -> dict[str, float]:
        figures = trainer.figures(taken(np.zeros(len(held), int), held))
        state = checkpoint.training_state(trainer.student.unet, trainer.optimiser, trainer.average)
        checkpoint.save(out / "state.safetensors", state, {"step": done})
        made = {f"unet.{k}": v for k, v in trainer.average.items()} | {"empty": trainer.student.empty}
        config = asdict(DiffusionConfig.read(facts["config"]))
        about = {"config": config, "scaling": facts["scaling"], "seed": seed, "data": facts["data"], "step": done}
        checkpoint.save(out / "diffusion.safetensors", made, about | figures, half=True)
        return figures

    train(out, first, steps, step, save)


if __name__ == "__main__":
    main()

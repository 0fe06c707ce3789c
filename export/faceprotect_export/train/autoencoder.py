"""Train the face autoencoder on aligned crops.

``python -m faceprotect_export.train.autoencoder CROPS.npy... -o DIR`` with crops uint8 RGB [N, 256, 256, 3] as written by
``faceprotect_export.train.crops``. Resumes from ``DIR/state.safetensors``; writes ``DIR/weights.safetensors`` (fp16).
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceprotect_export.modules.autoencoder import Autoencoder
from faceprotect_export.train import checkpoint
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.precision import mixed

LATENT_NOISE = 0.1  # neighbouring latents must decode to neighbouring faces: the search walks between them


def batch(crops: list[np.ndarray], size: int, count: int, rng: np.random.Generator) -> Tensor:
    """Random flips and ``size`` px windows, [count, 3, size, size] in 0..1."""
    lengths = np.array([len(c) for c in crops])
    windows = []
    for _ in range(count):
        source = crops[rng.choice(len(crops), p=lengths / lengths.sum())]
        top, left = rng.integers(0, source.shape[1] - size + 1, 2)
        window = source[rng.integers(len(source)), top : top + size, left : left + size]
        windows.append(window[:, ::-1] if rng.random() < 0.5 else window)
    return torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2).float() / 255


def reconstruction_loss(made: Tensor, image: Tensor) -> Tensor:
    """L1 on pixels and on their differences: edges and skin texture weigh as much as shading."""
    loss = F.l1_loss(made, image)
    for axis in (2, 3):
        loss = loss + F.l1_loss(made.diff(dim=axis), image.diff(dim=axis))
    return loss + 4 * F.mse_loss(made, image)


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--steps", default=3000, show_default=True)
@click.option("--size", default=128, show_default=True, help="Training window in pixels.")
@click.option("--count", default=16, show_default=True, help="Windows per step.")
@click.option("--rate", default=1.5e-3, show_default=True, help="Peak learning rate.")
@click.option("--seed", default=0, show_default=True)
def main(crops: tuple[Path, ...], out: Path, steps: int, size: int, count: int, rate: float, seed: int) -> None:
    """Train, logging to DIR/curve.jsonl."""
    torch.manual_seed(seed)
    data = [np.load(path, mmap_mode="r") for path in crops]
    model = channels_last(Autoencoder())
    optimiser = torch.optim.Adam(model.parameters(), rate, betas=(0.9, 0.99))
    state, start = out / "state.safetensors", 0
    if state.exists():
        tensors, metadata = checkpoint.load(state)
        checkpoint.restore(tensors, model, optimiser)
        start = int(metadata["step"])
    rng = np.random.default_rng([seed, start])
    began = time.time()
    for step in range(start, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        image = batch(data, size, count, rng).contiguous(memory_format=torch.channels_last)
        with mixed():
            made, latent = model(image, LATENT_NOISE)
        loss = reconstruction_loss(made.float(), image) + 1e-3 * latent.float().square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
        if step % 25 == 0 or step == steps - 1:
            psnr = -10 * torch.log10(F.mse_loss(made.float(), image)).item()
            checkpoint.log(out / "curve.jsonl", step=step, loss=loss.item(), psnr=psnr, seconds=time.time() - began)
        if step % 200 == 199 or step == steps - 1:
            checkpoint.save(state, checkpoint.training_state(model, optimiser), {"step": step + 1})
            metadata = {"steps": step + 1, "seed": seed, "data": [p.stem for p in crops]}
            checkpoint.save(out / "weights.safetensors", model.state_dict(), metadata, half=True)


if __name__ == "__main__":
    main()

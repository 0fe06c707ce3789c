"""Train the UNet that denoises the latents of the face autoencoder.

``python -m faceprotect_export.train.diffusion CROPS.npy... -o DIR`` with crops uint8 RGB [N, 256, 256, 3] as written by
``faceprotect_export.train.crops``. Latents are computed once, of every crop and its mirror image (``DIR/latents.npy``). Resumes from
``DIR/state.safetensors``; writes ``DIR/weights.safetensors`` (fp16): the average of the weights, the empty embedding, and the
latents' scale.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from tqdm import tqdm

from faceprotect_export.modules.diffusion import DiffusionConfig, alphas_cumprod, build_unet, empty_embedding
from faceprotect_export.train import checkpoint
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.loop import scheduled, updated
from faceprotect_export.train.precision import mixed
from faceprotect_export.zoo.sources import Sources

HELD_OUT = 128
#: Half of the draws are below this time step: protection works where there is little noise.
LOW_NOISE = 250
AVERAGED = 0.999


class Denoiser(nn.Module):
    """What is trained: the UNet and the empty embedding."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.unet = build_unet(config)
        self.unet.set_attn_processor(AttnProcessor())  # on CPU the fused form's backward pass costs three times as much in bf16
        self.empty = nn.Parameter(empty_embedding(config))

    def loss(self, latents: Tensor, times: Tensor, noise: Tensor, alphas: Tensor) -> Tensor:
        """Squared error of the predicted noise, per sample [N] (Ho et al. 2020, eq. 14)."""
        share = alphas[times].float().reshape(-1, 1, 1, 1)
        noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
        predicted = self.unet(noisy, times, self.empty.expand(len(latents), -1, -1), return_dict=False)[0]
        return F.mse_loss(predicted.float(), noise, reduction="none").mean((1, 2, 3))


def read_latents(crops: list[Path], weights: Path, file: Path) -> np.ndarray:
    """Float16 [2, N, C, h, h]: latents of the crops and of their mirror images, made at the first call."""
    if not file.exists():
        encoder = channels_last(Sources(weights, ()).autoencoder().encoder)
        data, found = read_crops(crops, 256), []
        with torch.no_grad(), mixed():
            for part in tqdm(np.array_split(data, max(1, len(data) // 32)), desc="latents"):
                images = torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255
                found.append(torch.stack([encoder(images), encoder(images.flip(3))]).half().numpy())
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.concatenate(found, 1))
    return np.load(file, mmap_mode="r")


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--steps", default=3200, show_default=True)
@click.option("--count", default=32, show_default=True, help="Latents per step.")
@click.option("--rate", default=1e-3, show_default=True, help="Peak learning rate.")
@click.option("--seed", default=0, show_default=True)
def main(crops: tuple[Path, ...], out: Path, weights: Path, steps: int, count: int, rate: float, seed: int) -> None:
    """Train, logging to DIR/curve.jsonl."""
    torch.manual_seed(seed)
    latents = read_latents(list(crops), weights, out / "latents.npy")
    config, alphas = DiffusionConfig(), alphas_cumprod()
    order = np.random.default_rng(seed).permutation(latents.shape[1])
    apart = min(HELD_OUT, len(order) // 4)
    held, known = order[:apart], order[apart:]
    scaling = float(1 / np.std(latents[0, known[:512]].astype(np.float32)))
    model = channels_last(Denoiser(config))
    optimiser = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-4)
    state, start = out / "state.safetensors", 0
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    if state.exists():
        tensors, metadata = checkpoint.load(state)
        average = checkpoint.restore(tensors, model, optimiser)
        start = int(metadata["step"])
    torch.manual_seed(seed + start)  # a resumed run must not repeat the noise of the first
    rng, began, recent = np.random.default_rng([seed, start]), time.time(), []
    for step in range(start, steps):
        scheduled(optimiser, rate, step, steps, 200)
        chosen = rng.choice(known, count, replace=False)
        batch = scaling * torch.from_numpy(latents[rng.integers(0, 2, count), chosen].astype(np.float32))
        times = torch.from_numpy(np.where(np.arange(count) % 2, rng.integers(0, LOW_NOISE, count), rng.integers(0, len(alphas), count)))
        with mixed():
            loss = model.loss(batch.contiguous(memory_format=torch.channels_last), times, torch.randn_like(batch), alphas).mean()
        updated(optimiser, loss, dict(model.named_parameters()), average, step, AVERAGED)
        recent.append(loss.item())
        if step % 100 == 99 or step == steps - 1:
            checkpoint.log(out / "curve.jsonl", step=step + 1, loss=float(np.mean(recent)), seconds=round(time.time() - began))
            recent.clear()
        if step % 500 == 499 or step == steps - 1:
            checkpoint.save(state, checkpoint.training_state(model, optimiser, average), {"step": step + 1})
            figures = held_out_loss(average, config, scaling * torch.from_numpy(latents[0, held].astype(np.float32)), alphas)
            checkpoint.log(out / "curve.jsonl", step=step + 1, **figures)
            facts = {"steps": step + 1, "seed": seed, "data": [p.stem for p in crops], "scaling": scaling, "config": asdict(config)}
            checkpoint.save(out / "weights.safetensors", average, facts | figures, half=True)


@torch.no_grad()
def held_out_loss(average: dict[str, Tensor], config: DiffusionConfig, latents: Tensor, alphas: Tensor) -> dict[str, float]:
    """Squared error of the noise predicted on photos that were not trained on, at four time steps, always the same noise."""
    model = Denoiser(config)
    model.load_state_dict(average)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    found = {}
    for at in (51, 151, 401, 801):
        pairs = zip(latents.split(32), noise.split(32), strict=True)
        parts = [model.loss(some, torch.full((len(some),), at), added, alphas) for some, added in pairs]
        found[f"held_{at}"] = round(float(torch.cat(parts).mean()), 5)
    return found


if __name__ == "__main__":
    main()

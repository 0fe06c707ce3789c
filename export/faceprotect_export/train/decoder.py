"""Train a smaller decoder of the autoencoder's latents: what a search moves in where its every step has to be quick.

``python -m faceprotect_export.train.decoder CROPS.npy... --autoencoder weights/autoencoder.safetensors -o DIR`` with crops uint8 RGB
[N, 256, 256, 3]. A search uses differences of two decodings alone, so that the difference which an offset makes is what is learnt,
as the large decoder makes it. Resumes from ``DIR/state.safetensors``; writes ``DIR/decoder.safetensors`` (fp16).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_export.modules.autoencoder import Autoencoder, Decoder, small_decoder
from faceprotect_export.train import checkpoint
from faceprotect_export.train.autoencoder import batch
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.loop import AVERAGED, scheduled, train, updated
from faceprotect_export.train.precision import mixed

#: Standard deviations of the offsets: from the first steps of a search to further than its last.
OFFSETS = (0.05, 0.8)
#: Of the loss, the share of the decoding itself: a face keeps the decoder on what it has seen.
ITSELF = 0.2


def offsets(latent: Tensor, random: torch.Generator) -> Tensor:
    """Random offsets of latents [N, C, h, w]: white, or smooth over a few numbers, of a size of their own for each."""
    white = torch.randn(latent.shape, generator=random)
    smooth = F.avg_pool2d(white, 3, 1, 1) * 3
    pick, size = torch.rand(2, len(latent), 1, 1, 1, generator=random)
    low, high = OFFSETS
    return torch.where(pick < 0.5, white, smooth) * low * (high / low) ** size


def loss_of(small: nn.Module, large: nn.Module, latent: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the part of the large decoder's difference that the small one misses (of its power), both scalars."""
    both = torch.cat([latent, latent + offset])
    with torch.no_grad(), mixed():
        wanted, moved = large(both).float().chunk(2)
    with mixed():
        made, made_moved = small(both).float().chunk(2)
    change = moved - wanted
    power = change.square().mean((1, 2, 3)) + 1e-6
    missed = ((made_moved - made - change).square().mean((1, 2, 3)) / power).mean()
    return missed + ITSELF * F.mse_loss(made, wanted) / wanted.var(), missed.detach()


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--autoencoder", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--steps", default=4000, show_default=True)
@click.option("--size", default=128, show_default=True, help="Training window in pixels.")
@click.option("--count", default=12, show_default=True, help="Windows per step.")
@click.option("--rate", default=2e-3, show_default=True, help="Peak learning rate.")
@click.option("--seed", default=0, show_default=True)
def main(crops: tuple[Path, ...], autoencoder: Path, out: Path, steps: int, size: int, count: int, rate: float, seed: int) -> None:
    """Train, logging to DIR/curve.jsonl: ``missed`` is the part of a difference's power that the small decoder does not make."""
    torch.manual_seed(seed)
    data = [np.load(path, mmap_mode="r") for path in crops]
    teacher = Autoencoder()
    teacher.load_state_dict(checkpoint.load(autoencoder)[0])
    channels_last(teacher.requires_grad_(False).eval())
    small: Decoder = channels_last(small_decoder())
    optimiser = torch.optim.Adam(small.parameters(), rate, betas=(0.9, 0.99))
    average = {key: value.clone() for key, value in small.state_dict().items()}
    state, start = out / "state.safetensors", 0
    if state.exists():
        tensors, facts = checkpoint.load(state)
        average, start = checkpoint.restore(tensors, small, optimiser), int(facts["step"])
    random, rng = torch.Generator().manual_seed(seed + start), np.random.default_rng([seed, start])

    def step(number: int) -> Mapping[str, float]:
        scheduled(optimiser, rate, number, steps)
        image = batch(data, size, count, rng).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), mixed():
            latent = teacher.encoder(image).float()
        loss, missed = loss_of(small, teacher.decoder, latent, offsets(latent, random))
        updated(optimiser, loss, small.state_dict(keep_vars=True), average, number, AVERAGED)
        return {"loss": loss.item(), "missed": missed.item()}

    def save(done: int) -> Mapping[str, float]:
        facts = {"step": done, "seed": seed, "data": [path.stem for path in crops]}
        checkpoint.save(state, checkpoint.training_state(small, optimiser, average), facts)
        checkpoint.save(out / "decoder.safetensors", average, facts, half=True)
        return {}

    train(out, start, steps, step, save)


if __name__ == "__main__":
    main()

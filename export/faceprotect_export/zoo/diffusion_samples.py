"""One picture of what the diffusion model can do.

``python -m faceprotect_export.zoo.diffusion_samples -o SHEET.png [--crops CROPS.npy]``. Rows of faces drawn from noise. With crops,
before them: photos, what the autoencoder makes of them, and what is left after inversion and denoising with the levels aligned
and as published.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from torch import Tensor

from faceprotect_export.modules.diffusion import STEPS, LatentDiffusion
from faceprotect_export.objectives.diffusion import ALIGNED, PUBLISHED, DiffusionDecode, DiffusionInvert, way_down
from faceprotect_export.train.crops import read_crops
from faceprotect_export.zoo.sources import Sources


@torch.no_grad()
def drawn(model: LatentDiffusion, count: int, steps: int, seed: int, size: int) -> Tensor:
    """Faces [count, 3, S, S] from noise, along DDIM steps of even length."""
    channels = model.unet.config.in_channels
    latent = torch.randn((count, channels, size, size), generator=torch.Generator().manual_seed(seed))
    levels = np.linspace(STEPS - 1, 0, steps + 1).round().astype(int).tolist()
    for here, there in pairwise(levels):
        latent = model.moved(latent, model.predict(latent, here, model.empty.expand(count, -1, -1))[0], here, there)
    return model.codec.decode(latent)


@torch.no_grad()
def remade(model: LatentDiffusion, photos: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Photos [N, 3, S, S] up to the noisy latent and down again, with the empty embedding."""
    made, (times, moves) = [], (torch.tensor(numbers) for numbers in way_down(model, levels))
    decode = DiffusionDecode(model, len(times))
    for photo in photos.split(1):
        found = DiffusionInvert(model)(photo)
        embeddings = {name: found["embedding"] for name in decode.embeddings}
        made.append(decode(latent=found["level_3"], offset=torch.zeros_like(found["level_3"]), times=times, moves=moves, **embeddings))
    return torch.cat(made)


def psnr(made: Tensor, photos: Tensor) -> float:
    """Mean over photos, in dB."""
    return float(-10 * torch.log10((made.clamp(0, 1) - photos).square().mean((1, 2, 3))).mean())


@click.command()
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--crops", multiple=True, type=click.Path(exists=True, path_type=Path), help="Photos to remake; the sheet then shows people.")
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--count", default=8, show_default=True)
@click.option("--steps", default=50, show_default=True, help="Of drawing.")
@click.option("--seed", default=0, show_default=True)
def main(weights: Path, crops: tuple[Path, ...], out: Path, count: int, steps: int, seed: int) -> None:
    """Draw the sheet; with crops, say how well they are remade."""
    model = Sources(weights, ()).diffusion()
    rows: list[Tensor] = []
    if crops:
        data = read_crops(list(crops), 256)
        count = min(count, len(data))
        chosen = data[np.random.default_rng(seed).choice(len(data), count, replace=False)]
        photos = torch.from_numpy(chosen).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            decoded = torch.cat([model.codec.decode(model.codec.encode(one)) for one in photos.split(1)])
        aligned, published = remade(model, photos, ALIGNED), remade(model, photos, PUBLISHED)
        for name, made in (("autoencoder", decoded), ("aligned", aligned), ("as published", published)):
            click.echo(f"{name}: {psnr(made, photos):.1f} dB to the photo, {psnr(made, decoded):.1f} dB to its decoding")
        rows += [photos, decoded, aligned, published]
    rows += list(drawn(model, 2 * count, steps, seed, model.unet.config.sample_size).split(count))
    picture = torch.cat([torch.cat(list(row), 2) for row in rows], 1).clamp(0, 1)
    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(out), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()

"""The first stage of the published method (DiffAM, CVPR 2024): take makeup off, guided by text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from faceprotect_export.makeup.encoder import ImageText
from faceprotect_export.makeup.render import BARE, Look, random_look
from faceprotect_export.modules.makeup import Ddim
from faceprotect_export.objectives.makeup import (
    Perceptual,
    RemovalWeights,
    direction_loss,
    histogram_distance,
    palette,
)
from faceprotect_export.train import checkpoint
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.looks import key_points, painted, pictures
from faceprotect_export.train.makeup_stages import Terms, generated, generator_of, options, tune, way, without_terms
from faceprotect_export.train.surrogates import HELD_OUT
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.face.align import CROP


class Removal:
    """Loss of the first stage on faces that were painted; ``captions`` say with what."""

    def __init__(self, sources: Sources, encoder: ImageText, weights: RemovalWeights) -> None:
        self.encoder, self.weights = encoder, weights
        self.perceptual = Perceptual(sources.autoencoder().encoder)
        self.told = sources.student("conv")[0]

    def __call__(self, image: Tensor, made: Tensor, captions: Sequence[str]) -> Terms:
        """Of generated and made-up faces [N, 3, S, S]."""
        weights, terms = self.weights, {}
        if weights.direction:
            with torch.no_grad():
                worded = self.encoder.texts([BARE]) - self.encoder.texts(captions)
                seen = self.encoder.images(made)
            terms["direction"] = weights.direction * direction_loss(self.encoder.images(image) - seen, worded)
        if weights.identity:
            with torch.no_grad():
                own = self.told(made)
            terms["identity"] = weights.identity * (1 - (self.told(image) * own).sum(1)).mean()
        if weights.l1:
            terms["l1"] = weights.l1 * (image - made).abs().mean()
        if weights.perceptual:
            terms["perceptual"] = weights.perceptual * self.perceptual(image, made)
        return torch.stack(list(terms.values())).sum(), {name: float(value.detach()) for name, value in terms.items()}


@torch.no_grad()
def removal_figures(generator: Ddim, sources: Sources, encoder: ImageText, crops: np.ndarray, seed: int) -> dict[str, float]:
    """On painted faces whose bare original is known: PSNR to it before and after, distance of the lips' and lids' histograms, and the
    cosine of what was taken off to the words for it, and to those of another face."""
    rng, keypoints, rows = np.random.default_rng(seed), sources.keypoints(), list[dict[str, float]]()
    points, directions, worded = key_points(crops, keypoints), [], []
    for index in range(len(crops)):
        bare, place = pictures(crops[index : index + 1]), points[index : index + 1]
        look = Look()
        while look == Look():
            look = random_look(rng)
        made, captions = painted(bare, place, [look])
        image = generated(generator, made, keypoints)
        wanted = {name: value for name, value in palette(bare, place).quantiles.items() if name != "skin"}
        before, after = (histogram_distance(one, place, wanted) for one in (made, image))
        shared = before.keys() & after.keys()
        rows.append(
            {
                "psnr_made_up": float(-10 * torch.log10((made - bare).square().mean())),
                "psnr_removed": float(-10 * torch.log10((image - bare).square().mean())),
                "histograms_made_up": float(np.mean([before[name] for name in shared])),
                "histograms_removed": float(np.mean([after[name] for name in shared])),
            }
        )
        directions.append(encoder.images(image) - encoder.images(made))
        worded.append(encoder.texts([BARE]) - encoder.texts(captions))
    taken, words = F.normalize(torch.cat(directions), dim=1), F.normalize(torch.cat(worded), dim=1)
    found = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
    found["closer"] = round(float(np.mean([row["psnr_removed"] > row["psnr_made_up"] for row in rows])), 4)
    found["direction"] = round(float((taken * words).sum(1).mean()), 4)
    return found | {"direction_shuffled": round(float((taken * words.roll(1, 0)).sum(1).mean()), 4), "faces": float(len(rows))}


def _latents(sources: Sources, crops: np.ndarray, points: Tensor, file: Path, seed: int) -> np.ndarray:
    """Of bare and painted faces, float16 [2, N, C, h, w]; made at the first call."""
    if not file.exists():
        rng, codec, found = np.random.default_rng(seed), sources.diffusion().codec, []
        for index in tqdm(range(len(crops)), desc="painting"):
            bare = pictures(crops[index : index + 1])
            made, _ = painted(bare, points[index : index + 1], [random_look(rng)])
            with torch.no_grad():
                found.append(codec.encode(torch.cat([bare, made])).half().numpy())
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.stack(found, 1))
    return np.load(file)


@click.command()
@options
@click.option("--truth", is_flag=True, help="In place of the published loss: the distance of the latent to that of the bare face.")
def removal(
    crops: tuple[Path, ...],
    weights: Path,
    out: Path,
    without: tuple[str, ...],
    rank: int,
    faces: int,
    count: int,
    epochs: int,
    rate: float,
    inversions: int | None,
    generations: int,
    start: int | None,
    seed: int,
    truth: bool,
) -> None:
    """Take makeup off, guided by text; also writes DIR/figures.json, on faces that were not trained on."""
    torch.manual_seed(seed)
    sources = Sources(weights, ())
    encoder, data = sources.looks(), read_crops(list(crops), CROP)
    generator = generator_of(sources.diffusion(), start or 300, inversions or 40, generations, rank)
    order = np.random.default_rng(seed).permutation(len(data))
    apart = min(HELD_OUT, len(order) // 4)
    known = order[apart:][:faces]
    points = key_points(data[known], sources.keypoints())

    terms = without_terms(RemovalWeights(), without)
    published, keypoints = Removal(sources, encoder, terms), sources.keypoints()

    def by_text(step: int) -> Terms:
        rng = np.random.default_rng([seed, step])
        chosen = rng.choice(len(known), count, replace=False)
        made, captions = painted(pictures(data[known[chosen]]), points[chosen], [random_look(rng) for _ in range(count)])
        return published(generated(generator, made, keypoints), made, captions)

    if truth:
        latents = torch.from_numpy(_latents(sources, data[known], points, out / "latents.npy", seed)).float()

    def by_truth(step: int) -> Terms:
        chosen = np.random.default_rng([seed, step]).choice(len(known), count, replace=False)
        bare, made = latents[:, chosen]
        value = F.mse_loss(generator.generated(made), bare)
        return value, {"undone": float(value.detach() / F.mse_loss(made, bare))}

    facts = {"seed": seed, "data": [path.stem for path in crops], "faces": faces, "truth": truth, "loss": asdict(terms), **way(generator)}
    epoch = max(1, faces // count)
    tune(
        generator,
        by_truth if truth else by_text,
        steps=epochs * epoch,
        epoch=epoch,
        rate=rate,
        growth=1.0,
        out=out,
        facts=facts,
    )
    checkpoint.log(out / "curve.jsonl", **removal_figures(generator, sources, encoder, data[order[:apart]], seed))

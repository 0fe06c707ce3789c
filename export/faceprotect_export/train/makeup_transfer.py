"""The second stage of the published method (DiffAM, CVPR 2024): put one look on, guided by its reference, away from the identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from faceprotect_export.makeup.ddim import write_ddim
from faceprotect_export.makeup.encoder import ImageText
from faceprotect_export.makeup.reference import Reference, direction_of, shipped_reference
from faceprotect_export.makeup.regions import regions
from faceprotect_export.makeup.render import LOOKS
from faceprotect_export.modules.diffusion import LatentDiffusion
from faceprotect_export.modules.makeup import Ddim, PixelDiffusion
from faceprotect_export.objectives.makeup import (
    Perceptual,
    TransferWeights,
    direction_loss,
    made_up,
    pixel_loss,
)
from faceprotect_export.surrogates.surrogate import smooth_samples
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.looks import pictures
from faceprotect_export.train.loop import Report
from faceprotect_export.train.makeup_stages import Terms, generated, generator_of, options, tune, way, without_terms
from faceprotect_export.train.surrogates import HELD_OUT, Surrogate, digests, read_surrogates
from faceprotect_export.zoo.sources import Sources, card
from faceprotect_sdk.face.align import CROP


class Transfer:
    """Loss of the second stage, away from the face's own identity; ``adversarial`` says whether that term counts yet."""

    def __init__(
        self, sources: Sources, encoder: ImageText, reference: Reference, surrogates: Sequence[Surrogate], weights: TransferWeights
    ) -> None:
        self.encoder, self.reference, self.surrogates, self.weights = encoder, reference, surrogates, weights
        self.perceptual, self.keypoints = Perceptual(sources.autoencoder().encoder), sources.keypoints()
        with torch.no_grad():
            self.direction = direction_of(reference, encoder)

    def __call__(self, image: Tensor, original: Tensor, adversarial: bool) -> Terms:
        """Of generated and original faces [N, 3, S, S]."""
        weights, terms = self.weights, {}
        if weights.pixels:
            with torch.no_grad():
                points = self.keypoints(original)
                masks = regions(original, points)
                target = made_up(original, points, self.reference.palette, self.reference.bare_palette)
            terms["pixels"] = weights.pixels * pixel_loss(image, target, masks)
        if weights.direction:
            turned = self.encoder.images(image) - self.encoder.images(original)
            terms["direction"] = weights.direction * direction_loss(turned, self.direction.expand(len(image), -1))
        if weights.adversarial and adversarial:
            cosines = []
            for surrogate in self.surrogates:
                with torch.no_grad():
                    own = surrogate.net(original).float()
                cosines.append((surrogate.net(image).float() * own).sum(1).mean())
            terms["adversarial"] = weights.adversarial * torch.stack(cosines).mean()
        if weights.perceptual:
            terms["perceptual"] = weights.perceptual * self.perceptual(image, original)
        if weights.l1:
            terms["l1"] = weights.l1 * (image - original).abs().mean()
        return torch.stack(list(terms.values())).sum(), {name: float(value.detach()) for name, value in terms.items()}


@dataclass(frozen=True)
class TransferSettings:
    """Of the second stage; the defaults are the published ones. ``adversarial_from``: the epoch, or None for the last."""

    start: int = 60
    inversions: int = 20
    generations: int = 6
    rank: int = 0
    faces: int = 200
    count: int = 1
    epochs: int = 4
    rate: float = 8e-6
    growth: float = 1.3
    adversarial_from: int | None = None
    loss: TransferWeights = field(default_factory=TransferWeights)
    seed: int = 0


def train_transfer(
    sources: Sources,
    model: LatentDiffusion | PixelDiffusion,
    reference: Reference,
    encoder: ImageText,
    crops: np.ndarray,
    out: Path,
    settings: TransferSettings,
    *,
    teachers: Path | None = None,
    facts: dict[str, Any] | None = None,
    report: Report | None = None,
) -> tuple[Ddim, dict[str, Any]]:
    """The tuned generator and what is to be said of it; goes on from what an interrupted run has left in ``out``."""
    torch.manual_seed(settings.seed)
    surrogates, _ = read_surrogates(sources, teachers, 0.0)
    generator = generator_of(model, settings.start, settings.inversions, settings.generations, settings.rank)
    order = np.random.default_rng(settings.seed).permutation(len(crops))
    known = order[min(HELD_OUT, len(order) // 4) :][: settings.faces]
    count = min(settings.count, len(known))
    epoch = max(1, len(known) // count)
    begins = settings.epochs - 1 if settings.adversarial_from is None else settings.adversarial_from

    published, keypoints = Transfer(sources, encoder, reference, surrogates, settings.loss), sources.keypoints()

    def by_reference(step: int) -> Terms:
        within = np.random.default_rng([settings.seed, step // epoch]).permutation(len(known))
        place = step % epoch * count
        original = pictures(crops[known[within[place : place + count]]])
        return published(generated(generator, original, keypoints), original, step // epoch >= begins)

    known_facts = {
        **(facts or {}),
        "look": reference.name,
        "recognisers": [one.name for one in surrogates],
        **asdict(settings),
        **way(generator),
        "learnt_from": digests(teachers),
    }
    tune(
        generator,
        by_reference,
        steps=settings.epochs * epoch,
        epoch=epoch,
        rate=settings.rate,
        growth=settings.growth,
        out=out,
        facts=known_facts,
        report=report,
    )
    return generator, known_facts


@click.command()
@options
@click.option("--look", default="rose", show_default=True, type=click.Choice(list(LOOKS)))
@click.option("--teachers", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Further recognisers, with an fr.json.")
@click.option("--growth", default=1.3, show_default=True, help="Of the rate, per epoch.")
@click.option("--adversarial-from", type=int, help="Epoch from which that term counts.  [default: the last]")
@click.option("--engines", type=click.Path(path_type=Path), metavar="DIR", help="Write engines and recipe too: protect --look DIR.")
@click.option("--adversarial", default=TransferWeights().adversarial, show_default=True, help="Weight of that term.")
def transfer(
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
    look: str,
    teachers: Path | None,
    growth: float,
    adversarial_from: int | None,
    adversarial: float,
    engines: Path | None,
) -> None:
    """Put one look on, guided by its reference, away from the face's own identity."""
    sources = Sources(weights, tuple(smooth_samples(2)))
    settings = TransferSettings(
        start or 60,
        inversions or 20,
        generations,
        rank,
        faces,
        count,
        epochs,
        rate,
        growth,
        adversarial_from,
        without_terms(replace(TransferWeights(), adversarial=adversarial), without),
        seed,
    )
    reference, data = shipped_reference(look, sources.keypoints()), read_crops(list(crops), CROP)
    generator, facts = train_transfer(
        sources,
        sources.diffusion(),
        reference,
        sources.looks(),
        data,
        out,
        settings,
        teachers=teachers,
        facts={"data": [path.stem for path in crops]},
    )
    if engines:
        write_ddim(engines, generator, sources, card("makeup-published", facts), facts)

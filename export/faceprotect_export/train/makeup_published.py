"""The two stages of the published method (DiffAM, CVPR 2024, arXiv 2405.09882) on our denoiser, with the losses as published.

``python -m faceprotect_export.train.makeup_published removal|transfer CROPS.npy... -o DIR``: *removal* learns to take off painted makeup,
guided by text; *transfer* learns one look, guided by its reference. Crops are uint8 RGB [N, 256, 256, 3] as written by
``faceprotect_export.train.crops``. Both resume from ``DIR/state.safetensors`` and write ``DIR/weights.safetensors`` (fp16): what was tuned.
Defaults are the published settings; ``--without TERM`` leaves a term of the loss out. Beside them: the removal may be shown the bare
originals of the painted faces (``--truth``), which the paper had not; and either stage changes a face only where makeup goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn
from tqdm import tqdm

from faceprotect_export.makeup.colours import parts
from faceprotect_export.makeup.ddim import write_ddim
from faceprotect_export.makeup.encoder import ImageText
from faceprotect_export.makeup.reference import Reference, direction_of, shipped_reference
from faceprotect_export.makeup.regions import regions
from faceprotect_export.makeup.render import BARE, LOOKS, Look, random_look
from faceprotect_export.modules.diffusion import LatentDiffusion
from faceprotect_export.modules.makeup import Ddim, PixelDiffusion, changeable
from faceprotect_export.objectives.makeup import (
    Perceptual,
    RemovalWeights,
    TransferWeights,
    direction_loss,
    histogram_distance,
    made_up,
    palette,
    pixel_loss,
)
from faceprotect_export.objectives.search import combine
from faceprotect_export.surrogates.surrogate import smooth_samples
from faceprotect_export.train import checkpoint
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.looks import key_points, painted, pictures
from faceprotect_export.train.loop import Report, train
from faceprotect_export.train.surrogates import HELD_OUT, Surrogate, digests, read_surrogates
from faceprotect_export.zoo.sources import Sources, card
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.face.mask import face_mask

#: A loss, and its terms as numbers.
Terms = tuple[Tensor, dict[str, float]]


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


def generated(generator: Ddim, image: Tensor, keypoints: nn.Module) -> Tensor:
    """Faces [N, 3, S, S] as the generator leaves them, changed only where makeup goes."""
    with torch.no_grad():
        where = torch.from_numpy(face_mask()) * changeable(parts(image, keypoints(image))[0])
    moved, plain = generator(image)
    return combine(moved, plain, image, where)


def tune(
    generator: Ddim,
    loss: Callable[[int], Terms],
    *,
    steps: int,
    epoch: int,
    rate: float,
    growth: float,
    out: Path,
    facts: dict[str, Any],
    report: Report | None = None,
) -> None:
    """Adam on what the generator tunes, by the loss of each step; the rate grows by ``growth`` per epoch."""
    parameters = nn.ParameterDict({name.replace(".", "/"): value for name, value in generator.trained().items()})
    optimiser = torch.optim.Adam(parameters.parameters(), rate)
    first = 0
    if (out / "state.safetensors").exists():
        tensors, made = checkpoint.load(out / "state.safetensors")
        checkpoint.restore(tensors, parameters, optimiser)
        first = int(made["step"])
    torch.manual_seed(int(facts["seed"]) + first)  # a resumed run must not repeat the draws of the first

    def step(number: int) -> dict[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = rate * growth ** (number // epoch)
        value, terms = loss(number)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        return {"loss": float(value.detach()), **terms}

    def save(done: int) -> dict[str, float]:
        known = {**facts, "step": done}
        checkpoint.save(out / "state.safetensors", checkpoint.training_state(parameters, optimiser), known)
        checkpoint.save(out / "weights.safetensors", generator.trained(), known, half=True)
        return {}

    train(out, first, steps, step, save, report=report)


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
    generator = _generator(model, settings.start, settings.inversions, settings.generations, settings.rank)
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
        **_way(generator),
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


def _without(weights: Any, terms: Sequence[str]) -> Any:
    """Weights with the named terms at 0."""
    if unknown := set(terms) - set(asdict(weights)):
        raise click.UsageError(f"no term of the loss is called {', '.join(sorted(unknown))}; there are: {', '.join(asdict(weights))}")
    return replace(weights, **dict.fromkeys(terms, 0.0))


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)),
            click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path)),
            click.option("-o", "--out", required=True, type=click.Path(path_type=Path)),
            click.option("--without", multiple=True, metavar="TERM", help="Leave this term of the loss out (repeatable)."),
            click.option("--rank", default=0, show_default=True, help="Of low-rank additions; 0 tunes every weight, as published."),
            click.option("--faces", default=200, show_default=True, help="Faces of an epoch."),
            click.option("--count", default=1, show_default=True, help="Faces per step."),
            click.option("--epochs", default=4, show_default=True),
            click.option("--rate", default=8e-6, show_default=True),
            click.option("--inversions", type=int, help="Steps up.  [default: 40 removal, 20 transfer]"),
            click.option("--generations", default=6, show_default=True, help="Steps down."),
            click.option("--start", type=int, help="Highest time step.  [default: 300 removal, 60 transfer]"),
            click.option("--seed", default=0, show_default=True),
        )
    ):
        command = option(command)
    return command


@click.group()
def main() -> None:
    """Train a stage of the published method, logging to DIR/curve.jsonl."""


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


@main.command()
@_options
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
    generator = _generator(sources.diffusion(), start or 300, inversions or 40, generations, rank)
    order = np.random.default_rng(seed).permutation(len(data))
    apart = min(HELD_OUT, len(order) // 4)
    known = order[apart:][:faces]
    points = key_points(data[known], sources.keypoints())

    terms = _without(RemovalWeights(), without)
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

    facts = {"seed": seed, "data": [path.stem for path in crops], "faces": faces, "truth": truth, "loss": asdict(terms), **_way(generator)}
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


@main.command()
@_options
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
        _without(replace(TransferWeights(), adversarial=adversarial), without),
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


def _generator(model: LatentDiffusion | PixelDiffusion, start: int, inversions: int, generations: int, rank: int) -> Ddim:
    generator = Ddim(model, start, inversions, generations, rank)
    for one in (generator.model, generator.tuned):
        for part in one.unet.modules():
            if isinstance(part, Attention):
                part.set_processor(AttnProcessor())  # the fused form cannot be traced, and on CPU its backward pass is slow
    return channels_last(generator)


def _way(generator: Ddim) -> dict[str, Any]:
    return {"up": generator.up, "down": generator.down, "rank": generator.rank}


if __name__ == "__main__":
    main()

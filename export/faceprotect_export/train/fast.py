"""Train the one-pass student on what a search descends on, with many recognisers.

``python -m faceprotect_export.train.fast CROPS.npy... --teachers DIR -o DIR`` with crops uint8 RGB [N, 256, 256, 3] as written by
``faceprotect_export.train.crops``, and a folder with an ``fr.json`` whose models with the role ``surrogate`` are recognisers to get past.
Those need not ship: only the student does. Dlib's recogniser and the student ``conv`` take part in every step, two of the others in turn.

Every crop is decoded with the offset that the student proposes, seen through the transformations that a search draws, or recompressed,
and the loss is that of a search: how far above its limit each recogniser is, and how far the change is above the budget that the student
was asked for. ``--targets``: what searches found on some of the crops (``faceprotect_export.train.targets``), to which half of a batch is
to be alike. What searches find is another change on every face, and a student left to itself makes one that is the same on all of
them; ``--apart`` prices that. Resumes from ``DIR/state.safetensors``; writes ``DIR/weights.safetensors`` (fp16, averaged).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from faceprotect_export.modules.diffusion import DiffusionConfig
from faceprotect_export.modules.fast import BUDGET, Fast
from faceprotect_export.objectives.search import combine
from faceprotect_export.train import checkpoint
from faceprotect_export.train.critic import Critic
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.loop import resume_state, save_state, scheduled, train, updated
from faceprotect_export.train.perturb import augment
from faceprotect_export.train.precision import mixed
from faceprotect_export.train.surrogates import (
    BUDGETS,
    Surrogate,
    common,
    concentrated,
    digests,
    drawn,
    facing,
    means,
    outcome,
    paid,
    penalty_of,
    read_surrogates,
    read_witness,
    rising,
    set_aside,
    tensor_of,
    unlike,
)
from faceprotect_export.train.targets import Targets
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.face.mask import face_mask


@dataclass(frozen=True)
class Prices:
    """Weights in the loss, beside recognisers and budget: a critic's displeasure, unlikeness to the targets, sameness on all faces."""

    realism: float = 0.0
    targets: float = 0.0
    apart: float = 0.0


class Trainer:
    """The student, its average, and everything that it is trained against."""

    def __init__(self, sources: Sources, surrogates: list[Surrogate], goals: list[str], rate: float, prices: Prices) -> None:
        denoiser = sources.diffusion()
        facts = checkpoint.load(sources.weights / "diffusion.safetensors")[1]
        self.surrogates, self.rate = surrogates, rate
        self.critic, self.prices = Critic(), prices
        self.keypoints = sources.keypoints()
        self.autoencoder = channels_last(sources.autoencoder())
        config = DiffusionConfig.read(facts["config"])
        self.told = surrogates[1].net  # the student that ships
        self.fast = Fast(config, goals, facts["scaling"], surrogates[1].decoys.shape[1])
        self.fast.start_from(denoiser)
        self.fast.unet.set_attn_processor(AttnProcessor())
        self.fast = channels_last(self.fast)
        self.mask = torch.from_numpy(face_mask())
        self.optimiser = torch.optim.AdamW(self.fast.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.average = {k: v.detach().clone() for k, v in self.fast.state_dict().items()}

    def step(
        self, crops: Tensor, known: tuple[Tensor, Tensor] | None, number: int, steps: int, decoys: float, rng: np.random.Generator
    ) -> dict[str, float]:
        """One update on crops [N, 3, S, S], and before them ``known`` ones with their targets."""
        scheduled(self.optimiser, self.rate, number, steps)
        crops = augment(crops, rng)
        guided = 0 if known is None else len(known[0])
        crops = (crops if known is None else torch.cat([known[0], crops])).contiguous(memory_format=torch.channels_last)
        count = len(crops)
        low, high = np.log(BUDGETS)
        budget = torch.from_numpy(np.exp(rng.uniform(low, high, count)).astype(np.float32))
        chosen = np.where(rng.random(count) < decoys, rng.integers(1, len(self.fast.goals), count), 0)
        chosen[:guided] = 0
        goal = F.one_hot(torch.from_numpy(chosen), len(self.fast.goals)).float()
        used = drawn(self.surrogates, rng)
        with mixed():
            with torch.no_grad():
                latent = self.autoencoder.encoder(crops)
                plain = self.autoencoder.decoder(latent).float()
                own = [surrogate.net(crops).float() for surrogate in used]
            moved = self.autoencoder.decoder(latent + self.fast(latent, own[1], budget, goal)).float()
        image = combine(moved, plain, crops, self.mask)
        lost, cosines = facing(used, image, own, goal, rng)
        price, displeased = penalty_of(image, crops) / budget, crops.new_zeros(())
        change, dodging = image - crops, torch.from_numpy(chosen == 0)
        alike = common(change[dodging]) if self.prices.apart else crops.new_zeros(())
        missed = unlike(change[:guided], known[1]).mean() if known is not None else crops.new_zeros(())
        if self.prices.realism:
            risen = rising(number, steps)
            price = price + risen * (concentrated(image, crops) - change.square().mean((1, 2, 3))) / budget
            with mixed():
                displeased = risen * self.critic.displeased(image, crops).mean()
        loss = lost + paid(price) + self.prices.realism * displeased + self.prices.targets * missed + self.prices.apart * alike
        trained = dict(self.fast.named_parameters())
        updated(self.optimiser, loss, trained, self.average, number)
        figures = {"loss": loss.item(), "price": float(price.detach().mean()), "unlike": missed.item(), "common": alike.item(), **cosines}
        if self.prices.realism:
            figures |= {"displeased": float(displeased.detach()), "critic": self.critic.learn(crops, image)}
        return figures

    @torch.no_grad()
    def figures(self, crops: Tensor, witness: nn.Module, threshold: float) -> dict[str, float]:
        """On photos that were not trained on, at the default budget, dodging: with recognisers of the loss, and one that is not."""
        model = Fast(self.fast.config, self.fast.goals, self.fast.scaling, self.fast.embedding)
        model.load_state_dict(self.average)
        channels_last(model.eval())
        goal = F.one_hot(torch.zeros(1, dtype=torch.long), len(model.goals)).float()
        rows: list[dict[str, Tensor]] = []
        for part in crops.split(16):
            with mixed():
                latent = self.autoencoder.encoder(part)
                embedding, budget = self.told(part).float(), torch.full((len(part),), BUDGET)
                offset = model(latent, embedding, budget, goal.expand(len(part), -1))
                plain, moved = self.autoencoder.decoder(torch.cat([latent, latent + offset])).float().chunk(2)
            image = combine(moved, plain, part, self.mask)
            found = outcome(image, part, part, self.keypoints, self.surrogates, witness, threshold)
            rows.append({"penalty": penalty_of(image, part), **found})
        return means(rows)

    def save(self, out: Path, facts: Mapping[str, object]) -> None:
        """State and averaged weights."""
        save_state(out, self.fast, self.optimiser, self.average, self.critic, facts)
        about = {"config": asdict(self.fast.config), **{k: getattr(self.fast, k) for k in ("goals", "scaling", "embedding")}}
        checkpoint.save(out / "weights.safetensors", self.average, {**facts, **about}, half=True)

    def start_from(self, path: Path) -> set[str]:
        """Begin where a trained student stands; returns what it has learnt from."""
        tensors, facts = checkpoint.load(path)
        self.fast.load_state_dict(tensors)
        self.average = {k: v.detach().clone() for k, v in self.fast.state_dict().items()}
        return set(facts.get("learnt_from", ()))

    def resume(self, out: Path) -> int:
        """The step to go on with."""
        step, average = resume_state(out, self.fast, self.optimiser, self.critic)
        self.average = self.average if average is None else average
        return step


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--teachers", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Further recognisers, with an fr.json.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--start", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A trained student to go on from.")
@click.option("--steps", default=3000, show_default=True)
@click.option("--count", default=12, show_default=True, help="Crops per step.")
@click.option("--rate", default=5e-4, show_default=True)
@click.option("--decoys", default=0.2, show_default=True, help="Share of crops that are led to a decoy.")
@click.option("--margin", default=2.0, show_default=True, help="Below the threshold, in the unit of the strengths.")
@click.option("--realism", default=0.0, show_default=True, help="Weight of a critic; then a change in one place costs more, too.")
@click.option("--targets", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What searches found.")
@click.option("--likeness", default=1.0, show_default=True, help="Weight of being unlike the targets.")
@click.option("--apart", default=0.0, show_default=True, help="Weight of what the changes of several faces have in common.")
@click.option("--seed", default=0, show_default=True)
def main(
    crops: tuple[Path, ...],
    weights: Path,
    teachers: Path | None,
    out: Path,
    start: Path | None,
    steps: int,
    count: int,
    rate: float,
    decoys: float,
    margin: float,
    realism: float,
    targets: tuple[Path, ...],
    likeness: float,
    apart: float,
    seed: int,
) -> None:
    """Train, logging to DIR/curve.jsonl."""
    torch.manual_seed(seed)
    sources = Sources(weights, ())
    data = read_crops(list(crops), CROP)
    held, known = set_aside(len(data), seed)
    surrogates, goals = read_surrogates(sources, teachers, margin)
    searched = Targets(targets, data, held) if targets else None
    if searched and len(searched.rows) < count // 2:
        raise click.UsageError(f"{len(searched.rows)} targets are not held out, fewer than half of --count {count}. Make more of them")
    prices = Prices(realism, likeness if targets else 0.0, apart)
    trainer = Trainer(sources, surrogates, goals, rate, prices)
    witness, threshold = read_witness(sources)
    learnt_from = {*digests(teachers), *(searched.learnt_from if searched else ())}
    if start:
        learnt_from |= trainer.start_from(start)
    first = trainer.resume(out)
    torch.manual_seed(seed + first)  # a resumed run must not repeat the noise of the one before
    rng = np.random.default_rng([seed, first])
    facts = {
        "seed": seed,
        "data": [p.stem for p in crops],
        "recognisers": [one.name for one in surrogates],
        "steps": steps,
        **asdict(prices),
    }
    facts["learnt_from"] = sorted(learnt_from)

    def step(number: int) -> dict[str, float]:
        guided = searched.drawn(data, count // 2, rng) if searched else None
        free = count - count // 2 if searched else count
        batch = torch.stack([tensor_of(data[k]) for k in sorted(rng.choice(known, free, replace=False))])
        return trainer.step(batch, guided, number, steps, decoys, rng)

    def save(done: int) -> dict[str, float]:
        figures = trainer.figures(torch.stack([tensor_of(data[k]) for k in held]), witness, threshold)
        trainer.save(out, {**facts, **figures, "step": done})
        return figures

    train(out, first, steps, step, save, every=50)


if __name__ == "__main__":
    main()

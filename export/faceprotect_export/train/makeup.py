"""Train looks: adversarial makeup in one pass, beside the student ``fast`` (``modules/makeup.py``).

``python -m faceprotect_export.train.makeup CROPS.npy... -o DIR [--look NAME]... [--teachers DIR]`` with crops uint8 RGB
[N, 256, 256, 3] as written by ``faceprotect_export.train.crops``. NAME is a look of the renderer; pictures come in through
:func:`train_looks`, which ``faceprotect-sdk export makeup`` calls.

A face wears its look already (``looks/colours.py``); it is asked to get past every recogniser, its own bare face being known to them
(``train/surrogates.py``), and to cost no more change beside the makeup than the budget that it was asked for. Resumes from
``DIR/state.safetensors``; writes ``DIR/weights.safetensors`` (fp16, averaged): the looks, and what was added to the student.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from faceprotect_export.makeup.encoder import ImageText
from faceprotect_export.makeup.reference import Reference, direction_of, shipped_reference
from faceprotect_export.makeup.render import LOOKS
from faceprotect_export.modules.fast import BUDGET
from faceprotect_export.modules.makeup import ALLOWANCE, Makeup, MakeupProtect, shaded
from faceprotect_export.objectives.makeup import TransferWeights, direction_loss
from faceprotect_export.train import checkpoint
from faceprotect_export.train.critic import Critic
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.loop import Report, resume_state, save_state, scheduled, train, updated
from faceprotect_export.train.perturb import augment
from faceprotect_export.train.precision import mixed
from faceprotect_export.train.surrogates import (
    BUDGETS,
    Surrogate,
    colourless,
    common,
    concentrated,
    digests,
    drawn,
    facing,
    means,
    outcome,
    paid,
    penalty_of,
    points_moved,
    read_surrogates,
    read_witness,
    rising,
    set_aside,
    tensor_of,
)
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.face.mask import face_mask

DIRECTION = TransferWeights().direction
#: Share of moved key points in the penalty; of colour none, for shade has no colour of its own.
HOLD = 0.3
#: Weights of the critic's displeasure beside the recognisers, and of what the shades of several faces have in common: a student left to
#: itself gives all of them the same nose.
REALISM, APART = 0.2, 4.0


class Trainer:
    """The additions, their average, and everything that they are trained against."""

    def __init__(
        self, sources: Sources, surrogates: list[Surrogate], references: Sequence[Reference], rate: float, encoder: ImageText | None
    ) -> None:
        self.surrogates, self.references, self.rate, self.encoder = surrogates, list(references), rate, encoder
        self.autoencoder = channels_last(sources.autoencoder())
        self.keypoints, self.told = sources.keypoints(), surrogates[1].net  # the student that ships
        self.model = Makeup(sources.fast(), [one.name for one in references], torch.stack([one.colours for one in references]))
        self.model.fast.unet.set_attn_processor(AttnProcessor())
        self.model = channels_last(self.model)
        self.protect = MakeupProtect(self.autoencoder, self.told, self.keypoints, self.model)
        self.mask = torch.from_numpy(face_mask())
        self.critic = Critic()
        self.optimiser = torch.optim.AdamW(list(self.model.trained().values()), rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.additions = nn.ParameterDict({k.replace(".", "/"): v for k, v in self.model.trained().items()})
        self.average = {k: v.detach().clone() for k, v in self.model.trained().items()}
        self.directions = None
        if encoder is not None:
            with torch.no_grad():
                self.directions = torch.cat([direction_of(one, encoder) for one in references])

    def step(self, crops: Tensor, number: int, steps: int, goals: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
        """One update on crops [N, 3, S, S]; ``goals`` are the numbers of those that are asked for."""
        scheduled(self.optimiser, self.rate, number, steps, 50)
        crops = augment(crops, rng).contiguous(memory_format=torch.channels_last)
        count = len(crops)
        low, high = np.log(BUDGETS)
        budget = torch.from_numpy(ALLOWANCE * np.exp(rng.uniform(low, high, count)).astype(np.float32))
        goal = F.one_hot(torch.from_numpy(rng.choice(goals, count)), len(self.model.fast.goals)).float()
        looks = rng.integers(0, len(self.references), count)
        look = F.one_hot(torch.from_numpy(looks), len(self.references)).float()
        used = drawn(self.surrogates, rng)
        with torch.no_grad():
            made, _, where = self.protect.dressed(crops, self.mask, look)
        with mixed():
            with torch.no_grad():
                latent = self.autoencoder.encoder(made)
                plain = self.autoencoder.decoder(latent).float()
                own = [surrogate.net(crops).float() for surrogate in used]
            moved = self.autoencoder.decoder(latent + self.model(latent, own[1], budget, goal)).float()
        image = shaded(moved, plain, made, where)
        lost, cosines = facing(used, image, own, goal, rng)
        risen = rising(number, steps)
        more = concentrated(image, made) - (image - made).square().mean((1, 2, 3))
        price = (self.penalty(image, made) + risen * more) / budget
        with mixed():
            displeased = self.critic.displeased(image, made).mean()
        alike = common(image - made)
        loss = lost + paid(price) + risen * REALISM * displeased + APART * alike
        if self.encoder is not None and self.directions is not None:
            turned = self.encoder.images(image) - self.encoder.images(crops).detach()
            off = direction_loss(turned, self.directions[torch.from_numpy(looks)])
            loss, cosines["direction"] = loss + DIRECTION * off, float(off.detach())
        updated(self.optimiser, loss, self.model.trained(), self.average, number)
        cosines |= {"displeased": float(displeased.detach()), "critic": self.critic.learn(made, image)}
        return {"loss": loss.item(), "price": float(price.detach().mean()), "common": float(alike.detach()), **cosines}

    def penalty(self, image: Tensor, made: Tensor) -> Tensor:
        """Of the change beside the makeup, per sample [N]."""
        return penalty_of(image, made, colourless()) + HOLD * points_moved(self.keypoints, image, made)

    @torch.no_grad()
    def averaged(self) -> Makeup:
        """The model with the averaged additions."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.average, strict=False)
        return model.eval()

    @torch.no_grad()
    def figures(self, crops: Tensor, goal: int, witness: nn.Module, threshold: float) -> dict[str, float]:
        """On photos that were not trained on, each look in turn, at the default budget."""
        model, rows = self.averaged(), list[dict[str, Tensor]]()
        protect = MakeupProtect(self.autoencoder, self.told, self.keypoints, model)
        for start in range(0, len(crops), 16):
            part = crops[start : start + 16]
            looks = (np.arange(len(part)) + start) % len(self.references)
            look = F.one_hot(torch.from_numpy(looks), len(self.references)).float()
            goals = F.one_hot(torch.full((len(part),), goal), len(model.fast.goals)).float()
            budget = torch.full((len(part),), ALLOWANCE * BUDGET)
            made, _, _ = self.protect.dressed(part, self.mask, look)
            image = (part + protect(part, self.mask, budget, goals, look, torch.zeros_like(part))["difference"]).clamp(0, 1)
            found = outcome(image, part, made, self.keypoints, self.surrogates, witness, threshold)
            rows.append({"penalty": self.penalty(image, made), **found})
        return means(rows)

    def save(self, out: Path, facts: dict[str, Any]) -> None:
        """State and averaged additions."""
        save_state(out, self.additions, self.optimiser, self.average, self.critic, facts)
        about = {"looks": self.model.looks, "rank": self.model.rank}
        checkpoint.save(out / "weights.safetensors", {**self.average, "colours": self.model.colours}, {**facts, **about}, half=True)

    def start_from(self, path: Path) -> set[str]:
        """Begin with looks' additions that were trained before; returns what they have learnt from."""
        tensors, facts = checkpoint.load(path)
        self.model.load_state_dict({key: tensors[key] for key in self.average}, strict=False)
        self.average = {k: v.detach().clone() for k, v in self.model.trained().items()}
        return set(facts.get("learnt_from", ()))

    def resume(self, out: Path) -> int:
        """The step to go on with."""
        step, average = resume_state(out, self.additions, self.optimiser, self.critic)
        self.average = self.average if average is None else average
        return step


def train_looks(
    sources: Sources,
    crops: np.ndarray,
    references: Sequence[Reference],
    out: Path,
    *,
    teachers: Path | None = None,
    start: Path | None = None,
    encoder: ImageText | None = None,
    steps: int = 450,
    count: int = 8,
    rate: float = 2e-3,
    margin: float = 2.0,
    goal: str = "dodge",
    seed: int = 0,
    facts: dict[str, Any] | None = None,
    report: Report | None = None,
) -> None:
    """Train until ``steps``, going on from what an interrupted run has left in ``out``.

    ``goal``: "dodge" or "decoy", which is every decoy in turn. ``report``: called with the step and the number of steps.
    """
    torch.manual_seed(seed)
    held, known = set_aside(len(crops), seed)
    surrogates, goals = read_surrogates(sources, teachers, margin)
    trainer = Trainer(sources, surrogates, references, rate, encoder)
    witness, threshold = read_witness(sources)
    learnt_from = set(digests(teachers))
    if start:
        learnt_from |= trainer.start_from(start)
    first = trainer.resume(out)
    torch.manual_seed(seed + first)  # a resumed run must not repeat the noise of the one before
    rng = np.random.default_rng([seed, first])
    numbers = np.arange(1) if goal == "dodge" else np.arange(1, len(goals))
    known_facts = {
        "seed": seed,
        "recognisers": [one.name for one in surrogates],
        "steps": steps,
        "goals": goals,
        "goal": goal,
        **(facts or {}),
    }
    known_facts["learnt_from"] = sorted(learnt_from)

    def step(number: int) -> dict[str, float]:
        batch = torch.stack([tensor_of(crops[k]) for k in sorted(rng.choice(known, count, replace=False))])
        return trainer.step(batch, number, steps, numbers, rng)

    def save(done: int) -> dict[str, float]:
        pictures = torch.stack([tensor_of(crops[k]) for k in held])
        figures = trainer.figures(pictures, int(numbers[0]), witness, threshold)
        trainer.save(out, {**known_facts, **figures, "step": done})
        return figures

    train(out, first, steps, step, save, report=report)


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--look", "looks", multiple=True, type=click.Choice(list(LOOKS)), help="Of those that ship.  [default: all]")
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--teachers", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Further recognisers, with an fr.json.")
@click.option("--direction/--no-direction", default=True, show_default=True, help="The direction of the look in the encoder's eyes.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--start", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Trained looks to go on from.")
@click.option("--steps", default=450, show_default=True)
@click.option("--count", default=8, show_default=True, help="Crops per step.")
@click.option("--rate", default=2e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    crops: tuple[Path, ...],
    looks: tuple[str, ...],
    weights: Path,
    teachers: Path | None,
    direction: bool,
    out: Path,
    start: Path | None,
    steps: int,
    count: int,
    rate: float,
    seed: int,
) -> None:
    """Train the looks that ship, logging to DIR/curve.jsonl."""
    sources = Sources(weights, ())
    references = [shipped_reference(name, sources.keypoints()) for name in looks or LOOKS]
    facts = {"data": [path.stem for path in crops]}
    train_looks(
        sources,
        read_crops(list(crops), CROP),
        references,
        out,
        teachers=teachers,
        start=start,
        encoder=sources.looks() if direction else None,
        steps=steps,
        count=count,
        rate=rate,
        seed=seed,
        facts=facts,
    )


if __name__ == "__main__":
    main()

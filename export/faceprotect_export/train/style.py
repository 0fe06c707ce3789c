"""Train the style generator with its encoder, on aligned crops.

``python -m faceprotect_export.train.style CROPS.npy... --student weights/student-conv.safetensors -o DIR``

Of each batch is asked that a photo comes back from its own codes, the face before the background; then, that it looks like the person to
recognisers; and, last, that a discriminator takes it for a photo. Some photos have to come from W+ alone.
``--teachers`` names a folder of further recognisers (role "surrogate"): the identity of one alone would be its private opinion.

Resumes from ``DIR/state.safetensors``; writes ``DIR/style.safetensors`` (fp16, averaged weights, and the spread of the codes:
modules/style.py, StyleSpace). ``DIR/curve.jsonl`` has figures on crops held out, ``held_own`` under ``--witness``, which is in no loss.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_export.modules.students import build_student
from faceprotect_export.modules.style import StyleConfig, StyleEncoder, StyleGenerator, StyleSpace, measure_space
from faceprotect_export.train import checkpoint
from faceprotect_export.train.autoencoder import reconstruction_loss
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.precision import mixed
from faceprotect_export.train.students import read_teachers
from faceprotect_sdk.face.mask import face_mask

EMA = 0.998
#: Noise on W+ and F (both of unit scale): neighbouring codes must give neighbouring faces. Much of it makes a generator that answers to
#: no small change of its codes, in which nothing can be found.
NOISE = 0.1
#: Photos that have to come from W+ alone, with F at its mean: left alone, the generator makes all of F and ignores W+.
ALONE = 0.1
IDENTITY, ADVERSARIAL, R1 = 0.1, 0.02, 1.0
#: Of what lies outside the mask within which photos may change.
BACKGROUND = 0.3
#: Price of numbers of one layer's code that say the same: left alone, all of W+ says how bright the photo is.
ALIKE = 0.02
R1_EVERY = 16
RAMP = 300  # steps over which a new term comes in
#: Parts of all steps from which on identity and the discriminator take part, and the learning rate falls.
IDENTITY_FROM, ADVERSARIAL_FROM, FALL_FROM = 0.3, 0.7, 0.6
CRITIC_RATE = 1e-3
HELD_OUT = 128


class Discriminator(nn.Module):
    """RGB [N, 3, S, S] to scores [N, 1, S/16, S/16]: patches of a photo, or of a made one."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 128)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image * 2 - 1)


class Models(nn.Module):
    """Encoder and generator, as one module for optimiser and checkpoint."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.encoder, self.generator = StyleEncoder(config), StyleGenerator(config)


class Trainer:
    """The models, their average, the discriminator, and frozen recognisers of which each step asks one."""

    def __init__(self, config: StyleConfig, recognisers: Sequence[nn.Module], rate: float, steps: int) -> None:
        self.config, self.recognisers, self.rate, self.steps = config, list(recognisers), rate, steps
        self.models = channels_last(Models(config))
        self.critic = channels_last(Discriminator())
        mask = F.interpolate(torch.from_numpy(face_mask()), config.size, mode="area")
        self.mask, self.weight = mask, BACKGROUND + (1 - BACKGROUND) * mask
        self.average = {k: v.clone() for k, v in self.models.state_dict().items()}
        self.optimiser = torch.optim.Adam(self.models.parameters(), rate, betas=(0.9, 0.99))
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), CRITIC_RATE, betas=(0.0, 0.99))

    def step(self, image: Tensor, number: int) -> dict[str, float]:
        """Step ``number`` on ``image`` [N, 3, S, S], N at least 4; returns the losses."""
        half, done = len(image) // 2, number / self.steps
        self._set_rate(number)
        with mixed():
            plain = self.models.encoder(image)
            base, codes = self._noisy(*plain)
            made = self.models.generator(base, codes)
        losses = {
            "reconstruction": reconstruction_loss(self.weight * made.float(), self.weight * image),
            "alike": ALIKE * _alike(plain[1].float()),
        }
        found: dict[str, float] = {"psnr": -10 * torch.log10(F.mse_loss(made.detach().float(), image)).item()}
        if done >= IDENTITY_FROM:
            own = self._likeness(image[:half], made[:half], self.recognisers[number % len(self.recognisers)])
            losses["identity"] = min(1.0, (number - IDENTITY_FROM * self.steps) / RAMP) * IDENTITY * (1 - own)
            found["own"] = own.item()
        if done >= ADVERSARIAL_FROM:
            losses["adversarial"] = self._adversarial(made, number)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        if done >= ADVERSARIAL_FROM:  # once nobody needs the discriminator's weights as they were any more
            found["critic"] = self._criticise(image, made.detach(), number)
        nn.utils.clip_grad_norm_(self.models.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            for key, value in self.models.state_dict().items():
                if value.is_floating_point():
                    self.average[key].lerp_(value, 1 - min(EMA, (1 + number) / (10 + number)))
        return found | {k: v.item() for k, v in losses.items()}

    def _set_rate(self, number: int) -> None:
        fall = max(0.0, number / self.steps - FALL_FROM) / (1 - FALL_FROM)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * min(1.0, (number + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * fall)))

    def _noisy(self, base: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.rand(len(base), 1, 1, 1) >= ALONE
        return kept * (base + NOISE * torch.randn_like(base)), codes + NOISE * torch.randn_like(codes)

    def _likeness(self, image: Tensor, made: Tensor, recogniser: nn.Module) -> Tensor:
        """Mean cosine of the made photos to the photos, seen at a random size and place."""
        resize, shift = 0.5 + 0.5 * float(torch.rand(())), tuple(torch.randint(-2, 3, (2,)).tolist())
        with mixed():
            with torch.no_grad():
                wanted = recogniser(image).float()
            small = F.interpolate(made, scale_factor=resize, mode="bilinear")
            views = F.interpolate(small, made.shape[-1], mode="bilinear").roll(shift, (2, 3))
            seen = recogniser(views + 0.02 * torch.randn_like(views)).float()
        return (seen * wanted).sum(1).mean()

    def _adversarial(self, made: Tensor, number: int) -> Tensor:
        ramp = float(np.clip((number - ADVERSARIAL_FROM * self.steps) / RAMP - 0.5, 0, 1))  # the critic learns alone at first
        self.critic.requires_grad_(False)
        with mixed():
            scores = self.critic(made)
        self.critic.requires_grad_(True)
        return ramp * ADVERSARIAL * F.softplus(-scores.float()).mean()

    def _criticise(self, image: Tensor, made: Tensor, number: int) -> float:
        """One update of the discriminator, with the gradient penalty on photos now and then (Mescheder et al. 2018, eq. 9)."""
        with mixed():
            real, false = self.critic(image), self.critic(made)
        loss = F.softplus(-real.float()).mean() + F.softplus(false.float()).mean()
        if number % R1_EVERY == 0:
            photo = image.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.critic(photo).mean((1, 2, 3)).sum(), photo, create_graph=True)
            loss = loss + R1 * R1_EVERY * slope.square().sum((1, 2, 3)).mean() / 2
        self.critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimiser.step()
        return loss.item()

    def averaged(self, known: Sequence[Tensor]) -> Models:
        """The averaged models, for use; the codes' scale is that of the photos ``known``, batches [N, 3, S, S]."""
        models = Models(self.config)
        models.load_state_dict(self.average)
        models.requires_grad_(False).eval().encoder.settle(known)
        return models

    @torch.no_grad()
    def figures(self, models: Models, held: Tensor, witness: nn.Module) -> dict[str, float]:
        """On photos held out [N, 3, S, S]: PSNR, of the face too, and from W+ alone; likeness under ``witness``; spread of the codes."""
        base, codes = models.encoder(held)
        made, alone = models.generator(base, codes), models.generator(torch.zeros_like(base), codes)
        seen, own = (witness(images).float() for images in (held, made))
        return {
            "held_psnr": _psnr(made, held),
            "held_face": _psnr(made, held, self.mask),
            "held_alone": _psnr(alone, held),
            "held_own": (own * seen).sum(1).mean().item(),
            "codes_std": codes.std(0).mean().item(),
            "codes_rank": _rank(codes),
            "base_std": base.std(0).mean().item(),
        }

    def save(self, out: Path, facts: dict[str, object]) -> None:
        """The training state."""
        tensors = {f"models.{k}": v for k, v in checkpoint.training_state(self.models, self.optimiser, self.average).items()}
        tensors |= {f"critic.{k}": v for k, v in checkpoint.training_state(self.critic, self.critic_optimiser).items()}
        checkpoint.save(out / "state.safetensors", tensors, facts)

    def finish(self, out: Path, models: Models, space: StyleSpace, facts: dict[str, object]) -> None:
        """The averaged models with what is needed to rebuild and to use them."""
        tensors = {**models.state_dict(), **{f"space.{name}": value for name, value in vars(space).items()}}
        checkpoint.save(out / "style.safetensors", tensors, {**facts, "config": asdict(self.config)}, half=True)

    def resume(self, out: Path) -> int:
        """Restore the state in ``out``; the number of steps made, 0 where there is none."""
        if not (out / "state.safetensors").exists():
            return 0
        tensors, facts = checkpoint.load(out / "state.safetensors")
        self.average = checkpoint.restore(checkpoint.under(tensors, "models."), self.models, self.optimiser)
        checkpoint.restore(checkpoint.under(tensors, "critic."), self.critic, self.critic_optimiser)
        return int(facts["step"])


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--student", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A recogniser of ours.")
@click.option("--teachers", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Further ones, with an fr.json.")
@click.option("--only", multiple=True, help="Names of teachers.")
@click.option(
    "--witness",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A student for the curve alone.  [default: --student, which is in the loss]",
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--steps", default=4500, show_default=True)
@click.option("--size", type=click.Choice(["128", "256"]), default="128", show_default=True)
@click.option("--count", default=16, show_default=True, help="Crops per step.")
@click.option("--rate", default=1.5e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    crops: tuple[Path, ...],
    student: Path,
    teachers: Path | None,
    only: tuple[str, ...],
    witness: Path | None,
    out: Path,
    steps: int,
    size: str,
    count: int,
    rate: float,
    seed: int,
) -> None:
    """Train, logging to DIR/curve.jsonl."""
    torch.manual_seed(seed)
    side = int(size)
    data = read_crops(list(crops), side)
    order = np.random.default_rng(seed).permutation(len(data))
    held, known = order[:HELD_OUT], order[HELD_OUT:]
    config = StyleConfig() if side == 128 else StyleConfig(256, widths=(128, 96, 64, 48, 24))
    if only and not teachers:
        raise click.UsageError("--only names teachers of --teachers DIR")
    further = read_teachers(teachers, only, side) if teachers else {}
    recognisers = [_student(student, side), *further.values()]
    trainer = Trainer(config, recognisers, rate, steps)
    start = trainer.resume(out)
    facts: dict[str, object] = {"seed": seed, "data": [p.stem for p in crops], "recognisers": [student.stem, *further], "steps": steps}
    torch.manual_seed(seed + start)  # a resumed run must not repeat the noise of the first
    rng, began, saved, logged = np.random.default_rng([seed, start]), time.time(), time.time(), 0.0
    judge = _student(witness or student, side)
    for number in range(start, steps):
        losses = trainer.step(_batch(data, known, count, rng), number)
        if time.time() - logged > 240 or number == steps - 1:
            logged = time.time()
            some = [_tensor(data[part]) for part in np.array_split(known[:256], 4)]
            figures = trainer.figures(trainer.averaged(some), _tensor(data[held]), judge)
            checkpoint.log(out / "curve.jsonl", step=number + 1, seconds=round(time.time() - began), **losses, **figures)
        if time.time() - saved > 120:
            saved = time.time()
            trainer.save(out, {**facts, "step": number + 1})
    trainer.save(out, {**facts, "step": steps})
    chosen = np.array_split(np.random.default_rng(seed).choice(known, min(4096, len(known)), replace=False), 64)
    models = trainer.averaged([_tensor(data[part]) for part in chosen])
    space = measure_space(models.encoder, (_tensor(data[part]) for part in chosen))
    trainer.finish(out, models, space, facts | trainer.figures(models, _tensor(data[held]), judge))


def _psnr(made: Tensor, photos: Tensor, mask: Tensor | None = None) -> float:
    """Mean over photos, of all of it or where a mask [1, 1, S, S] is above a half."""
    errors = (made - photos).square().mean(1).flatten(1)
    if mask is not None:
        errors = errors[:, mask.flatten() > 0.5]
    return float(-10 * torch.log10(errors.mean(1)).mean())


def _alike(codes: Tensor) -> Tensor:
    """Mean squared covariance of two numbers of a layer over the batch [N, layers, style]."""
    centred = (codes - codes.mean(0)).transpose(0, 1)
    covariance = centred.transpose(1, 2) @ centred / centred.shape[1]
    apart = 1 - torch.eye(covariance.shape[1])
    return (covariance * apart).square().mean()


def _rank(codes: Tensor) -> float:
    """Number of directions that codes [N, layers, style] spread over, per layer (participation ratio of the variances)."""
    centred = codes - codes.mean(0)
    sizes = torch.linalg.svdvals(centred.transpose(0, 1)).square()
    return float((sizes.sum(1).square() / sizes.square().sum(1)).mean())


def _student(path: Path, side: int) -> nn.Module:
    tensors, metadata = checkpoint.load(path)
    student = build_student(metadata["kind"], metadata["heads"], side)
    student.load_state_dict(tensors)
    return channels_last(student.requires_grad_(False).eval())


def _batch(data: np.ndarray, known: np.ndarray, count: int, rng: np.random.Generator) -> Tensor:
    chosen = data[rng.choice(known, count, replace=False)]
    return _tensor(np.where(rng.random((count, 1, 1, 1)) < 0.5, chosen, chosen[:, :, ::-1]))


def _tensor(crops: np.ndarray) -> Tensor:
    return (torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()

"""Distil a surrogate from teachers: their embeddings, and where they send a search.

``python -m faceprotect_export.train.students CROPS.npy... --teachers DIR --kind conv --autoencoder WEIGHTS -o DIR --minutes 60``

``--teachers`` is a folder with an ``fr.json``; models with the role ``surrogate`` teach (``--only`` some of them), others never. Every
batch is asked of one teacher, on the very pixels that the student sees. Resumes from ``DIR/state.safetensors``.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_export.modules.autoencoder import Autoencoder
from faceprotect_export.modules.students import Student, build_student
from faceprotect_export.onnx_io.reader import load_onnx
from faceprotect_export.train import checkpoint, perturb
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.precision import mixed
from faceprotect_sdk.judging.specification import parse_specification

SIZE = 160  # canonical crops are kept at this size while training; windows scale with it
STEPS = 3  # of a walk
EMA = 0.998
VALUE, SLOPE = 2.0, 1.0  # weights of the embedding's and of the slope's mismatch


@dataclass(frozen=True)
class Look:
    """What a teacher makes of some crops: ``embedding`` [N, E].

    ``reference``, ``gradient``: on a walk, the embedding [N, E] that it leads away from, and the gradient to the crops of the similarity
    to it. A search follows gradients, and a student that agrees in value alone may have any: two networks of the same values on photos
    differ in slope between them (Czarnecki et al., "Sobolev training for neural networks", 2017).
    """

    embedding: Tensor
    reference: Tensor | None = None
    gradient: Tensor | None = None


class Teacher(nn.Module):
    """A frozen recogniser on canonical crops of ``crop`` pixels."""

    def __init__(self, path: Path, entry: dict[str, object], templates: dict[str, object] | None, crop: int = SIZE) -> None:
        super().__init__()
        parsed = parse_specification(entry, templates)
        spec = parsed.input
        if spec.window is None:
            raise click.UsageError(f"{path}: takes a face's box, not a template, and cannot teach")
        self.net, self.size, self.spec = load_onnx(path, parsed.output), int(str(entry["embedding"])), spec
        # One factor and one offset per channel do what the specification says of range, mean and spread.
        zero, one = (spec.feed(np.full((1, 3, 1, 1), value, np.float32))[:, :: -1 if spec.color == "BGR" else 1] for value in (0, 1))
        self.offset, self.factor = torch.from_numpy(zero.copy()), torch.from_numpy((one - zero).copy())
        rows, cols = spec.window.matrices(crop)
        self.rows, self.cols = torch.from_numpy(rows), torch.from_numpy(cols)
        self.requires_grad_(False)

    def forward(self, crops: Tensor) -> Tensor:
        """Unit embeddings [N, E] float32 of crops [N, 3, S, S] RGB 0..1."""
        image = (self.rows @ crops @ self.cols) * self.factor + self.offset
        image = image.flip(1) if self.spec.color == "BGR" else image
        return F.normalize(self.net(image.contiguous(memory_format=torch.channels_last)).float(), dim=1)

    def look(self, crops: Tensor, reference: Tensor | None = None) -> Look:
        """What it makes of ``crops``; with a ``reference``, also the slope there."""
        crops = crops.detach().requires_grad_(reference is not None)
        with torch.set_grad_enabled(reference is not None), mixed():
            embedding = self(crops)
        gradient = None if reference is None else torch.autograd.grad((embedding * reference).sum(), crops)[0]
        return Look(embedding.detach(), reference, gradient)


def read_teachers(folder: Path, only: tuple[str, ...], crop: int = SIZE) -> dict[str, Teacher]:
    """Teachers by name, for crops of ``crop`` pixels; raises UsageError for one that is not there or is no surrogate."""
    listing = json.loads((folder / "fr.json").read_text())
    models = {k: v for k, v in listing["models"].items() if v["role"] == "surrogate" and (not only or k in only)}
    if not models or set(only) - set(models):
        raise click.UsageError(f"{folder}/fr.json: no surrogate {', '.join(sorted(set(only) - set(models))) or 'at all'} is listed there")
    return {name: Teacher(folder / entry["file"], entry, listing.get("templates"), crop) for name, entry in models.items()}


class Trainer:
    """The student, its average weights and its optimiser."""

    def __init__(self, kind: str, teachers: dict[str, Teacher], rate: float, decoder: Autoencoder | None) -> None:
        self.teachers, self.autoencoder = teachers, decoder
        sizes = {name: teacher.size for name, teacher in teachers.items()}
        self.student: Student = channels_last(build_student(kind, sizes, SIZE))
        self.average = {k: v.clone() for k, v in self.student.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.student.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.03)

    def start_from(self, path: Path) -> bool:
        """Begin where a trained student of this kind stands: its trunk, and its head for each teacher that was one of its own.

        Returns whether all were. Raises UsageError for a student of another kind.
        """
        tensors, metadata = checkpoint.load(path)
        sizes, before = self.student.heads.sizes, metadata["heads"]
        known = {name for name in sizes if before.get(name) == sizes[name]}
        for key, fresh in self.student.heads.state_dict().items():
            old = dict(zip(before, tensors[f"heads.{key}"].split(list(before.values())), strict=True))
            new = zip(sizes, fresh.split(list(sizes.values())), strict=True)
            tensors[f"heads.{key}"] = torch.cat([old[name] if name in known else part for name, part in new])
        try:
            self.student.load_state_dict(tensors)
        except RuntimeError as error:
            raise click.UsageError(f"{path}: is a student of another kind than --kind") from error
        self.average = {k: v.clone() for k, v in self.student.state_dict().items()}
        return len(known) == len(sizes)

    def step(self, crops: Tensor, teacher: str, look: Look) -> dict[str, float]:
        """One update towards what the teacher makes of ``crops``; returns the losses."""
        crops = crops.detach().requires_grad_(look.gradient is not None)
        with mixed():
            own = self._head(self.student(crops), teacher)
            losses = {"value": (1 - (own * look.embedding).sum(1)).mean()}
        if look.gradient is not None and look.reference is not None:
            (slope,) = torch.autograd.grad((own * look.reference).sum(), crops, create_graph=True)
            # Each seen at half resolution: what a smooth change can follow.
            first, second = (F.avg_pool2d(g, 2).flatten(1) for g in (slope, look.gradient))
            losses["slope"] = (1 - F.cosine_similarity(first, second, dim=1, eps=1e-12)).mean()
        weights = {"value": VALUE, "slope": SLOPE}
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack([weights[k] * v for k, v in losses.items()]).sum().backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 2.0)
        self.optimiser.step()
        with torch.no_grad():
            for key, value in self.student.state_dict().items():
                if value.is_floating_point():
                    self.average[key].lerp_(value, 1 - EMA)
        return {k: v.item() for k, v in losses.items()}

    def _head(self, embedding: Tensor, teacher: str) -> Tensor:
        """The unit embedding of one head."""
        sizes = self.student.heads.sizes
        parts = dict(zip(sizes, torch.split(embedding, list(sizes.values()), 1), strict=True))
        return parts[teacher] * len(sizes) ** 0.5

    def plain(self, crops: Tensor, teacher: str, rng: np.random.Generator) -> dict[str, float]:
        """Train on one augmented batch."""
        crops = perturb.vary(perturb.augment(crops, rng), rng)
        return self.step(crops, teacher, self.teachers[teacher].look(crops))

    def walk(self, crops: Tensor, teacher: str, rng: np.random.Generator) -> dict[str, float]:
        """Train on one batch along its walk: away from itself, as the teacher's slopes lead, in pixels or in the latent.

        Normalisation stays as it is: statistics of photos, not of walks, and half the cost of the slopes' own gradient.
        """
        self.student.eval()
        walk = perturb.begin(perturb.augment(crops, rng), rng)
        reference = self.teachers[teacher].look(walk.start).embedding
        latent = self._latent(walk.start) if self.autoencoder is not None and rng.random() < 0.5 else None
        offset = None if latent is None else torch.zeros_like(latent)
        losses: dict[str, float] = {}
        for number in range(STEPS + 1):
            position = walk.crops
            look = self.teachers[teacher].look(position, reference)
            losses = self.step(position, teacher, look)
            if number == STEPS or look.gradient is None:
                break
            fraction = (number + 1) / STEPS
            if latent is None or offset is None or self.autoencoder is None:
                walk.advance(-look.gradient, fraction)
                continue
            with mixed():
                offset, change = perturb.latent_shift(self.autoencoder.decoder, latent, offset, -look.gradient, 0.2)
            walk.change = change.float() / perturb.rms(change.float()).clamp_min(1e-8) * walk.radius * fraction
        self.student.train()
        return losses

    def _latent(self, crops: Tensor) -> Tensor:
        assert self.autoencoder is not None
        with torch.no_grad(), mixed():
            return self.autoencoder.encoder(crops.contiguous(memory_format=torch.channels_last))

    @torch.no_grad()
    def agree(self, crops: Tensor) -> dict[str, float]:
        """Mean cosine of the averaged student with every teacher on clean crops."""
        live = {k: v.clone() for k, v in self.student.state_dict().items()}
        self.student.load_state_dict(self.average)
        self.student.eval()
        with mixed():
            embedding = self.student(crops).float()
        found = {k: (self._head(embedding, k) * t.look(crops).embedding).sum(1).mean().item() for k, t in self.teachers.items()}
        self.student.train()
        self.student.load_state_dict(live)
        return found

    def save(self, out: Path, metadata: dict[str, object]) -> None:
        """Training state, and the student's averaged fp16 weights with what is needed to rebuild it."""
        checkpoint.save(out / "state.safetensors", checkpoint.training_state(self.student, self.optimiser, self.average), metadata)
        checkpoint.save(out / "student.safetensors", self.average, {**metadata, "heads": self.student.heads.sizes}, half=True)

    def resume(self, out: Path) -> dict[str, Any]:
        """Metadata of the state in ``out``, restored; an empty dict where there is none."""
        if not (out / "state.safetensors").exists():
            return {}
        tensors, metadata = checkpoint.load(out / "state.safetensors")
        self.average = checkpoint.restore(tensors, self.student, self.optimiser)
        return metadata


def as_tensor(crops: np.ndarray) -> Tensor:
    """uint8 [N, S, S, 3] to float [N, 3, S, S] in 0..1."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--teachers", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", multiple=True, help="Names of the teachers (default: all surrogates).")
@click.option("--kind", default="conv", show_default=True)
@click.option("--autoencoder", type=click.Path(exists=True, path_type=Path), help="Weights; adds walks in its latent.")
@click.option("--start", type=click.Path(exists=True, path_type=Path), help="A trained student of this kind to begin from.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--minutes", default=60.0, show_default=True, help="The learning rate falls over this time, resumed runs included.")
@click.option("--walks", default=0.5, show_default=True, help="Share of walks among the batches; untrained heads come to it slowly.")
@click.option("--count", default=64, show_default=True, help="Crops per batch; half as many on a walk.")
@click.option("--rate", default=2e-3, show_default=True)
@click.option("--held-out", default=256, show_default=True, help="Crops kept aside for the curve.")
@click.option("--seed", default=0, show_default=True)
def main(
    crops: tuple[Path, ...],
    teachers: Path,
    only: tuple[str, ...],
    kind: str,
    autoencoder: Path | None,
    start: Path | None,
    out: Path,
    minutes: float,
    walks: float,
    count: int,
    rate: float,
    held_out: int,
    seed: int,
) -> None:
    """Train, logging to DIR/curve.jsonl."""
    torch.manual_seed(seed)
    data = read_crops(list(crops), SIZE)
    order = np.random.default_rng(seed).permutation(len(data))
    held, order = as_tensor(data[order[:held_out]]), order[held_out:]
    decoder = None
    if autoencoder:
        decoder = Autoencoder()
        decoder.load_state_dict(checkpoint.load(autoencoder)[0])
        channels_last(decoder.requires_grad_(False))
    known = read_teachers(teachers, only)
    trainer = Trainer(kind, known, rate, decoder)
    facts = {"kind": kind, "teachers": list(known), "seed": seed, "data": [p.stem for p in crops], "start": start.stem if start else ""}
    resumed = trainer.resume(out)
    if resumed and resumed["teachers"] != list(known):
        raise click.UsageError(f"{out}: a run with the teachers {', '.join(resumed['teachers'])}. Choose another --out")
    ready = bool(resumed.get("ready"))
    if start:
        facts["trunk_taught_by"] = list(checkpoint.load(start)[1]["heads"])
        ready = ready if resumed else trainer.start_from(start)
    facts["ready"] = ready
    batch, spent = int(resumed.get("batch", 0)), float(resumed.get("minutes", 0.0))
    rng, began = np.random.default_rng([seed, batch]), time.time() - spent * 60
    saved = logged = time.time()
    while (spent := (time.time() - began) / 60) < minutes:
        for group in trainer.optimiser.param_groups:
            group["lr"] = rate * min(1.0, (batch + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * spent / minutes)))
        chosen, teacher = rng.choice(order, count, replace=False), str(rng.choice(list(known)))
        if rng.random() < walks * (1.0 if ready else spent / minutes):
            losses = trainer.walk(as_tensor(data[chosen[: count // 2]]), teacher, rng)
        else:
            losses = trainer.plain(as_tensor(data[chosen]), teacher, rng)
        batch += 1
        if time.time() - logged > 90:
            logged = time.time()
            checkpoint.log(out / "curve.jsonl", batch=batch, minutes=spent, loss=losses, clean_cosine=trainer.agree(held))
        if time.time() - saved > 120:
            trainer.save(out, {**facts, "batch": batch, "minutes": spent})
            saved = time.time()
    trainer.save(out, {**facts, "batch": batch, "minutes": minutes})


if __name__ == "__main__":
    main()

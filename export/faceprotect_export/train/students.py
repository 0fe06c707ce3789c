"""Distil surrogates from teachers, around the path that the search takes.

``python -m faceprotect_export.train.students CROPS.npy... --teachers DIR --autoencoder WEIGHTS -o DIR --minutes 60``

``--teachers`` is a folder with an ``fr.json``; models with the role ``surrogate`` teach, others are left out. Students are trained
side by side so that the teachers, the dearest part, run once for all of them. Resumes from ``DIR/state.safetensors``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_export.modules.autoencoder import Autoencoder
from faceprotect_export.modules.students import Student, build_student
from faceprotect_export.onnx_reader import load_onnx
from faceprotect_export.train import checkpoint, perturb
from faceprotect_export.train.crops import read_crops
from faceprotect_sdk.specification import parse_specification

SIZE = 160  # canonical crops are kept at this size while training; windows scale with it
REPLAYS = 4
ASKED = 2  # teachers asked at each step of a walk that none of them leads: they cost as much as a student
EMA = 0.998
SLOPE = 1.0  # weight of the slopes' mismatch beside the values'


class Teachers(nn.Module):
    """Frozen recognisers by name, on canonical crops."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        listing = json.loads((folder / "fr.json").read_text())
        models = {k: v for k, v in listing["models"].items() if v["role"] == "surrogate"}
        if not models:
            raise click.UsageError(f"{folder}/fr.json lists no model with role 'surrogate'")
        self.sizes = {name: int(model["embedding"]) for name, model in models.items()}
        self.nets = nn.ModuleDict({name: load_onnx(folder / model["file"]) for name, model in models.items()})
        self.windows = {}
        for name, model in models.items():
            spec = parse_specification(model, listing.get("templates")).input
            if spec.window is None or (spec.color, spec.low, spec.high, set(spec.mean), set(spec.std)) != ("RGB", 0, 1, {0.0}, {1.0}):
                raise click.UsageError(f"{folder}/fr.json: '{name}' is not fed with a window of RGB 0..1, which is all that is done here")
            rows, cols = spec.window.matrices(SIZE)
            self.windows[name] = torch.from_numpy(rows), torch.from_numpy(cols)
        self.requires_grad_(False)

    def one(self, name: str, crops: Tensor) -> Tensor:
        """Unit embeddings [N, E] of one teacher."""
        rows, cols = self.windows[name]
        image = (rows @ crops @ cols).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            return self.nets[name](image).float()  # type: ignore[no-any-return]


def agreement(student: Student, embedding: Tensor, wanted: dict[str, Tensor]) -> Tensor:
    """Mean over the asked teachers of 1 - cosine between a student's head and the teacher, [N]."""
    parts = dict(zip(student.heads.sizes, torch.split(embedding, list(student.heads.sizes.values()), 1), strict=True))
    scale = len(student.heads.sizes) ** 0.5
    return torch.stack([1 - scale * (parts[name] * target).sum(1) for name, target in wanted.items()]).mean(0)


@dataclass(frozen=True)
class Slope:
    """Where a recogniser sends a search: its ``embedding`` [N, E] of some crops and the gradient of the similarity to ``reference``.

    A search follows gradients, and a student that agrees in value alone may have any: two networks of the same values on photos
    differ in slope between them (Czarnecki et al., "Sobolev training for neural networks", 2017).
    """

    name: str
    reference: Tensor
    embedding: Tensor
    gradient: Tensor

    def mismatch(self, student: Student, embedding: Tensor, crops: Tensor) -> Tensor:
        """Mean of 1 - cosine between both gradients, each seen at half resolution: what a smooth change can follow."""
        parts = dict(zip(student.heads.sizes, torch.split(embedding, list(student.heads.sizes.values()), 1), strict=True))
        (own,) = torch.autograd.grad((parts[self.name] * self.reference).sum(), crops, create_graph=True)
        first, second = (F.avg_pool2d(g, 2).flatten(1) for g in (own, self.gradient))
        return (1 - F.cosine_similarity(first, second, dim=1, eps=1e-12)).mean()


class Trainer:
    """The students, their average weights and their optimiser."""

    def __init__(self, kinds: tuple[str, ...], teachers: Teachers, rate: float, decoder: Autoencoder | None) -> None:
        self.teachers, self.rate, self.autoencoder = teachers, rate, decoder
        self.students = nn.ModuleDict({k: build_student(k, teachers.sizes, SIZE) for k in kinds})
        self.students.to(memory_format=torch.channels_last)
        self.average = {k: v.clone() for k, v in self.students.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.students.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.03)

    def step(self, crops: Tensor, wanted: dict[str, Tensor], slope: Slope | None = None) -> tuple[Tensor, dict[str, float]]:
        """One update on ``crops``; returns the gradient of the disagreement to the crops, and the losses.

        ``slope``: a teacher's gradient there, which the students' own is to point along.
        """
        crops = crops.detach().requires_grad_(True)
        losses = {}
        with torch.autocast("cpu", torch.bfloat16):
            for kind, student in self.students.items():
                embedding = student(crops)
                losses[kind] = agreement(student, embedding, wanted).mean()
                if slope is not None:
                    losses[f"{kind} slope"] = SLOPE * slope.mismatch(student, embedding, crops)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.students.parameters(), 2.0)
        self.optimiser.step()
        with torch.no_grad():
            for key, value in self.students.state_dict().items():
                if value.is_floating_point():
                    self.average[key].lerp_(value, 1 - EMA)
        assert crops.grad is not None
        return crops.grad, {k: v.item() for k, v in losses.items()}

    def slope(self, guide: str, crops: Tensor, reference: Tensor | None) -> Slope:
        """How the similarity to ``reference`` (or to ``crops`` themselves) changes in the eyes of a teacher, or of a student, by name.

        A teacher's slopes are those that do matter; a student's lead where a search on it will go.
        """
        embed = partial(self.teachers.one, guide) if guide in self.teachers.sizes else self._frozen(guide)
        crops = crops.detach().requires_grad_(True)
        embedding = embed(crops)
        reference = embedding.detach() if reference is None else reference
        gradient = torch.autograd.grad((embedding * reference).sum(), crops)[0]
        return Slope(guide, reference, embedding.detach(), gradient)

    def _frozen(self, kind: str) -> Callable[[Tensor], Tensor]:
        """A student as the search will see it: its averaged weights (and on a walk, normalisation by running statistics)."""
        weights = {k.split(".", 1)[1]: v for k, v in self.average.items() if k.startswith(f"{kind}.")}
        student = self.students[kind]

        def embed(crops: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                embedding = torch.func.functional_call(student, weights, crops)
            return embedding.float()  # type: ignore[no-any-return]

        return embed

    def walk(self, crops: Tensor, rng: np.random.Generator) -> dict[str, float]:
        """Train on one batch along its walk of ``REPLAYS`` steps, led by a teacher, a student or their disagreement.

        Normalisation stays as it is: statistics of photos, not of walks, and half the cost of the slopes' own gradient.
        """
        self.students.eval()
        names = list(self.teachers.sizes)
        walk = perturb.begin(perturb.augment(crops, rng), rng)
        guide = str(rng.choice([rng.choice(names), rng.choice(list(self.students)), ""], p=[0.8, 0.1, 0.1]))
        latent = offset = None
        if self.autoencoder is not None and rng.random() < 0.35:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                latent = self.autoencoder.encoder(walk.start.contiguous(memory_format=torch.channels_last))
            offset = torch.zeros_like(latent)
        slope, losses = None, {}
        with torch.no_grad():
            reference = self.teachers.one(guide, walk.start) if guide in names else None
        for replay in range(REPLAYS):
            position = walk.crops
            slope = self.slope(guide, position, reference) if guide else None
            if slope is not None and guide in names:
                gradient, losses = self.step(position, {guide: slope.embedding}, slope)
            else:
                reference = reference if slope is None else slope.reference
                asked = [str(n) for n in rng.choice(names, min(ASKED, len(names)), replace=False)]
                with torch.no_grad():
                    wanted = {name: self.teachers.one(name, position) for name in asked}
                gradient, losses = self.step(position, wanted)
            if replay == REPLAYS - 1:
                break
            if slope is not None:
                gradient = -slope.gradient
            fraction = (replay + 1) / (REPLAYS - 1)
            if latent is not None and offset is not None:
                with torch.autocast("cpu", torch.bfloat16):
                    offset, change = perturb.latent_shift(self.autoencoder.decoder, latent, offset, gradient, 0.2)  # type: ignore[union-attr]
                change = change.float()
                walk.change = change / perturb.rms(change).clamp_min(1e-8) * walk.radius * fraction
            else:
                walk.advance(gradient, fraction)
        self.students.train()
        return losses

    def plain(self, crops: Tensor, wanted: dict[str, Tensor], rng: np.random.Generator) -> dict[str, float]:
        """Train on one augmented batch towards the teachers' embeddings of the untouched crops."""
        return self.step(perturb.augment(crops, rng), wanted)[1]

    def agree(self, crops: Tensor) -> dict[str, float]:
        """Mean agreement (cosine) of the averaged students with every teacher on clean crops."""
        live = {k: v.clone() for k, v in self.students.state_dict().items()}
        self.students.load_state_dict(self.average)
        self.students.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            wanted = {name: self.teachers.one(name, crops) for name in self.teachers.sizes}
            result = {k: 1 - agreement(s, s(crops), wanted).mean().item() for k, s in self.students.items()}
        self.students.train()
        self.students.load_state_dict(live)
        return result

    def save(self, out: Path, metadata: dict[str, object]) -> None:
        """Training state, and one file of fp16 weights per student with what is needed to rebuild it."""
        tensors = checkpoint.training_state(self.students, self.optimiser)
        tensors.update({f"average.{k}": v for k, v in self.average.items()})
        checkpoint.save(out / "state.safetensors", tensors, metadata)
        for kind in self.students:
            weights = {k.split(".", 1)[1]: v for k, v in self.average.items() if k.startswith(f"{kind}.")}
            checkpoint.save(out / f"{kind}.safetensors", weights, {**metadata, "kind": kind, "heads": self.teachers.sizes}, half=True)

    def resume(self, out: Path) -> dict[str, float]:
        """Metadata of the state in ``out``, restored; an empty dict where there is none."""
        if not (out / "state.safetensors").exists():
            return {}
        tensors, metadata = checkpoint.load(out / "state.safetensors")
        checkpoint.restore(tensors, self.students, self.optimiser)
        self.average = {k[8:]: v for k, v in tensors.items() if k.startswith("average.")}
        return metadata


def as_tensor(crops: np.ndarray) -> Tensor:
    """uint8 [N, S, S, 3] to float [N, 3, S, S] in 0..1."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def cached_embeddings(teachers: Teachers, data: np.ndarray, path: Path) -> dict[str, Tensor]:
    """Every teacher's embeddings of every crop, computed once and kept beside the run (fp16)."""
    if not path.exists():
        rows: dict[str, list[Tensor]] = {name: [] for name in teachers.sizes}
        with torch.no_grad():
            for start in range(0, len(data), 64):
                crops = as_tensor(data[start : start + 64])
                for name, parts in rows.items():
                    parts.append(teachers.one(name, crops))
        checkpoint.save(path, {name: torch.cat(parts) for name, parts in rows.items()}, {}, half=True)
    known = checkpoint.load(path)[0]
    if {name: tuple(rows.shape) for name, rows in known.items()} != {n: (len(data), size) for n, size in teachers.sizes.items()}:
        raise click.UsageError(f"{path} was made of other crops or teachers. Choose another -o, or remove it: rm '{path}'")
    return known


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--teachers", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--autoencoder", type=click.Path(exists=True, path_type=Path), help="Weights; adds latent-shifted walks.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--students", "kinds", default="conv,attention", show_default=True)
@click.option("--minutes", default=60.0, show_default=True, help="The learning rate falls over this time, resumed runs included.")
@click.option("--plain", default=0.6, show_default=True, help="Share of the time on untouched crops, before the walks.")
@click.option("--count", default=64, show_default=True, help="Crops per batch; half as many on a walk.")
@click.option("--rate", default=2e-3, show_default=True)
@click.option("--held-out", default=256, show_default=True, help="Crops kept aside for the curve.")
@click.option("--seed", default=0, show_default=True)
def main(
    crops: tuple[Path, ...], teachers: Path, autoencoder: Path | None, out: Path, kinds: str, minutes: float, plain: float, count: int,
    rate: float, held_out: int, seed: int,
) -> None:  # fmt: skip
    """Train, logging to DIR/curve.jsonl."""
    torch.manual_seed(seed)
    data = read_crops(list(crops), SIZE)
    order = np.random.default_rng(seed).permutation(len(data))
    held, order = as_tensor(data[order[:held_out]]), order[held_out:]
    decoder = None
    if autoencoder:
        decoder = Autoencoder()
        decoder.load_state_dict(checkpoint.load(autoencoder)[0])
        decoder.requires_grad_(False).to(memory_format=torch.channels_last)
    trainer = Trainer(tuple(kinds.split(",")), Teachers(teachers), rate, decoder)
    metadata = trainer.resume(out)
    known = cached_embeddings(trainer.teachers, data, out / "embeddings.safetensors")
    batch, spent = int(metadata.get("batch", 0)), float(metadata.get("minutes", 0.0))
    rng, began = np.random.default_rng([seed, batch]), time.time() - spent * 60
    saved = logged = time.time()
    while (spent := (time.time() - began) / 60) < minutes:
        for group in trainer.optimiser.param_groups:
            group["lr"] = rate * min(1.0, (batch + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * spent / minutes)))
        chosen = rng.choice(order, count, replace=False)
        if spent < plain * minutes:
            losses = trainer.plain(as_tensor(data[chosen]), {k: v[chosen] for k, v in known.items()}, rng)
        else:
            losses = trainer.walk(as_tensor(data[chosen[: count // 2]]), rng)
        batch += 1
        if time.time() - logged > 90:
            logged = time.time()
            checkpoint.log(out / "curve.jsonl", batch=batch, minutes=spent, loss=losses, clean_cosine=trainer.agree(held))
        if time.time() - saved > 120:
            trainer.save(out, {"batch": batch, "minutes": spent, "seed": seed, "data": [p.stem for p in crops]})
            saved = time.time()
    trainer.save(out, {"batch": batch, "minutes": minutes, "seed": seed, "data": [p.stem for p in crops]})


if __name__ == "__main__":
    main()

"""Train the one-pass student on what a search descends on, with many recognisers.

``python -m faceprotect_export.train.fast CROPS.npy... --teachers DIR -o DIR`` with crops uint8 RGB [N, 256, 256, 3] as written by
``faceprotect_export.train.crops``, and a folder with an ``fr.json`` whose models with the role ``surrogate`` are recognisers to get past.
Those need not ship: only the student does. Dlib's recogniser and the student ``conv`` take part in every step, two of the others in turn.

Every crop is decoded with the offset that the student proposes, seen through the transformations that a search draws, or recompressed,
and the loss is that of a search: how far above its limit each recogniser is, and how far the change is above the budget that the student
was asked for. Resumes from ``DIR/state.safetensors``; writes ``DIR/weights.safetensors`` (fp16, averaged).
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn

from faceprotect_engines.draws import DrawSettings, draw
from faceprotect_engines.store import ZOO
from faceprotect_export.dlib_resnet import read_weights
from faceprotect_export.modules.diffusion import DiffusionConfig
from faceprotect_export.modules.fast import BUDGET, Fast
from faceprotect_export.objectives.search import combine, luma, ssim
from faceprotect_export.search_engines import DLIB, PackageDlib
from faceprotect_export.sources import Sources
from faceprotect_export.train import checkpoint
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.perturb import augment
from faceprotect_export.train.students import read_teachers
from faceprotect_sdk.align import CROP
from faceprotect_sdk.mask import face_mask
from faceprotect_sdk.methods.base import TOWARDS
from faceprotect_sdk.methods.search import DODGE

HELD_OUT = 64
BUDGETS = (0.0002, 0.0009)
#: Shares of colour shifts and of lost structure in the penalty: those of the recipes.
CHROMA, STRUCTURE = 0.5, 0.008
#: Past its limit a recogniser counts by this much of what it does before.
BEYOND = 0.1
#: Price of a change above the budget, and of any change.
OVER, ANY = 3.0, 0.1
DRAWS = DrawSettings(1.0, resize=(0.4, 1.0), zoom=(0.85, 1.25), shift=4.0, blur=(0.0, 1.2), noise_std=0.03, flip=0.5)
AVERAGED = 0.998


@dataclass(frozen=True)
class Rival:
    """A recogniser to get past: unit embeddings of crops, and the cosine to get below; ``decoys`` [G - 1, E]."""

    name: str
    net: nn.Module
    threshold: float
    spread: float
    margin: float
    decoys: Tensor

    @property
    def limit(self) -> float:
        """The cosine to get below."""
        return self.threshold - self.margin * self.spread


class PackagedDlib(nn.Module):
    """dlib's recogniser with the installed package's weights."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        values = {f"dlib_{name.replace('.', '_')}": torch.from_numpy(value) for name, value in read_weights(path).items()}
        self.net = PackageDlib([name.removeprefix("dlib_") for name in values])
        self.values = values

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image, **self.values)  # type: ignore[no-any-return]


def read_rivals(sources: Sources, teachers: Path | None, margin: float) -> tuple[list[Rival], list[str]]:
    """Dlib, the student, then the teachers; and the names of the goals."""
    pictures = sorted((ZOO / "decoys").glob("*.png"))
    decoys = torch.stack([_tensor(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)) for path in pictures])
    found: list[tuple[str, nn.Module, float, float, float]] = []
    for name, net in ((DLIB, PackagedDlib(sources.dlib)), ("student-conv", sources.student("conv")[0])):
        facts = json.loads((ZOO / name / "manifest.json").read_text())["metadata"]
        threshold = facts["thresholds"]["far_1e-2"]
        found.append((name, net, threshold, threshold - facts["impostor_mean"], margin))
    if teachers:
        listing = json.loads((teachers / "fr.json").read_text())["models"]
        for name, net in read_teachers(teachers, (), CROP).items():
            threshold = listing[name]["thresholds"]["far_1e-2"]
            found.append((name, net, threshold, threshold, margin / 2))
    rivals = []
    for name, net, threshold, spread, own_margin in found:
        net = net.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            rivals.append(Rival(name, net, threshold, spread, own_margin, net(decoys).float()))
    return rivals, [DODGE, *(path.stem for path in pictures)]


def penalty_of(image: Tensor, original: Tensor) -> Tensor:
    """The penalty of the search, per sample [N]."""
    change = image - original
    mse = change.square().mean((1, 2, 3))
    chroma = (change - luma(change)).square().mean((1, 2, 3))
    lost = torch.stack([1 - ssim(a[None], b[None]) for a, b in zip(image, original, strict=True)])
    return mse + CHROMA * chroma + STRUCTURE * lost


def adversarial(rival: Rival, seen: Tensor, own: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """How far above its limit a recogniser is, in parts of the way there, per sample; and its cosine to the face's own.

    With a decoy what counts is the part of the embedding along the way from the decoy to oneself, as in the search.
    """
    embedding = rival.net(seen).float()
    target = goal[:, 1:] @ rival.decoys
    way = own - target
    length = way.norm(dim=1).clamp_min(1e-6)
    origin = (own * way).sum(1) / length
    limit = torch.where(goal[:, 0] > 0, torch.full_like(origin, rival.limit), -min(2 * TOWARDS * rival.margin, 1.0) * origin)
    excess = (((embedding * way).sum(1) / length) - limit) / (origin - limit).clamp_min(0.05)
    return F.relu(excess) + BEYOND * excess, (embedding * own).sum(1)


def recompressed(image: Tensor, rng: np.random.Generator) -> Tensor:
    """As JPEG would leave it; the gradient passes as if it left everything."""
    found = []
    for one in image.detach():
        buffer = io.BytesIO()
        pixels = (one.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(50, 96)))
        found.append(_tensor(np.asarray(Image.open(buffer))))
    return image + (torch.stack(found) - image.detach())


class Trainer:
    """The student, its average, and everything that it is trained against."""

    def __init__(self, sources: Sources, rivals: list[Rival], goals: list[str], rate: float, hold: float = 0.0) -> None:
        denoiser = sources.diffusion()
        facts = checkpoint.load(sources.weights / "diffusion.safetensors")[1]
        self.rivals, self.rate, self.hold = rivals, rate, hold
        self.keypoints = sources.keypoints()
        self.autoencoder = sources.autoencoder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        config = DiffusionConfig.read(facts["config"])
        self.told = rivals[1].net  # the student that ships
        self.fast = Fast(config, goals, facts["scaling"], rivals[1].decoys.shape[1])
        self.fast.start_from(denoiser)
        self.fast.unet.set_attn_processor(AttnProcessor())
        self.fast = self.fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mask = torch.from_numpy(face_mask())
        self.optimiser = torch.optim.AdamW(self.fast.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.average = {k: v.detach().clone() for k, v in self.fast.state_dict().items()}

    def step(self, crops: Tensor, number: int, steps: int, decoys: float, rng: np.random.Generator) -> dict[str, float]:
        """One update on crops [N, 3, S, S]."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * min(1.0, (number + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * number / steps)))
        crops = augment(crops, rng).contiguous(memory_format=torch.channels_last)
        count = len(crops)
        budget = torch.from_numpy(np.exp(rng.uniform(*np.log(BUDGETS), count)).astype(np.float32))
        chosen = np.where(rng.random(count) < decoys, rng.integers(1, len(self.fast.goals), count), 0)
        goal = F.one_hot(torch.from_numpy(chosen), len(self.fast.goals)).float()
        others = self.rivals[2:]
        used = self.rivals[:2] + [others[k] for k in rng.choice(len(others), min(2, len(others)), replace=False)]
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latent = self.autoencoder.encoder(crops)
                plain = self.autoencoder.decoder(latent).float()
                own = [rival.net(crops).float() for rival in used]
            moved = self.autoencoder.decoder(latent + self.fast(latent, own[1], budget, goal)).float()
        image = combine(moved, plain, crops, self.mask)
        seen = self.seen(image, rng).contiguous(memory_format=torch.channels_last)
        losses, cosines = [], {}
        with torch.autocast("cpu", torch.bfloat16):
            for rival, embedding in zip(used, own, strict=True):
                lost, cosine = adversarial(rival, seen, embedding, goal)
                losses.append(lost.float())
                cosines[rival.name] = float(cosine.detach().mean())
        penalty = penalty_of(image, crops)
        if self.hold:
            penalty = penalty + self.hold * self.moved(image, crops)
        price = penalty / budget
        loss = torch.stack(losses).mean() + (OVER * F.relu(price - 1) + ANY * price).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.fast.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            decay = min(AVERAGED, (number + 1) / (number + 10))
            for key, value in self.fast.state_dict().items():
                self.average[key].lerp_(value, 1 - decay)
        return {"loss": loss.item(), "price": float(price.detach().mean()), **cosines}

    def moved(self, image: Tensor, original: Tensor) -> Tensor:
        """Mean squared way of the key points, in sides of the crop, per sample [N]: the price that the method ``style`` has."""
        with torch.no_grad():
            points = self.keypoints(original)
        return (self.keypoints(image) - points).square().sum(2).mean(1)

    def seen(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """What recognisers are shown: as it is, moved, resized and blurred as in a search, or recompressed."""
        chance = rng.random()
        if chance < 0.15:
            return image
        if chance < 0.4:
            image = recompressed(image, rng)
        drawn = draw(DRAWS, CROP, rng)
        noise = float(drawn.noise.std()) * torch.randn_like(image)
        return torch.from_numpy(drawn.rows) @ image @ torch.from_numpy(drawn.cols) + noise

    @torch.no_grad()
    def figures(self, crops: Tensor, witness: nn.Module, threshold: float) -> dict[str, float]:
        """On photos that were not trained on, at the default budget, dodging: with recognisers of the loss, and one that is not."""
        model = Fast(self.fast.config, self.fast.goals, self.fast.scaling, self.fast.embedding)
        model.load_state_dict(self.average)
        model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        goal = F.one_hot(torch.zeros(1, dtype=torch.long), len(model.goals)).float()
        rows: dict[str, list[Tensor]] = {}
        for part in crops.split(16):
            with torch.autocast("cpu", torch.bfloat16):
                latent = self.autoencoder.encoder(part)
                embedding, budget = self.told(part).float(), torch.full((len(part),), BUDGET)
                offset = model(latent, embedding, budget, goal.expand(len(part), -1))
                plain, moved = self.autoencoder.decoder(torch.cat([latent, latent + offset])).float().chunk(2)
            image = combine(moved, plain, part, self.mask)
            rows.setdefault("psnr", []).append(-10 * torch.log10((image - part).square().mean((1, 2, 3))))
            rows.setdefault("penalty", []).append(penalty_of(image, part))
            rows.setdefault("points_moved", []).append(self.moved(image, part).sqrt())
            for rival in self.rivals:
                cosine = (rival.net(image) * rival.net(part)).sum(1)
                rows.setdefault(f"past_{rival.name}", []).append((cosine < rival.threshold).float())
            rows.setdefault("past_witness", []).append(((witness(image) * witness(part)).sum(1) < threshold).float())
        return {key: round(float(torch.cat(found).mean()), 5) for key, found in rows.items()}

    def save(self, out: Path, facts: Mapping[str, object]) -> None:
        """State and averaged weights."""
        kept = {f"average.{k}": v for k, v in self.average.items()}
        checkpoint.save(out / "state.safetensors", checkpoint.training_state(self.fast, self.optimiser) | kept, dict(facts))
        about = {"config": asdict(self.fast.config), **{k: getattr(self.fast, k) for k in ("goals", "scaling", "embedding")}}
        checkpoint.save(out / "weights.safetensors", self.average, {**facts, **about}, half=True)

    def start_from(self, path: Path) -> None:
        """Begin where a trained student stands."""
        self.fast.load_state_dict(checkpoint.load(path)[0])
        self.average = {k: v.detach().clone() for k, v in self.fast.state_dict().items()}

    def resume(self, out: Path) -> int:
        """The step to go on with."""
        if not (out / "state.safetensors").exists():
            return 0
        tensors, facts = checkpoint.load(out / "state.safetensors")
        self.average = {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}
        checkpoint.restore(tensors, self.fast, self.optimiser)
        return int(facts["step"])


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
@click.option("--hold", default=0.0, show_default=True, help="Price of moving the face's key points, beside the change of pixels.")
@click.option("--seed", default=0, show_default=True)
def main(
    crops: tuple[Path, ...], weights: Path, teachers: Path | None, out: Path, start: Path | None, steps: int, count: int, rate: float,
    decoys: float, margin: float, hold: float, seed: int,
) -> None:  # fmt: skip
    """Train, logging to DIR/curve.jsonl."""
    torch.manual_seed(seed)
    sources = Sources(weights, ())
    data = read_crops(list(crops), CROP)
    order = np.random.default_rng(seed).permutation(len(data))
    apart = min(HELD_OUT, len(order) // 4)
    held, known = order[:apart], order[apart:]
    rivals, goals = read_rivals(sources, teachers, margin)
    trainer = Trainer(sources, rivals, goals, rate, hold)
    witness, _ = sources.student("attention")
    threshold = json.loads((ZOO / "student-attention" / "manifest.json").read_text())["metadata"]["thresholds"]["far_1e-2"]
    if start:
        trainer.start_from(start)
    first = trainer.resume(out)
    torch.manual_seed(seed + first)  # a resumed run must not repeat the noise of the one before
    rng, began, saved, recent = np.random.default_rng([seed, first]), time.time(), time.time(), []
    facts = {"seed": seed, "data": [p.stem for p in crops], "recognisers": [one.name for one in rivals], "steps": steps, "hold": hold}
    for number in range(first, steps):
        batch = torch.stack([_tensor(data[k]) for k in sorted(rng.choice(known, count, replace=False))])
        recent.append(trainer.step(batch, number, steps, decoys, rng))
        last = number == steps - 1
        if number % 50 == 49 or last:
            keys = sorted({key for row in recent for key in row})
            means = {key: round(float(np.mean([row[key] for row in recent if key in row])), 4) for key in keys}
            recent.clear()
            checkpoint.log(out / "curve.jsonl", step=number + 1, seconds=round(time.time() - began), **means)
        if time.time() - saved > 240 or last:
            saved = time.time()
            figures = trainer.figures(torch.stack([_tensor(data[k]) for k in held]), witness, threshold)
            checkpoint.log(out / "curve.jsonl", step=number + 1, **figures)
            trainer.save(out, {**facts, **figures, "step": number + 1})


def _tensor(pixels: np.ndarray) -> Tensor:
    """[3, S, S] in 0..1 of uint8 RGB [S, S, 3]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    main()

"""What a one-pass student is trained against: recognisers to get past, what they are shown, and what the change costs.

Shared by ``train/fast.py``, ``train/makeup.py`` and ``train/targets.py``.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from faceprotect_engines.files.digest import sha256_file
from faceprotect_engines.recipes.input_diversity import DrawSettings, draw
from faceprotect_engines.recipes.philox import Stream
from faceprotect_engines.recipes.recipe import load_recipe
from faceprotect_engines.store import ZOO
from faceprotect_export.build.search_space import DLIB, PackageDlib
from faceprotect_export.objectives.penalty import Penalty, shares_of
from faceprotect_export.surrogates.dlib_resnet import read_weights
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.precision import mixed
from faceprotect_export.train.students import read_teachers
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.methods.arrays import DODGE
from faceprotect_sdk.methods.base import TOWARDS

HELD_OUT = 64
#: What a one-pass student is asked to come out at, in training.
BUDGETS = (0.00015, 0.0009)
#: Side of a place on the crop, and the share of the steps over which prices rise.
PLACE, RISE = 16, 0.4
#: Pixels below which a change is texture.
SEEN = 4
#: Past its limit a recogniser counts by this much of what it does before.
BEYOND = 0.1
#: Price of a change above the budget, and of any change.
OVER, ANY = 3.0, 0.1
DRAWS = DrawSettings(1.0, resize=(0.4, 1.0), zoom=(0.85, 1.25), shift=4.0, blur=(0.0, 1.2), noise_std=0.03, flip=0.5)


def digests(teachers: Path | None) -> list[str]:
    """sha256 of every recogniser in the folder that a student is trained against: what has taught it is no independent judge of it."""
    if teachers is None:
        return []
    models = json.loads((teachers / "fr.json").read_text())["models"]
    return sorted(sha256_file(teachers / entry["file"]) for entry in models.values() if entry["role"] == "surrogate")


@dataclass(frozen=True)
class Surrogate:
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
        return self.net(image, **self.values)


def _picture(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path))
    if pixels is None:
        raise click.UsageError(f"{path}: cannot be decoded. Reinstall faceprotect-sdk")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def read_surrogates(sources: Sources, teachers: Path | None, margin: float) -> tuple[list[Surrogate], list[str]]:
    """Dlib, the student, then the teachers; and the names of the goals."""
    pictures = sorted((ZOO / "decoys").glob("*.png"))
    decoys = torch.stack([tensor_of(_picture(path)) for path in pictures])
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
    surrogates = []
    for name, net, threshold, spread, own_margin in found:
        net = channels_last(net.requires_grad_(False).eval())
        with torch.no_grad():
            surrogates.append(Surrogate(name, net, threshold, spread, own_margin, net(decoys).float()))
    return surrogates, [DODGE, *(path.stem for path in pictures)]


def points_moved(keypoints: nn.Module, image: Tensor, original: Tensor) -> Tensor:
    """Mean squared way of the key points, in sides of the crop, per sample [N]: the price that the method ``style`` has."""
    with torch.no_grad():
        points = keypoints(original)
    return (keypoints(image) - points).square().sum(2).mean(1)


def penalty_of(image: Tensor, original: Tensor, shares: Sequence[float] | None = None) -> Tensor:
    """The penalty of the searches, per sample [N]; with the shares of the recipe ``latent``, or others."""
    given = _recipe_shares() if shares is None else tuple(shares)
    return _penalty(image.shape[-1])(image, original, image.new_tensor(given))[0]


@functools.cache
def _penalty(size: int) -> Penalty:
    return Penalty(size)


@functools.cache
def _recipe_shares() -> tuple[float, ...]:
    return tuple(shares_of(load_recipe(ZOO / "recipes" / "latent.json")))


def colourless() -> tuple[float, ...]:
    """The shares of the recipe, with none for colour shifts."""
    return (0.0, *_recipe_shares()[1:])


def concentrated(image: Tensor, original: Tensor) -> Tensor:
    """Squared error as the eye adds it up, per sample [N]: of a change that lies in one place, more than of one that is everywhere alike.

    Root mean square over places of the squared error about them, that is, Minkowski pooling with exponent 4.
    """
    local = F.avg_pool2d((image - original).square().mean(1, keepdim=True), PLACE, PLACE // 2)
    return local.square().mean((1, 2, 3)).sqrt()


def smoothed(change: Tensor) -> Tensor:
    """Changes [N, 3, S, S] as one sees them: without what is finer than :data:`SEEN` pixels, flattened, of length 1."""
    return F.normalize(F.avg_pool2d(change, SEEN).flatten(1), dim=1)


def common(change: Tensor) -> Tensor:
    """What the changes [N, 3, S, S] of aligned faces have in common: mean squared cosine of two of them (searches: about 0.002)."""
    if len(change) < 2:
        return change.new_zeros(())
    seen = smoothed(change)
    cosines = (seen @ seen.T).square()
    return (cosines.sum() - cosines.diagonal().sum()) / (len(seen) * (len(seen) - 1))


def unlike(change: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of changes [N, 3, S, S] with those of searches, per sample [N]."""
    return 1 - (smoothed(change) * smoothed(target)).sum(1)


def rising(number: int, steps: int) -> float:
    """The share of its full weight that a price has at a step: asked for all of it at once, a student gives up changing anything."""
    return min(1.0, number / (RISE * steps))


def adversarial(surrogate: Surrogate, seen: Tensor, own: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """How far above its limit a recogniser is, in parts of the way there, per sample; and its cosine to the face's own.

    With a decoy what counts is the part of the embedding along the way from the decoy to oneself, as in the search.
    """
    embedding = surrogate.net(seen).float()
    target = goal[:, 1:] @ surrogate.decoys
    way = own - target
    length = way.norm(dim=1).clamp_min(1e-6)
    origin = (own * way).sum(1) / length
    limit = torch.where(goal[:, 0] > 0, torch.full_like(origin, surrogate.limit), -min(2 * TOWARDS * surrogate.margin, 1.0) * origin)
    excess = (((embedding * way).sum(1) / length) - limit) / (origin - limit).clamp_min(0.05)
    return F.relu(excess) + BEYOND * excess, (embedding * own).sum(1)


def recompressed(image: Tensor, rng: np.random.Generator) -> Tensor:
    """As JPEG would leave it; the gradient passes as if it left everything."""
    found = []
    for one in image.detach():
        buffer = io.BytesIO()
        pixels = (one.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(50, 96)))
        found.append(tensor_of(np.asarray(Image.open(buffer))))
    return image + (torch.stack(found) - image.detach())


def seen(image: Tensor, rng: np.random.Generator) -> Tensor:
    """What recognisers are shown: as it is, moved, resized and blurred as in a search, or recompressed."""
    chance = rng.random()
    if chance < 0.15:
        return image
    if chance < 0.4:
        image = recompressed(image, rng)
    drawn = draw(DRAWS, CROP, Stream(int(rng.integers(2**63))), 0)
    noise = float(drawn.noise.std()) * torch.randn_like(image)
    return torch.from_numpy(drawn.rows) @ image @ torch.from_numpy(drawn.cols) + noise


def drawn(surrogates: Sequence[Surrogate], rng: np.random.Generator) -> list[Surrogate]:
    """Those of one step: the two that ship, and two of the others."""
    others = surrogates[2:]
    return [*surrogates[:2], *(others[k] for k in rng.choice(len(others), min(2, len(others)), replace=False))]


def facing(
    used: Sequence[Surrogate], image: Tensor, own: Sequence[Tensor], goal: Tensor, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Mean loss of the recognisers over a batch as they are shown it, and the mean cosine of each to the faces' own embeddings."""
    shown = seen(image, rng).contiguous(memory_format=torch.channels_last)
    losses, cosines = [], {}
    with mixed():
        for surrogate, embedding in zip(used, own, strict=True):
            lost, cosine = adversarial(surrogate, shown, embedding, goal)
            losses.append(lost.float())
            cosines[surrogate.name] = float(cosine.detach().mean())
    return torch.stack(losses).mean(), cosines


def paid(price: Tensor) -> Tensor:
    """What changes cost that have used up ``price`` [N] of their budgets."""
    return (OVER * F.relu(price - 1) + ANY * price).mean()


def read_witness(sources: Sources) -> tuple[nn.Module, float]:
    """The student that takes no part, and its threshold."""
    net, facts = sources.student("attention")
    return net, float(facts["thresholds"]["far_1e-2"])


def set_aside(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ``count`` crops: those that are held out, and those to train on."""
    order = np.random.default_rng(seed).permutation(count)
    left_out = min(HELD_OUT, count // 4)
    return order[:left_out], order[left_out:]


def outcome(
    image: Tensor,
    original: Tensor,
    plain: Tensor,
    keypoints: nn.Module,
    surrogates: Sequence[Surrogate],
    witness: nn.Module,
    threshold: float,
) -> dict[str, Tensor]:
    """What came of crops ``original``, per figure and sample [N].

    ``psnr`` is against them; ``concentrated``, ``common`` (of all, the same for each) and ``points_moved`` are against ``plain``: what a
    student began with, the makeup alone or the original. ``past_NAME``: whether that recogniser no longer matches; ``witness`` is one
    that took no part, with its threshold.
    """
    found = {
        "psnr": -10 * torch.log10((image - original).square().mean((1, 2, 3))),
        "concentrated": concentrated(image, plain),
        "common": common(image - plain).expand(len(image)),
        "points_moved": points_moved(keypoints, image, plain).sqrt(),
    }
    judged = [(surrogate.name, surrogate.net, surrogate.threshold) for surrogate in surrogates]
    for name, embed, limit in (*judged, ("witness", witness, threshold)):
        found[f"past_{name}"] = ((embed(image) * embed(original)).sum(1) < limit).float()
    return found


def means(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """The mean of every figure over all samples of all parts."""
    return {key: round(float(torch.cat([row[key] for row in rows]).mean()), 5) for key in rows[0]}


def tensor_of(pixels: np.ndarray) -> Tensor:
    """[3, S, S] in 0..1 of uint8 RGB [S, S, 3]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255

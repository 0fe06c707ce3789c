"""Train the network that tells whether a face has been protected.

``python -m faceprotect_export.train.trace CROPS.npy... --targets FILE.npz... -o runs/trace --steps 2000``: crops as written by
``train/crops.py``, and what searches changed in them, as written by ``train/targets.py`` for any method. Half of each batch are crops
with a change, 0.6 to 1.4 times as strong as it was found, half are crops without. Both are moved, resized, sharpened, smoothed, made
noisy and compressed in the same ways, so that none of that tells them apart. A tenth of the crops, with and without their changes, is
held out: the report says how many are found at a threshold that one in 500 unchanged ones is above. Goes on where it was stopped.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import click
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from tqdm import trange

from faceprotect_export.modules.trace import WIDTHS, Trace
from faceprotect_export.train import checkpoint
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.precision import mixed
from faceprotect_export.train.targets import read_targets
from faceprotect_sdk.align import CROP

Crop = NDArray[np.uint8]
HELD, ALARMS = 10, 0.002
_SAVED_EVERY = 100
#: How strong a change is beside the one that was found.
_STRONG = (0.6, 1.4)


def changed(crop: Crop, difference: NDArray[np.float16], share: float) -> Crop:
    """A crop [S, S, 3] with its change [3, S, S] so many times as strong."""
    found = crop + 255 * share * difference.transpose(1, 2, 0).astype(np.float32)
    return np.asarray(np.clip(np.rint(found), 0, 255), np.uint8)


def varied(crop: Crop, random: np.random.Generator) -> Crop:
    """What happens to a photo on its way: moved points, another size, a filter, noise, and JPEG once or twice."""
    image = crop if random.random() < 0.5 else crop[:, ::-1]
    turn = cv2.getRotationMatrix2D((128, 128), float(random.normal(0, 1.5)), float(np.exp(random.normal(0, 0.025))))
    turn[:, 2] += random.normal(0, 1.5, 2)
    image = cv2.warpAffine(np.ascontiguousarray(image), turn, (CROP, CROP), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    if random.random() < 0.5:
        side = int(CROP * random.uniform(0.45, 1.6))
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if side < CROP else cv2.INTER_CUBIC)
    image = _filtered(image, random)
    if random.random() < 0.9:
        image = _compressed(image, int(random.integers(55, 99)))
    if random.random() < 0.2:
        image = _compressed(image, int(random.integers(70, 97)))
    return np.asarray(cv2.resize(image, (CROP, CROP), interpolation=cv2.INTER_LINEAR), np.uint8)


def _filtered(image: Crop, random: np.random.Generator) -> Crop:
    """Sharpened, smoothed, noisy, lighter or grey, or as it was."""
    kind = random.integers(7)
    if kind == 0:
        blurred = cv2.GaussianBlur(image, (0, 0), float(random.uniform(0.8, 3)))
        image = cv2.addWeighted(image, 2.0, blurred, -1.0, 0) if random.random() < 0.5 else cv2.addWeighted(image, 1.5, blurred, -0.5, 0)
    elif kind == 1:
        image = cv2.bilateralFilter(image, 5, float(random.uniform(10, 40)), 5)
    elif kind == 2:
        image = np.clip(image + random.normal(0, random.uniform(1, 7), image.shape), 0, 255).astype(np.uint8)
    elif kind == 3:
        image = np.clip(255 * (image / 255) ** np.exp(random.normal(0, 0.25)), 0, 255).astype(np.uint8)
    elif kind == 4 and random.random() < 0.5:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    return np.ascontiguousarray(image)


def _compressed(image: Crop, quality: int) -> Crop:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def tensor_of(crops: Sequence[Crop]) -> torch.Tensor:
    """[N, 3, S, S] in 0..1."""
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


class Faces:
    """Crops, and what searches changed in some of them; every tenth is held out."""

    def __init__(self, data: Crop, files: Sequence[Path]) -> None:
        """Raises UsageError for targets of other crops."""
        self.data, self.found = data, list[tuple[int, NDArray[np.float16]]]()
        for file in files:
            read = read_targets(file, data)
            self.found += list(zip(read["rows"].tolist(), read["differences"], strict=True))
        held = np.arange(len(data)) % HELD == 0
        self.plain, self.plain_held = np.flatnonzero(~held), np.flatnonzero(held)
        self.seen = [entry for entry in self.found if not held[entry[0]]]
        self.seen_held = [entry for entry in self.found if held[entry[0]]]

    def batch(self, size: int, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops [size, 3, S, S], half of them changed, and 1 where they are."""
        crops = []
        for _ in range(size // 2):
            row, difference = self.seen[int(random.integers(len(self.seen)))]
            crops.append(varied(changed(self.data[row], difference, float(random.uniform(*_STRONG))), random))
        # of those without a change some are the very crops that also have one
        also = [row for row, _ in self.seen]
        rows = [int(random.choice(also if number % 4 == 0 else self.plain)) for number in range(size // 2)]
        crops += [varied(self.data[row], random) for row in rows]
        return tensor_of(crops), torch.cat([torch.ones(size // 2), torch.zeros(size // 2)])


@torch.no_grad()
def report(trace: Trace, faces: Faces, seed: int = 0) -> dict[str, float]:
    """The threshold that so few of the held-out crops are above, and how many of the changed ones are, at each of three strengths."""
    trace.eval()
    random = np.random.default_rng(seed)

    def scores(crops: Sequence[Crop]) -> NDArray[np.float32]:
        return torch.cat([trace(tensor_of(crops[start : start + 32])) for start in range(0, len(crops), 32)]).numpy()

    clean = scores([varied(faces.data[row], random) for row in faces.plain_held])
    threshold = float(np.quantile(clean, 1 - ALARMS))
    facts = {"held": float(len(clean)), "held_changed": float(len(faces.seen_held)), "threshold": threshold}
    for share in (0.6, 1.0, 1.4):
        found = scores([varied(changed(faces.data[row], difference, share), random) for row, difference in faces.seen_held])
        facts[f"found_{share}"] = float((found > threshold).mean())
    plain = scores([faces.data[row] for row in faces.plain_held])
    facts["alarms_untouched"] = float((plain > threshold).mean())
    trace.train()
    return facts


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--targets", "files", multiple=True, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--steps", default=2000, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--rate", default=2e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(crops: tuple[Path, ...], files: tuple[Path, ...], out: Path, steps: int, batch: int, rate: float, seed: int, threads: int) -> None:
    """Train, and write OUT/trace.safetensors with what the held-out crops say."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    faces = Faces(read_crops(list(crops), CROP), files)
    trace = Trace().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(trace.parameters(), rate, weight_decay=1e-2)
    out.mkdir(parents=True, exist_ok=True)
    begun, state = 0, out / "state.safetensors"
    if state.is_file():
        tensors, facts = checkpoint.load(state)
        checkpoint.restore(tensors, trace, optimiser)
        begun = int(facts["step"])
    started, losses = time.monotonic(), []
    for step in trange(begun, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        images, wanted = faces.batch(batch, np.random.default_rng([seed, step]))
        with mixed():
            odds = trace(images.contiguous(memory_format=torch.channels_last)).float()
        loss = F.binary_cross_entropy_with_logits(odds, wanted)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % _SAVED_EVERY == 0 or step + 1 == steps:
            checkpoint.save(state, checkpoint.training_state(trace, optimiser), {"step": step + 1})
            row = {"step": step + 1, "seconds": round(time.monotonic() - started), "loss": float(np.mean(losses)), **report(trace, faces)}
            with (out / "curve.jsonl").open("a") as curve:
                curve.write(json.dumps(row) + "\n")
            losses.clear()
    facts = report(trace, faces)
    metadata = {"config": {"widths": list(WIDTHS)}, "step": steps, "seed": seed, "data": [path.stem for path in crops], **facts}
    checkpoint.save(out / "trace.safetensors", trace.state_dict(), metadata, half=True)
    click.echo(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()

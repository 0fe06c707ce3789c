"""Train the encoder of faces and captions on painted makeup: ``python -m faceprotect_export.train.looks CROPS.npy... -o DIR``.

Crops are uint8 RGB [N, 256, 256, 3] as written by ``faceprotect_export.train.crops``; what they wear already stays, and counts as the
person's own. Every step paints a few looks on a few faces each; pictures of one look are alike. Resumes from ``DIR/state.safetensors``;
writes ``DIR/looks.safetensors`` (fp16).
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceprotect_export.makeup.encoder import SIDE, WORDS, LookEncoder
from faceprotect_export.makeup.render import BARE, Look, paint, random_look
from faceprotect_export.modules.keypoints import KeypointNet
from faceprotect_export.train import checkpoint
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.precision import mixed
from faceprotect_export.zoo.sources import Sources

HELD_OUT = 96
LOOKS_PER_STEP = 20


def key_points(crops: np.ndarray, net: KeypointNet) -> Tensor:
    """Points [N, 13, 2] of crops uint8 RGB [N, S, S, 3]."""
    with torch.no_grad():
        return torch.cat([net(pictures(part)) for part in np.array_split(crops, max(1, len(crops) // 64))])


def pictures(crops: np.ndarray) -> Tensor:
    """[N, 3, S, S] in 0..1 of uint8 RGB [N, S, S, 3]."""
    return torch.from_numpy(np.array(crops)).permute(0, 3, 1, 2).float() / 255


def painted(image: Tensor, points: Tensor, looks: list[Look]) -> tuple[Tensor, list[str]]:
    """Look k on the k-th share of the faces, in turn; and the captions, one a face."""
    made, said = image.clone(), [BARE] * len(image)
    for number, look in enumerate(looks):
        own = slice(number, None, len(looks))
        made[own] = paint(image[own], points[own], look)
        said[own] = [look.caption()] * len(said[own])
    return made, said


def lit(image: Tensor, rng: np.random.Generator) -> Tensor:
    """In another light: brightness, contrast, tint and noise, the same for a face bare and painted only by chance."""
    n = len(image)
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (n, 1, 1, 1)) * rng.uniform(0.96, 1.04, (n, 3, 1, 1))).float()
    moved = torch.roll(image, (int(rng.integers(-4, 5)), int(rng.integers(-4, 5))), (2, 3))
    return (moved * gain + 0.02 * torch.randn(image.shape)).clamp(0, 1)


def contrastive(model: LookEncoder, image: Tensor, said: list[str]) -> Tensor:
    """Cross-entropy both ways, where every picture of the same caption is a match."""
    texts = sorted(set(said))
    match = torch.tensor([[float(text == one) for text in texts] for one in said])
    logits = model(image, texts)
    by_picture = -(match * F.log_softmax(logits, 1)).sum(1).mean()
    by_text = -((match / match.sum(0)) * F.log_softmax(logits, 0)).sum(0).mean()
    return (by_picture + by_text) / 2


@torch.no_grad()
def figures(model: LookEncoder, image: Tensor, points: Tensor, rng: np.random.Generator) -> dict[str, float]:
    """On faces that were not trained on: the right caption of 32 first; direction of picture and text, and of a shuffled text."""
    model.eval()
    looks = [look for look in (random_look(rng) for _ in range(64)) if look != Look()][:32]
    made, said = painted(image, points, looks)
    texts = [look.caption() for look in looks]
    first = model(made, texts).argmax(1)
    right = [texts[int(k)] == one for k, one in zip(first, said, strict=True)]
    direction = F.normalize(model.images(made) - model.images(image), dim=1)
    words = F.normalize(model.texts(said) - model.texts([BARE]), dim=1)
    other = words[torch.from_numpy(rng.permutation(len(words)))]
    model.train()
    return {
        "caption_of_32": round(float(np.mean(right)), 4),
        "direction": round(float((direction * words).sum(1).mean()), 4),
        "direction_shuffled": round(float((direction * other).sum(1).mean()), 4),
    }


@click.command()
@click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--steps", default=2000, show_default=True)
@click.option("--count", default=60, show_default=True, help="Faces per step.")
@click.option("--rate", default=2e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(crops: tuple[Path, ...], weights: Path, out: Path, steps: int, count: int, rate: float, seed: int) -> None:
    """Train, logging to DIR/curve.jsonl."""
    torch.manual_seed(seed)
    data = read_crops(list(crops), SIDE)
    points = key_points(data, Sources(weights, ()).keypoints())
    order = np.random.default_rng(seed).permutation(len(data))
    apart = min(HELD_OUT, len(order) // 4)
    held, known = order[:apart], order[apart:]
    model = channels_last(LookEncoder())
    optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-3)
    start, state = 0, out / "state.safetensors"
    if state.exists():
        tensors, made = checkpoint.load(state)
        checkpoint.restore(tensors, model, optimiser)
        start = int(made["step"])
    torch.manual_seed(seed + start)  # a resumed run must not repeat the draws of the first
    rng, began, recent = np.random.default_rng([seed, start]), time.time(), []
    facts: dict[str, object] = {"seed": seed, "data": [path.stem for path in crops], "steps": steps, "words": WORDS}
    for step in range(start, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        chosen = rng.choice(known, count, replace=False)
        image, said = painted(pictures(data[chosen]), points[chosen], [random_look(rng) for _ in range(LOOKS_PER_STEP)])
        with mixed():
            loss = contrastive(model, lit(image, rng).contiguous(memory_format=torch.channels_last), said)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        recent.append(loss.item())
        if step % 200 == 199 or step == steps - 1:
            found = figures(model, pictures(data[held]), points[held], np.random.default_rng(1))
            facts |= {"step": step + 1, **found}
            checkpoint.log(out / "curve.jsonl", loss=float(np.mean(recent)), seconds=round(time.time() - began), **facts)
            checkpoint.save(state, checkpoint.training_state(model, optimiser), facts)
            recent.clear()
    checkpoint.save(out / "looks.safetensors", model.state_dict(), facts, half=True)


if __name__ == "__main__":
    main()

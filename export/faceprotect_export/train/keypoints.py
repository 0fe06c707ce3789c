"""Train the keypoint net on photos with points.

``python -m faceprotect_export.train.keypoints FACES POINTS -o DIR``: photos ``ID.jpg`` and ``ID.csv`` with eleven rows x,y in
0..1 of the photo, in the order of ``modules/keypoints.py``; the two eyes are the face detector's. Writes ``DIR/keypoints.safetensors``;
the error on photos held out is in its metadata, in parts of the distance between the outer corners of the eyes.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from faceprotect_engines.store import Store
from faceprotect_export.modules.keypoints import SIDE, KeypointNet
from faceprotect_export.train import checkpoint
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.precision import mixed
from faceprotect_sdk.face.align import CROP, aligned_crop, crop_transform
from faceprotect_sdk.face.detect import Face, detect

#: Where each point goes in a mirrored photo.
MIRROR = [3, 2, 1, 0, 6, 5, 4, 7, 9, 8, 10, 12, 11]
MARKED = 11
LEFT_BROW, RIGHT_BROW, NOSE = 0, 3, 5


def read(faces: Path, points: Path) -> tuple[np.ndarray, np.ndarray]:
    """Crops uint8 [N, 128, 128, 3] and points float32 [N, 13, 2] in 0..1 of the crop."""
    crops, targets = [], []
    with Store().open("face-detector") as detector:
        for path in tqdm(sorted(faces.glob("*.jpg"))):
            table = points / f"{path.stem}.csv"
            if not table.exists():
                continue
            pixels = cv2.imread(str(path))
            if pixels is None:
                click.echo(f"{path}: left out, it cannot be decoded", err=True)
                continue
            photo = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
            marks = np.loadtxt(table, delimiter=",").reshape(MARKED, 2) * photo.shape[1::-1] - 0.5
            found = [face for face in detect(photo, detector) if _inside(marks[NOSE], face)]
            if not found:
                continue
            matrix = crop_transform(found[0].points)
            marks = np.concatenate([marks, found[0].points[:2]])
            targets.append((marks @ matrix[:, :2].T + matrix[:, 2] + 0.5) / CROP)
            crops.append((aligned_crop(photo, found[0].points, SIDE)[0].transpose(1, 2, 0) * 255).round().astype(np.uint8))
    if not crops:
        raise click.UsageError(f"no photo in {faces} has both a face and a NAME.csv in {points}")
    return np.stack(crops), np.stack(targets).astype(np.float32)


def _inside(mark: np.ndarray, face: Face) -> bool:
    """Whether the mark is on this face: photos hold bystanders too."""
    low, high = np.array(face.box[:2]), np.array(face.box[2:])
    return bool(((mark > low) & (mark < high)).all())


def vary(image: Tensor, points: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turned, scaled, shifted and mirrored alike, [N, 3, S, S] and [N, 13, 2]; brightness, contrast and blur of the image alone."""
    n = len(image)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=random)

    angle, scale, shift = uniform(-0.3, 0.3), uniform(0.8, 1.25), uniform(-0.15, 0.15, 2)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1) * scale[:, None, None]
    grid = F.affine_grid(torch.cat([turn, shift[:, :, None]], 2), list(image.shape), align_corners=False)
    moved = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    # The grid maps places of the new image to the old one; points go the other way.
    placed = (torch.linalg.solve(turn, (points * 2 - 1 - shift[:, None]).transpose(1, 2)).transpose(1, 2) + 1) / 2
    mirrored = torch.rand(n, generator=random) < 0.5
    moved = torch.where(mirrored[:, None, None, None], moved.flip(3), moved)
    other = placed[:, MIRROR] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    placed = torch.where(mirrored[:, None, None], other, placed)
    mean = moved.mean((1, 2, 3), keepdim=True)
    moved = (moved - mean) * uniform(0.6, 1.4, 1, 1, 1) + mean * uniform(0.7, 1.3, 1, 1, 1)
    soft = F.interpolate(F.avg_pool2d(moved, 2), scale_factor=2.0, mode="bilinear")
    moved = torch.where((torch.rand(n, 1, 1, 1, generator=random) < 0.3), soft, moved)
    return (moved + 0.03 * torch.randn(moved.shape, generator=random)).clamp(0, 1), placed


def error(net: KeypointNet, crops: Tensor, points: Tensor) -> float:
    """Mean distance in parts of the distance between the outer corners of the eyes."""
    with torch.no_grad():
        found = net.eval()(crops)
    net.train()
    width = (points[:, LEFT_BROW] - points[:, RIGHT_BROW]).norm(dim=1)
    return float(((found - points).norm(dim=2).mean(1) / width).mean())


@click.command()
@click.argument("faces", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("points", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--steps", default=4000, show_default=True)
@click.option("--count", default=32, show_default=True)
@click.option("--rate", default=2e-3, show_default=True)
@click.option("--held-out", default=256, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(faces: Path, points: Path, out: Path, steps: int, count: int, rate: float, held_out: int, seed: int) -> None:
    """Train, logging to DIR/curve.jsonl."""
    torch.manual_seed(seed)
    crops, targets = read(faces, points)
    if len(crops) <= held_out:
        raise click.UsageError(f"{faces} has {len(crops)} marked faces; more than --held-out {held_out} are needed")
    order = np.random.default_rng(seed).permutation(len(crops))
    image, target = torch.from_numpy(crops[order]).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(targets[order])
    held, known = (image[:held_out], target[:held_out]), (image[held_out:], target[held_out:])
    net = channels_last(KeypointNet())
    optimiser, random = torch.optim.AdamW(net.parameters(), rate), torch.Generator().manual_seed(seed)
    start, state = 0, out / "state.safetensors"
    if state.exists():
        tensors, made = checkpoint.load(state)
        checkpoint.restore(tensors, net, optimiser)
        start = int(made["step"])
    random.manual_seed(seed + start)  # a resumed run must not repeat the draws of the first
    facts: dict[str, object] = {"seed": seed, "held_out": held_out, "count": count, "rate": rate}
    for step in range(start, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        chosen = torch.randint(len(known[0]), (count,), generator=random)
        crop, wanted = vary(known[0][chosen], known[1][chosen], random)
        with mixed():
            found = net(crop.contiguous(memory_format=torch.channels_last))
        loss = F.smooth_l1_loss(found * 32, wanted * 32)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if step % 200 == 199 or step == steps - 1:
            facts |= {"step": step + 1, "error": round(error(net, *held), 4)}
            checkpoint.log(out / "curve.jsonl", loss=loss.item(), **facts)
            checkpoint.save(state, checkpoint.training_state(net, optimiser), facts)
    checkpoint.save(out / "keypoints.safetensors", net.state_dict(), facts, half=True)


if __name__ == "__main__":
    main()

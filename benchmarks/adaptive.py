"""What is left of a protection against a recogniser that was trained on protected photos.

    python benchmarks/adaptive.py --train WORK/METHOD --train-pairs DIR --test WORK/METHOD --test-pairs DIR --recogniser MODEL.onnx -o FILE

``--train`` and ``--test`` are folders of protected photos as ``protection.py`` leaves them, of different people. A copy of the recogniser
learns to see a protected photo as it saw the original (and clean photos as before), which needs nothing but the tool itself; then it
scores protected photos of the people it never saw. Needs the extra [export].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from faceprotect_engines.engine import Engine
from faceprotect_engines.store import Store
from faceprotect_export.onnx_io.reader import load_onnx
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.detect import find_faces
from faceprotect_sdk.judging.specification import THRESHOLD, onnx_specification, parse_specification
from faceprotect_sdk.photo.reading import load
from harness.pairs import Pair, read_pairs
from harness.panel import similarity_matrix
from harness.provenance import command_line, environment
from harness.summary import impostor_thresholds, interval, rate
from protection import FAILURES, FOLDER, fail

BATCH = 16


class Attacker(nn.Module):
    """A recogniser whose weights can be trained, on windows of canonical crops."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        specification = parse_specification(*onnx_specification(path))
        if specification.input.window is None:
            raise UsageError(f"{path}: takes a face's box, not a template; choose another --recogniser")
        self.threshold = specification.thresholds[THRESHOLD]
        self.net = load_onnx(path)
        for name, tensor in list(self.net.named_buffers(recurse=False)):
            if tensor.is_floating_point() and tensor.dim() >= 2:
                delattr(self.net, name)
                self.net.register_parameter(name, nn.Parameter(tensor.clone()))
        self.feed, self.matrices = specification.input.feed, specification.input.window.matrices()

    def windows(self, crops: list[np.ndarray]) -> Tensor:
        """Network inputs [N, 3, S, S] of canonical crops [1, 3, 256, 256]."""
        rows, cols = self.matrices
        return torch.from_numpy(np.concatenate([self.feed(np.asarray(rows @ crop @ cols, np.float32)) for crop in crops]))

    def forward(self, windows: Tensor) -> Tensor:
        """Unit embeddings [N, E]."""
        return nn.functional.normalize(self.net(windows), dim=1)

    @torch.no_grad()
    def embeddings(self, windows: Tensor) -> np.ndarray:
        """The same without gradients, in batches."""
        return torch.cat([self(part) for part in windows.split(BATCH)]).numpy()


def crops(pairs: list[Pair], protected: Path, detector: Engine) -> dict[str, list[np.ndarray]]:
    """Canonical crops of photo, its protected file and the partner, of the pairs where all three can be had."""
    found: dict[str, list[np.ndarray]] = {"photo": [], "protected": [], "partner": []}
    for pair in tqdm(pairs, desc=protected.parent.name):
        path = protected / f"{pair.number}.jpg"
        if not path.exists():
            raise UsageError(f"{path}: no such file. Run protection.py on these pairs first, with --work {protected.parent}")
        pixels, partner = load(pair.photo).rgb8(), load(pair.partner).rgb8()
        faces = [find_faces(image, detector) for image in (pixels, partner)]
        if all(faces):
            found["photo"].append(aligned_crop(pixels, faces[0][0].points))
            found["protected"].append(aligned_crop(load(path).rgb8(), faces[0][0].points))
            found["partner"].append(aligned_crop(partner, faces[1][0].points))
    return found


def adapt(attacker: Attacker, train: dict[str, list[np.ndarray]], steps: int, learning_rate: float, seed: int) -> list[float]:
    """Fine-tune on pairs of original and protected photo; returns the losses."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    clean, changed, other = (attacker.windows(train[name]) for name in ("photo", "protected", "partner"))
    plain = torch.cat([clean, other])
    wanted = [torch.from_numpy(attacker.embeddings(images)) for images in (plain, plain.flip(3))]
    optimiser = torch.optim.Adam(attacker.parameters(), learning_rate)
    losses = []
    for _ in tqdm(range(steps), desc="adapting"):
        chosen = torch.from_numpy(rng.choice(len(clean), min(BATCH, len(clean)), replace=False))
        untouched = torch.from_numpy(rng.choice(len(plain), min(BATCH, len(plain)), replace=False))
        mirrored = int(rng.random() < 0.5)
        images = torch.cat([changed[chosen], plain[untouched]])
        images = images.flip(3) if mirrored else images
        targets = torch.cat([wanted[mirrored][chosen], wanted[mirrored][untouched]])
        loss = 1 - (attacker(images) * targets).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def scores(attacker: Attacker, test: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """Rates at the stated threshold and at one derived from these people's impostor pairs."""
    photo, changed, partner = (attacker.embeddings(attacker.windows(test[name])) for name in ("photo", "protected", "partner"))
    clean, protected = (similarity_matrix(x, partner, "cosine") for x in (photo, changed))
    result: dict[str, Any] = {"mean_similarity": round(float(np.diag(protected).mean()), 4)}
    derived = {k: v for k, v in impostor_thresholds(clean).items() if k.startswith(THRESHOLD)}
    for name, threshold in {THRESHOLD: attacker.threshold, **derived}.items():
        hits = np.diag(protected) < threshold
        result[name] = {
            "threshold": round(threshold, 4),
            "clean": rate(np.diag(clean) < threshold),
            "protected": rate(hits),
            "interval": interval(hits),
        }
    return result


@click.command()
@click.option("--train", required=True, type=FOLDER, help="Protected photos to learn from.")
@click.option("--train-pairs", required=True, type=FOLDER)
@click.option("--test", required=True, type=FOLDER, help="Protected photos of other people, that are scored.")
@click.option("--test-pairs", required=True, type=FOLDER)
@click.option("--recogniser", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--steps", default=200, show_default=True)
@click.option("--learning-rate", default=1e-4, show_default=True)
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(
    train: Path,
    train_pairs: Path,
    test: Path,
    test_pairs: Path,
    recogniser: Path,
    steps: int,
    learning_rate: float,
    out: Path,
    seed: int,
    threads: int,
) -> None:
    """Adapt a recogniser and write what it sees before and after."""
    torch.set_num_threads(threads)
    try:
        attacker = Attacker(recogniser)
        with Store().open("face-detector") as detector:
            learned = crops(read_pairs(train_pairs), train, detector)
            held = crops(read_pairs(test_pairs), test, detector)
        before = scores(attacker, held)
        losses = adapt(attacker, learned, steps, learning_rate, seed)
        after = scores(attacker, held)
    except FAILURES as error:
        fail(error)
    result = {
        "schema": 1,
        "command": command_line(),
        "seed": seed,
        **environment(1),
        "recogniser": recogniser.stem,
        "method": test.name,
        "learned_from": len(learned["photo"]),
        "people": len(held["photo"]),
        "steps": steps,
        "loss": [round(losses[0], 4), round(losses[-1], 4)],
        "before": before,
        "after": after,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps({k: result[k] for k in ("loss", "before", "after")}))


if __name__ == "__main__":
    sys.exit(main())

"""What both stages of the published method have in common: the generator and its tuning, and the options of a command.

The stages are ``makeup_removal.py`` and ``makeup_transfer.py``; ``makeup_published.py`` is their command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn

from faceprotect_export.makeup.colours import parts
from faceprotect_export.modules.diffusion import LatentDiffusion
from faceprotect_export.modules.makeup import Ddim, PixelDiffusion, changeable
from faceprotect_export.objectives.search import combine
from faceprotect_export.train import checkpoint
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.loop import Report, train
from faceprotect_sdk.face.mask import face_mask

#: A loss, and its terms as numbers.
Terms = tuple[Tensor, dict[str, float]]


def generated(generator: Ddim, image: Tensor, keypoints: nn.Module) -> Tensor:
    """Faces [N, 3, S, S] as the generator leaves them, changed only where makeup goes."""
    with torch.no_grad():
        where = torch.from_numpy(face_mask()) * changeable(parts(image, keypoints(image))[0])
    moved, plain = generator(image)
    return combine(moved, plain, image, where)


def tune(
    generator: Ddim,
    loss: Callable[[int], Terms],
    *,
    steps: int,
    epoch: int,
    rate: float,
    growth: float,
    out: Path,
    facts: dict[str, Any],
    report: Report | None = None,
) -> None:
    """Adam on what the generator tunes, by the loss of each step; the rate grows by ``growth`` per epoch."""
    parameters = nn.ParameterDict({name.replace(".", "/"): value for name, value in generator.trained().items()})
    optimiser = torch.optim.Adam(parameters.parameters(), rate)
    first = 0
    if (out / "state.safetensors").exists():
        tensors, made = checkpoint.load(out / "state.safetensors")
        checkpoint.restore(tensors, parameters, optimiser)
        first = int(made["step"])
    torch.manual_seed(int(facts["seed"]) + first)  # a resumed run must not repeat the draws of the first

    def step(number: int) -> dict[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = rate * growth ** (number // epoch)
        value, terms = loss(number)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        return {"loss": float(value.detach()), **terms}

    def save(done: int) -> dict[str, float]:
        known = {**facts, "step": done}
        checkpoint.save(out / "state.safetensors", checkpoint.training_state(parameters, optimiser), known)
        checkpoint.save(out / "weights.safetensors", generator.trained(), known, half=True)
        return {}

    train(out, first, steps, step, save, report=report)


def generator_of(model: LatentDiffusion | PixelDiffusion, start: int, inversions: int, generations: int, rank: int) -> Ddim:
    generator = Ddim(model, start, inversions, generations, rank)
    for one in (generator.model, generator.tuned):
        for part in one.unet.modules():
            if isinstance(part, Attention):
                part.set_processor(AttnProcessor())  # the fused form cannot be traced, and on CPU its backward pass is slow
    return channels_last(generator)


def way(generator: Ddim) -> dict[str, Any]:
    return {"up": generator.up, "down": generator.down, "rank": generator.rank}


def without_terms(weights: Any, terms: Sequence[str]) -> Any:
    """Weights with the named terms at 0."""
    if unknown := set(terms) - set(asdict(weights)):
        raise click.UsageError(f"no term of the loss is called {', '.join(sorted(unknown))}; there are: {', '.join(asdict(weights))}")
    return replace(weights, **dict.fromkeys(terms, 0.0))


def options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.argument("crops", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)),
            click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path)),
            click.option("-o", "--out", required=True, type=click.Path(path_type=Path)),
            click.option("--without", multiple=True, metavar="TERM", help="Leave this term of the loss out (repeatable)."),
            click.option("--rank", default=0, show_default=True, help="Of low-rank additions; 0 tunes every weight, as published."),
            click.option("--faces", default=200, show_default=True, help="Faces of an epoch."),
            click.option("--count", default=1, show_default=True, help="Faces per step."),
            click.option("--epochs", default=4, show_default=True),
            click.option("--rate", default=8e-6, show_default=True),
            click.option("--inversions", type=int, help="Steps up.  [default: 40 removal, 20 transfer]"),
            click.option("--generations", default=6, show_default=True, help="Steps down."),
            click.option("--start", type=int, help="Highest time step.  [default: 300 removal, 60 transfer]"),
            click.option("--seed", default=0, show_default=True),
        )
    ):
        command = option(command)
    return command

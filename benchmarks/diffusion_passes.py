"""The published diffusion method in its literal form against the lean one, on the model that ships: passes, work, seconds.

    python benchmarks/diffusion_passes.py PHOTO... --out benchmarks/results/diffusion_passes.json

Three runs of the same settings on each photo, in turn: literal in torch, the recipe ``diffusion-published`` in torch, and that recipe on
the engines that ship. Multiply-accumulates are those that torch's operators did, backward passes included; passes of the UNet and of the
decoder are counted by sample. What it would be at the size of Stable Diffusion follows from the passes (90.5 and 311 GMAC at 256 px).
The step engine turns every image that recognisers see by two matrices, which the search of this package needs and the published form
has not: there they are the identity. The lean form is counted without them, and once with (``gmac_with_views``). How far
two runs of the same form come apart is measured beside: the literal one again, on the photo moved by as little as rounding
(``nudged_latent_error``).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from faceprotect_engines.recipes.recipe import load_recipe, run_recipe
from faceprotect_engines.store import ZOO, Store
from faceprotect_export.build.eager import EagerEngine
from faceprotect_export.build.search_space import PackageDlib
from faceprotect_export.modules.diffusion import LatentDiffusion
from faceprotect_export.objectives.diffusion import DiffusionDecode, DiffusionInvert, DiffusionPlain, NullText
from faceprotect_export.objectives.search import SearchStep, reference_input
from faceprotect_export.zoo.diffusion import diffusion_step_recipe
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.detect import find_faces
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.pool import EnginePool
from harness.literal_diffusion import weaken
from harness.provenance import command_line, environment
from protection import FAILURES, fail

RECIPE = "diffusion-published"
#: Of Stable Diffusion 2 at 256 px, in GMAC per pass.
UNET, DECODER = 90.5, 311.0
#: As much as float32 rounds numbers of a photo.
NUDGE = 1e-7
Row = dict[str, Any]


class WithoutViews(SearchStep):
    """Recognisers see the image as it is."""

    def seen(self, image: Tensor, rows: Tensor, cols: Tensor, noise: Tensor) -> Tensor:
        return image


class Counter:
    """Samples that went through UNet and decoder, forward, and those of them that had a gradient to pass back."""

    def __init__(self, model: LatentDiffusion) -> None:
        self.model, self.counts = model, dict.fromkeys(("unet", "unet_back", "decoder", "decoder_back"), 0)

    @contextmanager
    def __call__(self) -> Iterator[dict[str, int]]:
        """Count in a block."""
        self.counts.update(dict.fromkeys(self.counts, 0))
        nets = {"unet": self.model.unet, "decoder": self.model.codec.autoencoder.decoder}
        hooks = [net.register_forward_hook(self._hook(name)) for name, net in nets.items()]
        try:
            yield self.counts
        finally:
            for hook in hooks:
                hook.remove()

    def _hook(self, name: str) -> Callable[..., None]:
        def count(module: Any, inputs: Any, output: Any) -> None:
            made = output[0] if isinstance(output, tuple) else output
            made = made if isinstance(made, Tensor) else made.sample
            self.counts[name] += len(made)
            self.counts[f"{name}_back"] += len(made) if made.requires_grad else 0

        return count


def size_of(counts: Mapping[str, int]) -> float:
    """The same passes at the size of Stable Diffusion, in TMAC (the gradient to an input costs as much as the forward pass)."""
    unet, decoder = (counts[name] + counts[f"{name}_back"] for name in ("unet", "decoder"))
    return round((unet * UNET + decoder * DECODER) / 1e3, 1)


class Forms:
    """The networks once, and the forms of the method over them."""

    def __init__(self, sources: Sources, room: EnginePool) -> None:
        step = diffusion_step_recipe(sources)
        function = cast(SearchStep, step.function)
        decode = cast(DiffusionDecode, function.decode)
        self.room, self.model, self.values = room, decode.model, step.weights_inputs
        self.surrogates: dict[str, Any] = dict(function.surrogates.items())
        found = DiffusionInvert(self.model)(sources.crops[0])
        null = {"latent": found["level_3"], "target": found["level_2"], "embedding": found["embedding"]}
        null |= {"time": torch.ones(1), "moves": torch.ones(2)}
        sample = dict(step.samples[0])
        made = [
            EagerEngine("diffusion-invert", DiffusionInvert(self.model), {"image": sources.crops[0]}),
            EagerEngine("diffusion-null-text", NullText(self.model), null, ["embedding"]),
            EagerEngine("diffusion-decode", DiffusionPlain(decode), {name: sample[name] for name in decode.inputs}),
            EagerEngine("diffusion-step", WithoutViews(decode, dict(self.surrogates)), sample, ["offset"], bound=self.values),
        ]
        self.eager = {engine.spec.name: engine for engine in made}
        self.viewing = {**self.eager, "diffusion-step": EagerEngine("diffusion-step", function, sample, ["offset"], bound=self.values)}
        self.counter = Counter(self.model)

    def embedded(self, name: str, image: Tensor) -> Tensor:
        """Unit embedding in a surrogate's eyes."""
        net = self.surrogates[name]
        return net(image, **(self.values if isinstance(net, PackageDlib) else {}))  # type: ignore[no-any-return]

    def compare(self, crop: np.ndarray) -> Row:
        """One photo, three ways."""
        photo = torch.from_numpy(crop)
        own = {name: self.embedded(name, photo) for name in self.surrogates}

        def adversarial(image: Tensor) -> Tensor:
            return sum(((self.embedded(name, image) * own[name]).sum() for name in own), torch.zeros(()))

        arrays = {"original": crop, "mask": np.ones((1, 1, *crop.shape[2:]), np.float32)}
        arrays["zero_offset"] = self.room("diffusion-step").spec.input("offset").zeros()
        arrays |= {reference_input(name): value.numpy() for name, value in own.items()}
        recipe = load_recipe(ZOO / "recipes" / f"{RECIPE}.json")
        literal, first = self._timed(lambda: weaken(photo, self.model, adversarial))
        noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
        nudged = weaken(photo + NUDGE * noise, self.model, adversarial)
        lean, second = self._timed(lambda: run_recipe(recipe, self.eager.__getitem__, arrays, seed=0))
        second["gmac_with_views"] = self._counted(lambda: run_recipe(recipe, self.viewing.__getitem__, arrays, seed=0))["gmac"]
        run_recipe(recipe, self.room, arrays, seed=0, parameters={"steps": 1, "null_text_steps": 1})  # opens the engines
        began = time.perf_counter()
        engine = run_recipe(recipe, self.room, arrays, seed=0)
        third = {"seconds": time.perf_counter() - began}
        losses, wanted = np.array([row["loss"] for row in lean.trace if row["stage"] == 4]), np.array(literal.losses)
        latent, image = literal.latent.numpy(), lean.arrays["decoded"].clip(0, 1)
        return {
            "literal": first,
            "lean": second,
            "engines": third,
            "structure_loss": literal.structure[-1],
            "loss_error": float(np.abs(losses - wanted).max() / np.abs(wanted).max()),
            "latent_error": float(np.abs(lean.arrays["level_3"] - latent).max() / np.abs(latent).max()),
            "nudged_loss_error": float(np.abs(np.array(nudged.losses) - wanted).max() / np.abs(wanted).max()),
            "nudged_latent_error": float(np.abs(nudged.latent.numpy() - latent).max() / np.abs(latent).max()),
            "literal_within_1_255": _near(image, literal.image.numpy()),
            "engines_within_1_255": _near(image, engine.arrays["decoded"].clip(0, 1)),
        }

    def _timed(self, work: Callable[[], Any]) -> tuple[Any, Row]:
        """What it gives; its seconds, then its passes and GMAC in a second run, for counting takes time."""
        began = time.perf_counter()
        made = work()
        return made, {"seconds": time.perf_counter() - began, **self._counted(work)}

    def _counted(self, work: Callable[[], Any]) -> Row:
        """Its passes and GMAC."""
        with self.counter() as counts, FlopCounterMode(display=False) as flops:
            work()
        return {"passes": dict(counts), "gmac": round(flops.get_total_flops() / 2e9, 1), "sd_size_tmac": size_of(counts)}


def _near(image: np.ndarray, other: np.ndarray) -> float:
    """Share of pixels that differ by 1/255 or less."""
    return float((np.abs(image - other) <= 1 / 255).mean())


@click.command()
@click.argument("photos", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--threads", default=2, show_default=True)
def main(photos: tuple[Path, ...], weights: Path, out: Path, threads: int) -> None:
    """Run the forms on PHOTOS in turn, and write what each took."""
    torch.set_num_threads(threads)
    rows = []
    try:
        room, crops = EnginePool(Store(), "cpu", threads), []
        for photo in photos:
            pixels = load(photo).rgb8()
            faces = find_faces(pixels, room("face-detector"))
            if not faces:
                raise UsageError(f"{photo}: no face found. Choose another photo")
            crops.append(aligned_crop(pixels, faces[0].points))
        forms = Forms(Sources(weights, (torch.from_numpy(crops[0]),)), room)
        for crop in crops:
            rows.append(forms.compare(crop))
            click.echo(json.dumps(rows[-1]), err=True)
    except FAILURES as error:
        fail(error)
    result = {
        "schema": 1,
        "command": command_line(),
        **environment(1),
        "photos": len(rows),
        "fewer_macs": _median([row["literal"]["gmac"] / row["lean"]["gmac"] for row in rows]),
        "fewer_macs_with_views": _median([row["literal"]["gmac"] / row["lean"]["gmac_with_views"] for row in rows]),
        "fewer_macs_at_sd_size": _median([row["literal"]["sd_size_tmac"] / row["lean"]["sd_size_tmac"] for row in rows]),
        "times_as_fast": _median([row["literal"]["seconds"] / row["lean"]["seconds"] for row in rows]),
        "engines_times_as_fast": _median([row["literal"]["seconds"] / row["engines"]["seconds"] for row in rows]),
        "rows": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps({key: value for key, value in result.items() if key not in ("rows", "command")}))


def _median(values: list[float]) -> float:
    return round(float(np.median(values)), 2)


if __name__ == "__main__":
    sys.exit(main())

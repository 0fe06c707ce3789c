"""The recipe of ``diffusion`` over networks of Stable Diffusion 2's size, with random weights: chained engines against one torch module.

    python benchmarks/sd_recipe.py PHOTO --scratch DIR --out benchmarks/results/sd_recipe.json

PHOTO shows a face. The chains run on ONNX Runtime, UNet, decoder and recognisers one after the other; torch differentiates the whole. Both
take the same few steps from the same seed, each in a process of its own. Numbers of random networks say nothing of protection: what is
compared is that the two agree, seconds, and memory. Needs 18 GB of memory and 5 GB in ``--scratch``.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from faceprotect_engines.recipes.recipe import load_recipe, run_recipe
from faceprotect_engines.store import ZOO, Store
from faceprotect_sdk.face.align import CROP, aligned_crop
from faceprotect_sdk.face.detect import find_faces
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.photo.write import write_atomic
from faceprotect_sdk.pool import EnginePool
from harness.provenance import command_line, environment

TOKENS, WIDTH = 77, 1024
LATENT = (1, 4, CROP // 8, CROP // 8)
KEPT = ("penalty", "similarity_0", "similarity_1", "structure")


def networks() -> tuple[Any, Any, Any]:
    """UNet, autoencoder and the empty embedding: the same random numbers in every process."""
    import torch

    from full_size import unet, vae

    net = unet(cross_attention_dim=WIDTH, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True)
    torch.manual_seed(1)
    codec = vae()
    return net.requires_grad_(False).eval(), codec.requires_grad_(False).eval(), 0.5 * torch.randn(1, TOKENS, WIDTH)


def arrays_of(photo: Path) -> dict[str, Any]:
    """What the recipe takes of a photo: the largest face, moving away from itself."""
    pixels = load(photo).rgb8()
    with Store().open("face-detector") as detector:
        crop = aligned_crop(pixels, find_faces(pixels, detector)[0].points)
    arrays = {"original": crop, "mask": face_mask(), "zero_offset": np.zeros(LATENT, np.float32), "limit": np.array([0.5, 0.1], np.float32)}
    for name in Store().manifest("image-step").metadata["surrogates"]:
        with Store().open(name) as engine:
            seen = engine.run({"image": crop, "reference": engine.spec.input("reference").zeros() + 0.01})["embedding"]
        arrays[f"reference_{name.replace('-', '_')}"] = seen
    return arrays


def export(scratch: Path) -> None:
    """The engines and chains of the pipeline."""
    from faceprotect_export.build.folder import build_engine
    from faceprotect_export.pretrained.chains import build_chain, diffusion_chains
    from faceprotect_export.pretrained.common import Options
    from faceprotect_export.pretrained.diffusion import codec_engines, unet_engine

    net, codec, empty = networks()
    source = {"weights": "random numbers", "licence": "none"}
    for recipe in (*codec_engines(codec, "vae", Options(), source), unet_engine(net, Options(), source)):
        build_engine(recipe, scratch / recipe.name)
    for chain in diffusion_chains(source, empty.numpy()):
        build_chain(chain, scratch / chain.name)


def chained(scratch: Path, arrays: dict[str, Any], steps: int) -> tuple[Any, float]:
    """The recipe on ONNX Runtime, and its seconds with the engines open."""
    room = EnginePool(Store([scratch, ZOO]), "cpu")
    for name in ("diffusion-invert", "diffusion-decode", "diffusion-step"):
        room(name)
    began = time.perf_counter()
    found = run_recipe(load_recipe(ZOO / "recipes" / "diffusion.json"), room, arrays, seed=0, parameters={"steps": steps, "budget": 0.01})
    return found, time.perf_counter() - began


def whole(arrays: dict[str, Any], steps: int) -> tuple[Any, float]:
    """The same in torch, differentiated at once."""
    import torch

    from faceprotect_export.build.eager import EagerEngine
    from faceprotect_export.build.search_space import SearchSpace, shipped_step_recipe
    from faceprotect_export.modules.diffusion import DiffusersCodec, LatentDiffusion
    from faceprotect_export.objectives.diffusion import ALIGNED, DiffusionDecode, DiffusionInvert, DiffusionPlain, way_down
    from faceprotect_export.zoo.sources import Sources

    net, codec, empty = networks()
    model, crop = LatentDiffusion(DiffusersCodec(codec), net, empty), torch.from_numpy(arrays["original"])
    decode = DiffusionDecode(model, len(ALIGNED) - 1)
    with torch.no_grad():
        levels = DiffusionInvert(model)(crop)
        times, moves = (torch.tensor(numbers) for numbers in way_down(model, ALIGNED))
        codes = {"latent": levels["level_3"], "offset": torch.zeros(LATENT), "times": times, "moves": moves}
        codes |= {name: levels["embedding"] for name in decode.embeddings}
        plain = DiffusionPlain(decode)(**codes)
        terms = [{name: plain[name] for name in decode.price_inputs}]
        space = SearchSpace("diffusion", decode, [codes], {}, {}, term_inputs=terms, shares=(0.5, 0.01, 0.2, 1.0))
        step = shipped_step_recipe(space, Sources(Path(__file__).parents[1] / "weights", (crop,)))
    opened = {
        "diffusion-invert": EagerEngine("diffusion-invert", DiffusionInvert(model), {"image": crop}),
        "diffusion-decode": EagerEngine("diffusion-decode", DiffusionPlain(decode), codes),
        "diffusion-step": EagerEngine("diffusion-step", step.function, step.samples[0], ["offset"], bound=step.weights_inputs),
    }
    began = time.perf_counter()
    recipe = load_recipe(ZOO / "recipes" / "diffusion.json")
    return run_recipe(recipe, opened.__getitem__, arrays, seed=0, parameters={"steps": steps, "budget": 0.01}), time.perf_counter() - began


def part(name: str, photo: Path, scratch: Path, steps: int) -> None:
    """One process: its result goes to NAME.npz and NAME.json in the scratch folder."""
    began = time.perf_counter()
    facts: dict[str, Any] = {}
    if name == "export":
        export(scratch)
    else:
        arrays = arrays_of(photo)
        found, seconds = chained(scratch, arrays, steps) if name == "chained" else whole(arrays, steps)
        np.savez(scratch / name, difference=found.arrays["difference"])
        facts = {"search_seconds": round(seconds, 1), "trace": [{key: row[key] for key in KEPT if key in row} for row in found.trace]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    facts |= {"seconds": round(time.perf_counter() - began, 1), "peak_gb": round(peak, 2)}
    (scratch / f"{name}.json").write_text(json.dumps(facts))


def compared(scratch: Path) -> dict[str, Any]:
    """How far the two are apart."""
    rows = {name: json.loads((scratch / f"{name}.json").read_text()) for name in ("export", "chained", "whole")}
    one, other = (np.load(scratch / f"{name}.npz")["difference"] for name in ("chained", "whole"))
    errors = [
        abs(a[key] - b[key]) / max(abs(b[key]), 1e-3)
        for a, b in zip(rows["chained"]["trace"], rows["whole"]["trace"], strict=True)
        for key in b
    ]
    same = {"within_1_255": float((np.abs(one - other) < 1 / 255).mean()), "largest_relative_error_of_trace": max(errors)}
    return {**rows, "difference": same, "largest_change": float(np.abs(other).max())}


@click.command()
@click.argument("photo", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--scratch", required=True, type=click.Path(file_okay=False, path_type=Path), help="Engines stay there: a rerun uses them.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--steps", default=2, show_default=True, help="Of the search.")
@click.option("--part", "only", type=click.Choice(["export", "chained", "whole"]), hidden=True)
def main(photo: Path, scratch: Path, out: Path, steps: int, only: str | None) -> None:
    """Export, run both ways, compare."""
    if only:
        part(only, photo, scratch, steps)
        return
    scratch.mkdir(parents=True, exist_ok=True)
    for name in ("export", "chained", "whole"):
        if not (scratch / f"{name}.json").exists():
            click.echo(name, err=True)
            given = [str(photo), "--scratch", str(scratch), "--out", str(out), "--steps", str(steps), "--part", name]
            subprocess.run([sys.executable, __file__, *given], check=True)  # noqa: S603
    document = {"schema": 1, "command": command_line(), "seed": 0, **environment(1), "steps": steps, **compared(scratch)}
    write_atomic(out, json.dumps(document, indent=1).encode() + b"\n", force=True)
    click.echo(json.dumps(document["difference"]))


if __name__ == "__main__":
    main()

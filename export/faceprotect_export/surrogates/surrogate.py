"""Turn a recogniser into a surrogate: a gradient engine on the canonical crop.

``image [1,3,256,256]`` -> window (two constant matrices) -> colour and range -> network -> unit embedding; its cosine with
``reference`` and the gradient of that cosine to the image. Any face recognition network in ONNX that
:mod:`faceprotect_export.onnx_io.reader` reads will do: convolutional, transformer or both, images as [N,3,H,W] or [N,H,W,3], the batch free
or one. It becomes a network of one crop, so that what the graph computes from shapes (positions, repeated tokens) is constant.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from faceprotect_engines.files.digest import sha256_file
from faceprotect_engines.files.manifest import Manifest, check_name
from faceprotect_export.build.folder import EngineRecipe, build_engine
from faceprotect_export.build.parity import compare, run_onnx
from faceprotect_export.onnx_io.reader import OnnxModule, OnnxReadError, load_onnx
from faceprotect_export.onnx_io.writer import round_weights
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.judging.specification import InputSpecification, Specification, SpecificationError, parse_specification

#: Cosine between the network as read and as ONNX Runtime runs it.
_READING = 0.9999
#: Cosine of an image with itself dithered from which on it is too near its maximum to measure a gradient.
_ALIKE = 0.9999
#: What the similarity is multiplied by before its gradient is taken in float16, whose precision ends at 6e-5.
SCALE = 1024.0
#: Of a gradient in float16 beside the one in float32: the largest error over the largest value, and the least cosine. Rounding moves units
#: over the kinks of their rectifiers: MobileFaceNets come to 0.998 to 0.9995, an untrained FaceNet to 0.997.
HALF_TOLERANCE, HALF_COSINE = 0.5, 0.995
#: What every engine of role "surrogate" takes and gives.
DESCRIBE: dict[str, dict[str, Any]] = {
    "image": {"layout": "NCHW", "color": "RGB", "range": (0.0, 1.0), "description": "canonical crop"},
    "reference": {"range": (-0.1, 0.1), "description": "unit embedding to compare with"},
    "embedding": {"description": "unit embedding of the image"},
    "similarity": {"range": (-1.0, 1.0), "description": "cosine of embedding and reference"},
    "grad_image": {"layout": "NCHW", "color": "RGB", "description": "gradient of the similarity"},
}


class CropRecogniser(nn.Module):
    """Canonical crop to unit embedding: window, colour, range, network."""

    rows: Tensor
    cols: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, net: nn.Module, spec: InputSpecification) -> None:
        """``net`` takes the image as ``spec`` describes it and gives an embedding [N,E]."""
        super().__init__()
        if spec.window is None:
            raise SpecificationError(
                "the template is a box, not five points: it is no window of the canonical crop. "
                "Give the five points that the network was trained on as input.points"
            )
        rows, cols = spec.window.matrices(CROP)
        self.net, self.bgr, self.channels_last = net, spec.color == "BGR", bool(getattr(net, "channels_last", False))
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("cols", torch.from_numpy(cols))
        std = torch.tensor(spec.std).reshape(1, 3, 1, 1)
        self.register_buffer("scale", (spec.high - spec.low) / std)
        self.register_buffer("shift", (spec.low - torch.tensor(spec.mean).reshape(1, 3, 1, 1)) / std)
        self._plain = bool((self.scale == 1).all() and (self.shift == 0).all())

    def forward(self, image: Tensor) -> Tensor:
        """Embed [N,3,256,256] RGB in [0,1]; returns [N,E] of unit length."""
        return F.normalize(self.net(self.feed(image)).flatten(1), dim=1)

    def feed(self, image: Tensor) -> Tensor:
        """What the network itself takes, [N,3,size,size] (or [N,size,size,3])."""
        x = self.rows @ image @ self.cols
        x = x.flip(1) if self.bgr else x
        x = x if self._plain else x * self.scale + self.shift
        return x.permute(0, 2, 3, 1) if self.channels_last else x


def surrogate_function(recogniser: nn.Module) -> Any:
    """``(image, reference) -> embedding, similarity``: what a surrogate engine computes before its gradient."""

    def function(image: Tensor, reference: Tensor) -> dict[str, Tensor]:
        embedding = recogniser(image)
        return {"embedding": embedding, "similarity": (embedding * reference).sum(1)}

    return function


def smooth_samples(count: int, seed: int = 0) -> list[Tensor]:
    """Picture-like test images [1,3,256,256] in 0..1 where no photos are at hand: low frequencies and a little noise."""
    random = torch.Generator().manual_seed(seed)
    images = []
    for _ in range(count):
        coarse = torch.rand(1, 3, 12, 12, generator=random)
        image = F.interpolate(coarse, size=(CROP, CROP), mode="bicubic", align_corners=False)
        images.append((image + 0.03 * torch.randn(image.shape, generator=random)).clamp(0, 1))
    return images


def samples_for(recogniser: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Each image, dithered, with the embedding of the image itself as reference: what the search sees at its start.

    Dithered, because in flat areas (a padded border, say) max pooling has exact ties that rounding decides: there torch in
    float32 differs from torch in float64 by several per cent, and parity would measure nothing. A network that hardly sees the noise is
    at the maximum of its cosine there, where the gradient is what rounding leaves of it: it is compared with another embedding.
    """
    samples = []
    for index, image in enumerate(images):
        random = torch.Generator().manual_seed(index)
        noise = torch.randn(image.shape, generator=random)
        dithered = (image + 0.05 * noise).clamp(0, 1)
        with torch.no_grad():
            reference, seen = recogniser(image), recogniser(dithered)
        if float((reference * seen).sum(1)) > _ALIKE:
            reference = F.normalize(reference + F.normalize(torch.randn(reference.shape, generator=random), dim=1), dim=1)
        samples.append({"image": dithered, "reference": reference})
    return samples


def build_surrogate(
    model: Path | str,
    folder: Path | str,
    *,
    spec: Mapping[str, Any],
    templates: Mapping[str, Any] | None = None,
    name: str | None = None,
    images: Sequence[NDArray[np.float32]] = (),
    precision: Literal["fp32", "fp16"] = "fp32",
) -> Manifest:
    """Make a surrogate engine from a recogniser's ONNX file.

    Args:
        model: the .onnx file.
        folder: where ``model.onnx`` and ``manifest.json`` go; made if needed.
        spec: see :func:`parse_specification`.
        templates: name -> {"size", "points"} beyond arcface112, as in fr.json.
        name: of the engine; default the file's stem.
        images: canonical crops [1,3,256,256] RGB 0..1 to measure parity on; default made-up ones.
        precision: "fp16" rounds the weights, and computes convolutions and matrix products in float16.

    Raises:
        SpecificationError, faceprotect_export.onnx_io.reader.OnnxReadError, faceprotect_export.build.folder.ParityError.

    """
    recipe = surrogate_recipe(model, spec=spec, templates=templates, name=name, images=images, precision=precision)
    return build_engine(recipe, folder)


def surrogate_recipe(
    model: Path | str,
    *,
    spec: Mapping[str, Any],
    templates: Mapping[str, Any] | None = None,
    name: str | None = None,
    images: Sequence[NDArray[np.float32]] = (),
    precision: Literal["fp32", "fp16"] = "fp32",
) -> EngineRecipe:
    """The engine of :func:`build_surrogate`, not yet built."""
    parsed, path, half = parse_specification(spec, templates), Path(model), precision == "fp16"
    check_name(name or path.stem)
    recogniser = CropRecogniser(load_onnx(path, parsed.output), parsed.input).eval()
    _specialise(recogniser, path)
    _check_reading(recogniser, path)
    manifest = surrogate_manifest(parsed, {**parsed.source, "sha256": sha256_file(path), "file": path.name}, recogniser)
    if half:
        round_weights(recogniser.net)
        manifest["build"]["command"] += " --precision fp16"
    tensors = [torch.from_numpy(np.asarray(i, np.float32)) for i in images] or smooth_samples(5)
    recipe = EngineRecipe(
        name=name or path.stem,
        role="surrogate",
        function=surrogate_function(recogniser),
        samples=samples_for(recogniser, tensors),
        variables=("image",),
        loss="similarity",
        describe=DESCRIBE,
        weights=precision,
        exact=None if half else surrogate_function(copy.deepcopy(recogniser).double()),
        manifest=manifest,
    )
    if not half:
        return recipe
    return replace(recipe, arithmetic="fp16", fold="load", gradient_scale=SCALE, tolerance=HALF_TOLERANCE, cosine=HALF_COSINE)


def _specialise(recogniser: CropRecogniser, path: Path) -> None:
    """Make the network one for a single crop; a wrong size or an odd output is reported in the user's terms."""
    net = recogniser.net
    assert isinstance(net, OnnxModule)
    image = torch.full((1, 3, CROP, CROP), 0.5)
    try:
        with torch.no_grad():
            recogniser.net = net.specialised(recogniser.feed(image))
            shape = recogniser(image).shape
    except OnnxReadError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        size = int(recogniser.rows.shape[0])
        raise SpecificationError(f"{path} does not run on [1,3,{size},{size}]: {error}. Give its own --size") from error
    if len(shape) != 2 or shape[1] < 8:
        raise SpecificationError(f"{path} gives {tuple(shape)}, not an embedding; name its output with output.name")


def _check_reading(recogniser: CropRecogniser, path: Path) -> None:
    """Hold the network as it was read to ONNX Runtime on the user's own file: a misread operator must not go unnoticed.

    Parity of the engine says nothing of that: it compares with the network as read.
    """
    net = recogniser.net
    assert isinstance(net, OnnxModule)
    for image in smooth_samples(3):
        with torch.no_grad():
            fed = recogniser.feed(image)
            read = net(fed).numpy()
        own = run_onnx(path, {net.input_name: fed.numpy()})[net.output_name]
        if compare(own, read).cosine < _READING:
            raise SpecificationError(
                f"{path}: the network as read differs from ONNX Runtime's own run of the file, so an operator in it is not "
                "supported as it is used there. Export the network again with opset 18 and static shapes, without resizing"
            )


def surrogate_manifest(spec: Specification, source: Mapping[str, Any], recogniser: nn.Module) -> dict[str, Any]:
    """The manifest fields that every surrogate has."""
    window = spec.input.window
    assert window is not None  # CropRecogniser refused a box
    with torch.no_grad():
        size = recogniser(torch.full((1, 3, CROP, CROP), 0.5)).shape[1]
    strangers = {} if spec.impostor_mean is None else {"impostor_mean": spec.impostor_mean}
    return {
        "preprocessing": {
            "template": spec.template,
            "window": {"size": window.size, "left": window.left, "top": window.top, "side": window.side},
            "color": spec.input.color,
            "range": [spec.input.low, spec.input.high],
            "mean": list(spec.input.mean),
            "std": list(spec.input.std),
            "inside": True,
        },
        "source": dict(source),
        "build": {"command": "faceprotect-sdk export surrogate MODEL.onnx -o DIR"},
        "metadata": {"thresholds": dict(spec.thresholds), "template": spec.template, "embedding": int(size), **strangers},
    }

"""Turn a recogniser into a surrogate: a gradient engine on the canonical crop.

``image [1,3,256,256]`` -> window (two constant matrices) -> colour and range -> network -> unit embedding; its cosine with
``reference`` and the gradient of that cosine to the image. Any face recognition network in ONNX that
:mod:`faceprotect_export.onnx_reader` reads will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from faceprotect_engines.digest import sha256_file
from faceprotect_engines.manifest import Manifest
from faceprotect_export.engine_folder import EngineRecipe, build_engine
from faceprotect_export.onnx_reader import load_onnx
from faceprotect_export.onnx_writer import round_weights
from faceprotect_sdk.align import ARCFACE_112, CROP, Window

#: What every engine of role "surrogate" takes and gives.
DESCRIBE: dict[str, dict[str, Any]] = {
    "image": {"layout": "NCHW", "color": "RGB", "range": (0.0, 1.0), "description": "canonical crop"},
    "reference": {"range": (-0.1, 0.1), "description": "unit embedding to compare with"},
    "embedding": {"description": "unit embedding of the image"},
    "similarity": {"range": (-1.0, 1.0), "description": "cosine of embedding and reference"},
    "grad_image": {"layout": "NCHW", "color": "RGB", "description": "gradient of the similarity"},
}


class SpecificationError(ValueError):
    """The description of a recogniser's input lacks something, or contradicts itself."""


@dataclass(frozen=True)
class InputSpecification:
    """How a recogniser wants to see a face.

    ``window``: its template in the canonical crop. Pixels in 0..1 become ``(low + x * (high - low) - mean) / std``, in ``color`` order.
    """

    window: Window
    color: Literal["RGB", "BGR"] = "RGB"
    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Specification:
    """A recogniser's input, thresholds, and what is known about its origin."""

    input: InputSpecification
    thresholds: Mapping[str, float]
    template: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)
    output: str | None = None
    impostor_mean: float | None = None


def _three(value: Any, default: float) -> tuple[float, ...]:
    numbers = [default] if value is None else [float(v) for v in np.ravel(value)]
    if len(numbers) not in (1, 3):
        raise SpecificationError(f"mean and std have one or three numbers, got {numbers}")
    return tuple(numbers * 3 if len(numbers) == 1 else numbers)


def _window(entry: Mapping[str, Any], templates: Mapping[str, Any], size: int) -> tuple[Window, str]:
    name = str(entry.get("template", "arcface112"))
    points, base = entry.get("points"), size
    if points is None:
        known: dict[str, Any] = {"arcface112": {"size": 112, "points": ARCFACE_112.tolist()}, **templates}
        if name not in known:
            raise SpecificationError(f"unknown template '{name}': choose of {sorted(known)}, or give input.points")
        points, base = known[name]["points"], int(known[name]["size"])
    if points is None:
        raise SpecificationError(
            f"template '{name}' is a box, not five points: it is no window of the canonical crop. "
            "Give the five points that the network was trained on as input.points"
        )
    scaled = (np.asarray(points, np.float64) + 0.5) * (size / base) - 0.5
    return Window.from_points(scaled.tolist(), size), name


def parse_specification(spec: Mapping[str, Any], templates: Mapping[str, Any] | None = None) -> Specification:
    """Read a JSON object like an entry of fr.json.

    Needs ``input.shape`` and ``thresholds``; may have ``input.template`` or ``input.points``, ``input.color``, ``input.range``,
    ``input.mean``, ``input.std`` (in the range's units), ``output.name``, ``impostor_mean`` (mean cosine of strangers), ``source``,
    ``licence``, ``architecture``.

    Raises:
        SpecificationError: naming the field.

    """
    try:
        entry = spec["input"]
        height, width = (int(n) for n in entry["shape"][-2:])
        low, high = (float(v) for v in entry.get("range", (0.0, 1.0)))
        thresholds = {str(k): float(v) for k, v in spec["thresholds"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecificationError(f"the specification lacks or garbles {error}: see an entry of fr.json") from error
    color = str(entry.get("color", "RGB")).upper()
    if height != width:
        raise SpecificationError(f"input.shape is {height} x {width}: only square inputs are supported")
    if color not in ("RGB", "BGR"):
        raise SpecificationError(f"input.color is {color!r}: RGB or BGR")
    window, template = _window(entry, templates or {}, height)
    mean, std = _three(entry.get("mean"), 0.0), _three(entry.get("std"), 1.0)
    source = {k: spec[k] for k in ("source", "licence", "architecture") if k in spec}
    output = (spec.get("output") or {}).get("name")
    strangers = None if spec.get("impostor_mean") is None else float(spec["impostor_mean"])
    return Specification(InputSpecification(window, color, low, high, mean, std), thresholds, template, source, output, strangers)  # type: ignore[arg-type]


class CropRecogniser(nn.Module):
    """Canonical crop to unit embedding: window, colour, range, network."""

    def __init__(self, net: nn.Module, spec: InputSpecification) -> None:
        """``net`` takes the image as ``spec`` describes it and gives an embedding [N,E]."""
        super().__init__()
        rows, cols = spec.window.matrices(CROP)
        self.net, self.bgr = net, spec.color == "BGR"
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("cols", torch.from_numpy(cols))
        std = torch.tensor(spec.std).reshape(1, 3, 1, 1)
        self.register_buffer("scale", (spec.high - spec.low) / std)
        self.register_buffer("shift", (spec.low - torch.tensor(spec.mean).reshape(1, 3, 1, 1)) / std)
        self._plain = bool((self.scale == 1).all() and (self.shift == 0).all())

    def forward(self, image: Tensor) -> Tensor:
        """Embed [N,3,256,256] RGB in [0,1]; returns [N,E] of unit length."""
        x = self.rows @ image @ self.cols
        x = x.flip(1) if self.bgr else x
        x = x if self._plain else x * self.scale + self.shift
        return F.normalize(self.net(x).flatten(1), dim=1)


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
    float32 differs from torch in float64 by several per cent, and parity would measure nothing.
    """
    samples = []
    for index, image in enumerate(images):
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(index))
        with torch.no_grad():
            samples.append({"image": (image + 0.05 * noise).clamp(0, 1), "reference": recogniser(image)})
    return samples


def build_surrogate(
    model: Path | str,
    folder: Path | str,
    *,
    spec: Mapping[str, Any],
    templates: Mapping[str, Any] | None = None,
    name: str | None = None,
    images: Sequence[NDArray[np.float32]] = (),
    weights: Literal["fp32", "fp16"] = "fp32",
) -> Manifest:
    """Make a surrogate engine from a recogniser's ONNX file.

    Args:
        model: the .onnx file.
        folder: where ``model.onnx`` and ``manifest.json`` go; made if needed.
        spec: see :func:`parse_specification`.
        templates: name -> {"size", "points"} beyond arcface112, as in fr.json.
        name: of the engine; default the file's stem.
        images: canonical crops [1,3,256,256] RGB 0..1 to measure parity on; default made-up ones.
        weights: "fp16" rounds the weights and stores them in two bytes each.

    Raises:
        SpecificationError, faceprotect_export.onnx_reader.OnnxReadError, faceprotect_export.engine_folder.ParityError.

    """
    parsed, path = parse_specification(spec, templates), Path(model)
    recogniser = CropRecogniser(load_onnx(path, parsed.output), parsed.input).eval()
    _check_input(recogniser, path)
    if weights == "fp16":
        round_weights(recogniser.net)
    tensors = [torch.from_numpy(np.asarray(i, np.float32)) for i in images] or smooth_samples(5)
    recipe = EngineRecipe(
        name=name or path.stem,
        role="surrogate",
        function=surrogate_function(recogniser),
        samples=samples_for(recogniser, tensors),
        variables=("image",),
        loss="similarity",
        describe=DESCRIBE,
        weights=weights,
        manifest=surrogate_manifest(parsed, {**parsed.source, "sha256": sha256_file(path), "file": path.name}, recogniser),
    )
    return build_engine(recipe, folder)


def _check_input(recogniser: CropRecogniser, path: Path) -> None:
    """Run once, so that a wrong size or an odd output is reported in the user's terms."""
    try:
        with torch.no_grad():
            shape = recogniser(torch.full((1, 3, CROP, CROP), 0.5)).shape
    except RuntimeError as error:
        size = int(recogniser.rows.shape[0])  # type: ignore[arg-type]
        raise SpecificationError(f"{path} does not run on [1,3,{size},{size}]: {error}. Give its own --size") from error
    if len(shape) != 2 or shape[1] < 8:
        raise SpecificationError(f"{path} gives {tuple(shape)}, not an embedding; name its output with output.name")


def surrogate_manifest(spec: Specification, source: Mapping[str, Any], recogniser: nn.Module) -> dict[str, Any]:
    """The manifest fields that every surrogate has."""
    window = spec.input.window
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

"""What has to be known of somebody's recogniser to feed it: a JSON object, as the entries of an fr.json are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import RecogniserError
from faceprotect_sdk.face.align import ARCFACE_112, Window

THRESHOLD = "far_1e-2"


class SpecificationError(RecogniserError):
    """The description of a recogniser's input lacks something, or contradicts itself."""

    code = "bad_specification"


@dataclass(frozen=True)
class InputSpecification:
    """How a recogniser wants to see a face.

    ``window``: its template in the canonical crop (None: the tight box of the face, stretched), ``size`` pixels wide and
    high. Pixels in 0..1 become ``(low + x * (high - low) - mean) / std``, in ``color`` order.
    """

    window: Window | None
    size: int
    color: Literal["RGB", "BGR"] = "RGB"
    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def feed(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Network input for an image [1, 3, size, size] RGB 0..1."""
        ordered = image[:, ::-1] if self.color == "BGR" else image
        mean, std = (np.reshape(np.array(values, np.float32), (1, 3, 1, 1)) for values in (self.mean, self.std))
        return np.ascontiguousarray((self.low + ordered * (self.high - self.low) - mean) / std, np.float32)


@dataclass(frozen=True)
class Specification:
    """A recogniser's input, thresholds, and what is known about its origin."""

    input: InputSpecification
    thresholds: Mapping[str, float]
    template: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)
    output: str | None = None
    impostor_mean: float | None = None


def parse_specification(spec: Mapping[str, Any], templates: Mapping[str, Any] | None = None) -> Specification:
    """Read a JSON object like an entry of fr.json.

    Needs ``input.shape`` and ``thresholds``; may have ``input.template`` or ``input.points``, ``input.color``,
    ``input.range``, ``input.mean``, ``input.std`` (in the range's units), ``output.name``, ``impostor_mean`` (mean cosine
    of strangers), ``source``, ``licence``, ``architecture``. ``templates``: name to size and five points (None: the tight
    box of the face), beyond arcface112.

    Raises:
        SpecificationError: naming the field.

    """
    try:
        entry = spec["input"]
        height, width = (int(n) for n in entry["shape"][-2:])
        low, high = (float(v) for v in entry.get("range", (0.0, 1.0)))
        thresholds = {str(k): float(v) for k, v in spec["thresholds"].items()}
        color = str(entry.get("color", "RGB")).upper()
        mean, std = _three(entry.get("mean"), 0.0), _three(entry.get("std"), 1.0)
        window, template = _window(entry, templates or {}, height)
        output = (spec.get("output") or {}).get("name")
        strangers = None if spec.get("impostor_mean") is None else float(spec["impostor_mean"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecificationError(
            f"the specification lacks or garbles {error}. It needs input.shape, input.template and "
            f"thresholds['{THRESHOLD}'], as in an entry of fr.json"
        ) from error
    if height != width:
        raise SpecificationError(f"input.shape is {height} x {width}: only square inputs are supported")
    if color not in ("RGB", "BGR"):
        raise SpecificationError(f"input.color is {color!r}: RGB or BGR")
    source = {k: spec[k] for k in ("source", "licence", "architecture") if k in spec}
    entry_spec = InputSpecification(window, height, color, low, high, mean, std)  # type: ignore[arg-type]
    return Specification(entry_spec, thresholds, template, source, output, strangers)


def _three(value: Any, default: float) -> tuple[float, ...]:
    numbers = [default] if value is None else [float(v) for v in np.ravel(value)]
    if len(numbers) not in (1, 3):
        raise SpecificationError(f"mean and std have one or three numbers, got {numbers}")
    return tuple(numbers * 3 if len(numbers) == 1 else numbers)


def _window(entry: Mapping[str, Any], templates: Mapping[str, Any], size: int) -> tuple[Window | None, str]:
    name = str(entry.get("template", "arcface112"))
    points, base = entry.get("points"), size
    if points is None:
        known: dict[str, Any] = {"arcface112": {"size": 112, "points": ARCFACE_112.tolist()}, **templates}
        if name not in known:
            raise SpecificationError(f"unknown template '{name}': choose of {sorted(known)}, or give input.points")
        points, base = known[name]["points"], int(known[name]["size"])
    if points is None:
        return None, name
    scaled = (np.asarray(points, np.float64) + 0.5) * (size / base) - 0.5
    return Window.from_points(scaled.tolist(), size), name


def onnx_specification(path: Path, spec: Path | None = None) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Specification and templates of an ONNX recogniser.

    From ``spec``, or ``<stem>.json`` beside the model, or the model's entry in the ``fr.json`` beside it.
    """
    own, shared = spec or path.with_suffix(".json"), path.with_name("fr.json")
    if spec is not None and not spec.is_file():
        raise RecogniserError(f"{spec}: no such file. Check the path given to --spec")
    document = _read_json(own) if own.is_file() else _read_json(shared) if shared.is_file() else None
    if document is None:
        raise RecogniserError(
            f"{path}: how to feed it is not known. Put {own.name} beside it, with the fields of an entry of fr.json: "
            '{"input": {"shape": [1, 3, 112, 112], "range": [0, 1], "template": "arcface112"}, '
            f'"thresholds": {{"{THRESHOLD}": 0.3}}}}'
        )
    templates = document.get("templates", {})
    if "models" not in document:
        return document, templates
    for entry in document["models"].values():
        if entry.get("file") == path.name:
            return entry, templates
    raise RecogniserError(f"{path}: fr.json beside it has no entry for this file. Add one, or write {own.name}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecogniserError(f"{path}: cannot be read as JSON ({error}). Correct it and run again") from error
    if not isinstance(document, dict):
        raise RecogniserError(f"{path}: must hold a JSON object. Correct it and run again")
    return document

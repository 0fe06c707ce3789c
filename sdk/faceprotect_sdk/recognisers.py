"""Recognisers: everything that turns a face into an embedding and has a threshold of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.engine import Engine
from faceprotect_engines.manifest import Manifest
from faceprotect_engines.spec import TensorSpec
from faceprotect_sdk.align import ARCFACE_112, Window, aligned_crop
from faceprotect_sdk.errors import RecogniserError
from faceprotect_sdk.faces import Face
from faceprotect_sdk.result import Measure

Embedding = NDArray[np.float32]
Pixels8 = NDArray[np.uint8]

THRESHOLD = "far_1e-2"


class Recogniser(Protocol):
    """Something that says whether two faces are one person.

    The place of a face is found once, on the original, and used again on the protected photo, so that both are cut
    alike. ``identity`` tells recognisers apart that share weights: a search on one makes the other dependent.
    ``spread``: from the threshold down to the mean similarity of strangers, the unit of margins, for scales differ
    widely (strangers are at 0.0 for ArcFace networks and at 0.84 for dlib's). ``own_landmarks``: it aligns faces by
    points that it finds by itself.
    """

    name: str
    threshold: float
    spread: float
    measure: Measure
    identity: frozenset[str]
    own_landmarks: bool

    def locate(self, pixels: Pixels8, face: Face) -> Any:
        """Where the face lies, in whatever form :meth:`embed` wants it. ``pixels``: uint8 RGB [H, W, 3]."""
        ...

    def embed(self, pixels: Pixels8, place: Any) -> Embedding:
        """Embedding [E] float32 of the face at ``place``."""
        ...

    def similarity(self, first: Embedding, second: Embedding) -> float:
        """Higher is more alike; matched from ``threshold`` on."""
        ...


def cosine(first: Embedding, second: Embedding) -> float:
    """Cosine of two embeddings [E]."""
    norm = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(np.dot(first, second)) / max(norm, 1e-12)


class EngineRecogniser:
    """A recogniser of the zoo, or a folder made by ``export surrogate``: canonical crop in, embedding out."""

    measure: Measure = "cosine"
    own_landmarks = False

    def __init__(self, engine: Engine, manifest: Manifest) -> None:
        """``manifest.metadata["thresholds"]["far_1e-2"]`` is the threshold; raises RecogniserError without one."""
        self.engine = engine
        self.name = manifest.name
        self.threshold = threshold_of(manifest)
        self.spread = spread_of(self.threshold, manifest.metadata.get("impostor_mean"))
        self.identity = identity_of(manifest)
        spec = engine.spec
        self._reference: Embedding | None = None
        if spec.has_input("reference"):
            size = spec.input("reference").shape[-1]
            if size is None:
                raise RecogniserError(f"engine '{self.name}': its input 'reference' has no fixed size. Export it again")
            # A unit vector, not zeros: the engine computes a similarity to it that must stay finite.
            self._reference = np.eye(1, size, dtype=np.float32)

    def locate(self, pixels: Pixels8, face: Face) -> Any:
        """The five points."""
        return face.points

    def embed(self, pixels: Pixels8, place: Any) -> Embedding:
        """Embedding [E] of the canonical crop at five points."""
        return self.embed_crop(aligned_crop(pixels, place))

    def embed_crop(self, crop: NDArray[np.float32]) -> Embedding:
        """Embedding [E] of a canonical crop [1, 3, 256, 256] float32 RGB 0..1."""
        feeds = {"image": crop}
        if self._reference is not None:
            feeds["reference"] = self._reference
        return np.asarray(self.engine.run(feeds)["embedding"], np.float32).ravel()

    def similarity(self, first: Embedding, second: Embedding) -> float:
        """Cosine."""
        return cosine(first, second)


def threshold_of(manifest: Manifest) -> float:
    """Threshold at FAR 1e-2 that a recogniser's manifest states; raises RecogniserError without one."""
    thresholds = manifest.metadata.get("thresholds") or {}
    if THRESHOLD not in thresholds:
        raise RecogniserError(
            f"engine '{manifest.name}' states no threshold: its manifest needs metadata.thresholds['{THRESHOLD}']. "
            "Export it again with a threshold: faceprotect-sdk export surrogate MODEL.onnx -o DIR --threshold NUMBER"
        )
    return float(thresholds[THRESHOLD])


def spread_of(threshold: float, impostor_mean: Any) -> float:
    """Distance from a cosine threshold to the mean similarity of strangers; guessed where that is not stated.

    The guess is the smaller of the distances to 0 and to 1: a threshold near 1 means that all faces are alike there.
    """
    if impostor_mean is None:
        return min(max(threshold, 0.05), 1.0 - threshold) if threshold < 1.0 else 0.05
    return max(threshold - float(impostor_mean), 0.05)


def identity_of(manifest: Manifest) -> frozenset[str]:
    """Names and digests by which two recognisers are seen to share weights."""
    marks = {manifest.name, *(weights.sha256 for weights in manifest.weights)}
    marks |= {str(manifest.source[key]) for key in ("sha256", "model_sha256") if manifest.source.get(key)}
    return frozenset(marks)


class OnnxRecogniser:
    """A recogniser given as a plain ONNX file with a specification as in fr.json."""

    measure: Measure = "cosine"
    own_landmarks = False

    def __init__(self, path: Path, spec: Mapping[str, Any], templates: Mapping[str, Any], threads: int | None) -> None:
        """Open ``path`` on the CPU.

        ``spec``: input (name, shape, range, color, template), output (name), thresholds; ``templates``: name to size
        and five points (None: the tight box of the face, stretched).
        """
        from faceprotect_engines.backends.ort import open_ort
        from faceprotect_engines.digest import sha256_file

        self.name = path.stem
        try:
            entry = spec["input"]
            self.threshold = float(spec["thresholds"][THRESHOLD])
            self.spread = spread_of(self.threshold, spec.get("impostor_mean"))
            self._input = str(entry.get("name", "image"))
            self._output = str((spec.get("output") or {}).get("name", "embedding"))
            self._low, self._high = (float(value) for value in entry.get("range", (0, 1)))
            self._bgr = str(entry.get("color", "RGB")).upper() == "BGR"
            height, width = (int(value) for value in entry["shape"][-2:])
            template = entry.get("template", "arcface112")
        except (KeyError, TypeError, ValueError) as error:
            raise RecogniserError(
                f"{path}: its specification lacks or garbles {error}. It needs input.shape, input.template, "
                f"thresholds['{THRESHOLD}'], as in fr.json"
            ) from error
        if not path.is_file():
            raise RecogniserError(f"{path}: no such file. Check the path given to --judge")
        self.identity = frozenset({self.name, sha256_file(path)})
        self._size = (height, width)
        self._window = _window(path, template, templates, height)
        shape = (None, 3, height, width)
        manifest = Manifest(
            name=self.name if self.name.isidentifier() else "recogniser",
            role="judge",
            version="0",
            files={},
            inputs=(TensorSpec(self._input, "float32", shape),),
            outputs=(TensorSpec(self._output, "float32", (None, None)),),
        )
        self._engine = open_ort(manifest, path, "cpu", threads)

    def locate(self, pixels: Pixels8, face: Face) -> Any:
        """The face itself: either its points or its box are used."""
        return face

    def embed(self, pixels: Pixels8, place: Any) -> Embedding:
        """Embedding [E] of the face's template window."""
        if self._window is None:
            image = _boxed(pixels, place, self._size)
        else:
            rows, cols = self._window.matrices()
            image = np.asarray(rows @ aligned_crop(pixels, place.points) @ cols, np.float32)
        if self._bgr:
            image = image[:, ::-1]
        feed = np.ascontiguousarray(image * (self._high - self._low) + self._low, np.float32)
        return np.asarray(self._engine.run({self._input: feed})[self._output], np.float32).ravel()

    def similarity(self, first: Embedding, second: Embedding) -> float:
        """Cosine."""
        return cosine(first, second)

    def close(self) -> None:
        """Release the session."""
        self._engine.close()


def _window(path: Path, template: Any, templates: Mapping[str, Any], size: int) -> Window | None:
    known: dict[str, Any] = {"arcface112": {"size": 112, "points": ARCFACE_112.tolist()}, **templates}
    if template not in known:
        raise RecogniserError(f"{path}: unknown template '{template}'; known here: {', '.join(sorted(known))}")
    points = known[template]["points"]
    if points is None:
        return None
    scale = size / float(known[template]["size"])
    return Window.from_points(((np.asarray(points) + 0.5) * scale - 0.5).tolist(), size)


def _boxed(pixels: Pixels8, face: Face, size: tuple[int, int]) -> NDArray[np.float32]:
    """The tight box of a face stretched to ``size`` (height, width): [1, 3, h, w] float32 0..1."""
    import cv2

    height, width = pixels.shape[:2]
    x0, y0 = max(int(face.box[0]), 0), max(int(face.box[1]), 0)
    x1, y1 = min(int(np.ceil(face.box[2])), width), min(int(np.ceil(face.box[3])), height)
    patch = pixels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    resized = cv2.resize(patch, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(resized.transpose(2, 0, 1)[None], np.float32) / 255.0


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

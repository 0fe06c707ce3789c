"""Recognisers: everything that turns a face into an embedding and has a threshold of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.engine import Engine
from faceprotect_engines.files.manifest import Manifest
from faceprotect_engines.spec import TensorSpec
from faceprotect_sdk.errors import RecogniserError
from faceprotect_sdk.face.align import aligned_crop, quarter_turns
from faceprotect_sdk.face.detect import Face
from faceprotect_sdk.judging.specification import THRESHOLD, SpecificationError, parse_specification
from faceprotect_sdk.result import Measure

Embedding = NDArray[np.float32]
Pixels8 = NDArray[np.uint8]


class Recogniser(Protocol):
    """Something that says whether two faces are one person.

    The place of a face is found once, on the original, and used again on the protected photo, so that both are cut
    alike. ``thresholds``: those stated, by false accept rate ("far_1e-2"; may be empty); ``threshold`` is the one that
    verdicts use. ``identity`` tells recognisers apart that share weights: a search on one makes the other dependent.
    ``spread``: from the threshold down to the mean similarity of strangers, the unit of margins, for scales differ
    widely (strangers are at 0.0 for ArcFace networks and at 0.84 for dlib's). ``own_landmarks``: it aligns faces by
    points that it finds by itself.
    """

    name: str
    threshold: float
    thresholds: Mapping[str, float]
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
        self.thresholds: Mapping[str, float] = {str(k): float(v) for k, v in manifest.metadata["thresholds"].items()}
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
    """Digests by which two recognisers are seen to share weights: of the graph, of package weights, of the source.

    ``source.same_network`` lists the sha256 of other files that hold the same weights, rounded or stored otherwise.
    """
    marks = {weights.sha256 for weights in manifest.weights}
    marks |= {manifest.files["graph"].sha256} if "graph" in manifest.files else set()
    marks |= {str(manifest.source[key]) for key in ("sha256", "model_sha256") if manifest.source.get(key)}
    return frozenset(marks | set(manifest.source.get("same_network", ())))


class OnnxRecogniser:
    """A recogniser given as a plain ONNX file with a specification as in fr.json."""

    measure: Measure = "cosine"
    own_landmarks = False

    def __init__(self, path: Path, spec: Mapping[str, Any], templates: Mapping[str, Any], threads: int | None) -> None:
        """Open ``path`` on the CPU; ``spec`` and ``templates`` as in :func:`specification.parse_specification`."""
        from faceprotect_engines.backends.ort import open_ort
        from faceprotect_engines.files.digest import sha256_file

        self.name = path.stem
        try:
            parsed = parse_specification(spec, templates)
        except SpecificationError as error:
            raise SpecificationError(f"{path}: {error}") from error
        if THRESHOLD not in parsed.thresholds:
            raise SpecificationError(f"{path}: its specification states no thresholds['{THRESHOLD}']")
        if not path.is_file():
            raise RecogniserError(f"{path}: no such file", hint="Check what was given as judges=[FILE]")
        self.threshold = parsed.thresholds[THRESHOLD]
        self.thresholds: Mapping[str, float] = parsed.thresholds
        self.spread = spread_of(self.threshold, parsed.impostor_mean)
        self._spec = parsed.input
        self._input = str(spec["input"].get("name", "image"))
        self._output = str(parsed.output or "embedding")
        self.identity = frozenset({sha256_file(path)})
        shape = (None, 3, parsed.input.size, parsed.input.size)
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
        window = self._spec.window
        if window is None:
            image = _boxed(pixels, place, self._spec.size)
        else:
            rows, cols = window.matrices()
            image = np.asarray(rows @ aligned_crop(pixels, place.points) @ cols, np.float32)
        feed = self._spec.feed(image)
        return np.asarray(self._engine.run({self._input: feed})[self._output], np.float32).ravel()

    def similarity(self, first: Embedding, second: Embedding) -> float:
        """Cosine."""
        return cosine(first, second)

    def close(self) -> None:
        """Release the session."""
        self._engine.close()


def _boxed(pixels: Pixels8, face: Face, size: int) -> NDArray[np.float32]:
    """The tight box of a face, upright, stretched to a square: [1, 3, size, size] float32 0..1."""
    import cv2

    height, width = pixels.shape[:2]
    x0, y0 = max(int(face.box[0]), 0), max(int(face.box[1]), 0)
    x1, y1 = min(int(np.ceil(face.box[2])), width), min(int(np.ceil(face.box[3])), height)
    patch = np.ascontiguousarray(np.rot90(pixels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], -quarter_turns(face.points)))
    resized = cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(resized.transpose(2, 0, 1)[None], np.float32) / 255.0

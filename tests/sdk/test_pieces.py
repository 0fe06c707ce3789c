"""Panoramas and very large photos: looked at in pieces, each face once."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceprotect_engines.engine import Engine
from faceprotect_sdk.face import detect as faces
from faceprotect_sdk.face.detect import find_faces
from faceprotect_sdk.face.pieces import is_whole, pieces


@pytest.mark.parametrize("size", [(512, 512), (4000, 3000), (8160, 6120), (3840, 1644), (2400, 100), (1200, 300), (8192, 8192)])
def test_ordinary_photos_have_none(size: tuple[int, int]) -> None:
    """So that they take no longer than before: cameras, cinema, strips of an ordinary length."""
    assert pieces(*size) == pieces(*size[::-1]) == ()


@pytest.mark.parametrize(
    ("size", "reduction", "count"), [((14000, 400), 1, 12), ((400, 14000), 1, 12), ((12000, 3000), 1, 3), ((4080, 3060), 4, 6)]
)
def test_pieces_cover_the_photo_and_share_a_face(size: tuple[int, int], reduction: int, count: int) -> None:
    found = pieces(*size, reduction)
    assert len(found) == count
    seen = np.zeros(size[::-1], np.uint8)
    for left, top, right, bottom in found:
        assert max(right - left, bottom - top) <= 8192 // reduction
        seen[top:bottom, left:right] += 1
    assert seen.min() == 1
    whole = 0.03 * max(size)
    for x in range(0, int(size[0] - whole), 97):
        box = (x, 0.0, x + min(whole, 0.75 * size[1]), 0.75 * min(whole, size[1]))
        assert any(is_whole(box, one, *size) and one[0] <= box[0] and box[2] <= one[2] for one in found)


def test_an_ordinary_photo_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[tuple[int, ...]] = []
    monkeypatch.setattr(faces, "_faces_as_it_lies", lambda photo, _: looks.append(photo.shape) or ())
    faces._faces_all_over(np.zeros((600, 800, 3), np.uint8), None, 1)  # type: ignore[arg-type]
    assert looks == [(600, 800, 3)]
    faces._faces_all_over(np.zeros((400, 5000, 3), np.uint8), None, 1)  # type: ignore[arg-type]
    assert len(looks) > 3


@pytest.mark.parametrize("tall", [False, True])
def test_every_head_of_a_panorama_is_found_once(detector: Engine, tall: bool) -> None:
    """Heads of 150 px, some where two pieces meet; the whole photo alone does not show them all."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image for its photograph")
    head = cv2.resize(data.astronaut()[20:220, 120:330], (158, 150), interpolation=cv2.INTER_AREA)
    width, height = (400, 5000) if tall else (5000, 400)
    photo = np.full((height, width, 3), 127, np.uint8)
    along = [(30, 100), (1180, 40), (1400, 240), (2600, 120), (3700, 200), (4800, 150)]
    places = sorted((y, x) if tall else (x, y) for x, y in along)
    for x, y in places:
        photo[y : y + 150, x : x + 158] = head
    found = find_faces(photo, detector)
    centres = sorted(((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2) for face in found)
    assert len(centres) == len(places)
    for (x, y), (found_x, found_y) in zip(places, centres, strict=True):
        assert abs(found_x - x - 79) < 30 and abs(found_y - y - 70) < 35


def test_a_large_face_in_a_panorama_is_one(detector: Engine) -> None:
    """A face as high as the photo reaches over pieces, and its parts are no faces."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image for its photograph")
    head = cv2.resize(data.astronaut()[20:220, 120:330], (1260, 1200), interpolation=cv2.INTER_CUBIC)
    photo = np.full((1200, 6000, 3), 127, np.uint8)
    photo[:, 1700:2960] = head
    (face,) = find_faces(photo, detector)
    assert 400 < face.box[2] - face.box[0] < 700

"""Detection with the real network, where its weights are installed, and the arithmetic around it."""

from __future__ import annotations

import numpy as np
import pytest

from faceprotect_engines.engine import Engine
from faceprotect_sdk.face import detect as faces
from faceprotect_sdk.face.align import CANONICAL_POINTS, aligned_crop, quarter_turns
from faceprotect_sdk.face.detect import Face, detect, face_in_place, find_faces, overlap, scaled, shifted, suppress, turned
from faceprotect_sdk.face.selection import box_of_points


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image for its photograph")
    return np.asarray(data.astronaut())


def test_five_points_of_a_real_face(detector: Engine, astronaut: np.ndarray) -> None:
    (face,) = find_faces(astronaut, detector)
    expected = np.array([[203, 101], [248, 104], [225, 126], [203, 143], [243, 145]])
    assert np.abs(face.points - expected).max() < 6
    assert face.score > 0.8
    assert 80 < face.box[2] - face.box[0] < 110


@pytest.mark.parametrize("width", [1.0, 0.4, 4.0])
def test_points_scale_with_the_photo(detector: Engine, astronaut: np.ndarray, width: float) -> None:
    import cv2

    (face,) = find_faces(astronaut, detector)
    (other,) = find_faces(cv2.resize(astronaut, None, fx=width, fy=width, interpolation=cv2.INTER_AREA), detector)
    drift = np.abs(other.points / width - face.points).max() / (face.box[2] - face.box[0])
    assert drift < 0.06


def test_small_faces_in_a_large_photo(detector: Engine, astronaut: np.ndarray) -> None:
    import cv2

    canvas = np.full((1500, 2000, 3), 127, np.uint8)
    left = 20
    for width in (40, 80, 160, 320):
        small = cv2.resize(astronaut[20:220, 120:330], None, fx=width / 91, fy=width / 91, interpolation=cv2.INTER_AREA)
        canvas[100 : 100 + small.shape[0], left : left + small.shape[1]] = small
        left += small.shape[1]
    found = sorted(face.box[2] - face.box[0] for face in find_faces(canvas, detector))
    assert np.allclose(found, [40, 80, 160, 320], rtol=0.2)


def test_near_view_agrees_and_knows_when_there_is_none(detector: Engine, astronaut: np.ndarray) -> None:
    (face,) = find_faces(astronaut, detector)
    near = face_in_place(astronaut, face, detector)
    assert near is not None
    assert np.abs(near.points - face.points).max() < 0.06 * (face.box[2] - face.box[0])
    assert face_in_place(np.full_like(astronaut, 127), face, detector) is None
    assert face_in_place(astronaut, shifted(face, 5000, 0), detector) is None
    assert detect(np.full((40, 40, 3), 127, np.uint8), detector) == ()


def test_boxes() -> None:
    first = Face((0, 0, 10, 10), np.zeros((5, 2)), 1.0)
    assert overlap(first, first) == pytest.approx(1.0)
    assert overlap(first, shifted(first, 5, 0)) == pytest.approx(1 / 3)
    assert overlap(first, shifted(first, 20, 0)) == 0.0
    assert scaled(first, 2, 3).box == (0, 0, 20, 30)
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]])
    assert suppress(boxes, np.array([0.6, 0.9, 0.5])) == [1, 2]


def test_a_box_around_five_points(detector: Engine, astronaut: np.ndarray) -> None:
    (face,) = find_faces(astronaut, detector)
    guessed = Face(box_of_points(face.points), face.points, 1.0)
    assert overlap(face, guessed) > 0.6


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_photo_on_its_side_has_the_same_faces(detector: Engine, astronaut: np.ndarray, turns: int) -> None:
    """Boxes and points are those of the upright photo, turned; so are those of the near view."""
    height, width = astronaut.shape[0] - 64, astronaut.shape[1]
    upright = np.ascontiguousarray(astronaut[:height])
    lying = np.ascontiguousarray(np.rot90(upright, turns))
    (expected,) = (turned(face, turns, width, height) for face in find_faces(upright, detector))
    (face,) = find_faces(lying, detector)
    near = face_in_place(lying, expected, detector)
    assert near is not None
    for found in (face, near):
        assert np.abs(found.points - expected.points).max() < 0.06 * width / 6
        assert overlap(found, expected) > 0.85
    assert quarter_turns(face.points) == turns
    back = turned(expected, -turns, lying.shape[1], lying.shape[0])
    np.testing.assert_allclose(aligned_crop(lying, expected.points), aligned_crop(upright, back.points), atol=0.02)


def test_an_upright_photo_is_looked_at_once(detector: Engine, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its points are plausible; a face on its side, or none, is looked for in four turns."""
    looks: list[tuple[int, ...]] = []
    honest = faces._faces_as_it_lies

    def look(photo: np.ndarray, engine: Engine) -> tuple[Face, ...]:
        looks.append(photo.shape)
        return honest(photo, engine)

    monkeypatch.setattr(faces, "_faces_as_it_lies", look)
    for photo, count in ((astronaut, 1), (np.ascontiguousarray(np.rot90(astronaut)), 4), (astronaut[:40, :40], 4)):
        looks.clear()
        find_faces(np.ascontiguousarray(photo), detector)
        assert len(looks) == count


def test_turning_boxes_and_points() -> None:
    """A pixel of the photo is the same pixel of the turned one; four quarters are none."""
    face = Face((3, 4, 5, 7), np.array([[3.0, 4.0], [4, 4], [3, 5], [4, 6], [3, 6]]), 1.0)
    photo = np.zeros((9, 12))
    photo[4:7, 3:5] = np.arange(1, 7).reshape(3, 2)
    for turns in range(1, 4):
        other, view = turned(face, turns, 12, 9), np.rot90(photo, turns)
        for (x, y), (u, v) in zip(face.points.astype(int), other.points.astype(int), strict=True):
            assert view[v, u] == photo[y, x]
        x0, y0, x1, y1 = (int(value) for value in other.box)
        assert sorted(view[y0:y1, x0:x1].ravel()) == [1, 2, 3, 4, 5, 6]
        back = turned(other, -turns, view.shape[1], view.shape[0])
        assert back.box == face.box
        np.testing.assert_array_equal(back.points, face.points)
        assert quarter_turns(turned(Face((0, 0, 1, 1), CANONICAL_POINTS, 1.0), turns, 256, 256).points) == turns

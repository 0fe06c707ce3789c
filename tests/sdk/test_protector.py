"""The whole path over the toy zoo."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_zoo
from PIL import Image

from faceprotect_engines.store import Store
from faceprotect_sdk import NotProtected, OutputError, Progress, Protector, UsageError
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.face.paste import support
from faceprotect_sdk.judging.quality import measure
from faceprotect_sdk.methods.base import Strength
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.session import FaceSession


def test_quality_is_that_of_the_written_photo(store: Store, tmp_path: Path, jpeg: Path) -> None:
    """Without a mesh in the store there is no way of its points; with one there is, in ``check`` as well."""
    folder = toy_zoo.make_mesh(tmp_path / "more" / "face-mesh").parent
    for roots, has_mesh in ((store.roots, False), ((*store.roots, folder), True)):
        with Protector(store=Store(roots, store.cache), device="cpu", installed_judges=False) as protector:
            result = protector.protect(jpeg)
            (face,) = result.faces
            assert result.image is not None
            first, second, points = load(jpeg).rgb8(), load(result.image).rgb8(), np.array(face.points)
            expected = measure(first, points, second, points, points_moved=face.quality.points_moved)
            assert dataclasses.replace(face.quality, mesh_moved=None) == expected
            assert expected.ssimulacra2 < 100
            assert expected.ssimulacra2_face is not None
            assert expected.mid_band > 0
            assert (face.quality.mesh_moved is not None) == has_mesh
            checked = protector.check(jpeg, result.image).faces[0].quality
            assert (checked.mesh_moved, checked.mid_band) == (face.quality.mesh_moved, face.quality.mid_band)


def test_a_photo_of_another_size_has_no_figure_of_the_whole(protector: Protector, jpeg: Path) -> None:
    half = Image.open(jpeg).resize((160, 120), Image.Resampling.BOX)
    quality = protector.check(jpeg, half).faces[0].quality
    assert quality.ssimulacra2_face is None
    assert quality.ssimulacra2 < 100


def test_a_face_is_protected_and_the_rest_of_the_photo_untouched(protector: Protector, pixels: np.ndarray) -> None:
    result = protector.protect(pixels)
    assert result.status == "protected"
    assert result.image is not None
    assert result.unconfirmed is None
    after = load(result.image).pixels
    (face,) = result.faces
    allowed = support(face_mask(), np.array(face.points), *pixels.shape[:2])
    np.testing.assert_array_equal(after[~allowed], pixels[~allowed])
    assert (after[allowed] != pixels[allowed]).any()
    assert [(v.recogniser, v.took_part, v.matched) for v in face.verdicts] == [
        ("toy-a", True, False),
        ("toy-b", True, False),
        ("toy-judge", False, False),
    ]
    assert all(v.before == pytest.approx(1.0) and v.similarity < v.threshold for v in face.verdicts)
    assert result.device == "cpu"
    with pytest.raises(OutputError, match="PNG"):
        result.save("still.jpg")


def test_verdicts_are_those_of_the_encoded_bytes(store: Store, jpeg: Path) -> None:
    with Protector(store=store, device="cpu", installed_judges=False, quality=60) as protector:
        result = protector.protect(jpeg)
        data = result.image or result.unconfirmed
        assert data is not None
        judge = protector._parts.judges()[0]
        first, second = load(jpeg).rgb8(), load(data).rgb8()
        place = judge.locate(first, protector.faces(jpeg)[0])
        expected = judge.similarity(judge.embed(first, place), judge.embed(second, place))
        (found,) = (v for v in result.faces[0].verdicts if v.recogniser == "toy-judge")
        assert found.similarity == pytest.approx(expected, abs=1e-6)
        assert found.before is not None
        assert found.before < 1.0  # writing at quality 60 alone moves it a little


def test_same_seed_same_bytes(protector: Protector, store: Store, jpeg: Path) -> None:
    first = protector.protect(jpeg, seed=3)
    with Protector(store=store, device="cpu", installed_judges=False) as other:
        again, different = other.protect(jpeg, seed=3), other.protect(jpeg, seed=4)
    assert first.image == again.image
    assert first.image != different.image


def test_a_judge_that_still_matches_means_no_image(store: Store, tmp_path: Path, pixels: np.ndarray) -> None:
    stubborn = toy_zoo.make_judge(tmp_path / "stubborn", 77, threshold=-1.0)
    with Protector(store=store, device="cpu", judges=[stubborn], installed_judges=False, attempts=2) as protector:
        result = protector.protect(pixels)
    assert result.status == "still_matched"
    assert result.image is None
    assert result.unconfirmed is not None
    assert int(result.exit_code) == 6
    assert result.faces[0].attempts <= 2
    with pytest.raises(NotProtected, match="strength='high'"):
        result.save(tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(("short", "attempts"), [(0.05, 3), (0.2, 1), (np.inf, 1)])
def test_a_photo_that_is_barely_matched_is_searched_with_other_seeds(
    store: Store, tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch, short: float, attempts: int
) -> None:
    """Where no change within the budget passes every limit, other draws may still bring it past a judge that is nearly there."""
    stubborn = toy_zoo.make_judge(tmp_path / "stubborn", 77, threshold=-1.0)
    monkeypatch.setattr(FaceSession, "_missing", property(lambda _: short))
    settings = {"store": store, "device": "cpu", "installed_judges": False, "strength": Strength(9.0, 1e-6)}
    with Protector(judges=[stubborn], attempts=3, **settings) as protector:
        result = protector.protect(pixels)
    assert (result.status, result.faces[0].attempts) == ("still_matched", attempts)


def test_one_face_that_fails_withholds_the_photo(protector: Protector, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = toy_zoo.photo(640, 240, faces=2)
    largest = protector.protect(photo, faces="largest")
    assert (largest.protected, len(largest.faces), largest.faces_found) == (True, 1, 2)
    honest = FaceSession.paste

    def paste(session: FaceSession, pixels: Any, *rest: Any) -> Any:
        return pixels if session.index == 1 else honest(session, pixels, *rest)  # the second face keeps its pixels

    monkeypatch.setattr(FaceSession, "paste", paste)
    result = protector.protect(photo)
    assert [face.status for face in result.faces] == ["protected", "still_matched"]
    assert (result.status, result.image) == ("still_matched", None)


def test_a_surrogate_left_out_of_the_search_judges(store: Store, pixels: np.ndarray) -> None:
    settings = {"store": store, "device": "cpu", "installed_judges": False}
    with Protector("latent", without=["toy-b"], attempts=1, **settings) as protector:
        verdicts = {v.recogniser: v for v in protector.protect(pixels).faces[0].verdicts}
        assert not verdicts["toy-b"].took_part
    with Protector("latent", without=["toy-x"], **settings) as protector, pytest.raises(UsageError, match="toy-a"):
        protector.check(pixels, pixels)


def test_no_face(protector: Protector) -> None:
    result = protector.protect(toy_zoo.photo(faces=0))
    assert result.status == "no_face"
    assert result.image is None
    assert result.unconfirmed is None
    assert int(result.exit_code) == 3


def test_the_apps_own_faces(protector: Protector, pixels: np.ndarray) -> None:
    (face,) = protector.faces(pixels)
    by_points = protector.protect(pixels, faces=[face.points])
    by_box = protector.protect(pixels, faces=[face.box])
    assert by_points.protected
    np.testing.assert_allclose(np.array(by_points.faces[0].points), face.points)
    np.testing.assert_allclose(np.array(by_box.faces[0].points), face.points, atol=4)
    assert protector.protect(pixels, faces=[(0, 0, 40, 40)]).status == "no_face"
    bad_faces = ([(1, 2, 3)], "some", [(9, 9, 3, 3)], [np.full((5, 2), np.nan)], ["me"], [[(1, 2), (3,)]], [np.ones((5, 2))])
    for bad in bad_faces:
        with pytest.raises(UsageError):
            protector.protect(pixels, faces=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_photo_is_protected_and_stays_turned(protector: Protector, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(toy_zoo.photo(240, 320)).save(buffer, "PNG", exif=exif)
    result = protector.protect(buffer.getvalue())
    assert result.protected
    assert result.image is not None
    with Image.open(io.BytesIO(result.image)) as written:
        assert written.size == (240, 320)
        assert written.getexif()[0x0112] == orientation


def test_grey_and_alpha(protector: Protector, pixels: np.ndarray) -> None:
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 200, np.uint8)])
    result = protector.protect(alpha)
    assert result.image is not None
    assert (load(result.image).alpha == 200).all()
    (face,) = protector.faces(pixels)
    grey = protector.protect(pixels[..., 1], faces=[face.points])
    data = grey.image or grey.unconfirmed
    assert data is not None
    assert load(data).grey


def test_camera_frames(protector: Protector, pixels: np.ndarray) -> None:
    rgb = protector.protect(pixels)
    bgr = protector.protect(np.ascontiguousarray(pixels[..., ::-1]), channel_order="bgr")
    assert rgb.image == bgr.image


def test_an_extra_surrogate_joins_the_search(store: Store, tmp_path: Path, pixels: np.ndarray) -> None:
    extra = toy_zoo.make_surrogate(tmp_path / "mine", 77)
    judge = toy_zoo.make_judge(tmp_path / "mine-judge", 77)
    settings = {"store": store, "device": "cpu", "judges": [judge], "installed_judges": False, "attempts": 1}
    with Protector(**settings) as without, Protector(surrogates=[extra], **settings) as with_extra:
        first, second = without.protect(pixels), with_extra.protect(pixels)
    sims = [{v.recogniser: v for v in r.faces[0].verdicts} for r in (first, second)]
    assert "mine" not in sims[0]
    assert sims[1]["mine"].took_part
    assert not sims[1]["mine"].matched
    assert sims[1]["mine-judge"].similarity < sims[0]["mine-judge"].similarity - 0.2


def test_every_further_recogniser_makes_the_budget_smaller(
    store: Store, tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [toy_zoo.make_surrogate(tmp_path / name, seed) for name, seed in (("one", 77), ("two", 78), ("three", 79))]
    asked: list[float] = []

    def note(*_: object, parameters: dict[str, float], **__: object) -> None:
        asked.append(parameters["budget"])
        raise UsageError("enough")

    monkeypatch.setattr("faceprotect_sdk.methods.search.run_recipe", note)
    for count in range(4):
        settings = {"strength": Strength(0.0, 1e-3), "surrogates": folders[:count], "device": "cpu", "installed_judges": False}
        with Protector("latent", store=store, **settings) as protector, pytest.raises(UsageError, match="enough"):
            protector.protect(pixels)
    assert asked == pytest.approx([1e-3, 1e-3, 0.9e-3, 0.81e-3])  # the toy's recipe says 0.9


def test_one_of_the_panel_joins_once_it_is_fetched_unless_left_out(store: Store, zoo: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    """Which engines are of the panel stands in their manifests; one that stands for another joins where that one has not been fetched."""
    root = Path(shutil.copytree(zoo, tmp_path / "with"))
    other = toy_zoo.make_surrogate(root / "far-float", 77, joins=True, instead_of="far")
    folder = toy_zoo.make_surrogate(root / "far", 78, joins=True)
    toy_zoo.make_surrogate(root / "aside", 79)
    settings = {"device": "cpu", "installed_judges": False, "attempts": 1}

    def searched(**options: object) -> set[str]:
        with Protector(store=Store([root], tmp_path / "cache"), **settings, **options) as protector:
            verdicts = protector.protect(pixels).faces[0].verdicts
        return {v.recogniser for v in verdicts if v.took_part} & {"far", "far-float", "aside"}

    assert searched() == {"far"}
    assert searched(without=["far"]) == set()
    _unfetch(folder)
    assert searched() == {"far-float"}, "one that waits to be fetched stays out"
    _unfetch(other)
    assert searched() == set()
    shutil.rmtree(root / "aside")  # outside the search it judges
    unfetched = Store([root], tmp_path / "cache")
    left = {"store": unfetched, "without": ["far"], **settings}
    with Protector("latent", store=store, **settings) as plain, Protector("latent", **left) as left_out:
        assert plain.protect(pixels).image == left_out.protect(pixels).image
    with pytest.raises(UsageError, match="far, far-float"):
        Protector(store=unfetched, without=["nobody"], **settings).protect(pixels)


def _unfetch(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["weights"] = [vars(toy_zoo.unfetched_weights())]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_larger_strength_moves_further(store: Store, pixels: np.ndarray) -> None:
    psnr = {}
    for strength in ("low", "high"):
        with Protector(store=store, device="cpu", strength=strength, installed_judges=False) as protector:
            psnr[strength] = protector.protect(pixels).faces[0].quality.psnr
    assert psnr["high"] < psnr["low"] - 1


def test_progress_results_and_json(protector: Protector, pixels: np.ndarray) -> None:
    seen: list[Progress] = []
    result = protector.protect(pixels, progress=seen.append)
    assert {event.stage for event in seen} == {"detect", "search", "score"}
    assert all(event.step <= event.steps for event in seen)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["status"] == "protected"
    assert "image" not in document
    assert document["faces"][0]["verdicts"][0]["took_part"] is True
    assert set(document["timings"]) >= {"detect", "search", "encode", "score"}
    with pytest.raises(FrozenInstanceError):
        result.status = "protected"  # type: ignore[misc]


def test_an_interrupted_search_ends_the_call(protector: Protector, pixels: np.ndarray) -> None:
    def interrupt(event: Progress) -> None:
        if event.stage == "search":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        protector.protect(pixels, progress=interrupt)
    assert protector.protect(pixels).protected  # and the protector is still usable


def test_one_face_given_twice_is_changed_once(zoo: Path, tmp_path: Path) -> None:
    photo, root = toy_zoo.photo(640, 240, faces=2), Path(shutil.copytree(zoo, tmp_path / "zoo"))
    toy_zoo.make_fast(root / "fast", gain=5.0)
    with Protector("fast", "cpu", store=Store([root], tmp_path / "cache"), installed_judges=False, attempts=1) as protector:
        first, second = protector.faces(photo)
        x0, y0, x1, y1 = first.box
        once = protector.protect(photo, faces=[first.points, second.points])
        again = protector.protect(photo, faces=[first.points, second.points, first, first.points + 2.0, (x0 - 5, y0 - 5, x1 + 9, y1 + 9)])
    assert len(again.faces) == len(once.faces) == 2
    data = [one.image or one.unconfirmed for one in (once, again)]
    assert data[0] == data[1]
    assert (load(data[0]).pixels != photo).any()
    assert "changed once" in again.notes[0]
    assert once.notes == ()

"""What is computed from embeddings and pixels, against closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import toy_zoo

from faceprotect_engines.store import Store
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.detect import find_faces
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.judging.dlib_judge import DlibRecogniser
from faceprotect_sdk.judging.recognisers import EngineRecogniser, cosine
from harness import features, pixels, variants
from harness.features import feature_distance, frechet_distance
from harness.keypoints import points_moved
from harness.panel import similarity_matrix
from harness.settings import parse_setting, patched
from harness.strong import strong_judges
from harness.summary import area_under, impostor_thresholds, interval, quality, ranks

rng = np.random.default_rng(0)


@pytest.mark.parametrize(("measure", "oracle"), [("cosine", cosine), ("distance", lambda a, b: DlibRecogniser.similarity(None, a, b))])  # type: ignore[arg-type]
def test_matrix_of_similarities_is_the_recognisers_own(measure: str, oracle: object) -> None:
    a, b = rng.standard_normal((3, 8)).astype(np.float32), rng.standard_normal((5, 8)).astype(np.float32)
    expected = [[oracle(x, y) for y in b] for x in a]  # type: ignore[operator]
    np.testing.assert_allclose(similarity_matrix(a, b, measure), expected, atol=1e-5)


def test_ranks_count_who_is_nearer() -> None:
    similarity = np.array([[0.9, 0.1, 0.5], [0.8, 0.3, 0.2], [0.1, 0.2, 0.15]])
    assert ranks(similarity, [0, 1, 2]).tolist() == [1, 2, 2]


def test_thresholds_of_impostors_leave_out_the_same_person() -> None:
    similarity = rng.uniform(-0.5, 0.5, (40, 40))
    np.fill_diagonal(similarity, 1.0)
    found = impostor_thresholds(similarity)
    strangers = similarity[~np.eye(40, dtype=bool)]
    for name, far in (("far_1e-2", 0.01), ("far_1e-3", 0.001)):
        assert (strangers > found[f"{name}, these pairs"]).mean() == pytest.approx(far, abs=2 / strangers.size)
    assert list(impostor_thresholds(similarity[:12, :12])) == ["far_1e-2, these pairs"]
    assert impostor_thresholds(similarity[:1, :1]) == {}


def test_interval_covers_the_rate_and_narrows() -> None:
    few, many = np.arange(20) < 15, np.arange(2000) < 1500
    for hits in (few, many):
        low, high = interval(hits)
        assert low <= 75 <= high
    assert np.ptp(interval(many)) < np.ptp(interval(few)) / 5
    assert interval(np.ones(9, bool)) == pytest.approx([100 * 0.025 ** (1 / 9), 100.0], abs=0.05), "all of nine is not certain"
    assert interval(np.zeros(9, bool)) == pytest.approx([0.0, 100 * (1 - 0.025 ** (1 / 9))], abs=0.05)


def test_interval_of_shares_is_over_people() -> None:
    """Three judges that always agree say no more than one; shares that are all above 0 are not all hits."""
    hits = np.arange(60) < 45
    assert interval(np.mean([hits, hits, hits], 0)) == interval(hits)
    thirds = np.where(hits, 1.0, 1 / 3)
    low, high = interval(thirds)
    assert low < 100 * thirds.mean() < high < 100


def test_strong_judges_are_named_or_listed_or_the_documented_ones(tmp_path: Path) -> None:
    def listing(**strong: bool) -> None:
        models = {name: {"file": f"{name}.onnx", **({"strong": strong[name]} if name in strong else {})} for name in ("a", "b", "reid0095")}
        (tmp_path / "fr.json").write_text(json.dumps({"models": models}))

    scored = ["a", "b", "reid0095", "dlib"]
    listing()
    assert strong_judges(tmp_path, scored) == ("reid0095",)
    assert strong_judges(tmp_path, ["a", "b", "dlib"]) == ("a", "b")
    assert strong_judges(tmp_path, scored, ["dlib", "a"]) == ("a", "dlib")
    listing(b=True, reid0095=False)
    assert strong_judges(tmp_path, scored) == ("b",)
    with pytest.raises(UsageError, match="c: does not score"):
        strong_judges(tmp_path, scored, ["a", "c"])


def test_spread_names_the_worst_tenth() -> None:
    rows = [{"facts": {"ssimulacra2": float(n), "mid_band": float(n), "psnr": 37.0, "points_moved": None}} for n in range(101)]
    found = quality(rows)
    assert (found["ssimulacra2"], found["ssimulacra2_median"], found["ssimulacra2_p10"]) == (50, 50, 10)
    assert (found["mid_band_median"], found["mid_band_p90"]) == (50, 90)


def test_lpips_of_a_file_is_zero_for_equal_and_grows() -> None:
    path = Path(__file__).resolve().parents[3] / "shared/models/perceptual/lpips_alex.onnx"
    if not path.exists():
        pytest.skip("needs ../shared/models/perceptual, which is not part of the project")
    net = features.UserNet(path, 2)
    crop = np.kron(rng.uniform(-0.8, 0.8, (1, 3, 32, 32)), np.ones((8, 8))).astype(np.float32)
    noise = rng.standard_normal(crop.shape)
    found = [float(net(crop, np.clip(crop + size * noise, -1, 1))[0]) for size in (0, 0.05, 0.2)]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert 0 < found[1] < found[2]


def test_area_under_a_curve_is_its_mean_height() -> None:
    assert area_under([(30, 100), (40, 0)], 32, 36) == pytest.approx(60)
    assert area_under([(40, 0), (30, 100), (35, 100)], 30, 40) == pytest.approx(75)
    assert area_under([(33, 50), (40, 0)], 32, 36) is None
    assert area_under([], 0, 1) is None


def test_frechet_distance_of_shifted_features_is_the_squared_shift() -> None:
    cloud = rng.standard_normal((50, 6))
    assert frechet_distance(cloud, cloud + 0.5) == pytest.approx(6 * 0.25, rel=1e-3)
    assert frechet_distance(cloud, cloud) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(cloud, 2 * cloud) > 1


def test_feature_distance_grows_with_the_change() -> None:
    net = features.Features()
    crop = np.kron(rng.uniform(0, 1, (1, 3, 16, 16)), np.ones((16, 16))).astype(np.float32)
    noise = rng.standard_normal(crop.shape).astype(np.float32)
    found = [feature_distance(net(crop), net(np.clip(crop + size * noise, 0, 1))) for size in (0, 0.01, 0.05)]
    assert found[0] == 0
    assert 0 < found[1] < found[2]


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variants_keep_the_photo_and_repeat(name: str) -> None:
    photo = np.kron(rng.integers(0, 255, (12, 9, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    first, second = (variants.VARIANTS[name](photo, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == photo.shape
    assert first.dtype == np.uint8
    assert (name == variants.AS_WRITTEN) == bool((first == photo).all())
    assert np.abs(first.astype(int) - photo).mean() < 60


@pytest.mark.parametrize("name", pixels.ATTACKS)
def test_noise_lowers_the_similarity_within_its_radius(zoo: Path, name: str) -> None:
    crop = np.kron(rng.uniform(0.2, 0.8, (1, 3, 32, 32)), np.ones((8, 8))).astype(np.float32)
    mask = face_mask()
    store = Store([zoo])
    with store.open("toy-a") as first, store.open("toy-b") as second:
        nets = [EngineRecogniser(e, store.manifest(n)) for e, n in ((first, "toy-a"), (second, "toy-b"))]
        own = [n.embed_crop(crop)[None] for n in nets]
        radius = 0.05
        change = pixels.ATTACKS[name](crop, nets, [[o] for o in own], mask, radius, np.random.default_rng(0), 10)
        assert np.abs(change).max() <= radius + 1e-6
        difference = pixels.at_psnr(crop, change, mask, 30.0)
        assert -10 * np.log10(np.square(difference).mean()) == pytest.approx(30, abs=0.01)
        assert (difference[:, mask[0, 0] == 0] == 0).all()
        for net, reference in zip(nets, own, strict=True):
            assert cosine(net.embed_crop(crop + difference[None]), reference[0]) < 0.95


def test_tip_im_goes_to_the_nearest_of_its_targets(zoo: Path) -> None:
    crop = np.kron(rng.uniform(0.2, 0.8, (1, 3, 32, 32)), np.ones((8, 8))).astype(np.float32)
    near, far = (np.kron(rng.uniform(0, 1, (1, 3, 32, 32)), np.ones((8, 8))).astype(np.float32) for _ in range(2))
    near = 0.5 * near + 0.5 * crop
    store = Store([zoo])
    with store.open("toy-a") as engine:
        net = EngineRecogniser(engine, store.manifest("toy-a"))
        own, close, distant = (net.embed_crop(image)[None] for image in (crop, near, far))
        change = pixels.tip_im(crop, [net], [[own, -distant, -close]], face_mask(), 0.2, np.random.default_rng(0), 20)
        after = net.embed_crop(np.clip(crop + face_mask() * change, 0, 1))
    assert cosine(after, close[0]) > cosine(after, distant[0])
    assert cosine(after, close[0]) > cosine(after, own[0])


def test_recipes_are_patched_by_path_and_nowhere_else() -> None:
    recipe = {"parameters": {"steps": 60}, "stages": [{"draws": {"zoom": [0.9, 1.1]}}]}
    found = patched(recipe, {"parameters.steps": 30, "stages.0.draws.zoom.1": 1.0})
    assert found == {"parameters": {"steps": 30}, "stages": [{"draws": {"zoom": [0.9, 1.0]}}]}
    assert recipe["parameters"]["steps"] == 60
    for path in ("parameters.step", "stages.3.draws", "stages.0.draws.zoom.5", "steps"):
        with pytest.raises(UsageError, match="nothing at"):
            patched(recipe, {path: 1})


def test_settings_of_the_command_line() -> None:
    assert parse_setting("latent").strength == "medium"
    assert parse_setting("latent@0.0001", attempts=1).strength.budget == 0.0001  # type: ignore[union-attr]
    assert parse_setting("mi-fgsm@35", attempts=3).attempts == 1
    assert parse_setting("pgd@35").psnr == 35
    assert parse_setting("pgd@35").iterations is None
    longer = parse_setting("pgd@35x60~student")
    assert (longer.psnr, longer.iterations, longer.without) == (35, 60, ("student",))
    for wrong in ("pgd@35x", "pgd@35x0", "pgd@35x1.5", "pgd@x60", "latent@lowx60"):
        with pytest.raises(UsageError):
            parse_setting(wrong)


def test_points_of_a_moved_face_move_as_far(zoo: Path) -> None:
    photo = toy_zoo.photo(320, 320, faces=0, seed=1)
    cv2.circle(photo, (160, 160), 16, (255, 0, 0), -1)
    moved = np.roll(photo, (0, 12), (0, 1))
    with Store([zoo]).open("face-detector") as detector:
        face = find_faces(photo, detector)[0]
        width = face.box[2] - face.box[0]
        assert points_moved(photo, photo, face, detector) == 0
        assert points_moved(photo, moved, face, detector) == pytest.approx(12 / width, rel=0.3)
        assert points_moved(photo, np.full_like(photo, 90), face, detector) is None

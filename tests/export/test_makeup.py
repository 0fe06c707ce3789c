"""Makeup: the renderer says what it paints, losses are what the paper says, references are looked at before anything is trained."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

from faceprotect_engines.files.manifest import read_manifest
from faceprotect_engines.store import ZOO, Store
from faceprotect_export.makeup import own_look as makeup_export
from faceprotect_export.makeup.colours import NUMBERS, colours_of, parts, worn
from faceprotect_export.makeup.encoder import WORDS, words
from faceprotect_export.makeup.reference import ReferenceError, read_reference, shipped_reference
from faceprotect_export.makeup.regions import regions
from faceprotect_export.makeup.render import BARE, LOOKS, Look, Pigment, paint, random_look
from faceprotect_export.modules.makeup import Ddim, Makeup, MakeupProtect, adapt, changeable, grid, shaded
from faceprotect_export.objectives.makeup import (
    Perceptual,
    direction_loss,
    histogram_distance,
    made_up,
    matched,
    palette,
    quantiles,
    wanted_histograms,
)
from faceprotect_export.train import checkpoint, looks, makeup, makeup_published, makeup_removal, makeup_transfer
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.face.mask import face_mask

WEIGHTS = Path(__file__).parents[2] / "weights"
SOURCES = Sources(WEIGHTS, ())


@pytest.fixture(scope="module")
def face() -> tuple[Tensor, Tensor]:
    """A face that is nobody's [1, 3, 256, 256], and its key points."""
    reference = shipped_reference("classic", SOURCES.keypoints())
    with torch.no_grad():
        return reference.bare, SOURCES.keypoints()(reference.bare)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crops") / "crops.npy"
    faces = [np.asarray(Image.open(ZOO / "decoys" / f"{k}.png").convert("RGB")) for k in range(1, 7)]
    np.save(path, np.stack(faces * 2))
    return path


def run(command: object, *given: object) -> None:
    done = CliRunner().invoke(command, [str(word) for word in given], catch_exceptions=False)  # type: ignore[arg-type]
    assert done.exit_code == 0, done.output


def test_only_what_the_look_names_is_painted(face: tuple[Tensor, Tensor]) -> None:
    image, points = face
    masks = regions(image, points)
    assert torch.equal(paint(image, points, Look()), image)
    change = (paint(image, points, Look(lipstick=Pigment("red", 0.9))) - image).abs().amax(1, keepdim=True)
    assert change.max() > 0.2
    assert change[masks["lips"] < 1e-3].max() < 1e-3
    eyes = (paint(image, points, Look(eyeshadow=Pigment("blue", 0.9))) - image).abs().amax(1, keepdim=True)
    assert eyes[masks["eyes"] < 1e-3].max() < 1e-3
    assert (eyes * masks["lips"]).max() < 1e-3


def test_more_pigment_is_more_change(face: tuple[Tensor, Tensor]) -> None:
    image, points = face
    change = [float((paint(image, points, Look(Pigment("pink", opacity))) - image).abs().mean()) for opacity in (0.3, 0.6, 0.9)]
    assert change[0] < change[1] < change[2]


def test_a_light_and_a_dark_face_keep_their_shades(face: tuple[Tensor, Tensor]) -> None:
    """Pigment follows the light of the face: a dark one does not get a bright mouth."""
    image, points = face
    lips = {}
    for name, gain in (("light", 1.0), ("dark", 0.4)):
        shown = image * gain
        made, mask = paint(shown, points, LOOKS["rose"]), regions(shown, points)["lips"]
        lips[name] = float((made * mask).sum() / mask.sum())
    assert lips["dark"] < 0.75 * lips["light"]


def test_captions_say_what_is_painted_and_every_word_is_known() -> None:
    assert Look().caption() == BARE
    assert LOOKS["classic"].caption().startswith("a face with strong red lipstick, light gold eyeshadow, strong black eyeliner")
    rng = np.random.default_rng(0)
    for _ in range(200):
        known, unknown = words(random_look(rng).caption())
        assert known
        assert not unknown
    assert words("purple unicorns") == ([WORDS.index("purple") + 1], ["unicorns"])


def test_teeth_eyes_and_background_stay(face: tuple[Tensor, Tensor]) -> None:
    image, points = face
    white = image.clone()
    left, right = points[0, 8], points[0, 9]
    x, y = int(256 * (left[0] + right[0]) / 2), int(256 * (left[1] + right[1]) / 2)
    white[:, :, y - 3 : y + 3, x - 8 : x + 8] = 0.9  # teeth, as white as they come
    where = changeable(parts(white, points)[0])
    assert where[0, 0, y, x] < 0.1
    for eye in (11, 12):
        a, b = (points[0, eye] * 256).int().tolist()
        assert where[0, 0, b - 4 : b + 4, a - 4 : a + 4].min() < 0.2
    assert where[0, 0, :8].max() < 0.05
    assert 0 <= where.min() <= where.max() <= 1


def test_histograms_are_matched_where_they_are_asked_for(face: tuple[Tensor, Tensor]) -> None:
    image, points = face
    reference = shipped_reference("classic", SOURCES.keypoints())
    target = made_up(image, points, reference.palette, reference.bare_palette)
    wanted = wanted_histograms(palette(image, points), reference.palette, reference.bare_palette)
    before, after = (histogram_distance(one, points, wanted) for one in (image, target))
    assert after["lips"] < 0.2 * before["lips"]
    mask = regions(image, points)["lips"][0]
    own = quantiles(image[0], mask)
    assert own is not None
    torch.testing.assert_close(matched(image[0], mask, own, own)[:, mask[0] > 0.5], image[0][:, mask[0] > 0.5], atol=2e-2, rtol=0)
    assert quantiles(image[0], torch.zeros_like(mask)) is None


def test_a_look_in_numbers_is_what_the_histograms_ask_for(face: tuple[Tensor, Tensor]) -> None:
    """The closed form that engines have, beside exact histogram matching; and nothing where there is no makeup."""
    image, points = face
    reference = shipped_reference("classic", SOURCES.keypoints())
    wanted = wanted_histograms(palette(image, points), reference.palette, reference.bare_palette)
    masks, own = parts(image, points)
    made = worn(image, masks, own, reference.colours[None])
    before, after = (histogram_distance(one, points, wanted) for one in (image, made))
    assert after["lips"] < 0.2 * before["lips"]
    bare = colours_of(image, image, points)
    assert bare.shape == (NUMBERS,)
    assert float((worn(image, masks, own, bare[None]) - image).abs().mean()) < 2e-3
    none = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    assert torch.equal(worn(image, none, own, reference.colours[None]), image)


def test_direction_loss_is_the_published_one() -> None:
    one = torch.tensor([[1.0, 0.0]])
    assert direction_loss(one, 3 * one) == pytest.approx(0, abs=1e-6)
    assert direction_loss(one, torch.tensor([[0.0, 1.0]])) == pytest.approx(float(np.log(2)))
    image = torch.rand(1, 3, 64, 64)
    perceptual = Perceptual(SOURCES.autoencoder().encoder)
    assert perceptual(image, image) == 0
    assert perceptual(image, image.flip(3)) > 0


def test_shade_is_darker_in_the_skins_own_colour_and_brighter_without_one(face: tuple[Tensor, Tensor]) -> None:
    skin = 0.3 + 0.4 * face[0]
    everywhere = torch.ones(1, 1, *skin.shape[-2:])
    darker, brighter = (shaded(skin + way * torch.tensor([0.2, 0.0, -0.1]).reshape(1, 3, 1, 1), skin, skin, everywhere) for way in (-1, 1))
    assert float((skin - darker).mean()) > 0.01
    assert torch.allclose(darker / darker.sum(1, keepdim=True), skin / skin.sum(1, keepdim=True), atol=1e-5)
    gloss = brighter - skin
    assert float(gloss.mean()) > 0.01
    assert torch.allclose(gloss, gloss[:, :1].expand_as(gloss), atol=1e-5)
    assert torch.equal(shaded(1 - skin, skin, skin, 0 * everywhere), skin)


def test_low_rank_additions_begin_as_nothing(face: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    fast = SOURCES.fast()
    tuned = Makeup(fast, ["one", "two"], torch.zeros(2, NUMBERS))
    latent, embedding = torch.randn(1, 32, 32, 32), F.normalize(torch.randn(1, fast.embedding), dim=1)
    budget, goal = torch.tensor([2 * 0.00036]), torch.eye(len(fast.goals))[:1]
    with torch.no_grad():
        offset = tuned(latent, embedding, budget, goal)
        torch.testing.assert_close(offset, fast(latent, embedding, budget / 2, goal))
    assert sum(value.numel() for value in tuned.trained().values()) < 0.3 * sum(value.numel() for value in fast.parameters())
    torch.testing.assert_close(adapt(torch.nn.Sequential(torch.nn.Linear(32, 32)), 4)[0].down.weight.shape, torch.Size([4, 32]))


def test_the_published_generator_untuned_gives_the_photo_back(face: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    generator = Ddim(SOURCES.diffusion(), 60, 20, 6)
    assert generator.up == grid(60, 20)
    assert len(generator.down) == 7
    with torch.no_grad():
        moved, plain = generator(face[0])
    assert float((moved - plain).abs().mean()) < 0.01
    assert len(generator.trained()) > 100
    assert len(Ddim(SOURCES.diffusion(), 60, 2, 2, rank=4).trained()) < len(generator.trained())


def test_the_encoder_is_trained_in_parts(crops: Path, tmp_path: Path) -> None:
    for steps in (2, 3):
        run(looks.main, crops, "-o", tmp_path, "--weights", WEIGHTS, "--steps", steps, "--count", 6)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == [2, 3]
    assert {"caption_of_32", "direction", "direction_shuffled"} <= curve[-1].keys()


def test_the_published_stages_train_and_leave_terms_out(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in (makeup_removal, makeup_transfer):
        monkeypatch.setattr(stage, "HELD_OUT", 2)
    short = ("--weights", WEIGHTS, "--faces", 2, "--epochs", 1, "--inversions", 1, "--generations", 1)
    run(makeup_published.main, "removal", crops, "-o", tmp_path / "removal", *short, "--rank", 4, "--without", "l1")
    curve = [json.loads(line) for line in (tmp_path / "removal" / "curve.jsonl").read_text().splitlines()]
    assert {"direction", "identity", "perceptual"} <= curve[0].keys()
    assert "l1" not in curve[0]
    run(makeup_published.main, "removal", crops, "-o", tmp_path / "truth", *short, "--rank", 4, "--truth")
    assert "undone" in json.loads((tmp_path / "truth" / "curve.jsonl").read_text().splitlines()[0])
    assert {"psnr_removed", "direction_shuffled"} <= curve[-1].keys()
    run(makeup_published.main, "transfer", crops, "-o", tmp_path / "transfer", *short, "--look", "rose")
    curve = [json.loads(line) for line in (tmp_path / "transfer" / "curve.jsonl").read_text().splitlines()]
    assert {"pixels", "direction", "adversarial", "perceptual", "l1"} <= curve[0].keys()


def test_looks_are_trained_in_parts_and_become_an_engine(crops: Path, tmp_path: Path) -> None:
    for steps in (1, 2):
        run(makeup.main, crops, "-o", tmp_path, "--weights", WEIGHTS, "--look", "rose", "--steps", steps, "--count", 2)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve if "loss" in row] == [1, 2]
    tensors, facts = checkpoint.load(tmp_path / "weights.safetensors")
    assert facts["looks"] == ["rose"]
    assert set(tensors) == {"colours", *Makeup(SOURCES.fast(), ["rose"], torch.zeros(1, NUMBERS)).trained()}


def test_what_ships_says_what_torch_does(face: tuple[Tensor, Tensor]) -> None:
    """The engine in the zoo, the weights in the repository, and the module are one thing."""
    trained = SOURCES.makeup()
    module = MakeupProtect(SOURCES.autoencoder(), SOURCES.student("conv")[0], SOURCES.keypoints(), trained)
    given = {"original": face[0], "mask": torch.from_numpy(face_mask()), "budget": torch.tensor([0.00072])}
    given |= {"goal": torch.eye(len(trained.fast.goals))[:1], "look": torch.eye(len(trained.looks))[1:2]}
    given["unseen"] = torch.full((1, 3, 256, 256), 0.02)
    with torch.no_grad():
        found = module(**given)["difference"].numpy()
    with Store([ZOO]).open("makeup", "cpu") as engine:
        made = engine.run({name: value.numpy() for name, value in given.items()})["difference"]
    np.testing.assert_allclose(made, found, atol=2e-4)
    with torch.no_grad():
        worn, changes, _ = module.dressed(given["original"], given["mask"], given["look"])
    beside = torch.from_numpy(found) - (worn - given["original"])
    assert float(beside[(changes == 0).expand(-1, 3, -1, -1)].abs().max()) < 1e-6  # hair, glasses, teeth and eyeballs keep what they wear
    assert float(beside.abs().max()) > 0.02
    assert read_manifest(ZOO / "makeup").metadata["looks"] == list(LOOKS)
    for look in LOOKS:
        assert (ZOO / "makeup" / "looks" / f"{look}.jpg").is_file()


def decoy(number: int = 4) -> Image.Image:
    return Image.open(ZOO / "decoys" / f"{number}.png").convert("RGB")


def _bad(kind: str) -> Image.Image:
    if kind == "no face":
        return Image.new("RGB", (300, 300), (90, 120, 150))
    if kind == "2 faces":
        both = Image.new("RGB", (512, 256))
        both.paste(decoy(4), (0, 0))
        both.paste(decoy(6), (256, 0))
        return both
    if kind == "grey":
        return decoy().convert("L").convert("RGB")
    if kind == "pixels wide":
        small = Image.new("RGB", (300, 300), (120, 110, 100))
        small.paste(decoy().resize((100, 100)), (100, 100))
        return small
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["no face", "2 faces", "grey", "pixels wide"])
def test_bad_references_are_refused_before_training(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "reference.png"
    _bad(kind).save(path)
    given = ["export", "makeup", "--reference", str(path), "-o", str(tmp_path / "out"), "--weights", str(WEIGHTS)]
    assert main(given) == 5
    assert kind in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["reference.png"]


def test_a_profile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector's points of a face that looks aside, as it gives them: the nose is before one eye."""
    from faceprotect_export.makeup import reference
    from faceprotect_sdk.face.detect import Face

    decoy().save(tmp_path / "aside.png")
    points = np.array([[90.0, 100.0], [150.0, 100.0], [152.0, 135.0], [100.0, 170.0], [145.0, 170.0]])
    monkeypatch.setattr(reference, "find_faces", lambda *_: (Face((40.0, 40.0, 210.0, 230.0), points, 0.9),))
    with pytest.raises(ReferenceError, match="turned away"):
        read_reference(tmp_path / "aside.png")


def test_a_look_of_ones_own(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From a picture to an engine that protect finds; a broken-off training is gone on from."""
    reference = shipped_reference("classic", SOURCES.keypoints())
    path, out = tmp_path / "classic.png", tmp_path / "look"
    Image.fromarray((reference.image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)
    given = ["export", "makeup", "--reference", str(path), "-o", str(out), "--weights", str(WEIGHTS), "--faces", str(crops), "--steps", "1"]
    monkeypatch.setattr(makeup_export, "train_looks", partial(makeup.train_looks, count=2))
    remove, bare = makeup_export.without_makeup, list[Tensor]()

    def removed_once(image: Tensor, sources: Sources) -> Tensor:
        """The face is the same in both runs."""
        bare[:] = bare or [remove(image, sources)]
        return bare[0].clone()

    monkeypatch.setattr(makeup_export, "without_makeup", removed_once)
    assert main([*given, "--caption", "unicorns"]) == 5
    assert main([*given, "--weights", str(tmp_path)]) == 5
    assert "clone it" in capsys.readouterr().err
    write = makeup_export.write_looks

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(makeup_export, "write_looks", interrupted)
    assert main(given) == 130
    assert not out.exists()
    monkeypatch.setattr(makeup_export, "write_looks", write)
    monkeypatch.setattr(makeup.Trainer, "step", interrupted)  # nothing is left to train
    assert main(given) == 0
    assert sorted(one.name for one in out.iterdir()) == ["makeup", "recipes", "sheet.jpg"]
    assert read_manifest(out / "makeup").metadata["looks"] == ["classic"]
    capsys.readouterr()
    photo = tmp_path / "me.png"
    decoy(1).save(photo)
    assert main(["protect", str(photo), "--method", "makeup", "--look", str(out), "--device", "cpu", "--no-installed-judges"]) in (0, 6)

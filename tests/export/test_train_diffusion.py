"""Training of the denoiser and of the one-pass student: resumable, and what it says it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from faceprotect_export.modules.diffusion import DiffusionConfig, alphas_cumprod, read_diffusion
from faceprotect_export.modules.fast import BUDGET, Fast, FastProtect, read_fast
from faceprotect_export.train import checkpoint, critic, diffusion, fast, surrogates, targets, turbo
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.methods import recipe_of, strength_of

WEIGHTS = Path(__file__).parents[2] / "weights"
TINY = DiffusionConfig(latent=32, size=8, widths=(16, 16), attends=(False, True), heads=2, groups=4, tokens=2, token_width=8)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crops") / "crops.npy"
    small = np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), np.uint8)
    np.save(path, small.repeat(16, 1).repeat(16, 2))
    return path


def run(command: object, *words: object) -> None:
    done = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)  # type: ignore[arg-type]
    assert done.exit_code == 0, done.output


def test_denoiser_is_trained_in_parts(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "DiffusionConfig", lambda: TINY)
    for steps in (2, 4):
        run(diffusion.main, crops, "-o", tmp_path, "--weights", WEIGHTS, "--steps", steps, "--count", 4)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve if "loss" in row] == [2, 4]
    tensors, facts = checkpoint.load(tmp_path / "weights.safetensors")
    assert facts["steps"] == 4
    model = read_diffusion(tensors, facts, Sources(WEIGHTS, ()).autoencoder())
    photo = torch.rand(1, 3, 64, 64)
    latent = model.codec.encode(photo)  # type: ignore[operator]
    noise, maps = model.predict(latent, 51, model.empty)
    assert noise.shape == latent.shape
    assert maps
    latents = np.load(tmp_path / "latents.npy")
    assert latents.shape == (2, 12, 32, 32, 32)
    assert facts["scaling"] * latents[0].astype(np.float32).std() == pytest.approx(1, rel=0.3)


def test_denoiser_loss_is_that_of_the_noise() -> None:
    """A denoiser that knows the noise loses nothing, at every level."""

    class Knowing(nn.Module):
        def forward(self, noisy: Tensor, times: Tensor, prompt: Tensor, return_dict: bool) -> tuple[Tensor]:
            share = alphas_cumprod()[times].float().reshape(-1, 1, 1, 1)
            return ((noisy - share.sqrt() * clean) / (1 - share).sqrt(),)

    clean, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    model = diffusion.Denoiser(TINY)
    model.unet = Knowing()  # type: ignore[assignment]
    loss = model.loss(clean, torch.tensor([1, 300, 999]), noise, alphas_cumprod())
    assert loss.max() < 1e-6


def test_student_is_trained_in_parts(crops: Path, tmp_path: Path) -> None:
    for steps in (1, 2):
        run(fast.main, crops, "-o", tmp_path, "--weights", WEIGHTS, "--steps", steps, "--count", 2, "--decoys", 0.5, "--realism", 0.2)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve if "loss" in row] == [1, 2]
    assert {"critic", "displeased"} <= curve[0].keys()
    tensors, facts = checkpoint.load(tmp_path / "weights.safetensors")
    assert facts["recognisers"] == ["dlib-resnet", "student-conv"]
    assert (facts["goals"][0], len(facts["goals"])) == ("dodge", 7)
    assert read_fast(tensors, facts).goals == tuple(facts["goals"])


def test_a_state_brings_back_model_optimiser_and_average(tmp_path: Path) -> None:
    """And the average is one of its own: a further step leaves it alone."""
    torch.manual_seed(0)
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    optimisers = [torch.optim.Adam(model.parameters(), 0.1) for model in (first, second)]

    def step(number: int) -> None:
        model = (first, second)[number]
        optimisers[number].zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimisers[number].step()

    for _ in range(2):
        step(0)
    average = {name: value.detach() + 1 for name, value in first.state_dict().items()}
    checkpoint.save(tmp_path / "state.safetensors", checkpoint.training_state(first, optimisers[0], average), {})
    restored = checkpoint.restore(checkpoint.load(tmp_path / "state.safetensors")[0], second, optimisers[1])
    step(0)
    step(1)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value)
        torch.testing.assert_close(restored[name], average[name])


def test_searches_become_targets_and_a_student_comes_near_to_them(crops: Path, tmp_path: Path) -> None:
    found = tmp_path / "targets.npz"
    for count in (2, 4):
        run(targets.main, crops, "--count", count, "--steps", 1, "-o", found)
        with np.load(found) as kept:
            rows, differences = kept["rows"], kept["differences"]
        assert (rows.shape, differences.shape) == ((count,), (count, 3, 256, 256))
        assert all(difference.any() for difference in differences)
    words = [crops, "--count", 4, "--steps", 1, "--seed", 1, "-o", found]
    assert CliRunner().invoke(targets.main, [str(word) for word in words]).exit_code == 2  # other searches
    held = np.setdiff1d(np.arange(12), rows)[:3]
    data = np.load(crops)
    known = targets.Targets([found], data, np.append(held, rows[0]))
    assert set(known.rows) == set(rows[1:])  # none that is held out
    for others in (data[::-1], data[: rows.max()], data[:, :, ::-1], data[..., ::-1]):
        with pytest.raises(click.UsageError, match="other crops"):
            targets.Targets([found], others, held)
    np.save(tmp_path / "others.npy", data[::-1])
    words = [tmp_path / "others.npy", "--count", 6, "--steps", 1, "-o", found]
    assert CliRunner().invoke(targets.main, [str(word) for word in words]).exit_code == 2  # nor does a search go on with them
    photos, wanted = known.drawn(data, 2, np.random.default_rng(0))
    assert photos.shape == wanted.shape == (2, 3, 256, 256)
    words = [crops, "-o", tmp_path, "--weights", WEIGHTS, "--steps", 1, "--targets", found, "--apart", 1]
    assert CliRunner().invoke(fast.main, [str(word) for word in words]).exit_code == 2  # six of four
    run(fast.main, *words, "--count", 2)
    facts = checkpoint.load(tmp_path / "weights.safetensors")[1]
    assert (facts["targets"], facts["apart"], facts["realism"]) == (1.0, 1.0, 0.0)
    row = json.loads((tmp_path / "curve.jsonl").read_text().splitlines()[0])
    assert 0 < row["unlike"] < 2 and 0 <= row["common"] <= 1.001


def test_searches_go_on_from_a_student_on_recognisers_that_need_not_ship(crops: Path, teachers: Path, tmp_path: Path) -> None:
    """Each begins with what the student makes of the crop, comes out at the budget, and gets farther from the person."""
    words = [crops, "--teachers", teachers, "--weights", WEIGHTS, "--count", 2]
    alone = [str(word) for word in (crops, "--start", WEIGHTS / "fast.safetensors", "-o", tmp_path / "no.npz")]
    assert CliRunner().invoke(targets.main, alone).exit_code == 2  # nothing to search on
    found = {}
    for name, start, steps in (("begun", True, 0), ("searched", True, 4), ("alone", False, 4)):
        student = ["--start", WEIGHTS / "fast.safetensors"] if start else []
        run(targets.main, *words, *student, "--steps", steps, "-o", tmp_path / f"{name}.npz")
        with np.load(tmp_path / f"{name}.npz") as kept:
            rows, found[name] = kept["rows"], torch.from_numpy(kept["differences"]).float()
    photos = torch.stack([surrogates.tensor_of(np.load(crops)[row]) for row in rows])
    for change in found.values():
        penalty = surrogates.penalty_of((photos + change).clamp(0, 1), photos)
        assert penalty.tolist() == pytest.approx([strength_of(recipe_of("latent"), "medium").budget] * 2, rel=0.15)
    assert float(surrogates.unlike(found["searched"], found["begun"]).max()) < float(
        surrogates.unlike(found["alone"], found["begun"]).min()
    )
    known = surrogates.read_surrogates(Sources(WEIGHTS, ()), teachers, 2.0)[0]
    assert [one.name for one in known] == ["dlib-resnet", "student-conv", "teacher"]
    with torch.no_grad():
        cosines = {name: sum(float((one.net(photos + change) * one.net(photos)).sum()) for one in known) for name, change in found.items()}
    assert cosines["searched"] < cosines["begun"]
    assert surrogates.digests(teachers) == [hashlib.sha256((teachers / "teacher.onnx").read_bytes()).hexdigest()]


def test_what_changes_have_in_common() -> None:
    torch.manual_seed(0)
    one = torch.randn(1, 3, 32, 32)
    assert float(surrogates.common(one * torch.tensor([1.0, 2.0, -1.0]).reshape(3, 1, 1, 1))) == pytest.approx(1.0, abs=1e-5)
    assert float(surrogates.common(torch.randn(6, 3, 32, 32))) < 0.03
    assert float(surrogates.common(one)) == 0  # nothing to compare with
    assert surrogates.unlike(torch.cat([one, one]), torch.cat([3 * one, -one])).tolist() == pytest.approx([0, 2], abs=1e-5)


def test_one_step_is_trained_to_do_what_three_do(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(2, 80, 32, 8, 8)).astype(np.float16)
    np.save(tmp_path / "latents.npy", latents)
    for steps in (2, 4):
        run(turbo.main, tmp_path / "latents.npy", "--weights", WEIGHTS, "-o", tmp_path, "--steps", steps, "--count", 2)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve if "error" in row] == [2, 4]
    assert curve[1]["untrained_0.2"] > 0
    tensors, facts = checkpoint.load(tmp_path / "diffusion.safetensors")
    made = read_diffusion(tensors, facts, Sources(WEIGHTS, ()).autoencoder())
    shipped = Sources(WEIGHTS, ()).diffusion()
    assert torch.equal(made.empty, shipped.empty)
    moved = [float((a - b).abs().max()) for a, b in zip(made.unet.parameters(), shipped.unet.parameters(), strict=True)]
    assert 0 < max(moved) < 0.1


def test_a_step_lowers_what_recognisers_say_and_a_budget_bounds_it() -> None:
    """The two sides of the loss: alike faces cost, and so does a change above the budget, and only above it."""
    surrogate = surrogates.Surrogate("one", nn.Sequential(nn.Flatten()), 0.3, 0.3, 1.0, torch.eye(2, 12))
    own = nn.functional.normalize(torch.randn(1, 12), dim=1)
    dodge, decoy = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 1, 0]])
    same, cosine = surrogates.adversarial(surrogate, own.reshape(1, 3, 2, 2), own, dodge)
    assert (float(same), float(cosine)) == pytest.approx((1 + surrogates.BEYOND, 1.0), rel=1e-5)
    other = own.flip(1) - (own.flip(1) * own).sum() * own
    away, _ = surrogates.adversarial(surrogate, nn.functional.normalize(other, dim=1).reshape(1, 3, 2, 2), own, dodge)
    assert float(away) == pytest.approx(0.0, abs=1e-5)  # at the limit itself: 0.3 - 0.3
    there, _ = surrogates.adversarial(surrogate, surrogate.decoys[:1].reshape(1, 3, 2, 2), own, decoy)
    still, _ = surrogates.adversarial(surrogate, own.reshape(1, 3, 2, 2), own, decoy)
    assert float(there) < 0 < float(still)
    photo = 0.3 + 0.4 * torch.rand(2, 3, 32, 32)
    assert surrogates.penalty_of(photo, photo).tolist() == pytest.approx([0, 0], abs=1e-6)
    inside = nn.functional.pad(torch.ones(1, 1, 16, 16), (8, 8, 8, 8))  # as a mask has it: nothing changes at the border
    squared = float((0.02 * inside).square().mean())
    prices = [surrogates.penalty_of(photo + 0.02 * inside, photo, shares) for shares in ((0.0, 0.0, 0.0), (3.0, 6e-5, 0.8))]
    assert prices[0].tolist() == pytest.approx([squared] * 2, rel=1e-3)
    assert (prices[1] > prices[0]).all()


def test_a_change_in_one_place_costs_more_than_the_same_everywhere() -> None:
    photo = torch.full((1, 3, 64, 64), 0.5)
    there = photo.clone()
    there[:, :, 16:32, 16:32] += 4 * 0.02  # as much squared error, on a sixteenth of the crop
    assert float(surrogates.concentrated(photo + 0.02, photo)) == pytest.approx(0.0004, rel=1e-3)
    assert float(surrogates.concentrated(there, photo)) > 2 * 0.0004


def test_the_critic_sees_what_all_made_faces_have_in_common() -> None:
    torch.manual_seed(0)
    one, pattern = critic.Critic(), torch.zeros(1, 3, 128, 128)
    pattern[..., 60:68, 40:88] = 0.05
    for _ in range(12):
        photos = nn.functional.interpolate(torch.rand(4, 3, 8, 8), 128, mode="bilinear")
        lost = one.learn(photos, photos + pattern)
    assert lost < 0.7  # knowing nothing is 1
    assert torch.equal(one.displeased(photos, photos), torch.zeros(4))
    photos.requires_grad_()
    displeased = one.displeased(photos + pattern, photos)
    assert bool((displeased > 0).all())
    displeased.sum().backward()
    assert photos.grad is not None and bool(photos.grad.any())
    assert all(parameter.grad is None or not parameter.requires_grad for parameter in one.parameters())
    again = critic.Critic()
    again.restore({"other": pattern, **one.kept()})
    torch.testing.assert_close(again.eval()(photos), one.eval()(photos))


def test_recompression_passes_the_gradient() -> None:
    photo = torch.rand(1, 3, 32, 32, requires_grad=True)
    seen = surrogates.recompressed(photo, np.random.default_rng(0))
    assert not torch.equal(seen, photo)
    seen.sum().backward()
    assert photo.grad is not None
    torch.testing.assert_close(photo.grad, torch.ones_like(photo))


def test_what_the_student_gives_fits_together() -> None:
    """The difference is that of the offset's decoding inside the mask; more budget is a larger offset."""
    torch.manual_seed(0)
    autoencoder = Sources(WEIGHTS, ()).autoencoder()
    surrogate = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model = Fast(TINY, ("dodge", "first"), 0.7, 12).requires_grad_(False).eval()
    photo, mask = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    goal = torch.tensor([[1.0, 0.0]])
    made = FastProtect(autoencoder, surrogate, model)(photo, mask, torch.tensor([BUDGET]), goal)
    torch.testing.assert_close(made["latent"], autoencoder.encoder(photo))
    torch.testing.assert_close(made["decoded_original"], autoencoder.decoder(made["latent"]), atol=1e-5, rtol=1e-4)
    moved = autoencoder.decoder(made["latent"] + made["offset"])
    wanted = (photo + mask * (moved - made["decoded_original"])).clamp(0, 1) - photo
    torch.testing.assert_close(made["difference"], wanted, atol=1e-5, rtol=1e-4)
    more = FastProtect(autoencoder, surrogate, model)(photo, mask, torch.tensor([4 * BUDGET]), goal)
    torch.testing.assert_close(more["offset"], 2 * made["offset"])  # untrained: amplitude alone knows the budget

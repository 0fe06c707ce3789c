"""The style generator and its codes: modulation, inversion, offsets in units of the codes' spread, key points, training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from export_tools import parity_of
from torch import Tensor, nn

from faceprotect_export.modules.keypoints import COUNT, SIDE, KeypointNet
from faceprotect_export.modules.students import build_student
from faceprotect_export.modules.style import (
    StyleConfig,
    Styled,
    StyleEncoder,
    StyleGenerator,
    StyleSpace,
    measure_space,
    read_style,
    split_codes,
)
from faceprotect_export.objectives.search import SearchDecode, SearchStep, reference_input
from faceprotect_export.objectives.style import KeypointTerm, MeanFace, StyleDecode, StyleEncode, StyleInvert
from faceprotect_export.train import checkpoint
from faceprotect_export.train.keypoints import LEFT_BROW, MIRROR, vary
from faceprotect_export.train.style import Trainer

TINY = StyleConfig(size=32, base=2, widths=(6, 4), style=5)
CROP = 64


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def decode() -> StyleDecode:
    generator, encoder = StyleGenerator(TINY).requires_grad_(False), StyleEncoder(TINY).requires_grad_(False).eval()
    photos = [torch.rand(40, 3, 32, 32)]
    encoder.settle(photos)
    return StyleDecode(generator, measure_space(encoder, photos, directions=8), CROP)


def codes(**changes: Tensor) -> dict[str, Tensor]:
    found = {
        "base": torch.randn(1, TINY.base, 16, 16),
        "codes": torch.randn(1, TINY.layers, TINY.style),
        "offset": 0.3 * torch.randn(1, TINY.numbers),
        "reach": torch.ones(TINY.layers + 1),
    }
    return {**found, **changes}


def test_modulation_equals_the_fused_form() -> None:
    """Karras et al. 2020, eq. 1 and 3: weights scaled per input channel, then normalised per output channel."""
    layer, x, code = Styled(4, 6, 5), torch.randn(2, 4, 8, 8), torch.randn(2, 5)
    found = layer(x, code)
    for index in range(2):
        weight = layer.conv.weight * (1 + layer.scale(code[index]))[None, :, None, None]
        weight = weight * torch.rsqrt(weight.square().sum((1, 2, 3)) + 1e-4)[:, None, None, None]
        expected = F.leaky_relu(F.conv2d(x[index : index + 1], weight, padding=1) + layer.bias[:, None, None], 0.2) * 2**0.5
        torch.testing.assert_close(found[index : index + 1], expected, atol=1e-5, rtol=1e-4)


def test_shapes_and_a_config_that_does_not_fit() -> None:
    config = StyleConfig()
    base, details = StyleEncoder(config)(torch.rand(2, 3, 128, 128))
    assert (base.shape, details.shape) == ((2, config.base, 16, 16), (2, config.layers, config.style))
    assert StyleGenerator(config)(base, details).shape == (2, 3, 128, 128)
    with pytest.raises(ValueError, match="256"):
        StyleConfig(size=256)


def test_reach_of_zero_holds_a_layer_and_the_base(decode: StyleDecode) -> None:
    given = codes(reach=torch.zeros(TINY.layers + 1))
    still = decode(**{**given, "offset": torch.zeros_like(given["offset"])})
    torch.testing.assert_close(decode(**given), still, atol=0, rtol=0)
    base, details = decode.moved(**codes(base=given["base"], codes=given["codes"], reach=torch.tensor([0.0, 1, 0, 0])))
    torch.testing.assert_close(base, given["base"], atol=0, rtol=0)
    assert (details != given["codes"]).any(2).tolist() == [[False, True, False]]


def test_an_offset_is_in_units_of_the_spread_the_base_first_and_its_reach_last(decode: StyleDecode) -> None:
    layout, details = decode.changes(torch.ones(1, TINY.numbers), torch.arange(1.0, TINY.layers + 2))
    torch.testing.assert_close(layout, (TINY.layers + 1) * decode.base_spread[None, :, None, None].expand(1, -1, 16, 16))
    torch.testing.assert_close(details[0], torch.arange(1.0, TINY.layers + 1)[:, None] * decode.codes_spread)


def test_whitened_codes_vary_alike_and_apart() -> None:
    encoder, photos = StyleEncoder(TINY).requires_grad_(False).eval(), torch.rand(300, 3, 32, 32)
    encoder.settle([photos])
    white = (encoder(photos)[1] - encoder(photos)[1].mean(0)).transpose(0, 1) @ measure_space(encoder, [photos]).whitening()
    for layer in range(TINY.layers):
        covariance = torch.cov(white[layer].T, correction=0)
        torch.testing.assert_close(covariance, torch.diag(covariance.diagonal()), atol=1e-3, rtol=0)
        assert float(covariance.diagonal().min()) >= 0.0
        assert 0.95 < float(covariance.diagonal().max()) <= 1.0


def test_spreads_are_standard_deviations() -> None:
    encoder, photos = StyleEncoder(TINY).requires_grad_(False).eval(), torch.rand(200, 3, 32, 32)
    space = measure_space(encoder, photos.split(50))
    base, details = encoder(photos)
    for layer in range(TINY.layers):
        covariance = torch.cov(details[:, layer].T, correction=0)
        torch.testing.assert_close(space.axes[layer].T @ space.axes[layer], covariance, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(space.codes_spread(), details.std(0, correction=0), atol=1e-5, rtol=1e-3)
    shifted = measure_space(_Shifted(encoder, torch.linspace(0, 9, 512).reshape(2, 16, 16)), photos.split(50))  # type: ignore[arg-type]
    torch.testing.assert_close(shifted.base_spread, space.base_spread, atol=1e-4, rtol=1e-3)  # what all faces share is no spread
    assert float((base - base.mean(0)).square().mean()) == pytest.approx(float(space.base_spread.square().mean()), rel=1e-3)


class _Shifted:
    def __init__(self, encoder: StyleEncoder, pattern: Tensor) -> None:
        self.encoder, self.pattern = encoder, pattern

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        base, details = self.encoder(images)
        return base + self.pattern, details


def test_codes_have_a_standard_deviation_of_one_over_photos() -> None:
    base, details = StyleEncoder(TINY)(torch.rand(50, 3, 32, 32))
    for found in (base.transpose(0, 1).flatten(1), details.flatten(1).T):
        torch.testing.assert_close(found.mean(1), torch.zeros(len(found)), atol=1e-3, rtol=0)
        torch.testing.assert_close(found.std(1, correction=0), torch.ones(len(found)), atol=2e-2, rtol=0)


def test_the_scale_of_codes_can_be_taken_from_photos() -> None:
    encoder, photos = StyleEncoder(TINY).requires_grad_(False).eval(), torch.rand(60, 3, 32, 32)
    assert float(encoder(photos)[1].std(0).mean()) < 0.5
    encoder.settle(photos.split(20))
    assert not encoder.codes_scale.training
    base, details = encoder(photos)
    assert float(details.std(0).mean()) == pytest.approx(1, abs=0.1)
    assert float(base.std((0, 2, 3)).mean()) == pytest.approx(1, abs=0.1)


def test_drawn_codes_are_spread_like_those_of_photos() -> None:
    encoder, photos = StyleEncoder(TINY).requires_grad_(False).eval(), torch.rand(60, 3, 32, 32)
    space = measure_space(encoder, [photos], directions=60)
    joined = torch.cat([part.flatten(1) for part in encoder(photos)], 1)
    drawn = torch.cat([torch.cat([p.flatten(1) for p in space.draw(TINY, torch.Generator().manual_seed(i), 1.0)], 1) for i in range(400)])
    torch.testing.assert_close(drawn.mean(0), joined.mean(0), atol=4 * float(joined.std() / 400**0.5), rtol=0)
    assert float(drawn.var(0).sum() / joined.var(0).sum()) == pytest.approx(1, abs=0.1)
    assert split_codes(TINY, joined)[1].shape == (60, TINY.layers, TINY.style)


def test_the_step_of_style_gives_autograds_gradient(decode: StyleDecode, tmp_path: Path) -> None:
    step = SearchStep(decode, {"a-net": embedder()}, {"keypoints": KeypointTerm(_points())}, crop=CROP)
    inputs = {**step_inputs(decode, codes()), "shares": torch.full((4,), 0.3), "points": torch.rand(1, COUNT, 2)}
    measured, _ = parity_of(step, inputs, ["offset"], tmp_path)
    assert measured.relative_error < 1e-4
    outputs = step(**inputs)
    shown = SearchDecode(decode)(**{k: inputs[k] for k in ("decoded_original", "original", "mask", *decode.inputs)})["image"]
    torch.testing.assert_close(outputs["difference"], shown - inputs["original"])
    without = step(**{**inputs, "shares": torch.tensor([0.3, 0.3, 0.3, 0.0])})
    torch.testing.assert_close(outputs["penalty"] - without["penalty"], 0.3 * outputs["keypoints"])


def embedder() -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(192, 7, bias=False)).requires_grad_(False)


def step_inputs(decode: StyleDecode, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a step on one surrogate, `a-net`, without further terms."""
    with torch.no_grad():
        plain = decode(**{**given, "offset": torch.zeros_like(given["offset"])})
    crop = torch.rand(1, 3, CROP, CROP)
    return {
        **given,
        "decoded_original": plain,
        "original": crop,
        "mask": torch.ones(1, 1, CROP, CROP),
        "rows": torch.eye(CROP)[None],
        "cols": torch.eye(CROP)[None],
        "noise": 0.01 * torch.randn_like(crop),
        "weights": torch.ones(1),
        "shares": torch.full((3,), 0.3),
        "penalty_weight": torch.full((1,), 20.0),
        "image_cotangent": 1e-3 * torch.randn_like(crop),
        reference_input("a-net"): F.normalize(torch.randn(1, 7), dim=1),
    }


def _points() -> KeypointNet:
    class Small(KeypointNet):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(F.interpolate(image, SIDE, mode="nearest"))

    return Small(4).requires_grad_(False).eval()


def test_inversion_brings_the_decoding_nearer(decode: StyleDecode) -> None:
    given = codes()
    with torch.no_grad():
        photo = decode(**given).clamp(0, 1)
    found = inverted(StyleInvert(decode), photo, given, 30)
    assert found[-1] < 0.3 * found[0]


class Theirs(nn.Module):
    """A generator that somebody brings: fused weights, other numbers of layers and codes, larger than the crop."""

    def __init__(self) -> None:
        super().__init__()
        self.config = StyleConfig(size=128, base=3, widths=(5, 5, 4, 4), style=9)
        self.scale = nn.ModuleList(nn.Linear(9, 3) for _ in range(self.config.layers))
        self.weight = nn.Parameter(0.3 * torch.randn(self.config.layers, 3, 3, 3, 3))

    def forward(self, base: Tensor, codes: Tensor) -> Tensor:
        x = base
        for layer, scale in enumerate(self.scale):
            weight = self.weight[layer] * (1 + scale(codes[0, layer]))[None, :, None, None]
            x = F.leaky_relu(F.conv2d(x, weight, padding=1), 0.2) + x
        return F.interpolate(x, 128, mode="bilinear") * 0.1 + 0.5


def test_a_generator_without_an_encoder_is_inverted_and_searched_by_the_same_code(tmp_path: Path) -> None:
    theirs = Theirs().requires_grad_(False)
    config = theirs.config
    axes, mean = 0.2 * torch.randn(config.layers, 9, 9), 0.3 * torch.randn(config.numbers)
    space = StyleSpace(axes, torch.full((3,), 0.5), mean, 0.1 * torch.randn(4, config.numbers))
    decode = StyleDecode(theirs, space, CROP)  # type: ignore[arg-type]
    photo = decode.decoded(*space.draw(config, torch.Generator().manual_seed(5), 2.0)).clamp(0, 1)
    start = StyleEncode(MeanFace(config, space), CROP)(photo)
    torch.testing.assert_close(start["base"], split_codes(config, mean[None])[0])
    given = {**start, "offset": torch.zeros(1, config.numbers), "reach": torch.ones(config.layers + 1)}
    found = inverted(StyleInvert(decode), photo, given, 60)
    assert found[-1] < 0.2 * found[0]
    step = SearchStep(decode, {"a-net": embedder()}, crop=CROP)
    inputs = step_inputs(decode, {**given, "offset": 0.1 * torch.randn(1, config.numbers)})
    measured, _ = parity_of(step, inputs, ["offset"], tmp_path)
    assert measured.relative_error < 1e-4


def inverted(invert: StyleInvert, photo: Tensor, given: dict[str, Tensor], iterations: int) -> list[float]:
    """The mean squared error at each iteration."""
    offset = torch.zeros_like(given["offset"]).requires_grad_()
    optimiser, found = torch.optim.Adam([offset], 0.05), []
    for _ in range(iterations):
        outputs = invert(photo, torch.zeros(1), **{**given, "offset": offset})
        found.append(outputs["mse"].item())
        optimiser.zero_grad()
        outputs["loss"].sum().backward()
        optimiser.step()
    moved = invert.decode.decoded(outputs["moved_base"], outputs["moved_codes"])
    torch.testing.assert_close(moved, outputs["decoded"])
    return found


def test_key_points_move_as_the_picture_does() -> None:
    """Dots at the points, turned, scaled and mirrored: the points that `vary` gives lie on the dots."""
    points = torch.rand(6, COUNT, 2, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    image = torch.zeros(6, 3, SIDE, SIDE)
    rows = torch.arange(SIDE)
    for index in range(6):
        x, y = (points[index, LEFT_BROW] * SIDE - 0.5).tolist()
        image[index] = torch.exp(-((rows[None, :] - x) ** 2 + (rows[:, None] - y) ** 2) / 18)
    moved, placed = vary(image, points, torch.Generator().manual_seed(2))
    for index in range(6):
        bright = (moved[index].mean(0) - moved[index].mean(0).median() - 0.2).clamp(min=0)
        centre = torch.stack([(bright.sum(0) * rows).sum(), (bright.sum(1) * rows).sum()]) / bright.sum()
        gaps = (placed[index] * SIDE - 0.5 - centre).norm(dim=1)
        assert int(gaps.argmin()) in (LEFT_BROW, MIRROR[LEFT_BROW])
        assert gaps.min() < 1.0
    assert [MIRROR[MIRROR[i]] for i in range(COUNT)] == list(range(COUNT))


def test_key_points_are_in_the_picture_and_differentiable() -> None:
    net, image = KeypointNet(8).eval(), torch.rand(2, 3, 256, 256, requires_grad=True)
    found = net(image)
    assert found.shape == (2, COUNT, 2)
    assert 0 <= float(found.detach().min()) <= float(found.detach().max()) <= 1
    found.sum().backward()
    assert image.grad is not None
    assert image.grad.abs().max() > 0


def trainer(steps: int = 4) -> Trainer:
    recogniser = build_student("conv", {"teacher": 8}, 32).requires_grad_(False).eval()
    return Trainer(TINY, [recogniser, recogniser], 1e-3, steps)


def test_training_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    image, stopped = torch.rand(4, 3, 32, 32), trainer()
    for number in range(4):
        losses = stopped.step(image, number)
    assert {"reconstruction", "identity", "adversarial", "critic"} <= losses.keys()
    stopped.save(tmp_path / "run", {"step": 4})
    resumed = trainer()
    assert resumed.resume(tmp_path / "nothing") == 0
    assert resumed.resume(tmp_path / "run") == 4
    resumed.recognisers = stopped.recognisers
    for one in (stopped, resumed):
        torch.manual_seed(7)
        one.step(image, 4)
    for key, value in stopped.models.state_dict().items():
        torch.testing.assert_close(resumed.models.state_dict()[key], value, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(resumed.average[key], stopped.average[key], atol=1e-6, rtol=1e-4)


def test_reconstruction_is_learnt(tmp_path: Path) -> None:
    one, image = trainer(400), F.interpolate(torch.rand(8, 3, 4, 4), 32, mode="bilinear")
    found = [one.step(image, number)["psnr"] for number in range(80)]
    assert np.mean(found[-5:]) > found[0] + 3  # under the noise on the codes, and some from W+ alone


def test_what_training_leaves_can_be_read(tmp_path: Path) -> None:
    one, photos = trainer(), [torch.rand(30, 3, 32, 32)]
    models = one.averaged(photos)
    space = measure_space(models.encoder, photos, directions=6)
    figures = one.figures(models, torch.rand(6, 3, 32, 32), one.recognisers[0])
    one.finish(tmp_path, models, space, figures)
    tensors, facts = checkpoint.load(tmp_path / "style.safetensors")
    style = read_style(tensors, facts)
    photo = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(style.generator(*style.encoder(photo)), models.generator(*models.encoder(photo)), atol=1e-2, rtol=0)
    torch.testing.assert_close(style.space.axes, space.axes, atol=1e-3, rtol=1e-2)
    assert facts["held_psnr"] == figures["held_psnr"]
    assert torch.isfinite(style.space.directions).all()

"""StyleGAN2: modulation and resampling by definition, both layouts of checkpoints, engines against autograd."""

from __future__ import annotations

import argparse
import json
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from stylegan_states import CHANNELS, LAYERS, SIZE, STYLE, State, filter_of, nvidia, rosinality
from torch import Tensor

from faceprotect_export.build.parity import run_onnx
from faceprotect_export.modules.stylegan2 import Styled, StyleGan2, StyleGan2Config, ToRgb, config_f, mapped
from faceprotect_export.pretrained.common import Options, PretrainedError
from faceprotect_export.pretrained.kinds import export
from faceprotect_export.pretrained.stylegan import from_state, read_stylegan


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def upfirdn(x: Tensor, kernel: Tensor, up: int, before: int, after: int) -> Tensor:
    """By definition: zeros between pixels and around them, then a convolution (flipped kernel), channel by channel."""
    n, c, h, w = x.shape
    wide = torch.zeros(n, c, h * up, w * up, dtype=x.dtype)
    wide[:, :, ::up, ::up] = x
    padded = F.pad(wide, (before, after, before, after))
    return F.conv2d(padded.reshape(n * c, 1, *padded.shape[2:]), kernel.to(x.dtype).flip(0, 1)[None, None]).unflatten(0, (n, c))[:, :, 0]


def fused(x: Tensor, weight: Tensor, scale: Tensor, demodulate: bool, up: bool) -> Tensor:
    """Modulated convolution as published (eq. 1 and 3): each sample its own weights, as groups of one convolution.

    ``weight`` [out, in, k, k] with the factor of the equalised learning rate; ``scale`` [N, in].
    """
    n, inputs, h, w = x.shape
    outputs, _, kernel, _ = weight.shape
    own = weight[None] * scale[:, None, :, None, None]
    if demodulate:
        own = own * torch.rsqrt(own.square().sum((2, 3, 4)) + 1e-8)[:, :, None, None, None]
    joined = x.reshape(1, n * inputs, h, w)
    if not up:
        return F.conv2d(joined, own.reshape(n * outputs, inputs, kernel, kernel), padding=kernel // 2, groups=n).reshape(n, outputs, h, w)
    turned = own.transpose(1, 2).reshape(n * inputs, outputs, kernel, kernel)
    y = F.conv_transpose2d(joined, turned, stride=2, groups=n)
    return upfirdn(y.reshape(n, outputs, 2 * h + 1, 2 * w + 1), filter_of(4.0), 1, 1, 1)


def literal(state: State, w_plus: Tensor) -> Tensor:
    """The image (-1..1) of rosinality's layout, literally, with the noise of the checkpoint."""
    kind = w_plus.dtype

    def conv(x: Tensor, name: str, code: Tensor, demodulate: bool, up: bool) -> Tensor:
        matrix = state[f"{name}.conv.modulation.weight"].to(kind)
        scale = code @ (matrix * STYLE**-0.5).T + state[f"{name}.conv.modulation.bias"]
        weight = state[f"{name}.conv.weight"][0].to(kind)
        return fused(x, weight * weight[0].numel() ** -0.5, scale, demodulate, up)

    def styled(x: Tensor, name: str, layer: int, noise: int, up: bool) -> Tensor:
        y = conv(x, name, w_plus[:, layer], True, up)
        y = y + state[f"{name}.noise.weight"] * state[f"noises.noise_{noise}"]
        return F.leaky_relu(y + state[f"{name}.activate.bias"][:, None, None], 0.2) * 2**0.5

    def rgb(x: Tensor, name: str, layer: int) -> Tensor:
        return conv(x, name, w_plus[:, layer], False, False) + state[f"{name}.bias"]

    x = styled(state["input.input"].to(kind).repeat(len(w_plus), 1, 1, 1), "conv1", 0, 0, False)
    image = rgb(x, "to_rgb1", 1)
    for step in range(len(CHANNELS) - 1):
        x = styled(x, f"convs.{2 * step}", 2 * step + 1, 2 * step + 1, True)
        x = styled(x, f"convs.{2 * step + 1}", 2 * step + 2, 2 * step + 2, False)
        image = upfirdn(image, filter_of(4.0), 2, 2, 1) + rgb(x, f"to_rgbs.{step}", 2 * step + 3)
    return image


@pytest.mark.parametrize("up", [False, True])
def test_a_styled_convolution_equals_the_fused_form(up: bool) -> None:
    layer, x, code = Styled(4, 6, 5, 16 if up else 8, up), torch.randn(3, 4, 8, 8), 3 * torch.randn(3, 5)
    layer.noise.normal_()
    torch.nn.init.normal_(layer.bias)
    expected = fused(x, layer.weight, layer.affine(code), True, up) + layer.noise + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, code), F.leaky_relu(expected, 0.2) * 2**0.5, atol=1e-5, rtol=1e-5)


def test_the_published_constant_counts_where_styles_are_tiny() -> None:
    """eq. 3 adds 1e-8 to what is below the root: that shows where styles are as small as its root."""
    layer, x = Styled(4, 6, 5, 8, False).requires_grad_(False), torch.randn(1, 4, 8, 8)
    torch.nn.init.constant_(layer.affine.bias, 1e-4)
    code = torch.zeros(1, 5)
    expected = F.leaky_relu(fused(x, layer.weight, layer.affine(code), True, False), 0.2) * 2**0.5
    without = F.leaky_relu(fused(x, layer.weight, 1e4 * layer.affine(code), True, False), 0.2) * 2**0.5
    torch.testing.assert_close(layer(x, code), expected, atol=1e-5, rtol=1e-3)
    assert float((expected - without).abs().max()) > 0.01 * float(expected.abs().max())


def test_to_rgb_is_modulated_but_not_demodulated() -> None:
    layer, x, code = ToRgb(4, 5), torch.randn(2, 4, 8, 8), torch.randn(2, 5)
    torch.nn.init.normal_(layer.bias)
    expected = fused(x, layer.weight, layer.affine(code), False, False) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, code), expected, atol=1e-5, rtol=1e-5)


def test_the_rgb_skip_grows_as_the_filter_says() -> None:
    net, image = StyleGan2(StyleGan2Config(SIZE, CHANNELS, STYLE)), torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(net.grow(image), upfirdn(image, filter_of(4.0), 2, 2, 1), atol=1e-5, rtol=1e-5)


def test_the_image_is_the_literal_one() -> None:
    """Layers, codes, noise and skips in their places: all in float64, so that nothing hides in rounding."""
    state = {key: value.double() for key, value in rosinality().items()}
    net, facts = from_state(state, "made")
    assert facts | {"mean_w": None} == {"size": SIZE, "layers": LAYERS, "channels": list(CHANNELS), "layout": "rosinality", "mean_w": None}
    w_plus = torch.randn(2, LAYERS, STYLE, dtype=torch.float64)
    expected = literal(state, w_plus) * 0.5 + 0.5
    torch.testing.assert_close(net.double()(w_plus), expected, atol=1e-5, rtol=1e-5)


def test_the_cut_has_the_shapes_of_16_pixels_and_each_code_one_side() -> None:
    net, _ = from_state(rosinality(), "made")
    w_plus = torch.randn(1, LAYERS, STYLE)
    feature, rgb = net.base(w_plus)
    assert (feature.shape, rgb.shape) == ((1, CHANNELS[2], 16, 16), (1, 3, 8, 8))
    image = net.synthesis(feature, rgb, w_plus)
    for layer in range(LAYERS):
        other = w_plus.clone()
        other[0, layer] += 1
        assert torch.equal(net.base(other)[0], feature) == (layer >= 4)
        assert torch.equal(net.synthesis(feature, rgb, other), image) == (layer < 4)


def test_both_layouts_give_one_image(tmp_path: Path) -> None:
    theirs = rosinality()
    namespace = argparse.Namespace(size=SIZE)
    torch.save({"g_ema": OrderedDict(theirs), "args": namespace, "latent_avg": torch.zeros(STYLE)}, tmp_path / "a.pt")
    save_file({key: value.clone().contiguous() for key, value in nvidia(theirs).items()}, tmp_path / "b.safetensors")
    first, facts = read_stylegan(tmp_path / "a.pt")
    second, others = read_stylegan(tmp_path / "b.safetensors")
    w_plus = torch.randn(1, LAYERS, STYLE)
    torch.testing.assert_close(second(w_plus), first(w_plus), atol=0, rtol=0)
    assert (facts.pop("layout"), others.pop("layout")) == ("rosinality", "nvidia")
    np.testing.assert_allclose(others.pop("mean_w"), torch.linspace(-1, 1, STYLE).numpy(), atol=1e-6)
    assert len(facts.pop("mean_w")) == STYLE
    assert facts == others


def test_the_mean_of_w_is_that_of_the_mapping_network() -> None:
    state = rosinality()
    _, facts = from_state(state, "made")
    normal = torch.randn(20000, STYLE, generator=torch.Generator().manual_seed(5)).double()
    x = normal / normal.square().mean(1, keepdim=True).sqrt()
    for number in (1, 2):
        weight, bias = state[f"style.{number}.weight"].double(), state[f"style.{number}.bias"].double()
        x = F.leaky_relu(F.linear(x, weight * 0.01 / STYLE**0.5, bias * 0.01), 0.2) * 2**0.5
    spread = x.std(0) * (1 / 20000 + 1 / 4096) ** 0.5
    assert float(((torch.tensor(facts["mean_w"]) - x.mean(0)) / spread).abs().max()) < 5
    plain = [(state[f"style.{number}.weight"], state[f"style.{number}.bias"]) for number in (1, 2)]
    torch.testing.assert_close(mapped(normal.float(), plain), x.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", ["rosinality", "nvidia"])
def test_what_is_missing_left_over_or_of_another_shape_is_refused(layout: str) -> None:
    whole = rosinality() if layout == "rosinality" else nvidia(rosinality())
    passed_over = re.compile(r"style\.|mapping\.|.*(kernel|resample_filter)$")
    for key in whole:
        if not passed_over.match(key):
            with pytest.raises(PretrainedError, match="lacks|holds no"):
                from_state({name: value for name, value in whole.items() if name != key}, "made")
            changed = torch.zeros(*whole[key].shape, 2) if whole[key].numel() > 1 else torch.zeros(2)
            with pytest.raises(PretrainedError, match=r"instead of|lacks|numbers of channels"):
                from_state({**whole, key: changed}, "made")
    more = "synthesis.b32.skip.weight" if layout == "nvidia" else "convs.1.conv.skip"
    with pytest.raises(PretrainedError, match=f"has besides 1 tensors \\({re.escape(more)}\\)"):
        from_state({**whole, more: torch.zeros(3)}, "made")


def test_another_network_is_refused() -> None:
    with pytest.raises(PretrainedError, match="no generator of StyleGAN2"):
        from_state({"synthesis.input.freqs": torch.zeros(3, 2), "synthesis.L0_36_512.weight": torch.zeros(3)}, "made")
    small = {key: value for key, value in rosinality().items() if not re.match(r"(convs\.[2345]|to_rgbs\.[12])\.", key)}
    with pytest.raises(PretrainedError, match="32 are the least"):
        from_state(small, "made")


def checkpoint(folder: Path) -> Path:
    torch.save({"g_ema": rosinality()}, folder / "net.pt")
    return folder / "net.pt"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_engines_give_autograds_products(precision: Any, tmp_path: Path) -> None:
    base, main = export("stylegan", checkpoint(tmp_path), tmp_path / "made", Options(precision=precision, licence="test"))
    assert (base.name, main.name) == ("stylegan-base", "stylegan")
    assert [spec.name for spec in base.outputs] == ["feature", "rgb"]
    assert {spec.name for spec in main.inputs} == {"feature", "rgb", "w_plus", "image_cotangent"}
    assert {spec.name for spec in main.outputs} == {"loss", "image", "grad_feature", "grad_w_plus"}
    assert main.metadata["size"] == SIZE
    for manifest in (base, main):
        worst, cosine = manifest.parity["relative_error"], manifest.parity["cosine"]
        assert (worst < 1e-3 and cosine > 0.9999) if precision == "fp32" else cosine > 0.995


def test_base_and_synthesis_in_onnx_are_the_literal_image(tmp_path: Path) -> None:
    """The two graphs one after the other, and a finite difference along the gradient."""
    path = checkpoint(tmp_path)
    export("stylegan", path, tmp_path / "made", Options())
    state = torch.load(path, weights_only=True)["g_ema"]
    w_plus, cotangent = torch.randn(1, LAYERS, STYLE), torch.randn(1, 3, SIZE, SIZE)
    begun = run_onnx(tmp_path / "made/stylegan-base/model.onnx", {"w_plus": w_plus.numpy()}, 1)
    feeds = {**begun, "w_plus": w_plus.numpy(), "image_cotangent": cotangent.numpy()}
    found = run_onnx(tmp_path / "made/stylegan/model.onnx", feeds, 1)
    np.testing.assert_allclose(found["image"], (literal(state, w_plus) * 0.5 + 0.5).numpy(), atol=1e-4)
    assert found["loss"][0] == pytest.approx(float((torch.from_numpy(found["image"]) * cotangent).sum()), rel=1e-3, abs=1e-2)
    net = read_stylegan(path)[0].double()
    assert not found["grad_w_plus"][0, :4].any()
    for name in ("feature", "w_plus"):
        given = {key: torch.from_numpy(feeds[key]).double() for key in ("feature", "rgb", "w_plus")}
        way = torch.from_numpy(found[f"grad_{name}"]).double()
        step = 1e-6 * way / way.norm()
        ends = [(net.synthesis(**{**given, name: given[name] + sign * step}) * cotangent).sum() for sign in (-1, 1)]
        assert float((ends[1] - ends[0]) / 2e-6) == pytest.approx(float(way.norm()), rel=1e-3)


def test_forward_only_has_no_gradients(tmp_path: Path) -> None:
    _, main = export("stylegan", checkpoint(tmp_path), tmp_path / "made", Options(forward_only=True))
    assert [spec.name for spec in main.outputs] == ["image"]
    assert json.loads((tmp_path / "made/stylegan/manifest.json").read_text()).get("gradient", {}) == {}


@pytest.mark.parametrize(("size", "layers"), [(256, 14), (512, 16), (1024, 18)])
def test_shapes_and_counts_of_the_published_sizes(size: int, layers: int) -> None:
    """On the meta device. The paper gives 30 million at 1024 px, of which the mapping network's eight layers have 2.1."""
    config = config_f(size)
    with torch.device("meta"):
        net = StyleGan2(config)
        feature, rgb = net.base(torch.empty(1, layers, 512))
        image = net.synthesis(feature, rgb, torch.empty(1, layers, 512))
    assert (config.layers, image.shape) == (layers, (1, 3, size, size))
    assert (feature.shape, rgb.shape) == ((1, 512, 16, 16), (1, 3, 8, 8))
    count = sum(parameter.numel() for parameter in net.parameters())
    expected, before = 512 * 16, 0
    for side, width in zip(config.sides, config.channels, strict=True):
        assert width == {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}[side]
        for inputs in [width] if side == 4 else [before, width]:
            expected += 9 * inputs * width + width + 513 * inputs
        expected, before = expected + 3 * width + 3 + 513 * width, width
    assert count == expected
    if size == 1024:
        strengths, mapping = layers - 1, 8 * (512 * 512 + 512)
        assert 28.2e6 < count + strengths < 28.4e6
        assert count + strengths + mapping == 30_370_060

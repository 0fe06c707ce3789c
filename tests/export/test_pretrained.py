"""Checkpoints as people have them, made small: what is read, what the engines agree with, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel

from faceprotect_engines.backends import tensorrt
from faceprotect_engines.store import Store
from faceprotect_export.build.parity import compare
from faceprotect_export.modules.diffusion import CatchingAttention
from faceprotect_export.pretrained import kinds
from faceprotect_export.pretrained.common import Options, PretrainedError
from faceprotect_export.pretrained.diffusion import read_diffusers
from faceprotect_sdk.cli.main import main

SMALL = Options(size=64)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as diffusers saves a pipeline's networks, of the classes of Stable Diffusion."""
    folder = tmp_path_factory.mktemp("sd")
    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=48,
        attention_head_dim=4,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
    ).save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taesd")
    torch.manual_seed(0)
    AutoencoderTiny(encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 100, "eos_token_id": 2}
    config = CLIPConfig(text_config=text, vision_config={**tower, "image_size": 32, "patch_size": 8}, projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "where", "names", "variables"),
    [
        ("unet", "pipeline", ["unet"], ["latent", "embedding"]),
        ("vae", "pipeline", ["vae-encoder", "vae-decoder"], ["latent"]),
        ("taesd", "tiny", ["taesd-encoder", "taesd-decoder"], ["latent"]),
        ("clip", "clip", ["clip-image"], ["image"]),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_last_engine_of_each_kind_brings_its_gradients(
    kind: str, where: str, names: list[str], variables: list[str], precision: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made = kinds.export(kind, request.getfixturevalue(where), tmp_path / "out", Options(64, precision))
    assert [manifest.name for manifest in made] == names
    last = made[-1]
    assert last.gradient["variables"] == variables
    gradients = [last.parity["outputs"][f"grad_{name}"] for name in variables]
    assert all(one["cosine"] > (0.9999 if precision == "fp32" else 0.995) and one["reference_max"] > 0 for one in gradients)
    folder = tmp_path / "out" if len(names) == 1 else tmp_path / "out" / names[-1]
    Store([]).verify(folder)
    assert last.source["licence"].startswith("unknown")


def test_forward_only_takes_no_cotangents(pipeline: Path, tmp_path: Path) -> None:
    (made,) = kinds.export("unet", pipeline, tmp_path / "out", Options(64, forward_only=True))
    assert not made.gradient
    assert [tensor.name for tensor in made.inputs] == ["latent", "time", "embedding"]
    assert [tensor.name for tensor in made.outputs] == ["noise", "attention"]


def test_a_unet_gives_what_diffusers_gives(pipeline: Path, tmp_path: Path) -> None:
    kinds.export("unet", pipeline, tmp_path / "out", SMALL)
    net = UNet2DConditionModel.from_pretrained(pipeline / "unet", low_cpu_mem_usage=False).eval()
    rng = np.random.default_rng(0)
    with Store([]).open(tmp_path / "out") as engine:
        feeds = {one.name: np.asarray(rng.standard_normal(one.zeros().shape), np.float32) for one in engine.spec.inputs}
        feeds["time"] = np.array([321.0], np.float32)
        found = engine.run(feeds)
        again = engine.run({**feeds, "noise_cotangent": 1e-4 * feeds["noise_cotangent"], "structure_cotangent": np.zeros(1, np.float32)})
        large = engine.run({**feeds, "structure_cotangent": np.zeros(1, np.float32)})
    with torch.no_grad():
        expected = net(torch.from_numpy(feeds["latent"]), torch.tensor([321.0]), torch.from_numpy(feeds["embedding"])).sample.numpy()
    assert compare(expected, found["noise"]).relative_error < 1e-4
    assert compare(1e-4 * large["grad_latent"], again["grad_latent"]).relative_error < 1e-4
    catching = CatchingAttention()
    net.set_attn_processor(catching)
    with torch.no_grad():
        net(torch.from_numpy(feeds["latent"]), torch.tensor([321.0]), torch.from_numpy(feeds["embedding"]))
    maps = np.concatenate([one.numpy().ravel() for one in catching.maps])
    assert maps.size > 0 and compare(maps, found["attention"]).relative_error < 1e-4


def test_half_precision_keeps_small_cotangents(pipeline: Path, tmp_path: Path) -> None:
    kinds.export("vae", pipeline, tmp_path / "out", Options(64, "fp16"))
    kinds.export("vae", pipeline, tmp_path / "exact", SMALL)
    rng = np.random.default_rng(0)
    small = {"latent": rng.standard_normal((1, 4, 8, 8)).astype(np.float32)}
    small["image_cotangent"] = (1e-7 * rng.standard_normal((1, 3, 64, 64))).astype(np.float32)
    grads = []
    for name in ("out", "exact"):
        with Store([]).open(tmp_path / name / "vae-decoder") as engine:
            grads.append(engine.run(small)["grad_latent"])
    assert compare(grads[1], grads[0]).cosine > 0.999


def _damaged(pipeline: Path, folder: Path) -> Path:
    """A copy of the autoencoder that may be spoilt."""
    folder.mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (folder / name).write_bytes((pipeline / "vae" / name).read_bytes())
    return folder


def test_what_does_not_fit_is_refused_by_name(pipeline: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = _damaged(pipeline, tmp_path / "vae")
    weights = source / "diffusion_pytorch_model.safetensors"
    whole = load_file(weights)
    whole = {key: value.clone() for key, value in whole.items()}
    save_file({key: value for key, value in whole.items() if key != "decoder.conv_in.weight"}, weights)
    with pytest.raises(PretrainedError, match=r"missing keys: decoder\.conv_in\.weight"):
        read_diffusers(AutoencoderKL, source, ("vae",))
    save_file({**whole, "another.weight": torch.zeros(2)}, weights)
    with pytest.raises(PretrainedError, match=r"unexpected keys: another\.weight"):
        read_diffusers(AutoencoderKL, source, ("vae",))
    save_file({**whole, "decoder.conv_in.weight": torch.zeros(1, 2, 3, 3)}, weights)
    with pytest.raises(PretrainedError, match=r"decoder\.conv_in\.weight"):
        read_diffusers(AutoencoderKL, source, ("vae",))


@pytest.mark.parametrize("spoil", ["truncated", "config", "pickle"])
def test_the_command_line_leaves_nothing_of_a_failed_export(
    spoil: str, pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _damaged(pipeline, tmp_path / "vae")
    weights = source / "diffusion_pytorch_model.safetensors"
    if spoil == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif spoil == "config":
        (source / "config.json").write_text("{")
    else:
        weights.rename(source / "diffusion_pytorch_model.bin")
    assert main(["export", "vae", str(source), "-o", str(tmp_path / "out")]) == 5
    assert str(source) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["vae"]


def test_a_full_disk_is_said_and_leaves_nothing(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("faceprotect_export.build.folder.write", full)
    assert main(["export", "taesd", str(tiny), "-o", str(tmp_path / "out")]) == 5
    assert "No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the engines as they are begun; the user interrupts the second."""
    build, names = kinds.build_engine, list[str]()

    def interrupted(recipe: Any, folder: Path) -> Any:
        names.append(recipe.name)
        if len(names) == 2:
            raise KeyboardInterrupt
        return build(recipe, folder)

    monkeypatch.setattr(kinds, "build_engine", interrupted)
    return names


def test_an_interrupted_export_goes_on_where_it_was(tiny: Path, tmp_path: Path, built: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        kinds.export("taesd", tiny, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()
    kinds.export("taesd", tiny, tmp_path / "out", SMALL)
    assert built == ["taesd-encoder", "taesd-decoder", "taesd-decoder"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["taesd-decoder", "taesd-encoder"]


def test_export_from_the_command_line(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", "taesd", str(tiny), "-o", str(out), "--forward-only", "--licence", "MIT"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["engine"] for line in lines] == ["taesd-encoder", "taesd-decoder"]
    assert Store([out]).manifest("taesd-decoder").source["licence"] == "MIT"
    assert main(["export", "taesd", str(tiny), "-o", str(out)]) == 2


def test_a_plan_is_made_with_the_engines_and_without_a_gpu_nothing_is(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["export", "taesd", str(tiny), "-o", str(tmp_path / "out"), "--forward-only", "--device-plan"]
    assert main(command) == 5
    assert re.search(r"pip install|doctor", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(tensorrt, "ready_device", lambda: "cpu")
    assert main(command) == 0
    plans = [json.loads(line) for line in capsys.readouterr().out.splitlines()][2:]
    assert [(plan["engine"], plan["device"]) for plan in plans] == [("taesd-encoder", "cpu"), ("taesd-decoder", "cpu")]


def test_an_interrupted_export_of_other_weights_begins_anew(tiny: Path, tmp_path: Path, built: list[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in tiny.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    with pytest.raises(KeyboardInterrupt):
        kinds.export("taesd", source, tmp_path / "out", SMALL)
    torch.manual_seed(1)
    AutoencoderTiny(encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4).save_pretrained(source)
    kinds.export("taesd", source, tmp_path / "out", SMALL)
    assert built == ["taesd-encoder", "taesd-decoder", "taesd-encoder", "taesd-decoder"]

"""The published makeup on networks of others: a DDPM of diffusers and a CLIP of transformers, made small here."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from export_tools import save_tokenizer
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from faceprotect_engines.recipes.recipe import load_recipe, run_recipe
from faceprotect_engines.store import ZOO, Store
from faceprotect_export.makeup import own_look as makeup_export
from faceprotect_export.makeup.ddim import read_ddpm
from faceprotect_export.makeup.reference import shipped_reference
from faceprotect_export.modules.makeup import Ddim
from faceprotect_export.pretrained.common import PretrainedError
from faceprotect_export.train.makeup_stages import generated
from faceprotect_export.train.makeup_transfer import TransferSettings
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.pool import EnginePool

WEIGHTS = Path(__file__).parents[2] / "weights"


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddpm")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = UNet2DModel(sample_size=256, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, add_attention=False, **blocks)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**tower, "vocab_size": save_tokenizer(folder), "eos_token_id": 2}
    config = CLIPConfig(text_config=text, vision_config={**tower, "image_size": 32, "patch_size": 8}, projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_a_ddpm_of_pixels_inverts_and_gives_back(ddpm: Path) -> None:
    generator = Ddim(read_ddpm(ddpm), 60, 6, 6)
    image = torch.from_numpy(np.asarray(Image.open(ZOO / "decoys" / "4.png").convert("RGB"), np.float32)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        moved, plain = generator(image)
    torch.testing.assert_close(plain, image, atol=1e-6, rtol=0)
    assert float((moved - image).abs().mean()) < 0.1  # an untrained denoiser: near, and no more


def test_a_look_is_tuned_into_a_ddpm(
    ddpm: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`map` stages only, which say what torch does."""
    monkeypatch.setattr(makeup_export, "TransferSettings", partial(TransferSettings, inversions=2, generations=2))
    reference, out, crops = tmp_path / "rose.png", tmp_path / "look", tmp_path / "crops.npy"
    image = shipped_reference("rose", Sources(WEIGHTS, ()).keypoints()).image
    Image.fromarray((image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(reference)
    np.save(crops, np.stack([np.asarray(Image.open(ZOO / "decoys" / f"{k}.png").convert("RGB")) for k in (1, 4)]))
    given = ["export", "makeup", "--reference", str(reference), "-o", str(out), "--weights", str(WEIGHTS), "--faces", str(crops)]
    given += ["--steps", "2", "--generator", str(ddpm), "--clip", str(clip)]
    assert main([*given, "--goal", "decoy"]) == 5
    tuned: list[Ddim] = []
    train = makeup_export.train_transfer

    def kept(*words: object, **named: object) -> object:
        generator, facts = train(*words, **named)  # type: ignore[arg-type]
        tuned.append(generator)
        return generator, facts

    monkeypatch.setattr(makeup_export, "train_transfer", kept)
    assert main([*given, "--caption", "anything that CLIP can read"]) == 0
    recipe = load_recipe(out / "recipes" / "makeup.json")
    assert {stage["kind"] for stage in recipe["stages"]} == {"map"}
    assert [stage["engine"] for stage in recipe["stages"]] == [
        "makeup-encode",
        "makeup-invert",
        "makeup-invert",
        "makeup-generate",
        "makeup-generate",
        "makeup",
    ]
    face = torch.from_numpy(np.load(crops)[0]).permute(2, 0, 1)[None].float() / 255
    pool = EnginePool(Store([out, ZOO]), "cpu")
    arrays = {"original": face.numpy(), "mask": face_mask()}
    found = run_recipe(recipe, pool, arrays, seed=0).arrays["difference"]
    pool.close()
    with torch.no_grad():
        expected = generated(tuned[0], face, Sources(WEIGHTS, ()).keypoints()) - face
    assert float(expected.abs().max()) > 1e-3
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)
    capsys.readouterr()
    assert json.loads((out / "makeup" / "manifest.json").read_text())["metadata"]["looks"] == ["rose"]


@pytest.mark.parametrize(("change", "said"), [({"sample_size": 64}, "at 64 pixels"), ({"prediction_type": "sample"}, "predicts sample")])
def test_other_ddpms_are_refused(ddpm: Path, change: dict[str, object], said: str, tmp_path: Path) -> None:
    pipeline = DDPMPipeline.from_pretrained(ddpm)
    (pipeline.unet if "sample_size" in change else pipeline.scheduler).register_to_config(**change)
    pipeline.save_pretrained(tmp_path / "other")
    with pytest.raises(PretrainedError, match=said):
        read_ddpm(tmp_path / "other")
    with pytest.raises(PretrainedError, match="no DDPM"):
        read_ddpm(tmp_path / "nothing")

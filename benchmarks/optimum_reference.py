"""In the environment of optimum: a Stable Diffusion and a CLIP with random weights are made, exported by optimum-onnx, and run.

    optimum-environment/bin/python benchmarks/optimum_reference.py FOLDER

``optimum_parity.py`` starts this. It imports nothing of the project, whose diffusers is too new for optimum-onnx 0.1.0. FOLDER gets
``pipeline`` and ``clip`` (weights), ``onnx-pipeline`` and ``onnx-clip`` (exports), ``arrays.npz`` (inputs, and outputs of optimum's own
pipeline and of torch) and ``facts.json``.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from optimum.exporters.onnx import main_export
from optimum.onnxruntime import ORTModelForZeroShotImageClassification, ORTStableDiffusionPipeline
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

#: Sides of the image and the latent; tokens and width of the embedding.
SIZE, SIDE, TOKENS, WIDTH = 256, 32, 77, 192
#: What CLIP is fed: RGB in 0..1 less the mean, over the standard deviation (Radford et al. 2021, released code).
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PACKAGES = ("optimum", "optimum-onnx", "diffusers", "transformers", "torch", "onnx", "onnxruntime")


def tokenizer(folder: Path) -> CLIPTokenizer:
    """Of a few letters: nothing here is read."""
    folder.mkdir()
    words = ["<|startoftext|>", "<|endoftext|>", *"abc", *(f"{letter}</w>" for letter in "abc")]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TOKENS)


def clip_model() -> CLIPModel:
    """ViT with a quarter of the width and half of the layers of ViT-B/16."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 6, "num_attention_heads": 3}
    text = {**tower, "vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "max_position_embeddings": TOKENS}
    image = {**tower, "image_size": SIZE, "patch_size": 16}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=WIDTH)).eval()


def pipeline(folder: Path, text: CLIPTextModel) -> StableDiffusionPipeline:
    """A fifth of the channels and heads of Stable Diffusion 2's UNet, a quarter of its autoencoder's channels."""
    unet = UNet2DConditionModel(
        sample_size=SIDE,
        block_out_channels=(64, 128, 256, 256),
        layers_per_block=2,
        cross_attention_dim=WIDTH,
        attention_head_dim=(1, 2, 4, 4),
        use_linear_projection=True,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=2,
        latent_channels=4,
        sample_size=SIZE,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text,
        tokenizer=tokenizer(folder),
        unet=unet.eval(),
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def inputs() -> dict[str, torch.Tensor]:
    """What every network is fed: an image in 0..1, a latent, a time step, an embedding."""
    random = torch.Generator().manual_seed(1)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 16, generator=random), (SIZE, SIZE), mode="bilinear")
    latent = torch.randn(1, 4, SIDE, SIDE, generator=random)
    embedding = 0.5 * torch.randn(1, TOKENS, WIDTH, generator=random)
    mean, std = (torch.tensor(value).reshape(1, 3, 1, 1) for value in (MEAN, STD))
    return {"image": image, "latent": latent, "embedding": embedding, "pixel_values": (image - mean) / std, "time": torch.tensor(101)}


def run(networks: dict[str, Any], given: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Noise, posterior's mean, decoded image and CLIP's unit embedding, whoever computes them."""
    tokens = torch.tensor([[0, 2, 1]])
    with torch.no_grad():
        noise = networks["unet"](given["latent"], given["time"], encoder_hidden_states=given["embedding"], return_dict=False)[0]
        mean = networks["encode"](given["image"] * 2 - 1).latent_dist.mean
        decoded = networks["decode"](given["latent"], return_dict=False)[0]
        seen = networks["clip"](pixel_values=given["pixel_values"], input_ids=tokens, attention_mask=torch.ones_like(tokens)).image_embeds
    found = {"unet": noise, "vae-encoder": mean, "vae-decoder": decoded, "clip-image": torch.nn.functional.normalize(seen, dim=1)}
    return {name: tensor.numpy() for name, tensor in found.items()}


def main(folder: Path) -> None:
    """Everything, once."""
    torch.manual_seed(0)
    clip = clip_model()
    text = CLIPTextModel(clip.config.text_config).eval()
    pipe = pipeline(folder / "tokenizer", text)
    pipe.save_pretrained(folder / "pipeline")
    clip.save_pretrained(folder / "clip")
    pipe.tokenizer.save_pretrained(folder / "clip")
    given = inputs()
    torch_own = {"unet": pipe.unet, "encode": pipe.vae.encode, "decode": pipe.vae.decode, "clip": clip}
    arrays = {f"torch:{name}": array for name, array in run(torch_own, given).items()}
    seconds = {}
    for name, task in {"pipeline": "text-to-image", "clip": "zero-shot-image-classification"}.items():
        began = time.perf_counter()
        main_export(str(folder / name), folder / f"onnx-{name}", task=task, local_files_only=True, do_validation=False)
        seconds[name] = round(time.perf_counter() - began, 1)
    ort = ORTStableDiffusionPipeline.from_pretrained(folder / "onnx-pipeline")
    seen = ORTModelForZeroShotImageClassification.from_pretrained(folder / "onnx-clip")
    networks = {"unet": ort.unet, "encode": ort.vae_encoder, "decode": ort.vae_decoder, "clip": seen}
    arrays |= {f"optimum:{name}": array for name, array in run(networks, given).items()}
    np.savez(folder / "arrays.npz", **{name: tensor.numpy() for name, tensor in given.items()}, **arrays)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    (folder / "facts.json").write_text(json.dumps({"versions": versions, "export_seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

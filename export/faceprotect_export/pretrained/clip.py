"""CLIP as transformers saves it: the image tower with the gradient of a direction or a similarity, texts embedded once into a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from faceprotect_export.build.folder import EngineRecipe
from faceprotect_export.pretrained.common import Options, PretrainedError, brief, engine, origin, per_cotangent, refuse_differences
from faceprotect_sdk.face.align import CROP

#: What CLIP was trained to see: mean and standard deviation of RGB in 0..1 (Radford et al. 2021, released code).
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TEXTS = "texts.npz"


class ClipImage(nn.Module):
    """RGB image [1, 3, S, S] in 0..1 of any size, resized as two matrix products, to a unit embedding [1, E]."""

    rows: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, size: int) -> None:
        """``model``: CLIPModel or CLIPVisionModelWithProjection of transformers; ``size``: S."""
        super().__init__()
        self.model = model
        side = model.config.vision_config.image_size if hasattr(model.config, "vision_config") else model.config.image_size
        self.register_buffer("rows", resizing(size, side))
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        seen = (self.rows @ image @ self.rows.T - self.mean) / self.std
        pooled = self.model.vision_model(pixel_values=seen).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=1)


class ClipLink(nn.Module):
    """``embedding``, and ``loss`` = <embedding, embedding_cotangent>, whose gradient to ``image`` is the vector-Jacobian product.

    With a text's embedding as cotangent the loss is their cosine.
    """

    def __init__(self, tower: ClipImage) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, image: Tensor, embedding_cotangent: Tensor) -> dict[str, Tensor]:
        embedding = self.tower(image)
        return {"loss": (embedding * embedding_cotangent).sum().reshape(1), "embedding": embedding}


class _Forward(nn.Module):
    def __init__(self, tower: ClipImage) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"embedding": self.tower(image)}


def resizing(size: int, side: int) -> Tensor:
    """Matrix [side, size] that resizes by antialiased bicubic interpolation, as CLIP's photos were."""
    identity = torch.eye(size)[None, None]
    found = F.interpolate(identity, size=(side, size), mode="bicubic", antialias=side < size, align_corners=False)
    return found[0, 0].contiguous()


def clip(source: Path | str, options: Options) -> list[EngineRecipe]:
    """``clip-image``: unit embedding of an image, and its product with a cotangent."""
    return [clip_engine(read_clip(source), options, origin(source, options.licence))]


def clip_engine(model: Any, options: Options, source: dict[str, Any]) -> EngineRecipe:
    """The engine of a model that is already in memory."""
    tower = ClipImage(model, options.size)
    random = torch.Generator().manual_seed(0)
    image = F.interpolate(torch.rand(1, 3, 16, 16, generator=random), (options.size, options.size), mode="bilinear")
    sample = {"image": image}
    if not options.forward_only:
        sample["embedding_cotangent"] = F.normalize(torch.randn(1, model.config.projection_dim, generator=random), dim=1)
    describe: dict[str, dict[str, Any]] = {
        "image": {"layout": "NCHW", "color": "RGB", "range": (0.0, 1.0)},
        "embedding": {"description": "unit embedding"},
        "embedding_cotangent": {"range": (-0.1, 0.1), "description": "unit embedding of a text, or any other cotangent"},
    }
    return engine(
        "clip-image",
        "embedder",
        model,
        _Forward(tower) if options.forward_only else ClipLink(tower),
        sample,
        ("image",),
        options,
        source=source,
        describe=describe,
        command="faceprotect-sdk export clip SOURCE -o DIR",
        scale=per_cotangent("embedding_cotangent"),
        metadata={"embedding": model.config.projection_dim},
    )


def read_clip(source: Path | str) -> Any:
    """CLIPModel of a folder or hub's name, of safetensors only; raises PretrainedError."""
    try:
        from transformers import CLIPModel
    except ImportError as error:
        raise PretrainedError(f"CLIP needs transformers, which is missing: {error}; run: pip install 'faceprotect-sdk[export]'") from error
    try:
        model, found = CLIPModel.from_pretrained(
            str(source), use_safetensors=True, output_loading_info=True, local_files_only=Path(source).exists(), attn_implementation="eager"
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise PretrainedError(f"{source}: no CLIP can be read: {brief(error)}. Give a folder with safetensors") from error
    refuse_differences(found, source, "CLIPModel")
    return model.float().requires_grad_(False).eval()


class Clip(nn.Module):
    """Both towers of a CLIP of transformers: an ``ImageText`` (``looks/encoder.py``)."""

    def __init__(self, source: Path | str, size: int) -> None:
        """``source``: folder or hub's name; ``size``: side of the pictures. Raises PretrainedError, also without a tokenizer."""
        super().__init__()
        from transformers import CLIPTokenizerFast

        try:
            self.tokenizer = CLIPTokenizerFast.from_pretrained(str(source), local_files_only=Path(source).exists())
        except (OSError, ValueError) as error:
            raise PretrainedError(f"{source}: no tokenizer: {brief(error)}. Texts need one") from error
        self.model = read_clip(source)
        self.tower = ClipImage(self.model, size)

    def images(self, image: Tensor) -> Tensor:
        return self.tower(image)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        return F.normalize(self.model.text_projection(self.model.text_model(**tokens).pooler_output), dim=1)


def write_texts(source: Path | str, texts: list[str], path: Path) -> None:
    """Unit embeddings [N, E] of texts, with the texts, as .npz; raises PretrainedError where the tokenizer is not there."""
    np.savez(path, texts=np.array(texts), embeddings=Clip(source, CROP).texts(texts).numpy())

"""A compact encoder of made-up faces and captions: what CLIP is to the published method (DiffAM, arXiv 2405.09882).

Two towers into one space, trained contrastively (Radford et al. 2021, arXiv 2103.00020, fig. 3) on painted faces and their captions
(``train/looks.py``). It knows the words of the renderer and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_export.makeup.render import AMOUNTS, BLUSHES, FINISHES, LINERS, LIPSTICKS, SHADOWS

#: Every word that means something; the order is that of the embedding's rows.
WORDS = (
    "without",
    "makeup",
    "lipstick",
    "eyeshadow",
    "eyeliner",
    "blush",
    "brows",
    "filled",
    *FINISHES,
    *(word for word, _ in AMOUNTS if word),
    *sorted({*LIPSTICKS, *SHADOWS, *BLUSHES, *LINERS}),
)
#: Words that mean nothing by themselves.
_FILLING = {"a", "an", "the", "face", "person", "with", "and", "wearing", "of", "photo", "some"}
LENGTH, WIDTH, EMBEDDING, SIDE = 20, 64, 128, 128


class ImageText(Protocol):
    """An encoder of pictures and texts into one space, as CLIP is."""

    def images(self, image: Tensor) -> Tensor:
        """RGB pictures [N, 3, S, S] in 0..1 to unit embeddings [N, E]; differentiable."""
        ...

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings [N, E]; raises ValueError for a text that it cannot read."""
        ...


def words(text: str) -> tuple[list[int], list[str]]:
    """Numbers (from 1) of the known words of a caption in their order, and the words that are not known."""
    found = [word for word in re.findall(r"[a-z]+", text.lower()) if word not in _FILLING]
    return [WORDS.index(word) + 1 for word in found if word in WORDS][:LENGTH], [word for word in found if word not in WORDS]


def _conv(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class LookEncoder(nn.Module):
    """Both towers; see :class:`ImageText`. Pictures have sides of a multiple of 128 and show an aligned face."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.image = nn.Sequential(
            *_conv(3, width, 2),
            *_conv(width, 2 * width, 1),
            *_conv(2 * width, 3 * width, 2),
            *_conv(3 * width, 3 * width, 1),
            *_conv(3 * width, 4 * width, 2),
            *_conv(4 * width, 4 * width, 1),
            *_conv(4 * width, 2 * width, 2),
            nn.Flatten(),
            nn.Linear(2 * width * 64, EMBEDDING),
        )
        self.word = nn.Embedding(len(WORDS) + 1, WIDTH, padding_idx=0)
        self.place = nn.Parameter(0.02 * torch.randn(1, LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.text = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.said = nn.Linear(WIDTH, EMBEDDING)
        self.sharpness = nn.Parameter(torch.tensor(2.3))

    def images(self, image: Tensor) -> Tensor:
        factor = image.shape[-1] // SIDE
        small = F.avg_pool2d(image, factor) if factor > 1 else image
        return F.normalize(self.image(small * 2 - 1).float(), dim=1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        rows = []
        for text in texts:
            known, _ = words(text)
            if not known:
                raise ValueError(f"caption '{text}': none of its words is known; use some of: {', '.join(WORDS)}")
            rows.append(known + [0] * (LENGTH - len(known)))
        tokens = torch.tensor(rows)
        padding = tokens == 0
        found = self.text(self.word(tokens) + self.place, src_key_padding_mask=padding)
        kept = (~padding)[:, :, None].float()
        return F.normalize(self.said((found * kept).sum(1) / kept.sum(1)), dim=1)

    def forward(self, image: Tensor, texts: Sequence[str]) -> Tensor:
        """Logits [N, M] of pictures and texts."""
        return self.sharpness.exp().clamp(max=100) * self.images(image) @ self.texts(texts).T


def read_looks(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> LookEncoder:
    """The trained encoder from a checkpoint (``train/looks.py``)."""
    if tuple(facts["words"]) != WORDS:
        raise ValueError("the encoder of looks was trained on other words: train it again (faceprotect_export.train.looks)")
    model = LookEncoder()
    model.load_state_dict(dict(tensors))
    return model.requires_grad_(False).eval()

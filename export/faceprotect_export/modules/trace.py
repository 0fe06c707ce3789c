"""The network that tells whether a face has been protected: what searches leave in a photo, whoever looks at it.

It looks at what is finer than 8 px of the canonical crop, where searches leave their pattern: convolutions with strides, an average over
the face, one number. It was trained by ``train/trace.py``; ``weights/README.md`` says how often it errs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_sdk.mask import face_mask

#: Channels after each stride of two.
WIDTHS = (16, 32, 48, 64)
#: What is taken away is the crop at so many times the pixel; what is left is made so many times as large.
_COARSE, _GAIN = 8, 8.0


class Trace(nn.Module):
    """Canonical crops [N, 3, 256, 256] RGB 0..1 to log odds [N] that they have been protected."""

    inside: Tensor

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        """``widths``: channels after each stride of two."""
        super().__init__()
        self.widths = widths
        sizes = [3, *widths]
        self.steps = nn.ModuleList(nn.Conv2d(before, after, 3, 2, 1) for before, after in zip(sizes, widths, strict=False))
        self.between = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1) for width in widths[1:])
        self.head = nn.Linear(2 * widths[-1], 1)
        mask = torch.from_numpy(face_mask())
        self.register_buffer("inside", F.avg_pool2d(mask, 2 ** len(widths)), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        """Log odds [N]."""
        smooth = F.interpolate(F.avg_pool2d(crops, _COARSE), scale_factor=float(_COARSE), mode="bilinear", align_corners=False)
        found = _GAIN * (crops - smooth)
        for number, step in enumerate(self.steps):
            found = F.relu(step(found))
            if number:
                found = found + F.relu(self.between[number - 1](found))
        mean = (found * self.inside).sum((2, 3)) / self.inside.sum()
        spread = (found.square() * self.inside).sum((2, 3)) / self.inside.sum()
        return self.head(torch.cat([mean, (spread + 1e-4).sqrt()], 1)).flatten()


def read_trace(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Trace:
    """The network of a checkpoint."""
    trace = Trace(tuple(metadata["config"]["widths"]))
    trace.load_state_dict(dict(tensors))
    return trace.eval()

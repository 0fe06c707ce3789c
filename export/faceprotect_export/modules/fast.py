"""The one-pass student: what a search would find, guessed from the crop alone.

Its network is that of the denoiser (``modules/diffusion.py``), asked once, at one time step, of the latent as it is; where the denoiser
gives noise, the student gives the offset of the latent. How far to go (``budget``), where to (``goal``) and from whom (``embedding``, in
the eyes of a surrogate that ships) reach it as the denoiser's prompt would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from faceprotect_export.modules.autoencoder import Autoencoder
from faceprotect_export.modules.diffusion import DiffusionConfig, LatentDiffusion, build_unet
from faceprotect_export.objectives.search import combine

#: The time step that the denoiser is asked at: so little noise that a clean latent is not strange to it.
TIME = 51
#: The budget at which the amplitude is the network's own.
BUDGET = 0.00036
#: Of an offset before training, in units of the latent: a quarter of the budget, for at the photo itself there is no gradient.
AMPLITUDE = 0.3


class Fast(nn.Module):
    """Latent [N, C, h, w], unit ``embedding`` [N, E], ``budget`` [N], ``goal`` [N, G] (one of them 1) to an offset of the latent."""

    def __init__(self, config: DiffusionConfig, goals: Sequence[str], scaling: float, embedding: int) -> None:
        super().__init__()
        self.config, self.goals, self.scaling, self.embedding = config, tuple(goals), scaling, embedding
        self.unet = build_unet(config)
        self.empty = nn.Parameter(torch.zeros(1, config.tokens, config.token_width))
        self.goal = nn.Parameter(torch.zeros(len(goals), config.tokens, config.token_width))
        self.farther = nn.Parameter(torch.zeros(1, config.tokens, config.token_width))
        self.amplitude = nn.Parameter(torch.full((1, config.latent, 1, 1), AMPLITUDE))
        first, last = nn.Linear(embedding, 128), nn.Linear(128, config.tokens * config.token_width)
        self.person = nn.Sequential(first, nn.SiLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def start_from(self, denoiser: LatentDiffusion) -> None:
        """Take over the denoiser's weights."""
        self.unet.load_state_dict(denoiser.unet.state_dict())
        with torch.no_grad():
            self.empty.copy_(denoiser.empty)
            self.goal.normal_(std=0.02)

    def prompt(self, embedding: Tensor, budget: Tensor, goal: Tensor) -> Tensor:
        """What the network is told of person, budget and goal [N, tokens, width]."""
        size = (torch.log(budget / BUDGET) / math.log(2)).reshape(-1, 1, 1)
        goals, tokens, width = self.goal.shape
        prompt = self.empty + (goal @ self.goal.reshape(goals, -1)).reshape(-1, tokens, width) + size * self.farther
        return prompt + self.person(embedding * self.embedding**0.5).reshape(-1, tokens, width)

    def forward(self, latent: Tensor, embedding: Tensor, budget: Tensor, goal: Tensor) -> Tensor:
        return self.offset(latent, self.prompt(embedding, budget, goal), budget)

    def offset(self, latent: Tensor, prompt: Tensor, budget: Tensor) -> Tensor:
        """The offset [N, C, h, w] for a prompt."""
        found = self.unet(latent * self.scaling, latent.new_full((1,), TIME), prompt, return_dict=False)[0]
        return (budget / BUDGET).sqrt().reshape(-1, 1, 1, 1) * self.amplitude * found


class FastProtect(nn.Module):
    """What the engine is: crop in, ``difference`` out. ``surrogate``: whose embedding the student is told.

    Beside it the ``offset`` of the ``latent`` and the plain decoding ``decoded_original``: where a search goes on from.
    """

    def __init__(self, autoencoder: Autoencoder, surrogate: nn.Module, fast: Fast) -> None:
        super().__init__()
        self.autoencoder, self.surrogate, self.fast = autoencoder, surrogate, fast

    def forward(self, original: Tensor, mask: Tensor, budget: Tensor, goal: Tensor) -> dict[str, Tensor]:
        """Original [1, 3, S, S] RGB 0..1, mask [1, 1, S, S], budget [1], goal [1, G]."""
        latent = self.autoencoder.encoder(original)
        offset = self.fast(latent, self.surrogate(original), budget, goal)
        plain, moved = self.autoencoder.decoder(torch.cat([latent, latent + offset])).chunk(2)
        image = combine(moved, plain, original, mask)
        return {"difference": image - original, "offset": offset, "latent": latent, "decoded_original": plain}


def read_fast(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Fast:
    """A trained student from a checkpoint's tensors and metadata (``train/fast.py``)."""
    config = DiffusionConfig.read(facts["config"])
    model = Fast(config, facts["goals"], facts["scaling"], facts["embedding"])
    model.load_state_dict(dict(tensors))
    return model.requires_grad_(False).eval()

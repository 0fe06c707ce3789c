"""The published diffusion method in its literal form, in plain torch, with the work that its code does twice or for nothing.

"Enhancing Facial Privacy Protection via Weakening Diffusion Purification" (CVPR 2025, arXiv 2503.10350). Nothing of the lean form is used
here but the model: the schedule is that of diffusers' scheduler, and the attention maps come from a processor of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor

from faceprotect_export.modules.diffusion import LatentDiffusion

GRID, START = 20, 3
NULL_TEXT, NULL_TEXT_RATE = 20, 0.1
SEARCH, SEARCH_RATE, ADVERSARIAL = 35, 0.01, 0.003


class MapProcessor:
    """Attention by diffusers' own scores; self-attention's are kept."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (attn.head_to_batch_dim(x) for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)))
        scores = attn.get_attention_scores(query, key)
        if encoder_hidden_states is None:
            self.maps.append(scores)
        hidden = attn.batch_to_head_dim(torch.bmm(scores, value))
        for layer in attn.to_out:
            hidden = layer(hidden)
        return hidden


@dataclass
class Literal:
    """What a run leaves: the image [1, 3, S, S], the latent that was found, and the losses per iteration of both stages."""

    image: Tensor
    latent: Tensor
    null_text: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    structure: list[float] = field(default_factory=list)


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's, on the published grid of 20 steps."""
    made = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    made.set_timesteps(GRID)
    return made


def weaken(
    photo: Tensor, model: LatentDiffusion, adversarial: Callable[[Tensor], Tensor], null_text: int = NULL_TEXT, search: int = SEARCH
) -> Literal:
    """The protected image of ``photo`` [1, 3, S, S], RGB 0..1.

    ``adversarial``: of images [1, 3, S, S], the sum over surrogates of 1 - cos to the target (or of the dodging variant).
    ``null_text``, ``search``: iterations, fewer for small tests. The code draws from the posterior; here it is its mean, so that two runs
    agree.
    """
    unet, plan = model.unet, scheduler()
    kept = unet.attn_processors
    caught = MapProcessor()
    unet.set_attn_processor(caught)
    try:
        return _weaken(photo, model, adversarial, plan, caught, null_text, search)
    finally:
        unet.set_attn_processor(kept)


def _weaken(
    photo: Tensor,
    model: LatentDiffusion,
    adversarial: Callable[[Tensor], Tensor],
    plan: DDIMScheduler,
    caught: MapProcessor,
    null_text: int,
    search: int,
) -> Literal:
    unet, codec, empty = model.unet, model.codec, model.empty
    shares = plan.alphas_cumprod.double()

    def noise_of(latents: Tensor, time: int, embedding: Tensor) -> Tensor:
        caught.maps.clear()
        return unet(latents, time, encoder_hidden_states=embedding.expand(len(latents), -1, -1)).sample  # type: ignore[no-any-return]

    with torch.no_grad():
        latents = [codec.encode(photo)]  # type: ignore[operator]
        for time in reversed(plan.timesteps.tolist()[1:]):  # all 19, of which three are used
            share, following = shares[time], shares[time + 1000 // GRID]
            noise = noise_of(latents[-1], time, empty)
            clean = (latents[-1] - (1 - share).sqrt().float() * noise) / share.sqrt().float()
            latents.append(following.sqrt().float() * clean + (1 - following).sqrt().float() * noise)
    times = plan.timesteps.tolist()[-START:]
    result = Literal(photo, latents[START])

    embedding, embeddings, latent = empty.clone(), [], latents[START]
    for number, time in enumerate(times):
        embedding = embedding.detach().clone().requires_grad_()
        optimiser = torch.optim.AdamW([embedding], NULL_TEXT_RATE, weight_decay=0.01)
        for _ in range(null_text):
            made = plan.step(noise_of(latent, time, embedding), time, latent).prev_sample
            loss = F.mse_loss(made, latents[START - 1 - number])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            result.null_text.append(loss.item())
        with torch.no_grad():
            latent = plan.step(noise_of(latent, time, embedding.detach()), time, latent).prev_sample
        embeddings.append(embedding.detach())

    original = latents[START]
    variable = original.detach().clone().requires_grad_()
    optimiser = torch.optim.AdamW([variable], SEARCH_RATE, weight_decay=0.01)

    def branches(changed: Tensor) -> tuple[Tensor, Tensor]:
        """Both images, and the structure loss: a batch of two, doubled for a guidance whose scale is nothing."""
        pair, lost = torch.cat([original, changed]), torch.zeros(())
        for time, found in zip(times, embeddings, strict=True):
            plain, guided = noise_of(torch.cat([pair, pair]), time, found).chunk(2)
            if not caught.maps:
                raise RuntimeError("no attention map was caught: the processor is attached to nothing")
            for maps in caught.maps:
                first, second, _, _ = maps.chunk(4)
                lost = lost + F.mse_loss(second, first.detach())
            pair = plan.step(plain + 0.0 * (guided - plain), time, pair).prev_sample
        return codec.decode(pair), lost  # type: ignore[operator]

    for _ in range(search):
        images, lost = branches(variable)
        loss = ADVERSARIAL * adversarial(images[1:].clamp(0, 1)) + lost
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        result.losses.append(loss.item())
        result.structure.append(lost.item())
    with torch.no_grad():
        result.image, result.latent = branches(variable.detach())[0][1:].clamp(0, 1), variable.detach()
    return result

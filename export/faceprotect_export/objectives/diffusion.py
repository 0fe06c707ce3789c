"""What the method ``diffusion`` searches in: a latent with a little noise, denoised and decoded.

After "Enhancing Facial Privacy Protection via Weakening Diffusion Purification" (CVPR 2025, arXiv 2503.10350), without the work that its
code does twice or for nothing: of the 19 steps of inversion only those up to the start are taken, every branch runs once, and the maps of
the branch that does not change are computed once. The numbers are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from faceprotect_export.modules.diffusion import Codec, LatentDiffusion
from faceprotect_export.objectives.search import Decode

#: Time steps passed on the way up to a noisy latent, lowest first: the first four of a grid of 20.
LEVELS = (1, 51, 101, 151)
#: Time steps of the way down as the published code has it, which sets out from the latent of 151 as if it were that of 101: a shift by
#: one that it has from the code that it grew from. (Below the first step diffusers takes the share of step 0.)
PUBLISHED = (101, 51, 1, 0)
#: Without the shift.
ALIGNED = (151, 101, 51, 1)


class DiffusionInvert(nn.Module):
    """The latent of an image at every level of the way up: ``level_0`` is its encoding. Beside them the empty ``embedding``.

    Section 3.1: the noise that the UNet sees is taken to be that of the next level, too.
    """

    def __init__(self, model: LatentDiffusion, times: Sequence[int] = LEVELS) -> None:
        super().__init__()
        self.model, self.times = model, tuple(times)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        empty = self.model.empty + 0 * image.mean()  # an engine has to depend on its input
        latent = self.model.codec.encode(image)
        levels = {"level_0": latent}
        for number, (here, there) in enumerate(pairwise(self.times), 1):
            latent = self.model.moved(latent, self.model.predict(latent, here, empty)[0], here, there)
            levels[f"level_{number}"] = latent
        return {**levels, "embedding": empty}


class NullText(nn.Module):
    """What null-text optimisation descends on (section 3.2): one denoising step has to meet the latent that inversion passed there.

    loss = MSE(moved, target), with ``moved`` the step from ``latent`` at ``time`` [1] by the DDIM factors ``moves`` [2]. ``used``, the
    embedding itself, and ``maps`` [M] of self-attention are what a recipe keeps for the search, to go on with the next level.
    """

    def __init__(self, model: LatentDiffusion) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, target: Tensor, embedding: Tensor, time: Tensor, moves: Tensor) -> dict[str, Tensor]:
        noise, maps = self.model.predict(latent, time, embedding)
        moved = moves[0] * latent + moves[1] * noise
        return {"loss": (moved - target).square().mean().reshape(1), "moved": moved, "used": embedding * 1, "maps": packed(maps)}


class DiffusionDecode(Decode):
    """A noisy ``latent + offset``, denoised in ``steps`` steps and decoded.

    ``times`` [steps] are those at which the UNet is asked, with one ``embedding_N`` each; ``moves`` [2 * steps] the DDIM factors of the
    latent and of the noise (:func:`way_down`).
    Prices what changes in the layout of the face: ``structure``, the sum over steps and layers of the mean squared difference of the
    self-attention maps from ``maps_N`` [M], those of the face without offset (section 3.3).
    ``through``: the noise predictions of how many of the last steps have a gradient (default: of all, as published). Of the others
    only the share of the latent that is carried over has: with 0 the gradient is that of the decoder alone.
    """

    def __init__(self, model: LatentDiffusion, steps: int, through: int | None = None) -> None:
        super().__init__()
        self.model, self.steps = model, steps
        self.through = steps if through is None else through
        self.embeddings = tuple(f"embedding_{step}" for step in range(steps))
        self.price_inputs = tuple(f"maps_{step}" for step in range(steps))
        self.inputs = ("latent", "offset", "times", "moves", *self.embeddings)

    def denoised(self, latent: Tensor, times: Tensor, moves: Tensor, embeddings: Sequence[Tensor]) -> tuple[Tensor, list[list[Tensor]]]:
        """The latent at the end of the way down, and the maps per step."""
        caught = []
        for step, embedding in enumerate(embeddings):
            noise, maps = self.model.predict(latent, times[step], embedding)
            followed = step >= self.steps - self.through
            latent = moves[2 * step] * latent + moves[2 * step + 1] * (noise if followed else noise.detach())
            caught.append(maps if followed else [one.detach() for one in maps])
        return latent, caught

    def mapped(self, latent: Tensor, offset: Tensor, times: Tensor, moves: Tensor, **given: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """The image and the maps per step."""
        latent, caught = self.denoised(latent + offset, times, moves, [given[name] for name in self.embeddings])
        return self.model.codec.decode(latent), caught

    def forward(self, **given: Tensor) -> Tensor:
        return self.mapped(**given)[0]

    def priced(self, **given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        image, caught = self.mapped(**given)
        changes = [difference(maps, given[name]) for maps, name in zip(caught, self.price_inputs, strict=True)]
        return image, {"structure": torch.stack(changes).sum().reshape(1)}


class DiffusionPlain(nn.Module):
    """Forward only: the image ``decoded``, not clamped, and ``maps_N`` [M] per step."""

    def __init__(self, decode: DiffusionDecode) -> None:
        super().__init__()
        self.decode = decode

    def forward(self, **given: Tensor) -> dict[str, Tensor]:
        image, caught = self.decode.mapped(**given)
        return {"decoded": image, **{name: packed(maps) for name, maps in zip(self.decode.price_inputs, caught, strict=True)}}


def way_down(model: LatentDiffusion, levels: Sequence[int]) -> tuple[list[float], list[float]]:
    """``times`` and ``moves`` of the way down through the levels."""
    return [float(time) for time in levels[:-1]], [factor for step in pairwise(levels) for factor in model.moves(*step)]


def packed(maps: Sequence[Tensor]) -> Tensor:
    """The maps of all layers as one array [M]."""
    return torch.cat([one.reshape(-1) for one in maps])


def difference(maps: Sequence[Tensor], plain: Tensor) -> Tensor:
    """Sum over layers of the mean squared difference from packed maps [M]."""
    parts = plain.split([one.numel() for one in maps])
    return torch.stack([(one.reshape(-1) - part).square().mean() for one, part in zip(maps, parts, strict=True)]).sum()


class NoiseLink(nn.Module):
    """The UNet at one step as a link of a chain (``faceprotect_engines/chain.py``), for models too large to fuse three of them.

    ``loss`` = <noise, noise_cotangent> + structure * structure_cotangent, so that its gradients to ``latent`` and ``embedding`` are
    the vector-Jacobian products. ``attention`` [M]: the maps themselves, for a way down that becomes the reference of others.
    """

    def __init__(self, model: LatentDiffusion) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, latent: Tensor, time: Tensor, embedding: Tensor, maps: Tensor, noise_cotangent: Tensor, structure_cotangent: Tensor
    ) -> dict[str, Tensor]:
        noise, found = self.model.predict(latent, time, embedding)
        structure = difference(found, maps).reshape(1)
        loss = (noise * noise_cotangent).sum() + (structure * structure_cotangent).sum()
        return {"loss": loss.reshape(1), "noise": noise, "structure": structure, "attention": packed(found)}


class DecoderLink(nn.Module):
    """The decoder as a link of a chain: ``loss`` = <decoded, image_cotangent>."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, latent: Tensor, image_cotangent: Tensor) -> dict[str, Tensor]:
        decoded = self.codec.decode(latent)
        return {"loss": (decoded * image_cotangent).sum().reshape(1), "decoded": decoded}


class Decoded(Decode):
    """Nothing left to decode: ``offset`` is the decoded image. What a search step is at the end of a chain."""

    inputs = ("offset",)

    def forward(self, offset: Tensor) -> Tensor:
        return offset

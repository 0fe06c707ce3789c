"""Adversarial makeup (after DiffAM, CVPR 2024, arXiv 2405.09882): the published generator, and the one-pass form that ships.

:class:`Ddim` is the published one: a face is inverted with the denoiser as it was trained, and generated again with one that is
fine-tuned for a look, in colours and against recognisers at once. :class:`MakeupProtect` takes the two apart. The colours, which the
published loss asks for as histograms, are put on in closed form (``looks/colours.py``): exact, at the photo's own sharpness, and a look
is a hundred numbers. What is left to learn is the change beside them that recognisers do not survive: that of the one-pass student
(``modules/fast.py``, the denoiser asked once), with low-rank additions to its weights (Hu et al. 2021, arXiv 2106.09685, eq. 3), as
shade that is to be seen. Beside it the recipe has a pass of the student as it is, with the room that it has alone as ``fast``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_export.makeup.colours import parts, worn
from faceprotect_export.modules.autoencoder import Autoencoder
from faceprotect_export.modules.diffusion import Codec, LatentDiffusion, ddim
from faceprotect_export.modules.fast import Fast
from faceprotect_export.objectives.penalty import luma

#: Rank of the additions.
RANK = 16
#: Makeup is there to be seen: of the change beside it, this many times as much is meant by what the student knows as its budget.
ALLOWANCE = 2.0
#: Side of the window that the change beside the makeup is averaged over, twice.
SMOOTH = 11
#: The darkest that skin is taken for where its brightness is divided by.
_DARKEST = 0.05
#: Side of the window over which the edge of what may change is softened.
_SOFT = 5


class Adapted(nn.Module):
    """A layer plus a low-rank one beside it, which begins as zero."""

    def __init__(self, base: nn.Conv2d | nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        if isinstance(base, nn.Conv2d):
            self.down: nn.Conv2d | nn.Linear = nn.Conv2d(base.in_channels, rank, base.kernel_size, base.stride, base.padding, bias=False)  # type: ignore[arg-type]
            self.up: nn.Conv2d | nn.Linear = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        else:
            self.down, self.up = nn.Linear(base.in_features, rank, bias=False), nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def adapt(module: nn.Module, rank: int = RANK) -> nn.Module:
    """Put an addition beside every layer that is wider than ``rank``, in place; returns the module."""
    for name, child in list(module.named_children()):
        wide = isinstance(child, nn.Conv2d) and min(child.in_channels, child.out_channels) > rank
        if wide or (isinstance(child, nn.Linear) and min(child.in_features, child.out_features) > rank):
            setattr(module, name, Adapted(child, rank))  # type: ignore[arg-type]
        else:
            adapt(child, rank)
    return module


class Makeup(nn.Module):
    """The one-pass student with additions, and looks by name: ``colours`` [L, NUMBERS] as ``looks/colours.py`` has them.

    Only the additions are trained.
    """

    colours: Tensor

    def __init__(self, fast: Fast, looks: Sequence[str], colours: Tensor, rank: int = RANK) -> None:
        super().__init__()
        self.fast, self.looks, self.rank = copy.deepcopy(fast), tuple(looks), rank
        adapt(self.fast.unet, rank)
        self.register_buffer("colours", colours)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(".down." in name or ".up." in name)

    def forward(self, latent: Tensor, embedding: Tensor, budget: Tensor, goal: Tensor) -> Tensor:
        """Latent [N, C, h, w] of faces that wear their look, embedding [N, E], budget [N], goal [N, G] to an offset."""
        return self.fast(latent, embedding, budget / ALLOWANCE, goal)

    def trained(self) -> dict[str, Tensor]:
        """The tensors that were trained: what a checkpoint of looks holds, beside their colours and the student's own."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}


def changeable(masks: Mapping[str, Tensor]) -> Tensor:
    """Where makeup may change a face [N, 1, S, S], of the masks of :func:`parts`: hair, glasses, teeth and eyeballs stay."""
    union = torch.maximum(masks["lips"], torch.maximum(masks["eyes"], masks["brows"]))
    return F.avg_pool2d(torch.maximum(union, masks["skin"] + masks["cheeks"]), _SOFT, 1, _SOFT // 2)


def shaded(moved: Tensor, plain: Tensor, made: Tensor, where: Tensor) -> Tensor:
    """Faces [N, 3, S, S] with the change beside the makeup on them, as contour and highlighter are put on: smooth, for edges would be
    features; darker in the skin's own colour, and brighter as gloss is, without one."""
    change = luma(moved - plain)
    for _ in range(2):
        change = F.avg_pool2d(change, SMOOTH, 1, SMOOTH // 2, count_include_pad=False)
    change = where * change
    return (made * (1 + change.clamp(max=0) / luma(made).clamp_min(_DARKEST)) + change.clamp(min=0)).clamp(0, 1)


class MakeupProtect(nn.Module):
    """What the engine is: crop in, ``difference`` out."""

    def __init__(self, autoencoder: Autoencoder, surrogate: nn.Module, keypoints: nn.Module, makeup: Makeup) -> None:
        super().__init__()
        self.autoencoder, self.surrogate, self.keypoints, self.makeup = autoencoder, surrogate, keypoints, makeup

    def dressed(self, original: Tensor, mask: Tensor, look: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The makeup alone [N, 3, S, S], where the face may change beside it [N, 1, S, S], and where it may be shaded: not on lips and
        lids, whose colours are the look's."""
        points = self.keypoints(original)
        masks, own = parts(original, points)
        made = original + mask * (worn(original, masks, own, look @ self.makeup.colours) - original)
        coloured = (2 * torch.maximum(masks["lips"], masks["eyes"])).clamp(max=1)
        changes = mask * changeable(masks)
        return made, changes, changes * (1 - coloured)

    def forward(self, original: Tensor, mask: Tensor, budget: Tensor, goal: Tensor, look: Tensor, unseen: Tensor) -> dict[str, Tensor]:
        """Original [N, 3, S, S] RGB 0..1, mask [N, 1, S, S], budget [N], goal [N, G], look [N, L]: one of its numbers is 1.

        ``unseen`` [N, 3, S, S]: the difference that the student as it is makes of the face without makeup; hair, glasses, teeth and
        eyeballs are left out of it.
        """
        made, changes, where = self.dressed(original, mask, look)
        latent = self.autoencoder.encoder(made)
        offset = self.makeup(latent, self.surrogate(original), budget, goal)
        plain, moved = self.autoencoder.decoder(torch.cat([latent, latent + offset])).chunk(2)
        made = shaded(moved, plain, made, where)
        return {"difference": (made + changes * unseen).clamp(0, 1) - original}


class PixelCodec(Codec):
    """Pictures in 0..1 as a DDPM on pixels sees them: -1..1."""

    def encode(self, image: Tensor) -> Tensor:
        return image * 2 - 1

    def decode(self, latent: Tensor) -> Tensor:
        return latent / 2 + 0.5


class PixelDiffusion(nn.Module):
    """A DDPM of diffusers on pixels (``UNet2DModel``), as :class:`Ddim` needs it; ``alphas`` [steps] is its noise schedule."""

    empty: Tensor

    def __init__(self, unet: nn.Module, alphas: Tensor) -> None:
        super().__init__()
        self.codec, self.unet = PixelCodec(), unet
        self.register_buffer("empty", torch.zeros(1, 1, 1))
        self.alphas: list[float] = alphas.double().tolist()

    def predict(self, latent: Tensor, time: int | Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The noise that it sees; it has no prompt and keeps no maps."""
        asked = time.reshape(1) if isinstance(time, Tensor) else latent.new_full((1,), time)
        return self.unet(latent, asked, return_dict=False)[0], []

    def moves(self, source: int, target: int) -> tuple[float, float]:
        """Factors of latent and noise of a DDIM step between two time steps, either way."""
        return ddim(self.alphas[source], self.alphas[target])


class Ddim(nn.Module):
    """The published generator: inverted with the denoiser, generated with ``tuned``, a copy that is fine-tuned.

    ``start``: the highest time step; ``inversions`` and ``generations``: steps up to it and down from it. Published: 300, 40 and 6 for the
    removal, 60, 20 and 6 for the transfer, and every weight of the copy is tuned; with a ``rank`` only low-rank additions to it are.
    """

    def __init__(self, model: LatentDiffusion | PixelDiffusion, start: int, inversions: int, generations: int, rank: int = 0) -> None:
        super().__init__()
        self.model, self.tuned, self.rank = model.requires_grad_(False), copy.deepcopy(model), rank
        if rank:
            adapt(self.tuned.unet, rank)
        for name, parameter in self.tuned.unet.named_parameters():
            parameter.requires_grad_(not rank or ".down." in name or ".up." in name)
        self.up, self.down = grid(start, inversions), grid(start, generations)[::-1]

    def generated(self, latent: Tensor) -> Tensor:
        """A latent [N, C, h, w] without noise taken up the time steps and, with what is tuned, down again."""
        with torch.no_grad():
            for here, there in pairwise(self.up):
                latent = _moved(self.model, latent, here, there)
        for here, there in pairwise(self.down):
            latent = _moved(self.tuned, latent, here, there)
        return latent

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The generated picture of one [N, 3, S, S] RGB 0..1, and what the codec alone makes of it, both not clipped."""
        with torch.no_grad():
            latent = self.model.codec.encode(image)
            plain = self.model.codec.decode(latent)
        return self.tuned.codec.decode(self.generated(latent)), plain

    def trained(self) -> dict[str, Tensor]:
        """The tensors that are tuned, by their names in the UNet."""
        return {name: value for name, value in self.tuned.unet.named_parameters() if value.requires_grad}


def _moved(model: LatentDiffusion | PixelDiffusion, latent: Tensor, here: int, there: int) -> Tensor:
    noise, _ = model.predict(latent, here, model.empty.expand(len(latent), -1, -1))
    kept, added = model.moves(here, there)
    return kept * latent + added * noise


def grid(start: int, steps: int) -> list[int]:
    """Time steps from 0 up to ``start``, ``steps`` of them apart from the first."""
    return [round(start * index / steps) for index in range(steps + 1)]


def read_makeup(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], fast: Fast) -> Makeup:
    """Trained looks from a checkpoint (``train/makeup.py``) beside the student that they were trained on."""
    model = Makeup(fast, facts["looks"], tensors["colours"], facts["rank"])
    left = model.load_state_dict(dict(tensors), strict=False)
    if left.unexpected_keys or set(tensors) != {"colours", *model.trained()}:
        raise ValueError("these looks were trained on another student: train them again (faceprotect_export.train.makeup)")
    return model.requires_grad_(False).eval()

"""What adversarial makeup is trained on: the published losses (DiffAM, CVPR 2024, arXiv 2405.09882), and what they compare.

Removal (sec. 3.2): ``5 direction + 1 identity + 2 L1 + 5 perceptual``. Transfer (sec. 3.3): ``1.6 pixels + 0.5 direction +
0.5 adversarial + 10 perceptual + 3 L1``, where *pixels* is the L1 distance to the picture whose regions have the histograms of the
reference's. A weight of 0 leaves a term out, and does not compute it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceprotect_export.makeup.colours import FOLLOWS
from faceprotect_export.makeup.regions import Frame, regions, skin_colour
from faceprotect_export.modules.autoencoder import Encoder
from faceprotect_export.objectives.penalty import luma

#: Weights of the regions in the pixel loss, as published (there the eyes are two, of 1 each).
REGION_WEIGHTS = {"lips": 1.0, "eyes": 1.0, "skin": 0.15}
#: Points at which a histogram's cumulative sum is held.
QUANTILES = 64
#: A region of fewer pixels than this (eyes shut by hair, a hidden mouth) has no histogram to speak of.
LEAST_PIXELS = 24


@dataclass(frozen=True)
class RemovalWeights:
    """Of the terms of the removal, as published."""

    direction: float = 5.0
    identity: float = 1.0
    l1: float = 2.0
    perceptual: float = 5.0


@dataclass(frozen=True)
class TransferWeights:
    """Of the terms of the transfer, as published."""

    pixels: float = 1.6
    direction: float = 0.5
    adversarial: float = 0.5
    perceptual: float = 10.0
    l1: float = 3.0


@dataclass(frozen=True)
class Palette:
    """Colours of a face by region: ``quantiles`` of [3, Q] each, and the mean colour of its skin [3, 1, 1]."""

    quantiles: Mapping[str, Tensor]
    skin: Tensor


def direction_loss(moved: Tensor, wanted: Tensor) -> Tensor:
    """``-log((2 - (1 - cos)) / 2)`` of two directions [N, E], mean over the samples; 0 where they agree."""
    cosine = F.cosine_similarity(moved, wanted, dim=1)
    return -torch.log(((1 + cosine) / 2).clamp_min(1e-4)).mean()


def quantiles(image: Tensor, mask: Tensor) -> Tensor | None:
    """Cumulative histogram of the pixels in a region, per channel [3, Q]: ``image`` [3, S, S], ``mask`` [1, S, S]; None for too few."""
    inside = mask[0] > 0.5
    if int(inside.sum()) < LEAST_PIXELS:
        return None
    ordered = image[:, inside].sort(1).values
    places = torch.linspace(0, ordered.shape[1] - 1, QUANTILES, dtype=image.dtype, device=image.device)
    low = places.floor().long()
    high = (low + 1).clamp_max(ordered.shape[1] - 1)
    return torch.lerp(ordered[:, low], ordered[:, high], places - low)


def palette(image: Tensor, points: Tensor) -> Palette:
    """Of one face [1, 3, S, S] with its key points [1, 13, 2]."""
    return _palettes(image, points, regions(image, points))[0]


def _palettes(image: Tensor, points: Tensor, masks: Mapping[str, Tensor]) -> list[Palette]:
    skins = skin_colour(image, Frame(points, image.shape[-1]))
    found = []
    for index, (one, skin) in enumerate(zip(image, skins, strict=True)):
        held = {name: quantiles(one, mask[index]) for name, mask in masks.items()}
        found.append(Palette({name: rows for name, rows in held.items() if rows is not None}, skin))
    return found


def matched(image: Tensor, mask: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """``image`` [3, S, S] with the histogram ``wanted`` [3, Q] in its region, where it is ``own``; what is darker stays darker."""
    inside = mask[0] > 0
    values = image[:, inside].contiguous()
    place = torch.searchsorted(own.contiguous(), values).clamp(1, QUANTILES - 1)
    low, high = own.gather(1, place - 1), own.gather(1, place)
    share = ((values - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
    found = image.clone()
    found[:, inside] = torch.lerp(wanted.gather(1, place - 1), wanted.gather(1, place), share)
    return found


def wanted_histograms(own: Palette, reference: Palette, bare: Palette) -> dict[str, Tensor]:
    """What the regions of a face are to have: lips and lids the reference's colours in the light of this face, the skin its own,
    moved as the makeup moved the reference's: a look is not another colour of skin."""
    light = (luma(own.skin[None]) / luma(reference.skin[None]).clamp_min(0.02))[0, 0, 0, 0] ** FOLLOWS
    found = {}
    for name in own.quantiles.keys() & reference.quantiles.keys():
        if name == "skin":
            shift = reference.quantiles[name] - bare.quantiles.get(name, reference.quantiles[name])
            found[name] = (own.quantiles[name] + light * shift).clamp(0, 1)
        else:
            found[name] = (light * reference.quantiles[name]).clamp(0, 1)
    return found


@torch.no_grad()
def made_up(image: Tensor, points: Tensor, reference: Palette, bare: Palette) -> Tensor:
    """Faces [N, 3, S, S] with the histograms that the look gives their regions: the target of the pixel loss."""
    masks, found = regions(image, points), image.clone()
    for index, own in enumerate(_palettes(image, points, masks)):
        for name, rows in wanted_histograms(own, reference, bare).items():
            mask = masks[name][index]
            mask = mask * (mask > 0.02)
            found[index] = found[index] + mask * (matched(image[index], mask, own.quantiles[name], rows) - image[index])
    return found.clamp(0, 1)


def pixel_loss(image: Tensor, target: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
    """Weighted L1 distance to the histogram-matched picture, region by region."""
    return sum((weight * (masks[name] * (image - target)).abs().mean() for name, weight in REGION_WEIGHTS.items()), image.new_zeros(()))


def histogram_distance(image: Tensor, points: Tensor, wanted: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean difference of the quantiles, region by region (the earth mover's distance per channel), of one face [1, 3, S, S]."""
    masks, found = regions(image, points), {}
    for name, rows in wanted.items():
        own = quantiles(image[0], masks[name][0])
        if own is not None:
            found[name] = float((own - rows).abs().mean())
    return found


class Perceptual(nn.Module):
    """Distance of the unit-normalised features of a frozen encoder, level by level (after LPIPS, Zhang et al., CVPR 2018, eq. 1).

    The published networks of LPIPS cannot be had here; the features are those of our face autoencoder's encoder, unweighted.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.layers = encoder.net

    def features(self, image: Tensor) -> list[Tensor]:
        """One map per resolution: what the next stride begins with."""
        x, found = image * 2 - 1, []
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d) and layer.stride[0] > 1:
                found.append(F.normalize(x, dim=1))
            x = layer(x)
        return [*found, F.normalize(x, dim=1)]

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        pairs = zip(self.features(image), self.features(other), strict=True)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).mean()

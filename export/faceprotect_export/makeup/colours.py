"""A look as a few colours, and a face that wears them: in closed form, so that an engine can do it.

Lips and lids take on the reference's histogram, channel by channel: what the published pixel loss asks for (``objectives/makeup.py``), as
a piecewise linear curve. Cheeks, brows, lash lines and the rest of the skin move as the makeup moved the reference's. Either follows
the light of the face: a look is not another colour of skin.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from faceprotect_export.makeup.regions import Frame, brows, cheeks, lashes, regions, skin_colour
from faceprotect_export.objectives.penalty import luma

#: Regions that take on a histogram, and those that are moved.
MATCHED, MOVED = ("lips", "eyes"), ("skin", "cheeks", "lashes", "brows")
#: How far colours follow the light of the face: luma to this power.
FOLLOWS = 0.65
#: Steps of a look's cumulative histograms, and of the curve that takes a face's colours there.
LEVELS, KNOTS = 12, 24
#: Numbers of a look: the histograms of the matched regions, the way of the moved ones, the skin's own luma.
NUMBERS = 3 * (len(MATCHED) * (LEVELS + 1) + len(MOVED)) + 1
#: Brow hair is darker than this part of the skin.
_DARK = 0.8
#: Width in which a value counts as below a knot: half a step of the curve.
_SOFT = 0.25 / KNOTS


def parts(image: Tensor, points: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Masks [N, 1, S, S] of all regions, and the luma of the skin [N, 1, 1, 1]."""
    frame, masks = Frame(points, image.shape[-1]), regions(image, points)
    own = luma(skin_colour(image, frame))
    dark = torch.sigmoid((_DARK - luma(image) / (own + 0.02)) / 0.06)
    masks["cheeks"] = masks["skin"] * cheeks(frame)[:, None]
    masks["skin"] = masks["skin"] - masks["cheeks"]
    masks["lashes"], masks["brows"] = lashes(frame)[:, None], brows(frame)[:, None] * dark
    return masks, own


@torch.no_grad()
def colours_of(image: Tensor, bare: Tensor, points: Tensor) -> Tensor:
    """The numbers [NUMBERS] of a look, of one face [1, 3, S, S] with makeup and without, with its key points [1, 13, 2]."""
    masks, own = parts(bare, points)
    found: list[Tensor] = []
    levels = torch.linspace(0, 1, LEVELS + 1)
    for name in MATCHED:
        inside = image[0][:, masks[name][0, 0] > 0.5]
        found.append(torch.quantile(inside, levels, dim=1).T.contiguous() if inside.shape[1] else torch.zeros(3, LEVELS + 1))
    for name in MOVED:
        weight = masks[name] + 1e-5
        found.append(((image - bare) * weight).sum((2, 3)) / weight.sum((2, 3)))
    return torch.cat([one.reshape(-1) for one in (*found, own)])


def worn(image: Tensor, masks: Mapping[str, Tensor], own: Tensor, look: Tensor) -> Tensor:
    """Faces [N, 3, S, S] in looks [N, NUMBERS]; ``masks`` and ``own`` as :func:`parts` gives them."""
    histograms, ways = look[:, : 3 * len(MATCHED) * (LEVELS + 1)], look[:, 3 * len(MATCHED) * (LEVELS + 1) : -1]
    light = ((own + 0.02) / (look[:, -1].reshape(-1, 1, 1, 1) + 0.02)) ** FOLLOWS
    found = image
    for name, way in zip(MOVED, ways.reshape(-1, len(MOVED), 3, 1, 1).unbind(1), strict=True):
        found = found + masks[name] * light * way
    for name, levels in zip(MATCHED, histograms.reshape(-1, len(MATCHED), 3, LEVELS + 1).unbind(1), strict=True):
        # All of what counts as the region, and a soft edge.
        found = found + (2 * masks[name]).clamp(max=1) * (_matched(image, masks[name], light * levels[..., None]) - found)
    return found.clamp(0, 1)


def _matched(image: Tensor, mask: Tensor, levels: Tensor) -> Tensor:
    """Pictures whose region has the cumulative histograms ``levels`` [N, 3, LEVELS + 1, 1]: a curve per channel, from knot to knot."""
    inside = (4 * mask - 1.5).clamp(0, 1)
    total = inside.sum((2, 3)) + 1e-3
    knots = []
    for knot in range(KNOTS + 1):
        below = (torch.sigmoid((knot / KNOTS - image) / _SOFT) * inside).sum((2, 3)) / total
        value = levels[:, :, 0, 0]
        for level in range(LEVELS):
            value = value + (levels[:, :, level + 1, 0] - levels[:, :, level, 0]) * (below * LEVELS - level).clamp(0, 1)
        knots.append(value[:, :, None, None])
    found = knots[0]
    for knot in range(KNOTS):
        found = found + (knots[knot + 1] - knots[knot]) * (image * KNOTS - knot).clamp(0, 1)
    return found

"""Where makeup goes: soft regions of an aligned face from its key points and its own skin colour.

Everything is measured in the frame of the eyes (origin between them, unit their distance, x from the left to the right one), so that a
tilted or small face has the same regions. Only elementwise operations and sums: differentiable, and accepted by every engine.
"""

from __future__ import annotations

import torch
from torch import Tensor

from faceprotect_export.objectives.penalty import luma

#: Regions that a look is compared on and painted in; ``eyes`` are both lids, without the eyeballs.
REGIONS = ("lips", "eyes", "skin")
#: Key points (``modules/keypoints.py``): corners of the eyes, mouth, eyes.
CORNERS, _MOUTH, _EYES = ((0, 1), (3, 2)), (7, 8, 9, 10), (11, 12)
#: Shape of the mouth's outline between its corners: 1 is a parabola, less is fuller.
_FULLNESS = 0.8


class Frame:
    """Coordinates of every pixel, and of the key points, in the frame of the eyes."""

    def __init__(self, points: Tensor, size: int) -> None:
        """``points`` [N, 13, 2] in 0..1 of the crop; ``size``: side of the picture in pixels."""
        left, right = points[:, _EYES[0]], points[:, _EYES[1]]
        way = right - left
        self.distance = way.square().sum(1).sqrt().clamp_min(0.05)
        axis = way / self.distance[:, None]
        middle = (left + right) / 2
        self.points = _turned(points - middle[:, None], axis[:, None], self.distance[:, None])
        centres = (torch.arange(size, dtype=points.dtype) + 0.5) / size
        across, down = centres.reshape(1, 1, size), centres.reshape(1, size, 1)
        x, y = across - middle[:, 0].reshape(-1, 1, 1), down - middle[:, 1].reshape(-1, 1, 1)
        unit = self.distance.reshape(-1, 1, 1)
        ax, ay = axis[:, 0].reshape(-1, 1, 1), axis[:, 1].reshape(-1, 1, 1)
        self.x, self.y = (x * ax + y * ay) / unit, (y * ax - x * ay) / unit

    def at(self, index: int) -> tuple[Tensor, Tensor]:
        """x and y [N, 1, 1] of a key point."""
        return self.points[:, index, 0].reshape(-1, 1, 1), self.points[:, index, 1].reshape(-1, 1, 1)

    def blob(self, x: Tensor | float, y: Tensor | float, across: Tensor | float, down: float, edge: float = 0.25) -> Tensor:
        """Soft ellipse [N, S, S]: 1 inside, falling to 0 over ``edge`` of its radius."""
        radius = (((self.x - x) / across).square() + ((self.y - y) / down).square() + 1e-9).sqrt()
        return torch.sigmoid((1 - radius) / (edge / 4))

    def lobe(self, x: Tensor | float, y: Tensor | float, across: float, down: float) -> Tensor:
        """Gaussian [N, S, S] of those standard deviations."""
        return torch.exp(-0.5 * (((self.x - x) / across).square() + ((self.y - y) / down).square()))


def _turned(way: Tensor, axis: Tensor, unit: Tensor) -> Tensor:
    x, y = way[..., 0], way[..., 1]
    along = (x * axis[..., 0] + y * axis[..., 1]) / unit
    return torch.stack([along, (y * axis[..., 0] - x * axis[..., 1]) / unit], -1)


def mouth(frame: Frame) -> Tensor:
    """Inside of the lips' outline [N, S, S], teeth and all: two arcs through the four key points of the mouth."""
    (_, top), (left, left_y), (right, right_y), (_, bottom) = (frame.at(index) for index in _MOUTH)
    width = (right - left).clamp_min(0.2)
    along = ((frame.x - left) / width).clamp(0, 1)
    line = left_y + (right_y - left_y) * along
    arc = (4 * along * (1 - along) + 1e-6) ** _FULLNESS
    middle = (left_y + right_y) / 2
    upper, lower = line + (top - middle) * arc, line + (bottom - middle) * arc
    soft = 0.014
    ends = torch.sigmoid((frame.x - left) / soft) * torch.sigmoid((right - frame.x) / soft)
    return torch.sigmoid((frame.y - upper) / soft) * torch.sigmoid((lower - frame.y) / soft) * ends


def eyeballs(frame: Frame) -> Tensor:
    """Both eyes between their corners and lids [N, S, S]."""
    found = torch.zeros_like(frame.x)
    for (outer, inner), eye in zip(CORNERS, _EYES, strict=True):
        (x, y), (to_x, to_y) = frame.at(outer), frame.at(inner)
        height = ((y + to_y) / 2 + frame.at(eye)[1]) / 2  # two nets found them, and neither is sure to a pixel
        found = found + frame.blob((x + to_x) / 2, height - 0.01, (to_x - x).abs() / 2, 0.1, 0.3)
    return found.clamp(0, 1)


def lids(frame: Frame) -> Tensor:
    """The lids from the lashes up to below the brows, and a little beneath the eye [N, S, S]."""
    found = torch.zeros_like(frame.x)
    for index, side in zip(_EYES, (-1.0, 1.0), strict=True):
        x, y = frame.at(index)
        found = found + frame.blob(x + 0.03 * side, y - 0.11, 0.29, 0.18, 0.6)
    return (found * (1 - eyeballs(frame))).clamp(0, 1)


def brows(frame: Frame) -> Tensor:
    """Where the brows are, above the eyes [N, S, S]; a band wider than they."""
    found = torch.zeros_like(frame.x)
    for index, side in zip(_EYES, (-1.0, 1.0), strict=True):
        x, y = frame.at(index)
        across = (frame.x - x) * side
        line = y - 0.40 + 0.35 * (across - 0.06).square()
        window = torch.sigmoid((across + 0.27) / 0.03) * torch.sigmoid((0.33 - across) / 0.03)
        found = found + torch.sigmoid((0.1 - ((frame.y - line).square() + 1e-9).sqrt()) / 0.02) * window
    return found.clamp(0, 1)


def lashes(frame: Frame) -> Tensor:
    """A thin line on the upper lid, with a short wing outwards [N, S, S]."""
    found = torch.zeros_like(frame.x)
    for (outer, inner), side in zip(CORNERS, (-1.0, 1.0), strict=True):
        (x, y), (to_x, to_y) = frame.at(outer), frame.at(inner)
        half = (to_x - x).abs() / 2
        across = (frame.x - (x + to_x) / 2) * side
        line = (y + to_y) / 2 - 0.09 * (1 - (across / (1.05 * half)).square()).clamp_min(-0.7)
        window = torch.sigmoid((across + 0.85 * half) / 0.02) * torch.sigmoid((1.25 * half - across) / 0.02)
        found = found + torch.exp(-(((frame.y - line) / 0.02).square())) * window
    return found.clamp(0, 1)


def cheeks(frame: Frame) -> Tensor:
    """Where blush goes [N, S, S]."""
    return (frame.lobe(-0.62, 0.62, 0.2, 0.15) + frame.lobe(0.62, 0.62, 0.2, 0.15)).clamp(0, 1)


def skin_colour(image: Tensor, frame: Frame) -> Tensor:
    """Mean colour [N, 3, 1, 1] of the cheeks and the bridge of the nose: what the person's skin is like in this light."""
    spots = frame.lobe(-0.45, 0.55, 0.12, 0.12) + frame.lobe(0.45, 0.55, 0.12, 0.12) + frame.lobe(0.0, 0.35, 0.06, 0.12)
    weight = spots[:, None]
    return (image * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)


def skin_like(image: Tensor, colour: Tensor) -> Tensor:
    """How much a pixel may be this person's skin [N, S, S], in light or shade: hair, glasses, teeth and background are not."""
    here, there = image + 0.02, colour + 0.02
    light, own = luma(here), luma(there)
    tint = ((here / light - there / own).square()).sum(1)
    shade = torch.log(light / own)[:, 0]
    dark = torch.sigmoid((shade + 0.75) / 0.1)
    bright = torch.sigmoid((0.75 - shade) / 0.1)
    return dark * bright * torch.exp(-(tint / 0.12).square())


def regions(image: Tensor, points: Tensor) -> dict[str, Tensor]:
    """Soft masks [N, 1, S, S] in 0..1 by the names of :data:`REGIONS`, of pictures [N, 3, S, S] RGB 0..1 with ``points`` [N, 13, 2]."""
    frame = Frame(points, image.shape[-1])
    colour = skin_colour(image, frame)
    ratio = ((image[:, :1] - image[:, 1:2]) / (luma(image) + 0.02))[:, 0]
    own = ((colour[:, :1] - colour[:, 1:2]) / (luma(colour) + 0.02))[:, 0]
    shade = torch.log((luma(image) + 0.02) / (luma(colour) + 0.02))[:, 0]
    red = torch.sigmoid((ratio - 0.75 * own) / (0.1 * own.clamp_min(0.05)))
    lips = mouth(frame) * red * torch.sigmoid((shade + 1.3) / 0.12)
    eyes = lids(frame) * torch.sigmoid((skin_like(image, colour) - 0.02) / 0.02)
    face = frame.blob(0.0, 0.55, 1.05, 1.25, 0.4)
    skin = face * skin_like(image, colour) * (1 - mouth(frame)) * (1 - eyeballs(frame))
    return {"lips": lips[:, None], "eyes": eyes[:, None], "skin": skin[:, None]}

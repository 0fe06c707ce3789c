"""Thirteen key points of an aligned face, differentiable: what a change of features moves first.

Heat maps and their centres of mass ("soft-argmax"; Sun et al., "Integral human pose regression", ECCV 2018, eq. 1-2), so that the
points are a smooth function of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Corners of the eyes (outer, inner, inner, outer), nose (side, tip, side), mouth (top, left, right, bottom), eyes; left to right as seen.
COUNT = 13
SIDE = 128
GRID = 32


class KeypointNet(nn.Module):
    """RGB [N, 3, S, S] in 0..1, S a multiple of 128, to points [N, 13, 2], x and y in 0..1 of the crop."""

    centres: Tensor

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((3, width, 2), (width, 2 * width, 2), (2 * width, 3 * width, 2), (3 * width, 3 * width, 1)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.down = nn.Sequential(*layers)
        self.wide = nn.Sequential(
            nn.Conv2d(3 * width, 3 * width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(3 * width),
            nn.ReLU(),
            nn.Conv2d(3 * width, 3 * width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(3 * width),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
        )
        self.maps = nn.Sequential(
            nn.Conv2d(6 * width, 2 * width, 3, 1, 1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(2 * width, COUNT, 3, 1, 1)
        )
        centres = (torch.arange(GRID) + 0.5) / GRID
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        factor = image.shape[-1] // SIDE
        small = nn.functional.avg_pool2d(image, factor) if factor > 1 else image
        x = self.down(small * 2 - 1)
        maps = self.maps(torch.cat([x, self.wide(x)], 1)).float()
        chance = torch.softmax(maps.flatten(2), 2).reshape(maps.shape)
        return torch.stack([(chance.sum(2) * self.centres).sum(2), (chance.sum(3) * self.centres).sum(2)], 2)

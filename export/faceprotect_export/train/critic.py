"""A critic that learns, beside a one-pass student, what its faces have that photos have not.

Pixels and key points do not see it: at the same squared error a student widens every nose alike, where a search finds something else for
every face. Hinge loss on patches (Lim and Ye 2017, arXiv 1705.02894; Isola et al. 2017, arXiv 1611.07004) between a photo and the same
face as it was made (Jolicoeur-Martineau 2018, arXiv 1807.00734, section 4.1; unpaired, next to nothing is learnt in a hundred steps),
spectral normalisation (Miyato et al. 2018, arXiv 1802.05957), and the place in the aligned crop as two further channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from faceprotect_export.train import checkpoint
from faceprotect_export.train.layout import channels_last
from faceprotect_export.train.precision import mixed

WIDTHS = (32, 64, 128, 128)
RATE = 1e-3
#: Contrast that it sees crops at: what is to be told apart differs by a hundredth.
GAIN = 4.0


class Critic(nn.Module):
    """Crops [N, 3, S, S] RGB 0..1 to a score per patch [N, 1, S/32, S/32], seen at half the size: above 0 for photos."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((5, *WIDTHS), WIDTHS, strict=False):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, spectral_norm(nn.Conv2d(WIDTHS[-1], 1, 3, 1, 1)))
        self.optimiser = torch.optim.Adam(self.parameters(), RATE, betas=(0.0, 0.9))
        channels_last(self)

    def forward(self, image: Tensor) -> Tensor:
        small = F.avg_pool2d(image, 2)
        line = torch.linspace(-1, 1, small.shape[-1])
        place = torch.stack(torch.meshgrid(line, line, indexing="ij")).expand(len(small), -1, -1, -1)
        return self.net(torch.cat([GAIN * (small - 0.5), place], 1).contiguous(memory_format=torch.channels_last))

    def displeased(self, image: Tensor, photos: Tensor) -> Tensor:
        """Loss of the student, [N]: how much less like photos its faces [N, 3, S, S] look than the photos do, patch by patch, in orders of
        magnitude, for the critic knows no unit. It gets no gradient from this."""
        self.requires_grad_(False).eval()  # every pass in training moves the normalisation on
        with torch.no_grad():
            wanted = self(photos)
        return F.relu(wanted - self(image)).float().log1p().mean((1, 2, 3))

    def learn(self, photos: Tensor, made: Tensor) -> float:
        """One update on photos and the student's faces [N, 3, S, S]; returns its loss."""
        self.requires_grad_(True).train()
        with mixed():
            real, false = self(torch.cat([photos, made.detach()])).float().chunk(2)
        loss = F.relu(1 - real + false).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())

    def kept(self) -> dict[str, Tensor]:
        """Its tensors and its optimiser's for a checkpoint."""
        return {f"critic.{name}": value for name, value in checkpoint.training_state(self, self.optimiser).items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over those of a checkpoint."""
        checkpoint.restore(checkpoint.under(tensors, "critic."), self, self.optimiser)

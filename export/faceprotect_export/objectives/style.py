"""What the method ``style`` searches in: offsets of a style generator's codes, and what they cost beyond pixels.

After GIFT (ACM MM 2024, arXiv 2408.01428), where the detail codes W+ move and the spatial base code F stays: here the recipe says
which. Key regions are held, there by the cross-entropy of a parsing net, here by key points. The paper's P-norm keeps the codes of an
inversion near those of faces; here it prices the change that inversion makes to those of the encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceprotect_export.modules.keypoints import KeypointNet
from faceprotect_export.modules.style import StyleConfig, StyleGenerator, StyleSpace, split_codes
from faceprotect_export.objectives.search import Decode, Term
from faceprotect_export.trace.matrices import adaptive_average, bilinear


class StyleDecode(Decode):
    """F ``base``, W+ ``codes``, and ``offset`` [1, F's size + layers * style] of both, to the canonical crop.

    An offset's unit is one standard deviation over faces, of each number of W+ and of each channel of F. ``reach`` [layers + 1] scales
    it per layer, F last: 0 holds a layer.
    """

    inputs = ("base", "codes", "offset", "reach")
    codes_spread: Tensor
    base_spread: Tensor
    whitening: Tensor
    resize: Tensor

    def __init__(self, generator: StyleGenerator, space: StyleSpace, crop: int) -> None:
        super().__init__()
        self.generator = generator
        self.register_buffer("codes_spread", space.codes_spread())
        self.register_buffer("base_spread", space.base_spread)
        self.register_buffer("whitening", space.whitening())
        size = generator.config.size
        self.register_buffer("resize", bilinear(size, crop, False, None) if size <= crop else adaptive_average(size, crop))

    def changes(self, offset: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        """What an offset adds to F [1, base, 16, 16] and to W+ [1, layers, style]."""
        config = self.generator.config
        base, codes = split_codes(config, offset)
        return reach[config.layers] * base * self.base_spread[:, None, None], codes * reach[: config.layers, None] * self.codes_spread

    def moved(self, base: Tensor, codes: Tensor, offset: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        """F and W+ with the offset."""
        layout, details = self.changes(offset, reach)
        return base + layout, codes + details

    def unlikely(self, details: Tensor) -> Tensor:
        """Mean square [1] of a change of W+ [1, layers, style] in whitened codes: how rare such a step is among faces."""
        return (details.transpose(0, 1) @ self.whitening).square().mean().reshape(1)

    def forward(self, base: Tensor, codes: Tensor, offset: Tensor, reach: Tensor) -> Tensor:
        return self.decoded(*self.moved(base, codes, offset, reach))

    def decoded(self, base: Tensor, codes: Tensor) -> Tensor:
        """The canonical crop of F and W+."""
        image = self.generator(base, codes)
        return self.resize @ image @ self.resize.T


class KeypointTerm(Term):
    """Mean squared distance of the key points from ``points`` [1, 13, 2], in units of the crop's side."""

    inputs = ("points",)

    def __init__(self, net: KeypointNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, points: Tensor) -> Tensor:
        return (self.net(image) - points).square().sum(2).mean().reshape(1)


class StyleEncode(nn.Module):
    """Canonical crop to F and W+."""

    def __init__(self, encoder: nn.Module, size: int) -> None:
        super().__init__()
        self.encoder, self.size = encoder, size

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        base, codes = self.encoder(nn.functional.avg_pool2d(image, image.shape[-1] // self.size))
        return {"base": base, "codes": codes}


class MeanFace(nn.Module):
    """The mean face's codes, whatever the image: where inversion starts for a generator that has no encoder.

    The published form starts there, too (at W's mean), and takes hundreds of iterations.
    """

    base: Tensor
    codes: Tensor

    def __init__(self, config: StyleConfig, space: StyleSpace) -> None:
        super().__init__()
        base, codes = split_codes(config, space.mean[None])
        self.register_buffer("base", base)
        self.register_buffer("codes", codes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        nothing = 0 * image.mean()  # an engine has to depend on its input
        return self.base + nothing, self.codes + nothing


class StyleInvert(nn.Module):
    """What inversion descends on, from the encoder's codes: the distance of the decoding from the photo.

    loss = MSE + squared edges of the difference + ``code_weight`` * (P-norm of the change of W+ + mean squared change of F). The paper
    has a perceptual distance where this has edges.
    """

    def __init__(self, decode: StyleDecode) -> None:
        super().__init__()
        self.decode = decode

    def forward(self, original: Tensor, code_weight: Tensor, **given: Tensor) -> dict[str, Tensor]:
        layout, details = self.decode.changes(given["offset"], given["reach"])
        base, moved = given["base"] + layout, given["codes"] + details
        decoded = self.decode.decoded(base, moved)
        difference = decoded - original
        edges = sum((difference.diff(dim=axis).square().mean() for axis in (2, 3)), torch.zeros(()))
        mse = difference.square().mean().reshape(1)
        loss = mse + edges + code_weight * (self.decode.unlikely(details) + layout.square().mean())
        return {"loss": loss, "mse": mse, "decoded": decoded, "moved_base": base, "moved_codes": moved}

"""The published methods in their literal form, in plain torch: what ours have to be compared with, and held to.

The generator is ours (the papers' own are the user's to bring), the surrogates are the engines that our methods search on: their image
gradient is what torch would give, so that both forms see the same networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from faceprotect_export.modules.autoencoder import Autoencoder
from faceprotect_export.modules.keypoints import KeypointNet
from faceprotect_export.modules.style import Style, split_codes
from faceprotect_export.objectives.style import StyleDecode
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.judging.recognisers import EngineRecogniser

Image = NDArray[np.float32]
Report = Callable[[int, Image], None]

INVERSION, INVERSION_RATE = 1200, 0.01
SEARCH, SEARCH_RATE, COPIES = 50, 0.002, 5
PERCEPTUAL, BASE_DISTANCE, P_NORM, KEY_REGIONS = 10.0, 10.0, 0.01, 0.01
#: The paper's learning rates are for codes of about this standard deviation (StyleGAN2 on FFHQ); ours are scaled to their own.
SPREAD = 0.4


@dataclass(frozen=True)
class GiftNets:
    """Generator and encoder, key points, and an encoder whose features stand in for LPIPS."""

    style: Style
    keypoints: KeypointNet
    perceptual: Autoencoder

    @classmethod
    def read(cls, weights: Path) -> GiftNets:
        """From the folder of the project's weights."""
        sources = Sources(weights, ())
        return cls(sources.style(), sources.keypoints(), sources.autoencoder())


def gift(
    crop: Image,
    surrogates: Sequence[EngineRecogniser],
    references: Sequence[Image],
    nets: GiftNets,
    rng: np.random.Generator,
    inversion: int = INVERSION,
    search: int = SEARCH,
    report: Report | None = None,
) -> Image:
    """The protected crop [1, 3, 256, 256] of GIFT (ACM MM 2024, arXiv 2408.01428), away from ``references`` [1, E].

    Inversion: Adam on F and W+, MSE + 10 perceptual distance + 10 mean((F - F0)^2) + 0.01 mean(P-norm(w)^2). Search: Adam on W+, five
    diversified copies an iteration, mean over surrogates and copies of the cosine + 0.01 * key regions. What stands in for the paper's
    nets: the features of our autoencoder for LPIPS; squared ways of key points, in hundredths of the crop's side, for the cross-entropy of
    face parsing; whitened codes without the inverse rectifier for P-norm (our codes come from no mapping network). Noise and padding are
    those of images in -1..1. Inversion starts at our encoder's codes, not at W's mean, which is in its favour.
    Against it is our generator, whose W+ holds less of a person than that of StyleGAN2 on FFHQ. ``report``: called at each iteration of the
    search with the generator's passes so far and its picture.
    """
    target = torch.from_numpy(crop)
    decode = StyleDecode(nets.style.generator, nets.style.space, CROP).decoded
    base, codes = _inverted(target, nets, decode, inversion)
    variable = codes.clone().requires_grad_()
    optimiser = torch.optim.Adam([variable], SEARCH_RATE * _spread(nets.style) / SPREAD)
    points = nets.keypoints(target)
    for iteration in range(search):
        image = decode(base, variable)
        copies = torch.cat([_diversified(image, rng) for _ in range(COPIES)])
        _, pull = pulled(copies.detach().numpy(), surrogates, references)
        if report is not None:
            report(inversion + iteration + 1, image.detach().numpy())
        held = (100 * (nets.keypoints(image) - points)).square().sum(2).mean()
        optimiser.zero_grad()
        ((copies * torch.from_numpy(pull)).sum() + KEY_REGIONS * held).backward()
        optimiser.step()
    with torch.no_grad():
        return np.asarray(decode(base, variable).clamp(0, 1).numpy(), np.float32)


def _inverted(target: Tensor, nets: GiftNets, decode: Callable[[Tensor, Tensor], Tensor], iterations: int) -> tuple[Tensor, Tensor]:
    style = nets.style
    small = F.avg_pool2d(target, CROP // style.generator.config.size)
    with torch.no_grad():
        first, codes = style.encoder(small)
        seen = nets.perceptual.encoder(target)
    whiten, mean = style.space.whitening(), split_codes(style.generator.config, style.space.mean[None])[1]
    variables = [first.clone().requires_grad_(), codes.clone().requires_grad_()]
    optimiser = torch.optim.Adam(variables, INVERSION_RATE * _spread(style) / SPREAD)
    for _ in range(iterations):
        image = decode(*variables)
        white = (variables[1] - mean).transpose(0, 1) @ whiten
        loss = F.mse_loss(image, target) + PERCEPTUAL * F.mse_loss(nets.perceptual.encoder(image), seen)
        loss = loss + BASE_DISTANCE * F.mse_loss(variables[0], first) + P_NORM * white.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return variables[0].detach(), variables[1].detach()


def _spread(style: Style) -> float:
    """Standard deviation of a number of W+, over faces."""
    return float(style.space.codes_spread().square().mean().sqrt())


def _diversified(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the time noise of a random strength, half of the time smaller on a ground of zeros, in -1..1 (the released code)."""
    image = image * 2 - 1
    if rng.random() < 0.5:
        noise = rng.random() * np.sqrt(0.1) * rng.standard_normal(image.shape)
        image = image + torch.from_numpy(noise.astype(np.float32))
    if rng.random() < 0.5:
        size = int(rng.integers(int(0.9 * CROP), CROP))
        left, top = rng.integers(0, CROP - size + 1, 2)
        image = F.pad(F.interpolate(image, size, mode="bilinear"), (left, CROP - size - left, top, CROP - size - top))
    return (image + 1) / 2


def pulled(copies: Image, surrogates: Sequence[EngineRecogniser], references: Sequence[Image]) -> tuple[float, Image]:
    """Mean cosine over surrogates and copies [N, 3, S, S], and its gradient to the copies."""
    cosines, pull = [], np.zeros_like(copies)
    share = 1 / (len(surrogates) * len(copies))
    for surrogate, reference in zip(surrogates, references, strict=True):
        for index, copy in enumerate(copies):
            found = surrogate.engine.run({"image": copy[None], "reference": reference})
            cosines.append(float(np.ravel(found["similarity"])[0]))
            pull[index] += share * found["grad_image"][0]
    return float(np.mean(cosines)), pull

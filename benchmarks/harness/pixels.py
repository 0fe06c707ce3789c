"""Baselines that add noise to pixels, on the same gradient engines as our methods.

All have one signature: ``(crop, surrogates, references, mask, radius, rng, iterations)`` to the change [1, 3, 256, 256] within
``radius`` of each pixel. ``references``: one list per surrogate of unit embeddings [1, E] whose similarity is to fall (negated
ones: to rise). The caller scales the result to the PSNR that it wants: baselines are compared at equal quality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.recipes.optimise import SignMomentum
from faceprotect_sdk.judging.recognisers import EngineRecogniser

Image = NDArray[np.float32]
References = Sequence[Sequence[Image]]
Attack = Callable[[Image, Sequence[EngineRecogniser], References, Image, float, np.random.Generator, int], Image]


def pull(image: Image, surrogates: Sequence[EngineRecogniser], references: Sequence[Image]) -> Image:
    """Summed gradient of the similarities, each by its recogniser's spread: one that calls strangers 0.85 alike would hardly count."""
    feeds = [{"image": image, "reference": reference} for reference in references]
    parts = [s.engine.run(feed)["grad_image"] / s.spread for s, feed in zip(surrogates, feeds, strict=True)]
    return np.asarray(np.sum(parts, axis=0), np.float32)


def _start(crop: Image, radius: float, rng: np.random.Generator) -> Image:
    """A tenth of the radius of noise: the gradient of a similarity to oneself is zero at the photo itself."""
    return np.asarray(rng.uniform(-0.1, 0.1, crop.shape) * radius, np.float32)


def mi_fgsm(
    crop: Image,
    surrogates: Sequence[EngineRecogniser],
    references: References,
    mask: Image,
    radius: float,
    rng: np.random.Generator,
    iterations: int = 16,
) -> Image:
    """Sign steps along an L1-normalised momentum, decay 1.

    Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, algorithm 1.
    """
    optimiser = SignMomentum(learning_rate=2 * radius / iterations)
    change = _start(crop, radius, rng)
    for _ in range(iterations):
        gradient = pull(np.clip(crop + mask * change, 0, 1), surrogates, [r[0] for r in references]) * mask
        change = np.clip(optimiser.step(change, gradient), -radius, radius).astype(np.float32)
    return change


def pgd(
    crop: Image,
    surrogates: Sequence[EngineRecogniser],
    references: References,
    mask: Image,
    radius: float,
    rng: np.random.Generator,
    iterations: int = 40,
) -> Image:
    """Sign steps from a random start, projected onto the radius.

    Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, section 2.1.
    """
    change = np.asarray(rng.uniform(-radius, radius, crop.shape), np.float32)
    for _ in range(iterations):
        gradient = pull(np.clip(crop + mask * change, 0, 1), surrogates, [r[0] for r in references]) * mask
        change = np.clip(change - 2.5 * radius / iterations * np.sign(gradient), -radius, radius).astype(np.float32)
    return change


def tip_im(
    crop: Image,
    surrogates: Sequence[EngineRecogniser],
    references: References,
    mask: Image,
    radius: float,
    rng: np.random.Generator,
    iterations: int = 50,
) -> Image:
    """Away from oneself and towards whichever of several targets is nearest by now, along an L2-normalised momentum.

    Yang et al., "Towards face encryption by generating adversarial identity masks", ICCV 2021, algorithm 1 (greedy choice of
    the target at each iteration), without its naturalness term (their gamma = 0, the most protective of their settings).
    ``references``: per surrogate the own embedding first, then the negated targets.
    """
    momentum = np.zeros_like(crop)
    change = _start(crop, radius, rng)
    count = len(references[0])
    for _ in range(iterations):
        image = np.clip(crop + mask * change, 0, 1)
        gradient = pull(image, surrogates, [r[0] for r in references])
        if count > 1:
            looks = [s.embed_crop(image) for s in surrogates]
            parts = zip(looks, surrogates, references, strict=True)
            gains = np.sum([[-float(look @ r[k][0]) / s.spread for k in range(1, count)] for look, s, r in parts], axis=0)
            nearest = 1 + int(np.argmax(gains))
            gradient = gradient + pull(image, surrogates, [r[nearest] for r in references])
        gradient = gradient * mask
        momentum = momentum + gradient / max(float(np.linalg.norm(gradient)), 1e-12)
        step = momentum / max(float(np.abs(momentum).max()), 1e-12)
        change = np.clip(change - 5 * radius / iterations * step, -radius, radius).astype(np.float32)
    return change


ATTACKS: dict[str, Attack] = {"mi-fgsm": mi_fgsm, "pgd": pgd, "tip-im": tip_im}


def at_psnr(crop: Image, change: Image, mask: Image, wanted: float) -> Image:
    """Difference [3, 256, 256] inside the mask, scaled to ``wanted`` dB of the crop."""
    difference = np.clip(crop + mask * change, 0, 1) - crop
    error = max(float(np.sqrt(np.square(difference).mean())), 1e-12)
    return np.asarray(difference[0] * (10 ** (-wanted / 20) / error), np.float32)


def radius_for(psnr: float, mask: Image) -> float:
    """The radius at which noise of full size inside the mask has about this PSNR over the crop."""
    return float(10 ** (-psnr / 20) / np.sqrt(np.square(mask).mean()))

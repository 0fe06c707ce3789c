"""MI-FGSM, the pixel-noise baseline: sign steps along an L1-normalised momentum of the surrogates' gradients.

Dong et al., "Boosting Adversarial Attacks with Momentum", CVPR 2018, algorithm 1 (decay 1, 16 iterations), untargeted, on gradient
engines. The result is scaled so that the crop has a given PSNR: baselines are compared at equal quality.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.optimise import SignMomentum
from faceprotect_sdk.recognisers import EngineRecogniser

ITERATIONS = 16


def mi_fgsm(
    crop: NDArray[np.float32], surrogates: Sequence[EngineRecogniser], mask: NDArray[np.float32], psnr: float
) -> NDArray[np.float32]:
    """Difference [3, 256, 256] for a canonical crop [1, 3, 256, 256] in 0..1, inside ``mask``, at ``psnr`` dB of the crop."""
    wanted = 10 ** (-psnr / 20)
    radius = wanted / float(np.sqrt(np.square(mask).mean()))  # sign noise of this size has about the wanted error
    references = [s.embed_crop(crop)[None] for s in surrogates]
    optimiser = SignMomentum(learning_rate=2 * radius / ITERATIONS)
    rng = np.random.default_rng(0)
    change = rng.uniform(-0.1, 0.1, crop.shape).astype(np.float32) * radius
    for _ in range(ITERATIONS):
        image = np.clip(crop + mask * change, 0, 1)
        feeds = [{"image": image, "reference": reference} for reference in references]
        # By its spread, or recognisers that call strangers 0.85 alike would hardly count beside those that call them 0.
        pulls = [s.engine.run(feed)["grad_image"] / s.spread for s, feed in zip(surrogates, feeds, strict=True)]
        gradient = np.sum(pulls, axis=0) * mask
        change = np.clip(optimiser.step(change, gradient), -radius, radius).astype(np.float32)
    difference = np.clip(crop + mask * change, 0, 1) - crop
    return np.asarray(difference[0] * (wanted / np.sqrt(np.square(difference).mean())), np.float32)

"""The step of the method ``latent``: an offset in the autoencoder's latent, the recognisers it must pass, the price of the change.

loss = sum_k weights_k * cos(F_k(seen), reference_k) + penalty_weight * penalty + <image, image_cotangent>

with ``image = original + mask * (decode(latent + offset) - decode(latent))``, what the recognisers see
``seen = rows @ image @ cols + noise`` (input diversity, drawn on the host), and ``penalty = MSE + shares[0] * MSE of chroma +
shares[1] * (1 - SSIM)`` between image and original; the recipe says how large the shares are. The last term lets recognisers that
are not in the graph take part: their gradient arrives as a cotangent.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LUMA = (0.299, 0.587, 0.114)


def reference_input(surrogate: str) -> str:
    """Name of the step input that takes the own embedding in one surrogate's eyes."""
    return f"reference_{surrogate.replace('-', '_')}"


def luma(x: Tensor) -> Tensor:
    """Luma [N, 1, H, W] of RGB [N, 3, H, W]."""
    return (x * x.new_tensor(LUMA).reshape(1, 3, 1, 1)).sum(1, keepdim=True)


def ssim(image: Tensor, other: Tensor, window: int = 7) -> Tensor:
    """Mean structural similarity of two [1, 3, S, S] images in 0..1, on luma, uniform windows.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", TIP 2004, eq. 13, with uniform
    windows instead of Gaussian ones (an average pool is what every engine runs fast).
    """

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, stride=1)

    x, y = luma(image), luma(other)
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x * mean_x, mean(y * y) - mean_y * mean_y
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (top / ((mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2))).mean()


def protected_image(decoder: nn.Module, latent: Tensor, offset: Tensor, decoded_original: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """``original`` plus the masked difference of two decodings: what the autoencoder cannot reconstruct cancels."""
    return combine(decoder(latent + offset), decoded_original, original, mask)


def combine(decoded: Tensor, decoded_original: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """The same, for a decoding that is there already."""
    return (original + mask * (decoded - decoded_original)).clamp(0, 1)


class LatentDecode(nn.Module):
    """Forward only: the image for an offset, and the plain decoding (not clamped, so that it cancels where it overshoots)."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor, offset: Tensor, decoded_original: Tensor, original: Tensor, mask: Tensor) -> dict[str, Tensor]:
        decoded = self.decoder(latent + offset)
        return {"image": combine(decoded, decoded_original, original, mask), "decoded": decoded}


class LatentStep(nn.Module):
    """The fused step; ``surrogates`` map canonical crops [1, 3, 256, 256] to unit embeddings, in the order of ``weights``.

    Weights that arrive as inputs (a recogniser whose tensors live in an installed package) are passed on by prefix: a surrogate
    that has an attribute ``weight_names`` is called with those keyword arguments.
    """

    def __init__(self, decoder: nn.Module, surrogates: dict[str, nn.Module]) -> None:
        super().__init__()
        self.decoder = decoder
        self.surrogates = nn.ModuleDict(surrogates)

    def forward(
        self, latent: Tensor, offset: Tensor, decoded_original: Tensor, original: Tensor, mask: Tensor, rows: Tensor, cols: Tensor,
        noise: Tensor, weights: Tensor, penalty_weight: Tensor, shares: Tensor, image_cotangent: Tensor, **named: Tensor,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Returns loss [1], similarity [K], penalty [1], mse [1] and difference [1, 3, S, S] (image minus original)."""
        image = protected_image(self.decoder, latent, offset, decoded_original, original, mask)
        seen = rows @ image @ cols + noise
        similarities = []
        for name, surrogate in self.surrogates.items():
            package = {key: named[key] for key in getattr(surrogate, "weight_names", ())}
            similarities.append((surrogate(seen, **package) * named[reference_input(name)]).sum(1))
        similarity = torch.cat(similarities)
        difference = image - original
        mse = difference.square().mean().reshape(1)
        chroma = (difference - luma(difference)).square().mean().reshape(1)
        penalty = mse + shares[0] * chroma + shares[1] * (1 - ssim(image, original)).reshape(1)
        loss = (weights * similarity).sum() + penalty_weight * penalty + (image * image_cotangent).sum()
        return {"loss": loss, "similarity": similarity, "penalty": penalty, "mse": mse, "difference": difference}


"""The step of a search in a generator's codes: an offset, the recognisers it must pass, the price of the change.

loss = sum_k weights_k * cos(F_k(seen), reference_k) + penalty_weight * penalty + <image, image_cotangent>

with ``image = original + mask * (decode(codes, offset) - decoded_original)``, what the recognisers see
``seen = rows @ image @ cols + noise`` (input diversity, drawn on the host), and the penalty of ``penalty.py`` with
``shares[3 + i] * price_i`` added to it; the recipe says how large the shares are, the method which further prices there are: of what
happens inside the generator, then of the image. The last term of the loss lets recognisers that are not in the graph take part: their
gradient arrives as a cotangent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceprotect_export.objectives.penalty import SHARES, Penalty
from faceprotect_sdk.face.align import CROP


def reference_input(surrogate: str) -> str:
    """Name of the step input that takes the embedding to move away from, in one surrogate's eyes."""
    return f"reference_{surrogate.replace('-', '_')}"


def combine(decoded: Tensor, decoded_original: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """``original`` plus the masked difference of two decodings: what the generator cannot reconstruct cancels."""
    return (original + mask * (decoded - decoded_original)).clamp(0, 1)


class Decode(nn.Module):
    """A generator as a search sees it: ``inputs`` by name (one of them ``offset``) to an image [1, 3, S, S].

    One that prices what happens inside it takes ``price_inputs`` for that, and says so in :meth:`priced`.
    """

    inputs: tuple[str, ...]
    price_inputs: tuple[str, ...] = ()

    def priced(self, **given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The image, and prices [1] of its own by name."""
        return self(**given), {}


class Term(nn.Module):
    """A further price of the change: the image and ``inputs`` by name to a number [1]."""

    inputs: tuple[str, ...]


class LatentDecode(Decode):
    """A decoder on ``latent + offset``."""

    inputs = ("latent", "offset")

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor, offset: Tensor) -> Tensor:
        return self.decoder(latent + offset)


class QuickDecode(Decode):
    """A small decoder on ``latent + offset[:, :L]``, plus a fine change: cubic B-splines two pixels apart, of the rest of the offset.

    A decoder alone draws what a face may have, and hardly anything fine; splines alone draw lines where skin is smooth. Together
    they need less change than either. Of the fine part four by four coefficients lie under one number of the latent, in red, green
    and blue. Unser, "Splines: a perfect fit for signal and image processing", IEEE SPM 1999.
    """

    inputs = ("latent", "offset")
    #: Pixels between two splines.
    apart = 2
    #: What 1 of the offset moves them by, beside numbers of the latent, which are of about unit scale: a search moves both alike.
    share = 0.05
    spline: Tensor

    def __init__(self, decoder: nn.Module, latent: int, size: int = CROP) -> None:
        """``latent``: its channels, at an eighth of ``size``."""
        super().__init__()
        self.decoder, self.latent = decoder, latent
        self.register_buffer("spline", cubic_splines(size, self.apart))

    @property
    def channels(self) -> int:
        """Of the offset [1, channels, S/8, S/8]."""
        return self.latent + 3 * (8 // self.apart) ** 2

    def forward(self, latent: Tensor, offset: Tensor) -> Tensor:
        coefficients = nn.functional.pixel_shuffle(offset[:, self.latent :], 8 // self.apart)
        fine = self.spline @ coefficients @ self.spline.T
        return self.decoder(latent + offset[:, : self.latent]) + self.share * fine


def cubic_splines(size: int, apart: int) -> Tensor:
    """Matrix [size, size / apart] of cubic B-splines ``apart`` pixels from each other, one a column; rows far from an edge sum to 1."""
    centres = (torch.arange(size // apart, dtype=torch.float64) + 0.5) * apart - 0.5
    far = ((torch.arange(size, dtype=torch.float64)[:, None] - centres) / apart).abs()
    near, tail = 2 / 3 - far**2 + far**3 / 2, (2 - far).clamp(min=0) ** 3 / 6
    return torch.where(far < 1, near, tail).float()


class SearchDecode(nn.Module):
    """Forward only: the image for an offset, and the plain decoding (not clamped, so that it cancels where it overshoots)."""

    def __init__(self, decode: Decode) -> None:
        super().__init__()
        self.decode = decode

    def forward(self, decoded_original: Tensor, original: Tensor, mask: Tensor, **given: Tensor) -> dict[str, Tensor]:
        decoded = self.decode(**given)
        return {"image": combine(decoded, decoded_original, original, mask), "decoded": decoded}


class SearchStep(nn.Module):
    """The fused step; ``surrogates`` map canonical crops [1, 3, 256, 256] to unit embeddings, in the order of ``weights``.

    ``terms``: further prices, by the name under which they are put out; ``shares[3:]`` are in the order of the generator's own and these.
    Weights that arrive as inputs (a recogniser whose tensors live in an installed package) are passed on by prefix: a surrogate
    that has an attribute ``weight_names`` is called with those keyword arguments.
    """

    def __init__(self, decode: Decode, surrogates: dict[str, nn.Module], terms: dict[str, Term] | None = None, crop: int = CROP) -> None:
        """``crop``: side of the crops."""
        super().__init__()
        self.decode = decode
        self.surrogates = nn.ModuleDict(surrogates)
        self.terms = nn.ModuleDict(terms or {})
        self.penalty = Penalty(crop)

    def seen(self, image: Tensor, rows: Tensor, cols: Tensor, noise: Tensor) -> Tensor:
        """What the recognisers see of an image [1, 3, S, S]."""
        return rows @ image @ cols + noise

    def forward(
        self,
        decoded_original: Tensor,
        original: Tensor,
        mask: Tensor,
        rows: Tensor,
        cols: Tensor,
        noise: Tensor,
        weights: Tensor,
        penalty_weight: Tensor,
        shares: Tensor,
        image_cotangent: Tensor,
        **named: Tensor,
    ) -> dict[str, Tensor]:
        """Returns loss [1], similarity [K], penalty [1], mse [1], each further term [1], difference [1, 3, S, S] (image minus original),
        and what it is without the mask, ``moved`` [1, 3, S, S]: where a search in pixels goes on from.
        """
        decoded, priced = self.decode.priced(**{name: named[name] for name in (*self.decode.inputs, *self.decode.price_inputs)})
        moved = decoded - decoded_original
        image = (original + mask * moved).clamp(0, 1)
        seen = self.seen(image, rows, cols, noise)
        similarities = []
        for name, surrogate in self.surrogates.items():
            package = {key: named[key] for key in getattr(surrogate, "weight_names", ())}
            similarities.append((surrogate(seen, **package) * named[reference_input(name)]).sum(1))
        similarity = torch.cat(similarities)
        difference = image - original
        penalty, mse = self.penalty(image, original, shares)
        for name, term in self.terms.items():
            priced[name] = term(image, **{key: named[key] for key in term.inputs})  # type: ignore[union-attr]
        for index, price in enumerate(priced.values()):
            penalty = penalty + shares[len(SHARES) + index] * price
        loss = (weights * similarity).sum() + penalty_weight * penalty + (image * image_cotangent).sum()
        return {"loss": loss, "similarity": similarity, "penalty": penalty, "mse": mse, **priced, "difference": difference, "moved": moved}

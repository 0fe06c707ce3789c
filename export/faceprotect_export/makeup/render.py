"""Paints makeup on bare faces and says in words what it painted: pairs of which the truth is known.

Colour is laid over the skin as pigment is: it takes the light and the folds of what is under it, in the opacity of the look. Only that
which a look names is painted; skin, hair and eyes stay bit for bit what they were elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from faceprotect_export.makeup.regions import Frame, brows, cheeks, lashes, regions, skin_colour
from faceprotect_export.objectives.penalty import luma

#: Pigments, sRGB in 0..1, by the word that a caption has for them.
LIPSTICKS = {
    "red": (0.72, 0.06, 0.11),
    "pink": (0.87, 0.33, 0.49),
    "coral": (0.91, 0.36, 0.27),
    "nude": (0.72, 0.45, 0.37),
    "plum": (0.42, 0.10, 0.26),
    "berry": (0.58, 0.08, 0.28),
    "brown": (0.45, 0.21, 0.15),
    "orange": (0.88, 0.35, 0.12),
}
SHADOWS = {
    "brown": (0.36, 0.23, 0.17),
    "blue": (0.18, 0.33, 0.66),
    "green": (0.17, 0.43, 0.31),
    "purple": (0.42, 0.21, 0.52),
    "gold": (0.68, 0.52, 0.30),
    "grey": (0.28, 0.28, 0.31),
    "rose": (0.72, 0.40, 0.45),
    "taupe": (0.50, 0.40, 0.36),
}
BLUSHES = {"pink": (0.89, 0.40, 0.47), "peach": (0.93, 0.53, 0.40), "rose": (0.78, 0.31, 0.38)}
LINERS = {"black": (0.05, 0.04, 0.05), "brown": (0.22, 0.13, 0.09)}
#: Finishes: of lips and lids.
FINISHES = ("matte", "satin", "glossy")
#: Words for how much of a pigment there is, and the opacities up to which they are used.
AMOUNTS = (("light", 0.38), ("", 0.62), ("strong", 1.0))
BARE = "a face without makeup"


@dataclass(frozen=True)
class Pigment:
    """A colour by its word, how much of it covers the skin (0..1), and its finish."""

    colour: str
    opacity: float
    finish: str = "satin"


@dataclass(frozen=True)
class Look:
    """What is painted where; None is nothing."""

    lipstick: Pigment | None = None
    eyeshadow: Pigment | None = None
    eyeliner: Pigment | None = None
    blush: Pigment | None = None
    brow: float = 0.0

    def caption(self) -> str:
        """In words, as :func:`faceprotect_export.makeup.encoder.words` reads them."""
        parts = [_said(getattr(self, field.name), field.name) for field in fields(self) if field.name != "brow"]
        parts += ["filled brows"] if self.brow > 0 else []
        parts = [part for part in parts if part]
        if not parts:
            return BARE
        return "a face with " + (", ".join(parts[:-1]) + " and " if len(parts) > 1 else "") + parts[-1]


#: The looks that ship.
LOOKS = {
    "natural": Look(Pigment("nude", 0.45), Pigment("taupe", 0.3, "matte"), None, Pigment("peach", 0.25), 0.2),
    "rose": Look(Pigment("pink", 0.6), Pigment("rose", 0.45), Pigment("brown", 0.6), Pigment("pink", 0.4), 0.25),
    "classic": Look(Pigment("red", 0.8), Pigment("gold", 0.3), Pigment("black", 0.8), Pigment("rose", 0.3), 0.35),
    "smoky": Look(Pigment("plum", 0.65, "matte"), Pigment("grey", 0.65, "matte"), Pigment("black", 0.9), Pigment("rose", 0.25), 0.4),
}


def _said(pigment: Pigment | None, what: str) -> str:
    if pigment is None:
        return ""
    amount = next(word for word, most in AMOUNTS if pigment.opacity <= most)
    finish = pigment.finish if what in ("lipstick", "eyeshadow") and pigment.finish != "satin" else ""
    return " ".join(word for word in (amount, finish, pigment.colour, what) if word)


def random_look(rng: np.random.Generator) -> Look:
    """Any of them, each part with a chance of its own; now and then none."""

    def pigment(colours: dict[str, tuple[float, float, float]], chance: float, finishes: bool = False) -> Pigment | None:
        if rng.random() > chance:
            return None
        finish = str(rng.choice(FINISHES)) if finishes else "satin"
        return Pigment(str(rng.choice(list(colours))), float(rng.uniform(0.2, 0.95)), finish)

    if rng.random() < 0.08:
        return Look()
    return Look(
        pigment(LIPSTICKS, 0.75, True),
        pigment(SHADOWS, 0.7, True),
        pigment(LINERS, 0.4),
        pigment(BLUSHES, 0.6),
        float(rng.uniform(0.15, 0.6)) if rng.random() < 0.3 else 0.0,
    )


def paint(image: Tensor, points: Tensor, look: Look) -> Tensor:
    """``look`` on faces [N, 3, S, S] RGB 0..1 with key points [N, 13, 2]; the same shape and range."""
    frame, found = Frame(points, image.shape[-1]), regions(image, points)
    skin, own = found["skin"], skin_colour(image, frame)
    if look.blush:
        image = _laid(image, 0.55 * cheeks(frame)[:, None] * skin, look.blush, BLUSHES, own)
    if look.eyeshadow:
        image = _laid(image, 0.9 * found["eyes"], look.eyeshadow, SHADOWS, own)
    if look.brow:
        hair = torch.sigmoid((0.75 - luma(image) / (luma(own) + 0.02)) / 0.06)
        image = image * (1 - 0.6 * look.brow * brows(frame)[:, None] * hair)
    if look.eyeliner:
        image = _over(image, 0.85 * lashes(frame)[:, None], look.eyeliner.opacity, LINERS[look.eyeliner.colour])
    if look.lipstick:
        image = _laid(image, found["lips"], look.lipstick, LIPSTICKS, own)
    return image.clamp(0, 1)


def _laid(image: Tensor, where: Tensor, pigment: Pigment, colours: dict[str, tuple[float, float, float]], skin: Tensor) -> Tensor:
    """Pigment on skin: its colour in the light of the place, which is that of the skin there beside what it is on average."""
    weight = where + 1e-4
    light = luma(image)
    mean = (light * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
    relief = ((light + 0.03) / (mean + 0.03)).clamp(0.3, 2.5)
    depth = {"matte": 0.75, "satin": 1.0, "glossy": 1.25}[pigment.finish]
    exposure = (0.35 + 0.65 * (luma(skin) / 0.6)).clamp(0.35, 0.95)
    colour = image.new_tensor(colours[pigment.colour]).reshape(1, 3, 1, 1)
    coat = (colour * exposure * relief**depth).clamp(0, 1)
    if pigment.finish == "glossy":
        coat = (coat + 0.35 * (relief - 1.12).clamp(0, 1)).clamp(0, 1)
    return image + where * pigment.opacity * (coat - image)


def _over(image: Tensor, where: Tensor, opacity: float, colour: tuple[float, float, float]) -> Tensor:
    return image + where * opacity * (image.new_tensor(colour).reshape(1, 3, 1, 1) - image)

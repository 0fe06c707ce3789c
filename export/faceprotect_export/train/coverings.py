"""Things drawn before a face: what covers nose and mouth (mask, card, hand, cloth), and what does not (sunglasses)."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from faceprotect_sdk.face.align import CROP, crop_transform, invert

#: Drawn this much larger than the crop, so that edges come out smooth.
_SCALE = 2
Draw = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def cover(photo: np.ndarray, points: np.ndarray, kind: str, generator: np.random.Generator, cloth: np.ndarray | None = None) -> np.ndarray:
    """The photo (uint8 RGB [H, W, 3], new) with a covering of :data:`COVERINGS` or :data:`OTHERS` before the face at five ``points``.

    ``cloth``: another photo, of which a part is taken for ``cloth``.
    """
    crop = cv2.warpAffine(photo, crop_transform(points), (CROP, CROP), borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    if kind == "cloth" and cloth is not None:
        colour, alpha = _cloth(cloth, generator)
    else:
        colour, alpha = {**COVERINGS, **OTHERS}[kind](crop, generator)
    colour = np.clip(colour * _light(generator) + generator.normal(0, generator.uniform(0, 4), colour.shape), 0, 255)
    return _laid(photo, points, colour.astype(np.float32), alpha)


def _laid(photo: np.ndarray, points: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    size = photo.shape[1::-1]
    back = invert(crop_transform(points))
    scale = max(float(np.sqrt(abs(np.linalg.det(back[:, :2])))), 1e-3)
    if scale < 1:  # drawn finer than the photo is
        alpha = cv2.GaussianBlur(alpha, (0, 0), 0.4 / scale)
    weight = cv2.warpAffine(alpha, back, size, flags=cv2.INTER_LINEAR)[..., None]
    over = cv2.warpAffine(colour, back, size, flags=cv2.INTER_LINEAR)
    return np.clip(np.rint(photo * (1 - weight) + over * weight), 0, 255).astype(np.uint8)


def _filled(corners: np.ndarray) -> np.ndarray:
    """A polygon in crop pixels as a map [256, 256] in 0..1, with smooth edges."""
    large = np.zeros((CROP * _SCALE, CROP * _SCALE), np.float32)
    cv2.fillPoly(large, [np.rint(np.asarray(corners) * _SCALE).astype(np.int32)], 1.0)
    return np.asarray(cv2.resize(large, (CROP, CROP), interpolation=cv2.INTER_AREA))


def _pixel(point: np.ndarray) -> tuple[int, int]:
    x, y = np.rint(point)
    return int(x), int(y)


def _light(generator: np.random.Generator) -> np.ndarray:
    """A slope of brightness [256, 256, 1] around 1."""
    y, x = np.mgrid[0:CROP, 0:CROP] / CROP - 0.5
    angle, size = generator.uniform(0, 2 * np.pi), generator.uniform(0, 0.7)
    return (1 + size * (np.cos(angle) * x + np.sin(angle) * y))[..., None]


def _colour(generator: np.random.Generator) -> np.ndarray:
    """What masks and cards are: white, black, blue, or anything."""
    usual = np.array([[235, 235, 235], [150, 190, 220], [30, 30, 35], [90, 130, 170], [245, 225, 225]], np.float32)
    if generator.random() < 0.5:
        return usual[generator.integers(len(usual))] + generator.normal(0, 10, 3)
    return generator.uniform(15, 245, 3)


def _flat(generator: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(_colour(generator), (CROP, CROP, 3)).astype(np.float32)


def _mask(crop: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A medical mask: from the bridge of the nose to under the chin, with or without pleats."""
    top, side = generator.uniform(128, 150), generator.uniform(140, 165)
    bottom, reach = generator.uniform(225, 250), generator.uniform(52, 72)
    low = reach * generator.uniform(0.5, 0.8)
    corners = [[128, top], [128 + reach, side], [128 + low, bottom - 20], [128, bottom], [128 - low, bottom - 20], [128 - reach, side]]
    colour = _flat(generator).copy()
    if generator.random() < 0.6:
        for y in np.linspace(165, 215, generator.integers(2, 5)):
            bent = y + generator.uniform(2, 8) * (1 - ((np.arange(CROP) - 128) / 70.0) ** 2)
            rows = np.arange(CROP)[:, None] - bent[None]
            colour *= (1 - generator.uniform(0.08, 0.25) * np.exp(-0.5 * (rows / 1.8) ** 2))[..., None]
    alpha = _filled(np.asarray(corners) + generator.normal(0, 3, (6, 2)))
    for sign in (-1, 1):  # the straps
        strap = np.zeros_like(alpha)
        end = (round(128 + sign * 100), round(side - generator.uniform(10, 40)))
        cv2.line(strap, (round(128 + sign * reach), round(side)), end, 1.0, 2, cv2.LINE_AA)
        alpha = np.maximum(alpha, strap)
    return colour, alpha


def _card(crop: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A coloured quadrilateral over nose and mouth."""
    top, bottom = generator.uniform(132, 150), generator.uniform(208, 245)
    left, right = generator.uniform(50, 88), generator.uniform(168, 206)
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return _flat(generator), _filled(corners + generator.normal(0, 5, (4, 2)))


def _cloth(other: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A piece of another photo, from its rim, for a scarf, a cup or a telephone."""
    side = min(other.shape[:2])
    size = max(int(side * generator.uniform(0.2, 0.35)), 4)
    y, x = (0, generator.integers(0, other.shape[1] - size)) if generator.random() < 0.5 else (other.shape[0] - size, 0)
    piece = other[y : y + size, x : x + size]
    colour = cv2.resize(piece, (CROP, CROP), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return colour, _card(colour, generator)[1] if generator.random() < 0.5 else _mask(colour, generator)[1]


def _hand(crop: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The back of a hand and four fingers in the skin's own colour, over nose and mouth, with shades between the fingers."""
    skin = np.median(crop[140:170, 80:100].reshape(-1, 3), 0) * generator.uniform(0.8, 1.15) + generator.normal(0, 4, 3)
    colour = np.broadcast_to(skin, (CROP, CROP, 3)).astype(np.float32).copy()
    alpha = np.zeros((CROP, CROP), np.float32)
    turn, sign = generator.uniform(-0.35, 0.35), generator.choice([-1, 1])
    wide = generator.uniform(15, 20)
    start = np.array([128 - sign * 75, 190 + generator.uniform(-10, 10)])
    for finger in range(4):
        across = (finger - 1.5) * wide * 1.02
        length = generator.uniform(120, 145) - 6 * abs(finger - 1.5)
        along = np.array([sign * np.cos(turn), np.sin(turn)])
        normal = np.array([-along[1], along[0]])
        base = start + normal * across
        one = np.zeros_like(alpha)
        cv2.line(one, _pixel(base), _pixel(base + along * length), 1.0, round(wide), cv2.LINE_AA)
        inside = cv2.GaussianBlur(one, (0, 0), 4)
        shade = np.where(one > 0.5, np.clip(0.62 + 0.4 * inside, 0, 1.02), 1.0)
        colour *= shade[..., None]
        alpha = np.maximum(alpha, one)
    back = np.zeros_like(alpha)
    cv2.ellipse(back, tuple(int(v) for v in start), (45, round(2.2 * wide)), np.degrees(turn), 0, 360, 1.0, -1, cv2.LINE_AA)
    blotches = cv2.GaussianBlur(generator.normal(0, 1, (CROP, CROP)).astype(np.float32), (0, 0), 9) * 60
    return colour + blotches[..., None], np.maximum(alpha, back)


def _sunglasses(crop: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Dark glasses of many sizes, with their bridge and temples."""
    alpha = np.zeros((CROP, CROP), np.float32)
    wide, high = generator.uniform(22, 31), generator.uniform(16, 28)
    round_ones = generator.random() < 0.5
    for x in (96, 160):
        centre = (x, round(118 + 0.3 * high))
        if round_ones:
            cv2.ellipse(alpha, centre, (round(wide), round(high)), 0, 0, 360, 1.0, -1, cv2.LINE_AA)
        else:
            low, top = (round(x - wide), round(centre[1] - high)), (round(x + wide), round(centre[1] + high))
            cv2.rectangle(alpha, low, top, 1.0, -1)
    cv2.line(alpha, (30, 112), (226, 112), 1.0, 5, cv2.LINE_AA)
    return np.broadcast_to(generator.uniform(5, 60, 3), (CROP, CROP, 3)).astype(np.float32), alpha * generator.uniform(0.85, 1.0)


#: What covers nose and mouth ("cloth" needs a photo to be cut from), and what leaves them free.
COVERINGS: dict[str, Draw] = {"mask": _mask, "card": _card, "hand": _hand, "cloth": _card}
OTHERS: dict[str, Draw] = {"sunglasses": _sunglasses}

"""Input diversity as plain matrices, drawn on the host and fed to the engine.

Every transformation here acts on rows and columns separately, so a whole chain of them is `rows @ image @ cols + noise`
with two constant matrices: exact, differentiable, and accepted by every runtime. (Diversity in the loss: Xie et al.
2019, arXiv 1803.06978.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.errors import RecipeError
from faceprotect_engines.recipes.philox import Purpose, Stream

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class DrawSettings:
    """How far a draw may go.

    probability: of a diversified step (else the identity).  resize: [low, high] factor of a down-and-up resize.
    zoom: [low, high] magnification about the centre: recognisers cut the face tighter or wider than each other.
    shift: largest move in pixels.  blur: [low, high] Gaussian sigma in pixels.  noise_std: largest standard deviation
    of the added noise, in the image's units; the actual one is uniform below it.  flip: probability of a mirror image.
    """

    probability: float = 0.5
    resize: tuple[float, float] = (1.0, 1.0)
    zoom: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    blur: tuple[float, float] = (0.0, 0.0)
    noise_std: float = 0.0
    flip: float = 0.0

    def __post_init__(self) -> None:
        """Raise RecipeError for a value outside its range."""
        for name in ("probability", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"draws: {name} is {getattr(self, name)!r}; give a probability in [0, 1]")
        if not 0 < self.resize[0] <= self.resize[1] <= 1:
            raise RecipeError(f"draws: resize is {list(self.resize)}; give [low, high] with 0 < low <= high <= 1")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise RecipeError(f"draws: zoom is {list(self.zoom)}; give [low, high] with 0 < low <= high")
        if not 0 <= self.blur[0] <= self.blur[1]:
            raise RecipeError(f"draws: blur is {list(self.blur)}; give [low, high] with 0 <= low <= high")
        if not self.shift >= 0 or not self.noise_std >= 0:
            raise RecipeError("draws: shift and noise_std must be 0 or more")


@dataclass(frozen=True)
class Draw:
    """rows and cols [1,S,S], noise [1,C,S,S], float32; `clean` when it is the identity."""

    rows: Matrix
    cols: Matrix
    noise: Matrix
    clean: bool

    def apply(self, image: Matrix) -> Matrix:
        """`rows @ image @ cols + noise` for an image [1,C,S,S]."""
        return _float(self.rows[:, None] @ image @ self.cols[:, None] + self.noise)

    def pull_back(self, cotangent: Matrix) -> Matrix:
        """Gradient at the image, given the gradient [1,C,S,S] at `apply(image)`."""
        return _float(self.rows.transpose(0, 2, 1)[:, None] @ cotangent @ self.cols.transpose(0, 2, 1)[:, None])


def identity_draw(size: int, channels: int = 3) -> Draw:
    """The draw that changes nothing."""
    eye = np.eye(size, dtype=np.float32)[None]
    return Draw(eye, eye, np.zeros((1, channels, size, size), np.float32), clean=True)


def draw(settings: DrawSettings, size: int, stream: Stream, step: int, channels: int = 3) -> Draw:
    """The draw of one step for images [1, channels, size, size]; the same stream and step give the same draw."""
    chance, resize, blur, down, across, zoom, flip, level = stream.uniform(8, step, Purpose.DRAW)
    if chance >= settings.probability:
        return identity_draw(size, channels)
    small = max(1, round(size * _between(settings.resize, resize)))
    # products in float32: they are a part of what a step takes
    smooth: Matrix = _float(blur_matrix(size, _between(settings.blur, blur)))
    if small < size:
        smooth = _float(smooth @ _float(resize_matrix(small, size)) @ _float(resize_matrix(size, small)))
    reach, magnified = (-settings.shift, settings.shift), _between(settings.zoom, zoom)
    rows = _float(smooth @ _float(move_matrix(size, _between(reach, down), magnified)))
    cols = (smooth @ _float(move_matrix(size, _between(reach, across), magnified))).T
    if flip < settings.flip:
        cols = cols[:, ::-1]
    noise = np.float32(settings.noise_std * level) * stream.normal((1, channels, size, size), step, Purpose.NOISE)
    return Draw(rows[None], _float(cols[None]), noise, clean=False)


def _between(interval: tuple[float, float], part: float) -> float:
    return interval[0] + (interval[1] - interval[0]) * part


def resize_matrix(source: int, target: int) -> NDArray[np.float64]:
    """[target, source] matrix of a bilinear resize with half-pixel centres, widened when shrinking (antialiased)."""
    scale = source / target
    support = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    distance = np.abs(centres[:, None] - np.arange(source)[None]) / support
    weights = np.clip(1.0 - distance, 0.0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def move_matrix(size: int, pixels: float, zoom: float = 1.0) -> NDArray[np.float64]:
    """[size, size] matrix of a magnification about the centre, then a move (linear between pixels, the edge repeated)."""
    centre = (size - 1) / 2
    positions = np.clip((np.arange(size) - pixels - centre) / zoom + centre, 0, size - 1)
    return np.asarray(np.clip(1.0 - np.abs(positions[:, None] - np.arange(size)[None]), 0.0, None))


def blur_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    """[size, size] matrix of a Gaussian blur, each row renormalised at the edges."""
    if sigma < 1e-3:
        return np.eye(size)
    index = np.arange(size)
    weights = np.exp(-0.5 * np.square((index[:, None] - index[None]) / sigma))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _float(array: NDArray[np.floating[Any]]) -> Matrix:
    return np.ascontiguousarray(array, dtype=np.float32)

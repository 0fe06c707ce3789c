"""Whether something is held or worn before nose and mouth: a mask, a hand, a scarf. There is no skin to change, and paint would show.

Histograms of oriented gradients of the lower face (Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005,
section 6, with cells of their own neighbourhood's contrast in place of blocks), weighed by one linear rule. The rule was fitted by
``python -m faceprotect_export.train.covered``; how often it errs: docs/support.md, "Covered faces".
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

#: Left, top and side in the crop of what is looked at, and the side that it is brought to.
WINDOW = (64, 116, 128)
SIDE, CELLS, BINS = 64, 8, 9
_BLUR, _FLAT = 0.7, 2e-5
#: Log odds from which a face counts as covered: even of tightly cut photos, whose points are less exact, fewer than 2 of 100 get there.
MARGIN = 1.5


def is_covered(crop: NDArray[np.float32]) -> bool:
    """Whether nose and mouth are covered in a canonical crop [1, 3, 256, 256], float32 RGB in 0..1."""
    weights, bias = rule()
    return float(features(crop) @ weights) + bias > MARGIN


@cache
def rule() -> tuple[NDArray[np.float32], float]:
    """Weights [576] and bias of the rule that ships."""
    with resources.as_file(resources.files("faceprotect_sdk.face") / "covered.npy") as path:
        numbers = np.load(path, allow_pickle=False).astype(np.float32)
    return numbers[:-1], float(numbers[-1])


def features(crop: NDArray[np.float32]) -> NDArray[np.float32]:
    """Histograms [576] float32 of a canonical crop [1, 3, 256, 256]: 9 directions in 8 x 8 cells."""
    import cv2

    left, top, side = WINDOW
    window = crop[0, :, top : top + side, left : left + side]
    grey = np.asarray(np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), window, 1), np.float32)
    small = cv2.GaussianBlur(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), (0, 0), _BLUR)
    size, direction = _gradient(np.asarray(small, np.float32))
    low = np.floor(direction).astype(np.int64) % BINS
    share = direction - np.floor(direction)
    bins = np.zeros((BINS, SIDE, SIDE), np.float32)
    rows, cols = np.indices(size.shape)
    bins[low, rows, cols] += size * (1 - share)
    bins[(low + 1) % BINS, rows, cols] += size * share
    cell = SIDE // CELLS
    cells = bins.reshape(BINS, CELLS, cell, CELLS, cell).mean((2, 4))
    around = cv2.blur((cells**2).sum(0), (3, 3), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(np.sqrt(cells / np.sqrt(around + _FLAT)), np.float32).ravel()


def _gradient(grey: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Length, and direction without sign in bins 0..9, of the brightness's slope; zero at the rim."""
    across, down = np.zeros_like(grey), np.zeros_like(grey)
    across[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    down[1:-1] = grey[2:] - grey[:-2]
    direction = (np.arctan2(down, across) % np.pi) / np.float32(np.pi) * BINS
    return np.asarray(np.hypot(across, down), np.float32), np.asarray(direction, np.float32)

"""EXIF's eight orientations as turns of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def turned_view(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored rows and columns, the first two axes, as upright ones: a view that writes through, nothing is copied."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def turn(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation 1..8 to the first two axes: stored rows and columns to upright ones."""
    return np.ascontiguousarray(turned_view(array, orientation))


def turn_back(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Inverse of :func:`turn`: only 6 and 8 are not their own inverse."""
    return turn(array, {6: 8, 8: 6}.get(orientation, orientation))

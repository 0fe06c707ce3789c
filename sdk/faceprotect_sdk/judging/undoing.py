"""Whether a change takes away what an earlier protection has put into a face.

A search leads away from the face that it is given. Where that face has been protected before, and the mark in the metadata is lost
(mark.py), the cheapest way leads home: the change is that of the first time with the other sign. On an untouched face a change has nothing
to do with the fine detail that it meets, but for a little contrast that it takes away; on a protected one it takes away a large part of
itself.

``share`` is the part of a change that lies, with the opposite sign, in the photo already, where the photo is smooth enough to tell: the
regression of what is finer than 2 px on the change. From which share on a photo counts as protected before stands in the recipe
(``"undoes"``), for methods differ in what they do to fine detail. ``docs/support.md`` says on how many faces that was looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FINE, _AROUND = 2.0, 6.0


def share(crop: NDArray[np.float32], difference: NDArray[np.float32], mask: NDArray[np.float32]) -> float:
    """Part of ``difference`` [3, 256, 256] that takes away what stands in ``crop`` [1, 3, 256, 256]; 0 for no change, below 0 if it adds.

    ``mask``: [1, 1, 256, 256]. All float32, RGB in 0..1.
    """
    photo, change = (_fine(image.transpose(1, 2, 0)) for image in (crop[0], difference))
    ours, theirs = (_strength(image) for image in (change, photo))
    weight = mask[0, 0][..., None] * np.minimum(1.0, (2 * ours / np.maximum(theirs, 1e-6)) ** 2)
    power = float((weight * change * change).sum())
    return -float((weight * photo * change).sum()) / power if power > 0 else 0.0


def _fine(image: NDArray[np.float32]) -> NDArray[np.float32]:
    import cv2

    return np.asarray(image - cv2.GaussianBlur(image, (0, 0), _FINE), np.float32)


def _strength(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root of the mean square around each pixel, [H, W, 1]."""
    import cv2

    power = cv2.GaussianBlur(np.square(image).mean(2), (0, 0), _AROUND)
    return np.asarray(np.sqrt(power)[..., None] + 1e-5, np.float32)

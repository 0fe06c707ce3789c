"""How far the points of a face mesh went: the shape of a face, which neither PSNR nor SSIM sees.

The network is MediaPipe's or one of its form: ``image`` [1, 3, 192, 192] float32 RGB 0..1 to ``points`` [1, 468, 3] in pixels of 192
(Kartynnik et al., "Real-time facial surface geometry from monocular video on mobile GPUs", 2019). None ships.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.face.align import CROP

#: The engine that has the network, where a store holds one.
ENGINE = "face-mesh"
SIDE = 192

#: A network: feeds to outputs, by name.
Network = Callable[[Mapping[str, NDArray[np.float32]]], Mapping[str, NDArray[np.float32]]]


def mesh_points(crop: NDArray[np.float32], network: Network) -> NDArray[np.float64]:
    """Points [468, 2], x and y in pixels of the 256 px crop, of a crop [1, 3, 256, 256] float32 RGB 0..1.

    The depth that the network gives beside them is a guess, and left out.
    """
    import cv2

    image = cv2.resize(np.ascontiguousarray(crop[0].transpose(1, 2, 0)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    found = network({"image": np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)})["points"]
    return np.asarray(found, np.float64).reshape(-1, 3)[:, :2] * (CROP / SIDE)


def mesh_moved(first: NDArray[np.float32], second: NDArray[np.float32], network: Network) -> float:
    """Mean way of the mesh's points between two aligned crops, in pixels of 256; writing a JPEG again moves them by 0.04."""
    ways = np.linalg.norm(mesh_points(second, network) - mesh_points(first, network), axis=1)
    return float(ways.mean())

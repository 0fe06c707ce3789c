"""What of a photo a face needs: everything that is looked at and changed lies in one rectangle around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.face.detect import Face, shifted
from faceprotect_sdk.face.paste import region_of

#: Beyond the box, as a part of its longer side: the detector's near view has half of it (``faces.face_in_place``), dlib's a quarter.
_AROUND = 0.75


@dataclass(frozen=True)
class Window:
    """A rectangle of an upright photo, in its pixels; the default stands for the whole photo, whatever its size."""

    left: int = 0
    top: int = 0
    right: int | None = None
    bottom: int | None = None

    @classmethod
    def around(cls, face: Face, width: int, height: int) -> Window:
        """What a face in a photo of that size needs: its canonical crop, and its box with what is around it."""
        x0, y0, x1, y1 = face.box
        reach = _AROUND * max(x1 - x0, y1 - y0)
        low = np.floor([x0 - reach, y0 - reach]).astype(int)
        high = np.ceil([x1 + reach, y1 + reach]).astype(int) + 1
        region = region_of(face.points, height, width)
        if region is not None:
            low = np.minimum(low, [region.cols.start, region.rows.start])
            high = np.maximum(high, [region.cols.stop, region.rows.stop])
        low = np.clip(low, 0, [width - 1, height - 1])
        high = np.clip(high, low + 1, [width, height])
        return cls(int(low[0]), int(low[1]), int(high[0]), int(high[1]))

    def cut(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The window of a photo [H, W, C], contiguous; the photo itself where it is all of it."""
        return np.ascontiguousarray(pixels[self.top : self.bottom, self.left : self.right])

    def local(self, face: Face) -> Face:
        """A face of the photo, in pixels of the window."""
        return shifted(face, -self.left, -self.top)

    def back(self, face: Face) -> Face:
        """A face of the window, in pixels of the photo."""
        return shifted(face, self.left, self.top)

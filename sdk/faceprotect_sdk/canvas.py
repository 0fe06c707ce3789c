"""A photo at work: what is looked at of it, what is changed, and what is read back from the bytes that were written.

Whatever looks at one face gets a :class:`Window` of the photo. Of an ordinary photo that is all of it; of one too large to be held
twice (``large.LargePhoto``), or wider than OpenCV's warps can be, it is the face's surroundings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.face.detect import Face, scaled
from faceprotect_sdk.face.selection import Detect, Selection, select
from faceprotect_sdk.face.window import Window
from faceprotect_sdk.photo.encode import encode
from faceprotect_sdk.photo.large import REDUCTION, LargePhoto, decoded_bgr, encode_large, upright_rgb
from faceprotect_sdk.photo.mark import Mark
from faceprotect_sdk.photo.picture import Photo, Pixels
from faceprotect_sdk.photo.reading import load

Cuts = Sequence[NDArray[np.uint8]]
#: Changes upright RGB pixels in place.
Change = Callable[[Pixels], None]
#: OpenCV's warps take no picture of so many pixels a side.
_WARP_LIMIT = 32767


class Canvas(Protocol):
    """A photo whose faces are changed."""

    @property
    def frame(self) -> Photo:
        """The photo; without its pixels where they are not held."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        ...

    def select(self, selection: Selection, detect: Detect) -> tuple[tuple[Face, ...], int]:
        """The faces meant, in pixels of the photo, and how many there are (``selection.select``)."""
        ...

    def windows(self, faces: Sequence[Face]) -> Sequence[Window]:
        """The window of each face."""
        ...

    def cuts(self, windows: Sequence[Window]) -> Cuts:
        """The original in each window, uint8 RGB."""
        ...

    def cuts_of(self, data: bytes, windows: Sequence[Window]) -> Cuts:
        """A file that was written from this photo, decoded, in each window, uint8 RGB."""
        ...

    def write(self, change: Change | None, quality: int, method: str | None) -> bytes:
        """The file of the photo with its pixels changed, if they are to be; with the mark of ``method``, if there is one."""
        ...


class WholeCanvas:
    """A photo that is held decoded."""

    def __init__(self, photo: Photo) -> None:
        """``photo``: never changed."""
        self.frame = photo
        self._pixels = photo.rgb8()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        return self.frame.size

    def select(self, selection: Selection, detect: Detect) -> tuple[tuple[Face, ...], int]:
        """See :class:`Canvas`."""
        return select(self._pixels, selection, detect)

    def windows(self, faces: Sequence[Face]) -> Sequence[Window]:
        """All of the photo, if warps can have it."""
        if max(self.size) < _WARP_LIMIT:
            return [Window()] * len(faces)
        return [Window.around(face, *self.size) for face in faces]

    def cuts(self, windows: Sequence[Window]) -> Cuts:
        """See :class:`Canvas`."""
        return [window.cut(self._pixels) for window in windows]

    def cuts_of(self, data: bytes, windows: Sequence[Window]) -> Cuts:
        """See :class:`Canvas`."""
        written = load(data).rgb8()
        return [window.cut(written) for window in windows]

    def write(self, change: Change | None, quality: int, method: str | None) -> bytes:
        """See :class:`Canvas`."""
        if change is None:
            return encode(self.frame, quality=quality)
        changed = self.frame.pixels.copy()
        change(changed)
        mark = None if method is None else Mark.of(changed, method)
        return encode(self.frame.with_pixels(changed), quality=quality, mark=mark)


class LargeCanvas:
    """A JPEG of which only windows are held decoded: each step decodes it anew."""

    def __init__(self, large: LargePhoto) -> None:
        """``large``: never changed."""
        self._large = large
        self.frame = large.frame
        self.size = large.size

    def select(self, selection: Selection, detect: Detect) -> tuple[tuple[Face, ...], int]:
        """By their names on the reduced decode; what the app names, on all pixels."""
        if not isinstance(selection, str):
            return select(self._upright(self._large.stored()), selection, detect)
        found, count = select(self._large.reduced, selection, lambda pixels: detect(pixels, REDUCTION))
        height, width = self._large.reduced.shape[:2]
        return tuple(scaled(face, self.size[0] / width, self.size[1] / height) for face in found), count

    def windows(self, faces: Sequence[Face]) -> Sequence[Window]:
        """The surroundings of each face."""
        return [Window.around(face, *self.size) for face in faces]

    def cuts(self, windows: Sequence[Window]) -> Cuts:
        """See :class:`Canvas`."""
        return self._cut(self._large.data, windows)

    def cuts_of(self, data: bytes, windows: Sequence[Window]) -> Cuts:
        """See :class:`Canvas`."""
        return self._cut(data, windows)

    def write(self, change: Change | None, quality: int, method: str | None) -> bytes:
        """See :class:`Canvas`."""
        stored = self._large.stored()
        upright = self._upright(stored)
        if change is not None:
            change(upright)
        mark = None if method is None else Mark.of(upright, method)
        return encode_large(self.frame, stored, quality=quality, mark=mark)

    def _cut(self, data: bytes, windows: Sequence[Window]) -> Cuts:
        upright = self._upright(decoded_bgr(data, str(self._large.path or "the photo")))
        return [window.cut(upright) for window in windows]  # copies: the reversed channels are not contiguous

    def _upright(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return upright_rgb(stored, self.frame.orientation)


def canvas_of(photo: Photo | LargePhoto) -> Canvas:
    """The canvas that suits the photo."""
    return LargeCanvas(photo) if isinstance(photo, LargePhoto) else WholeCanvas(photo)

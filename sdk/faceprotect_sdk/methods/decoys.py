"""Decoys: synthetic faces that belong to nobody, to be taken for instead of oneself.

They lie beside the engines as ``decoys/NAME.png``, canonical crops of 256 px, drawn from the style generator
(``export/faceprotect_export/zoo/decoys.py``); ``decoys.json`` beside them says how far they are from every face that was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.errors import EngineNotFound
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.align import CANONICAL_POINTS, CROP
from faceprotect_sdk.face.detect import Face
from faceprotect_sdk.judging.recognisers import Embedding, Recogniser
from faceprotect_sdk.once import Once
from faceprotect_sdk.photo.reading import load

FOLDER = "decoys"


@dataclass(frozen=True)
class Decoy:
    """A synthetic face: ``pixels`` uint8 RGB [256, 256, 3], aligned."""

    name: str
    pixels: NDArray[np.uint8]

    @property
    def face(self) -> Face:
        """Where the face is in the picture: everywhere the canonical place."""
        return Face((0.0, 0.0, float(CROP), float(CROP)), np.array(CANONICAL_POINTS, np.float64), 1.0)


class Decoys:
    """The decoys at hand, and how recognisers see them; each is embedded once, whichever thread asks."""

    def __init__(self, faces: Sequence[Decoy]) -> None:
        """``faces``: at least one."""
        self.faces = tuple(faces)
        self._seen: Once[tuple[str, str], Embedding] = Once()

    @classmethod
    def read(cls, roots: Sequence[Path], name: str | None = None) -> Decoys:
        """Those of the first root that has some, or the one called ``name``; raises EngineNotFound, or UsageError for a name."""
        for root in roots:
            found = sorted((root / FOLDER).glob("*.png"))
            if found:
                chosen = [path for path in found if name in (None, path.stem)]
                if not chosen:
                    raise UsageError(f"no decoy is called '{name}'; there are: {', '.join(path.stem for path in found)}")
                return cls([Decoy(path.stem, load(path).rgb8()) for path in chosen])
        raise EngineNotFound(
            f"no decoys under {', '.join(str(root / FOLDER) for root in roots)}",
            hint="Install again: pip install --force-reinstall faceprotect-sdk, or use goal='dodge'",
        )

    def embedding(self, decoy: Decoy, recogniser: Recogniser) -> Embedding:
        """[E] of a decoy."""
        return self._seen(
            (decoy.name, recogniser.name), lambda: recogniser.embed(decoy.pixels, recogniser.locate(decoy.pixels, decoy.face))
        )

    def least_alike(self, own: Mapping[str, Embedding], searched: Sequence[Recogniser]) -> Decoy:
        """The decoy least like the face: on the way to one that resembles it, a face stays like itself for long.

        ``own``: recogniser name to the face's embedding. Photos of one person may lead to different ones; name one where all
        have to lead to the same.
        """

        def likeness(decoy: Decoy) -> float:
            """Similarity above the threshold, in spreads, of the recogniser that finds the two most alike."""
            pairs = [(one, one.similarity(own[one.name], self.embedding(decoy, one))) for one in searched]
            return max(((similarity - one.threshold) / one.spread for one, similarity in pairs), default=0.0)

        return min(self.faces, key=likeness)

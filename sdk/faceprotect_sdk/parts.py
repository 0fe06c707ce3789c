"""What the calls of one protector share: engines, method, judges. All of it may be used by several threads at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.recipes.recipe import Recipe
from faceprotect_sdk.face import mesh
from faceprotect_sdk.face.detect import Face, face_in_place, find_faces
from faceprotect_sdk.judging import judge
from faceprotect_sdk.judging.recognisers import Recogniser
from faceprotect_sdk.methods import Method, make_method, strength_of
from faceprotect_sdk.methods.decoys import Decoys
from faceprotect_sdk.once import Once
from faceprotect_sdk.pool import EnginePool
from faceprotect_sdk.settings import Settings

DETECTOR = "face-detector"


class Parts:
    """Made at first use, each once; nothing of it changes afterwards, so that calls share it without waiting for each other."""

    def __init__(self, settings: Settings, pool: EnginePool, recipe: Recipe, look: str | None) -> None:
        """``recipe``: of the method, whose engines are in the pool's store, as the ``look`` of that name is.

        Raises UsageError for a look or strength that the recipe has not.
        """
        self.settings, self.pool = settings, pool
        self.strength = strength_of(recipe, settings.strength)
        folders = [Path(folder) for folder in settings.surrogates]
        self.method: Method = make_method(recipe, pool, folders, settings.without, look)
        self._judges: Once[str, list[Recogniser]] = Once()
        self._decoys: Once[str, Decoys] = Once()

    def detect(self, pixels: NDArray[np.uint8], reduction: int = 1) -> tuple[Face, ...]:
        """Faces of uint8 RGB [H, W, 3], largest first (``faces.find_faces``)."""
        return find_faces(pixels, self.pool(DETECTOR), reduction)

    def look(self, pixels: NDArray[np.uint8], face: Face) -> Face | None:
        """A given face in a photo of the same size (``faces.face_in_place``)."""
        return face_in_place(pixels, face, self.pool(DETECTOR))

    def mesh(self) -> mesh.Network | None:
        """The face mesh of the store, where it holds one with its weights."""
        store = self.pool.store
        return self.pool(mesh.ENGINE).run if mesh.ENGINE in store.names() and store.has_weights(mesh.ENGINE) else None

    def decoys(self) -> Decoys | None:
        """The faces that the goal decoy leads to; None at the other goal."""
        if self.settings.goal != "decoy":
            return None
        return self._decoys("", lambda: Decoys.read(self.pool.store.roots, self.settings.decoy))

    def judges(self) -> list[Recogniser]:
        """Recognisers that score without being searched on (or are found to share weights with one that is)."""
        return self._judges("", self._found_judges)

    def _found_judges(self) -> list[Recogniser]:
        found = judge.shipped_judges(self.pool) + judge.given_judges(self.settings.judges, self.pool)
        return judge.unique(found + (judge.installed_judges() if self.settings.installed_judges else []))

    def panel(self) -> list[Recogniser]:
        """All that score: surrogates in use, shipped ones that are not, and judges."""
        return judge.unique([*self.method.surrogates(), *judge.shipped_surrogates(self.pool, []), *self.judges()])

    def wide_panel(self, notes: list[str]) -> list[Recogniser]:
        """The same for a comparison, where nothing is searched; a surrogate whose weights are missing becomes a note."""
        given = judge.given_judges(self.settings.surrogates, self.pool)
        return judge.unique([*judge.shipped_surrogates(self.pool, notes), *given, *self.judges()])

    def dependent(self, panel: Sequence[Recogniser]) -> frozenset[str]:
        """Names of those that the method searches on or has learnt from, by their weights."""
        identities = self.method.identities()
        return frozenset(one.name for one in panel if judge.took_part(one, identities))

    def warm(self) -> None:
        """Open every engine that a protection asks for."""
        self.pool(DETECTOR)
        self.panel()
        self.mesh()
        self.decoys()
        for engine in self.method.engines():
            self.pool(engine)

    def close(self) -> None:
        """Release what is not the pool's: judges given as plain ONNX files."""
        for recogniser in (one for judges in self._judges.take() for one in judges):
            release = getattr(recogniser, "close", None)
            if release is not None:
                release()

"""A method as its recipe says: which recognisers it searches on, what its engines get, and one run of it.

Nothing here knows a method by name. The arrays that a recipe may read: arrays.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.engine import Engine
from faceprotect_engines.errors import RecipeError
from faceprotect_engines.recipes.recipe import ExtraSurrogate, Progress, run_recipe
from faceprotect_engines.recipes.schema import DescendStage, MapStage, Recipe
from faceprotect_sdk.cancel import Check, Watched
from faceprotect_sdk.errors import RecogniserError, UsageError
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.judging.recognisers import EngineRecogniser, identity_of
from faceprotect_sdk.methods import arrays
from faceprotect_sdk.methods.base import SearchRequest, SearchResult
from faceprotect_sdk.methods.catalogue import DEFAULT, suggested
from faceprotect_sdk.methods.panel import joining, panel
from faceprotect_sdk.once import Once
from faceprotect_sdk.pool import EnginePool


class Search:
    """The method of a recipe over the engines of a pool. Several threads may search at once; what is made at first use is shared."""

    def __init__(
        self, recipe: Recipe, pool: EnginePool, surrogates: Sequence[Path] = (), without: Sequence[str] = (), look: str | None = None
    ) -> None:
        """``pool``: whose store holds the recipe's engines. ``look``: of those that the recipe's engine has (default: its first).

        ``surrogates``: folders of recognisers that join the shipped ones (``export surrogate`` makes them).

        Those of the panel (panel.py) join by themselves once they have been fetched.
        ``without``: shipped ones to leave out of the search, so that they can judge it.
        Raises RecipeError for a recipe that leaves no array ``difference``.
        """
        if arrays.DIFFERENCE not in recipe.made:
            said = f"'{recipe.name}' leaves no array '{arrays.DIFFERENCE}', so it is no method"
            raise RecipeError(said, hint="Store one in its last stage")
        self.name, self.recipe = recipe.name, recipe
        self.pool = pool
        self._without = frozenset(without)
        self._look = look
        self._further = tuple(surrogates)
        self._members: Once[str, dict[str, str]] = Once()
        self._joined: Once[str, tuple[str | Path, ...]] = Once()
        self._opening = threading.RLock()
        self._own: tuple[EngineRecogniser, ...] | None = None
        self._extra: tuple[EngineRecogniser, ...] = ()

    @property
    def beyond(self) -> str:
        """Name of a method that gets further: what the recipe says, or one that searches where this one does not."""
        return self.recipe.method.beyond or ("" if self.searches else DEFAULT)

    @property
    def mask(self) -> NDArray[np.float32]:
        """Where it may change the canonical crop, [1, 1, 256, 256] float32 in 0..1."""
        return face_mask(self.recipe.method.region)

    @property
    def step(self) -> str:
        """Name of the engine that holds the surrogates: that of the recipe's last descent, or of its last stage."""
        return self._search_stage.engine

    @property
    def _search_stage(self) -> MapStage | DescendStage:
        return (self.recipe.descents or self.recipe.stages)[-1]

    @property
    def searches(self) -> bool:
        """Whether there is a search: surrogates can be left out of one, or join it."""
        return bool(self.recipe.descents)

    @property
    def attempts(self) -> tuple[float, ...]:
        """Of the budget, what each attempt may spend. What does not search, and states nothing, finds the same each time: it gets one."""
        return self.recipe.method.attempts or (() if self.searches else (1.0,))

    @property
    def undoes(self) -> float:
        """What the recipe states."""
        return self.recipe.method.undoes

    @property
    def _joining(self) -> tuple[str | Path, ...]:
        """Surrogates outside the step engine: fetched ones, and further folders; raises UsageError for those where none can join."""
        return self._joined("", self._found_joining)

    def _found_joining(self) -> tuple[str | Path, ...]:
        if _can_join(self.recipe):
            return (*joining(self.pool.store, self._panel, self._without), *self._further)
        if self._further:
            raise UsageError(f"'{self.name}' has no search that further surrogates could join", hint=self._instead(_can_join))
        return ()

    @property
    def _panel(self) -> dict[str, str]:
        """Surrogates that join once they have been fetched, read from the manifests at first use."""
        return self._members("", lambda: panel(self.pool.store))

    def _instead(self, fits: Callable[[Recipe], bool]) -> str:
        return suggested(self.pool.store, fits)

    def _names(self) -> list[str]:
        """Surrogates inside the step engine, in its order."""
        return [str(name) for name in self.pool.manifest(self.step).metadata.get("surrogates", ())]

    def _used(self) -> list[str]:
        """Those that are not left out; raises UsageError for leaving out what is not there."""
        names = self._names()
        if unknown := self._without - {*names, *self._panel}:
            raise UsageError(f"no shipped surrogate is called {sorted(unknown)}; there are: {', '.join([*names, *self._panel])}")
        if taught := sorted(name for name in self._without if self._has_taught(name, names)):
            said = f"'{self.name}' has learnt from {', '.join(taught)}: none can be left out of that"
            raise UsageError(said, hint=self._instead(_free))
        return [name for name in names if name not in self._without]

    def surrogates(self) -> tuple[EngineRecogniser, ...]:
        """Those of the step engine that are in use, in its order, then those that were fetched, then those of further folders."""
        with self._opening:
            return self._opened()

    def _opened(self) -> tuple[EngineRecogniser, ...]:
        if self._own is None:
            used, joining = self._used(), self._joining
            if self.searches and not used and not joining:
                raise UsageError("no surrogate is left to search on", hint="Leave out fewer, or name your own: surrogates=[DIR]")
            own = tuple(EngineRecogniser(self.pool(name), self.pool.manifest(name)) for name in used)
            extra = tuple(self._joins(engine, len(joining)) for engine in joining)
            _check_names([one.name for one in own + extra])
            self._own, self._extra = own, extra
        return self._own + self._extra

    def identities(self) -> tuple[frozenset[str], ...]:
        """Digests of every surrogate, and of what the engines of the recipe have learnt from: no independent judges either."""
        engines: list[str | Path] = [*self._used(), *self._joining]
        return (*(identity_of(self.pool.manifest(engine)) for engine in engines), self._learnt_from)

    @property
    def _learnt_from(self) -> frozenset[str]:
        """sha256 of the recognisers, beside the surrogates, that an engine of the recipe was trained against, in every known form."""
        engines = (self.pool.manifest(stage.engine) for stage in self.recipe.stages)
        stated = frozenset(digest for engine in engines for digest in engine.metadata.get("learnt_from", ()))
        forms = (identity_of(self.pool.manifest(name)) for name in self._panel) if stated else ()
        return stated.union(*(form for form in forms if form & stated))

    def _has_taught(self, name: str, surrogates: Sequence[str]) -> bool:
        """Whether an engine of the recipe was trained against this shipped recogniser."""
        if name in surrogates:
            return not _free(self.recipe)
        return name in self._panel and bool(identity_of(self.pool.manifest(name)) & self._learnt_from)

    def engines(self) -> list[str]:
        """Those of the recipe's stages."""
        return list(dict.fromkeys(stage.engine for stage in self.recipe.stages))

    def search(self, request: SearchRequest) -> SearchResult:
        """Run the recipe on one face; raises what the engine floor raises."""
        self.surrogates()
        recipe, pool, own = self.recipe, self.pool, [one.name for one in self._own or ()]
        given = {
            **arrays.of_request(recipe, request, self._names(), own, pool),
            **arrays.goal_of(recipe, pool, request.decoy, lambda: self._instead(_free)),
            **arrays.look_of(recipe, pool, self._look),
        }
        result = run_recipe(
            recipe,
            pool if request.check is None else _watched(pool, request.check),
            given,
            seed=request.seed,
            parameters={"budget": self._budget(request)} if "budget" in recipe.parameters else None,
            surrogates=[self._extra_surrogate(extra, request) for extra in self._extra],
            progress=_counted(recipe, request.progress),
            deadline=request.deadline,
            workers=pool.cores,
        )
        return SearchResult(_difference(result.arrays), result.passed, tuple(result.trace), late=result.stop == "time")

    def _budget(self, request: SearchRequest) -> float:
        """What the search may spend: the more recognisers it knows, the less it takes to be a stranger to one that it does not know."""
        stage = self._search_stage
        further = stage.join.further if isinstance(stage, DescendStage) and stage.join else 1.0
        return request.budget * further ** max(len(self._extra) - 1, 0)

    def _extra_surrogate(self, extra: EngineRecogniser, request: SearchRequest) -> ExtraSurrogate:
        reference, limit = request.references[extra.name], request.limits[extra.name]
        return ExtraSurrogate(extra.name, extra.engine, reference, limit, request.origins.get(extra.name, 1.0))

    def _joins(self, folder: str | Path, together: int) -> EngineRecogniser:
        engine = self.pool.beside(folder, together)
        if not engine.spec.has_output("grad_image"):
            raise RecogniserError(
                f"{folder}: the engine '{engine.spec.name}' brings no gradient, so it cannot be searched on. "
                "Make one: faceprotect-sdk export surrogate MODEL.onnx -o DIR"
            )
        return EngineRecogniser(engine, self.pool.manifest(folder))


def _watched(engines: EnginePool, check: Check) -> Callable[[str], Engine]:
    return lambda name: Watched(engines(name), check)


def _can_join(recipe: Recipe) -> bool:
    """Whether recognisers can join its search."""
    return any(stage.join is not None for stage in recipe.descents)


def _free(recipe: Recipe) -> bool:
    """Whether no network in it has learnt who is to be fooled, and which way: it goes by what it is told."""
    return arrays.GOAL not in recipe.asked


def _difference(made: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    found = np.array(made[arrays.DIFFERENCE], np.float32)
    if found.size != 3 * CROP * CROP:
        raise RecipeError(f"the recipe leaves a difference {list(found.shape)}, expected [1, 3, {CROP}, {CROP}]")
    return found.reshape(3, CROP, CROP)


def _counted(recipe: Recipe, report: Callable[[int, int], None] | None) -> Callable[[Progress], None]:
    """Reports the steps of all the recipe's searches as those of one: those within a budget, or all where none has one."""
    descents = {index: stage for index, stage in enumerate(recipe.stages) if isinstance(stage, DescendStage)}
    bounded = {index: stage for index, stage in descents.items() if stage.constraint}
    searches = {index: stage.steps for index, stage in (bounded or descents).items()}
    before = {index: sum(steps for other, steps in searches.items() if other < index) for index in searches}

    def forward(progress: Progress) -> None:
        if report is not None and progress.stage in searches:
            report(before[progress.stage] + progress.step, sum(searches.values()))

    return forward


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise RecogniserError(
                f"two surrogates are called '{name}'. Export yours under another name: "
                "faceprotect-sdk export surrogate MODEL.onnx -o DIR --name OTHER"
            )

"""Search for a face that no surrogate recognises, within a budget of change that people would see.

``auto``, ``latent``: an offset of every number in the latent of a face autoencoder. ``style``: an offset of the codes of a style generator,
coarse in space (F) and for the whole face at once (W+; after GIFT, ACM MM 2024, arXiv 2408.01428). ``diffusion``: an offset of a latent
with a little noise, which a denoiser takes away (after CVPR 2025, arXiv 2503.10350). ``fast``: no search, one pass of a network that has
learnt what a search finds. ``makeup``: a makeup that is there to be seen (after DiffAM, CVPR 2024, arXiv 2405.09882), with a little of
``fast``. The recipe of that name (``recipes/NAME.json`` beside the engines) does the work; this file names its arrays:

==================  ======================  ==========================================================
array               shape                   content
==================  ======================  ==========================================================
``original``        [1, 3, 256, 256]        the canonical crop
``mask``            [1, 1, 256, 256]        where it may change
``reference_NAME``  [1, E]                  unit embedding to move away from, one per surrogate of the step engine (- is _)
``limit``           [K]                     similarity to get below
``origin``          [K]                     similarity of the photo as it is
``zero_offset``     as the first offset     zeros, of the size of what is searched first
``budget``          [1]                     the largest penalty of a search; what ``fast`` is asked to come out at
``unseen_budget``   [1]                     what the pass of ``makeup`` that is not to be seen is asked to come out at
``goal``            [1, G]                  1 at ``dodge`` or the decoy's name, in the order of the engine that has goals
``look``            [1, L]                  1 at the name of the look, in the order of the engine that has looks
==================  ======================  ==========================================================

and takes ``difference`` from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.errors import EngineNotFound
from faceprotect_engines.recipe import ExtraSurrogate, Progress, load_recipe, run_recipe
from faceprotect_engines.recipe_schema import DescendStage, parse_recipe
from faceprotect_sdk.align import CROP
from faceprotect_sdk.errors import RecogniserError, UsageError
from faceprotect_sdk.mask import Region, face_mask
from faceprotect_sdk.methods.base import SearchRequest, SearchResult
from faceprotect_sdk.panel import joining, panel
from faceprotect_sdk.recognisers import EngineRecogniser, identity_of
from faceprotect_sdk.room import EngineRoom

#: The goal of going away from oneself, as engines with goals call it.
DODGE = "dodge"
#: Of the budget of ``makeup``, what its pass of ``fast`` is asked to spend (``docs/training.md``).
UNSEEN = 0.6
#: Of the budget, what is left of it for each recogniser that joins beyond the first: the more of them a search knows, the less change it
#: takes to be taken for a stranger by one that it does not know (``docs/diary.md``).
FURTHER = 0.9
#: A limit that every cosine is below: the interpreter then gives the surrogate no weight.
_NOT_IN_USE = 2.0


class Search:
    """The method ``name`` over the engines of a room."""

    def __init__(
        self, name: str, room: EngineRoom, surrogates: Sequence[Path] = (), without: Sequence[str] = (), look: str | None = None
    ) -> None:
        """``look``: of those that the recipe's engine has (default: its first).

        ``surrogates``: folders of recognisers that join the shipped ones (``export surrogate`` makes them).

        Those of the panel (panel.py) join by themselves once they have been fetched.
        ``without``: shipped ones to leave out of the search, so that they can judge it.
        """
        self.name = name
        self._room = room
        self._without = frozenset(without)
        self._look = look
        self._further = tuple(surrogates)
        self._members: dict[str, str] | None = None
        self._joined: tuple[str | Path, ...] | None = None
        self._recipe: dict[str, Any] | None = None
        self._own: tuple[EngineRecogniser, ...] | None = None
        self._extra: tuple[EngineRecogniser, ...] = ()

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe's document, read at first use."""
        if self._recipe is None:
            self._recipe = load_recipe(_recipe_file(self._room.store.roots, self.name))
        return self._recipe

    @property
    def mask(self) -> NDArray[np.float32]:
        """Where it may change the canonical crop, [1, 1, 256, 256] float32 in 0..1."""
        return face_mask(Region.of(self.recipe))

    @property
    def step(self) -> str:
        """Name of the engine that holds the surrogates: that of the recipe's last descent, or of its last stage."""
        return str(self._search_stage["engine"])

    @property
    def _search_stage(self) -> dict[str, Any]:
        stages: list[dict[str, Any]] = self.recipe["stages"]
        return next((stage for stage in reversed(stages) if stage["kind"] == "descend"), stages[-1])

    @property
    def searches(self) -> bool:
        """Whether there is a search: surrogates can be left out of one, or join it."""
        return bool(self._search_stage["kind"] == "descend")

    @property
    def _joining(self) -> tuple[str | Path, ...]:
        """Surrogates outside the step engine: fetched ones, and further folders; raises UsageError for those where there is no search."""
        if self._joined is None:
            if not self.searches and self._further:
                raise UsageError(f"'{self.name}' does not search, so that surrogates could join. Use --method auto")
            fetched = joining(self._room.store, self._panel, self._without) if self.searches else []
            self._joined = (*fetched, *self._further)
        return self._joined

    @property
    def _panel(self) -> dict[str, str]:
        """Surrogates that join once they have been fetched, read from the manifests at first use."""
        if self._members is None:
            self._members = panel(self._room.store)
        return self._members

    def _names(self) -> list[str]:
        """Surrogates inside the step engine, in its order."""
        return [str(name) for name in self._room.manifest(self.step).metadata.get("surrogates", ())]

    def _used(self) -> list[str]:
        """Those that are not left out; raises UsageError for leaving out what is not there."""
        names = self._names()
        if unknown := self._without - {*names, *self._panel}:
            raise UsageError(f"no shipped surrogate is called {sorted(unknown)}; there are: {', '.join([*names, *self._panel])}")
        if taught := sorted(name for name in self._without if self._has_taught(name, names)):
            raise UsageError(f"'{self.name}' has learnt from {', '.join(taught)}: none can be left out of that. Use --method latent")
        return [name for name in names if name not in self._without]

    def surrogates(self) -> tuple[EngineRecogniser, ...]:
        """Those of the step engine that are in use, in its order, then those that were fetched, then those of further folders."""
        if self._own is None:
            used, joining = self._used(), self._joining
            if not used and not joining:
                raise UsageError("no surrogate is left to search on. Leave out fewer, or name your own: --surrogates DIR")
            self._own = tuple(EngineRecogniser(self._room(name), self._room.manifest(name)) for name in used)
            self._extra = tuple(self._joins(engine, len(joining)) for engine in joining)
            _check_names([one.name for one in self._own + self._extra])
        return self._own + self._extra

    def identities(self) -> tuple[frozenset[str], ...]:
        """Digests of every surrogate, and of what the engines of the recipe have learnt from: no independent judges either."""
        engines: list[str | Path] = [*self._used(), *self._joining]
        return (*(identity_of(self._room.manifest(engine)) for engine in engines), self._learnt_from)

    @property
    def _learnt_from(self) -> frozenset[str]:
        """sha256 of the recognisers, beside the surrogates, that an engine of the recipe was trained against, in every known form."""
        engines = (self._room.manifest(stage["engine"]) for stage in self.recipe["stages"])
        stated = frozenset(digest for engine in engines for digest in engine.metadata.get("learnt_from", ()))
        forms = (identity_of(self._room.manifest(name)) for name in self._panel) if stated else ()
        return stated.union(*(form for form in forms if form & stated))

    def _has_taught(self, name: str, surrogates: Sequence[str]) -> bool:
        """Whether an engine of the recipe was trained against this shipped recogniser."""
        if name in surrogates:
            return any("goal" in stage["inputs"] for stage in self.recipe["stages"])
        return name in self._panel and bool(identity_of(self._room.manifest(name)) & self._learnt_from)

    def search(self, request: SearchRequest) -> SearchResult:
        """Run the recipe on one face; raises what the engine floor raises."""
        self.surrogates()
        forward = _counted(self.recipe, request.progress)
        budget = request.budget * FURTHER ** max(len(self._extra) - 1, 0)

        result = run_recipe(
            self.recipe,
            self._room,
            self._arrays(request),
            seed=request.seed,
            parameters={"budget": budget} if "budget" in self.recipe.get("parameters", ()) else None,
            surrogates=[self._extra_surrogate(extra, request) for extra in self._extra],
            progress=forward,
            deadline=request.deadline,
            workers=self._room.cores,
        )
        difference = np.array(result.arrays["difference"], np.float32).reshape(3, CROP, CROP)
        return SearchResult(difference, result.passed, tuple(result.trace), late=result.stop == "time")

    def _arrays(self, request: SearchRequest) -> dict[str, NDArray[Any]]:
        own = {surrogate.name: surrogate for surrogate in self._own or ()}
        limits = [request.limits[name] if name in own else _NOT_IN_USE for name in self._names()]
        arrays: dict[str, NDArray[Any]] = {
            "original": request.crop,
            "mask": request.mask,
            "limit": np.array(limits, np.float32),
            "origin": np.array([request.origins.get(name, 1.0) for name in self._names()], np.float32),
            "budget": np.array([request.budget], np.float32),
            "unseen_budget": np.array([UNSEEN * request.budget], np.float32),
            **self._goal(request),
            **self._looks(),
        }
        if self.searches:
            spec = self._room(self.step).spec
            first = next(stage for stage in self.recipe["stages"] if stage.get("constraint"))
            arrays["zero_offset"] = self._room(first["engine"]).spec.input(first["variable"]).zeros()
            for name in self._names():
                reference = _reference_input(name)
                arrays[reference] = request.references[name] if name in own else spec.input(reference).zeros()
        return arrays

    def _goal(self, request: SearchRequest) -> dict[str, NDArray[np.float32]]:
        """Array ``goal`` for the engines of the recipe that have goals; raises UsageError for a decoy that one of them has not learnt."""
        wanted, found = request.decoy or DODGE, dict[str, NDArray[np.float32]]()
        for facts in self._asked("goal"):
            goals, learnt = facts["goals"], facts.get("trained_goals", facts["goals"])
            if wanted not in learnt:
                raise UsageError(f"'{self.name}' has not learnt the goal '{wanted}', only {', '.join(learnt)}. Use --method latent")
            found["goal"] = np.array([[float(goal == wanted) for goal in goals]], np.float32)
        return found

    def _looks(self) -> dict[str, NDArray[np.float32]]:
        """Array ``look`` for the engine of the recipe that has looks; raises UsageError for one that it has not."""
        for facts in self._asked("look"):
            looks = facts["looks"]
            wanted = looks[0] if self._look is None else self._look
            if wanted not in looks:
                raise UsageError(
                    f"there is no look '{wanted}'; choose one of: {', '.join(looks)}, or the folder of one of yours "
                    "(make it: faceprotect-sdk export makeup --reference PICTURE -o DIR)"
                )
            return {"look": np.array([[float(look == wanted) for look in looks]], np.float32)}
        return {}

    def _asked(self, array: str) -> Iterator[Mapping[str, Any]]:
        """Metadata of the engines of the recipe that take that array."""
        for stage in self.recipe["stages"]:
            if array in stage["inputs"]:
                yield self._room.manifest(stage["engine"]).metadata

    def _extra_surrogate(self, extra: EngineRecogniser, request: SearchRequest) -> ExtraSurrogate:
        reference, limit = request.references[extra.name], request.limits[extra.name]
        return ExtraSurrogate(extra.name, extra.engine, reference, limit, request.origins.get(extra.name, 1.0))

    def _joins(self, folder: str | Path, together: int) -> EngineRecogniser:
        engine = self._room.beside(folder, together)
        if not engine.spec.has_output("grad_image"):
            raise RecogniserError(
                f"{folder}: the engine '{engine.spec.name}' brings no gradient, so it cannot be searched on. "
                "Make one: faceprotect-sdk export surrogate MODEL.onnx -o DIR"
            )
        return EngineRecogniser(engine, self._room.manifest(folder))


def _counted(recipe: Mapping[str, Any], report: Callable[[int, int], None] | None) -> Callable[[Progress], None]:
    """Reports the steps of all the recipe's searches as those of one."""
    stages = enumerate(parse_recipe(recipe).stages)
    searches = {index: stage.steps for index, stage in stages if isinstance(stage, DescendStage) and stage.constraint}
    before = {index: sum(steps for other, steps in searches.items() if other < index) for index in searches}

    def forward(progress: Progress) -> None:
        if report is not None and progress.stage in searches:
            report(before[progress.stage] + progress.step, sum(searches.values()))

    return forward


def _reference_input(name: str) -> str:
    return f"reference_{name.replace('-', '_')}"


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise RecogniserError(
                f"two surrogates are called '{name}'. Export yours under another name: "
                "faceprotect-sdk export surrogate MODEL.onnx -o DIR --name OTHER"
            )


def _recipe_file(roots: Sequence[Path], name: str) -> Path:
    recipe = f"recipes/{name}.json"
    for root in roots:
        if (root / recipe).is_file():
            return root / recipe
    raise EngineNotFound(
        f"no recipe '{recipe}' under {', '.join(str(root) for root in roots)}. "
        "Install again: pip install --force-reinstall faceprotect-sdk"
    )

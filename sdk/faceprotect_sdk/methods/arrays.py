"""The arrays that the SDK offers a recipe: a stage that reads one of these names gets it.

==================  ======================  ==========================================================
array               shape                   content
==================  ======================  ==========================================================
``original``        [1, 3, 256, 256]        the canonical crop, RGB 0..1
``mask``            [1, 1, 256, 256]        where it may change, 0..1: the recipe's ``region``
``reference_NAME``  [1, E]                  unit embedding to move away from, one per surrogate of the step engine (- is _);
                                            zeros for one that is left out
``limit``           [K]                     similarity to get below, per surrogate of the step engine
``origin``          [K]                     similarity of the photo as it is
``goal``            [1, G]                  1 at ``dodge`` or the decoy's name, in the order of the engine that has goals
``look``            [1, L]                  1 at the name of the look, in the order of the engine that has looks
names in            [1]                     that share of the budget asked for
``budgets``
==================  ======================  ==========================================================

The step engine is that of the recipe's last descent, or of its last stage; its manifest names its surrogates
(``metadata.surrogates``). Goals and looks are named in the manifests of the engines that take these arrays (``metadata.goals``,
``metadata.trained_goals``, ``metadata.looks``). A parameter called ``budget`` is set to the budget asked for, made smaller by the
``further`` of the search's ``join``. All arrays are float32. What the recipe leaves in ``difference`` [1, 3, 256, 256] is its result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.recipes.schema import Recipe
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.methods.base import SearchRequest
from faceprotect_sdk.pool import EnginePool

#: The goal of going away from oneself, as engines with goals call it.
DODGE = "dodge"
#: Names of arrays that depend on a wish.
GOAL, LOOK = "goal", "look"
#: What a recipe leaves.
DIFFERENCE = "difference"
#: A limit that every cosine is below: the interpreter then gives the surrogate no weight.
_NOT_IN_USE = 2.0

Arrays = dict[str, NDArray[Any]]


def of_request(recipe: Recipe, request: SearchRequest, names: Sequence[str], used: Collection[str], pool: EnginePool) -> Arrays:
    """What belongs to the face and to its budget; ``names``: surrogates of the step engine, in its order, ``used``: those not left out."""
    limits = [request.limits[name] if name in used else _NOT_IN_USE for name in names]
    return {
        "original": request.crop,
        "mask": request.mask,
        "limit": np.array(limits, np.float32),
        "origin": np.array([request.origins.get(name, 1.0) for name in names], np.float32),
        **{name: np.array([share * request.budget], np.float32) for name, share in recipe.method.budgets.items()},
        **_references(recipe, request, names, used, pool),
    }


def _references(recipe: Recipe, request: SearchRequest, names: Sequence[str], used: Collection[str], pool: EnginePool) -> Arrays:
    read = {array: (stage.engine, name) for stage in recipe.stages for name, array in stage.inputs.items()}
    found: Arrays = {}
    for name in names:
        array = f"reference_{name.replace('-', '_')}"
        if array in read:
            engine, entry = read[array]
            found[array] = request.references[name] if name in used else pool(engine).spec.input(entry).zeros()
    return found


def goal_of(recipe: Recipe, pool: EnginePool, decoy: str | None, instead: Callable[[], str]) -> Arrays:
    """``goal`` for the engines that read it; raises UsageError for a decoy that one of them has not learnt, with what to do ``instead``."""
    wanted, found = decoy or DODGE, Arrays()
    for facts in asked(recipe, pool, GOAL):
        goals, learnt = facts.get("goals", ()), facts.get("trained_goals", facts.get("goals", ()))
        if wanted not in learnt:
            raise UsageError(f"'{recipe.name}' has not learnt the goal '{wanted}', only {', '.join(learnt)}", hint=instead())
        found[GOAL] = np.array([[float(goal == wanted) for goal in goals]], np.float32)
    return found


def look_of(recipe: Recipe, pool: EnginePool, look: str | None) -> Arrays:
    """``look`` for the engine that reads it (default: its first); raises UsageError for one that it has not."""
    for facts in asked(recipe, pool, LOOK):
        looks = facts.get("looks", ())
        wanted = look if look is not None or not looks else looks[0]
        if wanted not in looks:
            raise UsageError(
                f"there is no look '{wanted}'; choose one of: {', '.join(looks)}, or the folder of one of yours "
                "(make it: faceprotect-sdk export makeup --reference PICTURE -o DIR)"
            )
        return {LOOK: np.array([[float(name == wanted) for name in looks]], np.float32)}
    return {}


def asked(recipe: Recipe, pool: EnginePool, array: str) -> Iterator[Mapping[str, Any]]:
    """Metadata of the engines of the recipe that read that array."""
    for stage in recipe.stages:
        if array in stage.inputs.values():
            yield pool.manifest(stage.engine).metadata

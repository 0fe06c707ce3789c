"""Protection methods: recipes. A method turns a face crop into a difference; everything around it is shared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faceprotect_engines.recipes.plan import STRENGTHS
from faceprotect_engines.recipes.recipe import Recipe
from faceprotect_engines.store import Store
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.methods.arrays import LOOK
from faceprotect_sdk.methods.base import Method, SearchRequest, SearchResult, Strength
from faceprotect_sdk.methods.catalogue import DEFAULT, QUICK, find_recipe, methods_of
from faceprotect_sdk.methods.search import Search
from faceprotect_sdk.pool import EnginePool

__all__ = [
    "DEFAULT",
    "QUICK",
    "STRENGTHS",
    "Method",
    "SearchRequest",
    "SearchResult",
    "Strength",
    "find_recipe",
    "make_method",
    "methods_of",
    "recipe_of",
    "strength_of",
]


def make_method(
    method: str | Recipe, pool: EnginePool, surrogates: Sequence[Path] = (), without: Sequence[str] = (), look: str | None = None
) -> Search:
    """A method by its recipe, or by its name in the pool's store.

    ``surrogates``: folders of further recognisers to search on; ``without``: names of shipped ones to leave out; ``look``: of a method that
    has looks. Raises UsageError for an unknown name, RecipeError for a recipe that is none of a method.
    """
    recipe = method if isinstance(method, Recipe) else recipe_of(method, pool.store)
    if look is not None and LOOK not in recipe.asked:
        others = [name for name, other in methods_of(pool.store).items() if LOOK in other.asked]
        raise UsageError(f"'{recipe.name}' has no looks", hint=f"Use method='{others[0]}', look='{look}'" if others else "")
    return Search(recipe, pool, surrogates, without, look)


def recipe_of(method: str, store: Store | None = None) -> Recipe:
    """The recipe called ``method`` (default: of the engines that ship); raises like :func:`find_recipe`."""
    return find_recipe(method, store or Store())[0]


def strength_of(method: Recipe, strength: str | Strength) -> Strength:
    """The numbers of a strength by name, or those given; raises UsageError for a name that the recipe does not state."""
    if isinstance(strength, Strength):
        return strength
    stated = method.method.strengths
    if not stated:
        raise UsageError(f"'{method.name}' states no \"strengths\"", hint="Add them to its recipe, or give a Strength of your own")
    if strength not in stated:
        raise UsageError(f"there is no strength '{strength}'; choose one of: {', '.join(stated)}")
    return Strength(stated[strength].margin, stated[strength].budget)

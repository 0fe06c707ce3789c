"""Which methods there are: every recipe under a store's roots that states strengths, and any recipe of a user's own.

A method is named by its recipe's name (``recipes/NAME.json`` under a root), by a path to a recipe, or by a folder that holds
``recipe.json``. Engines of the latter two are looked up beside the recipe first, then in the store; those of a bundle beside it alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from faceprotect_engines.errors import EngineNotFound, RecipeError
from faceprotect_engines.files.manifest import is_name
from faceprotect_engines.files.sight import is_file
from faceprotect_engines.recipes.recipe import Recipe, read_recipe
from faceprotect_engines.store import Store
from faceprotect_sdk.errors import UsageError

#: What the curves of success over visible change put first (``docs/diary.md``).
DEFAULT = "auto"
#: What changes the frames of a camera, where nothing that searches has the time.
QUICK = "fast"
#: Folder of a root's recipes, and the recipe in a folder of its own.
FOLDER, FILE = "recipes", "recipe.json"
#: What a photo's mark can hold (mark.py).
_NAME = re.compile(r"[\w-]{1,40}", re.ASCII)


def methods_of(store: Store) -> dict[str, Recipe]:
    """Name to recipe of all that state strengths, the default first, then in the order that they state.

    A recipe that cannot be read is not among them; asked for by name, it is refused with the reason.
    """
    found: dict[str, Recipe] = {}
    for name, path in _files(store):
        try:
            recipe = _read(path)
        except RecipeError:
            continue
        if recipe.method.strengths and recipe.name == name:
            found[name] = recipe
    return dict(sorted(found.items(), key=_place))


def find_recipe(method: str | Path, store: Store) -> tuple[Recipe, Store]:
    """The recipe of that name or place, and the store in which its engines are found.

    Raises UsageError where there is none, EngineNotFound where the store has no recipes at all, RecipeError for one that cannot be read.
    """
    files = dict(_files(store)) if is_name(method) else {}
    if str(method) in files:
        recipe = _read(files[str(method)])
        if recipe.name != method:
            raise RecipeError(f"{files[str(method)]} names the method '{recipe.name}'; rename the file")
        return recipe, store
    if (path := _own(Path(method))) is None:
        if not (known := ", ".join(methods_of(store))):
            roots = ", ".join(str(root) for root in store.roots) or "no folder at all"
            raise EngineNotFound(f"no recipes under {roots}", hint="Install again: pip install --force-reinstall faceprotect-sdk")
        raise UsageError(f"there is no method '{method}'; choose one of: {known}, or name a folder with {FILE} and engines beside it")
    recipe = _read(path)
    if not _NAME.fullmatch(recipe.name):
        raise RecipeError(f"{path}: recipe, name: expected at most 40 letters, digits, - and _, found '{recipe.name}'")
    root = path.parent.parent if path.parent.name == FOLDER else path.parent
    # a bundle holds all that it was packed with: what is installed or fetched here must not change what it finds
    return recipe, Store([root] if "bundle" in recipe.document else [root, *store.roots], store.cache)


def suggested(store: Store, fits: Callable[[Recipe], bool]) -> str:
    """A hint that names the first method that fits, or "" where none does."""
    found = [name for name, recipe in methods_of(store).items() if fits(recipe)]
    return f"Use method='{found[0]}'" if found else ""


def _files(store: Store) -> Iterator[tuple[str, Path]]:
    """Name and file of every recipe under the roots; of two with one name the first root's."""
    seen: set[str] = set()
    for root in store.roots:
        for path in sorted((root / FOLDER).glob("*.json")):
            if path.stem not in seen:
                seen.add(path.stem)
                yield path.stem, path


def _own(path: Path) -> Path | None:
    """The file of a recipe, given by itself or by its folder."""
    return next((one for one in (path, path / FILE) if is_file(one)), None)


def _place(entry: tuple[str, Recipe]) -> tuple[bool, float, str]:
    name, recipe = entry
    return name != DEFAULT, math.inf if recipe.method.order is None else recipe.method.order, name


def _read(path: Path) -> Recipe:
    """The recipe of a file, read again only once the file has changed."""
    try:
        facts = path.stat()
    except OSError as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from error
    return _parsed(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=64)
def _parsed(path: Path, changed: int, size: int) -> Recipe:
    """``changed`` and ``size`` are there to tell one state of the file from another."""
    return read_recipe(path)

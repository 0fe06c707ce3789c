"""``faceprotect-sdk pack``: a method, its engines with their weights, and what it finds on one photo, as one folder.

=====================  ===============================================================================================
``recipe.json``        the recipe, and under ``"bundle"`` what else a program has to know: crop, detector, recognisers
``NAME/``              an engine: ``manifest.json``, the graph, and beside it every file of weights that it names
``decoys/``            faces that belong to nobody, where the goal may be one
``conformance/``       a photo and what the method found on it (``conformance.py``)
``TERMS.md``           whose the numbers are, and under which terms
=====================  ===============================================================================================

``SPEC.md`` says how to run one. ``Protector("auto.fp")`` and ``--method auto.fp`` do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from faceprotect_engines.files.leftovers import temporary_folder
from faceprotect_sdk._version import __version__
from faceprotect_sdk.bundle import conformance
from faceprotect_sdk.bundle.graphs import Terms, copy_engine
from faceprotect_sdk.bundle.web import for_the_web
from faceprotect_sdk.errors import OutputError
from faceprotect_sdk.face import detect as faces
from faceprotect_sdk.face.align import CANONICAL_POINTS, CROP
from faceprotect_sdk.judging.recognisers import EngineRecogniser, Pixels8
from faceprotect_sdk.methods import Strength, find_recipe, make_method, strength_of
from faceprotect_sdk.methods import decoys as decoy_faces
from faceprotect_sdk.methods.catalogue import FILE
from faceprotect_sdk.methods.search import Search
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.pool import EnginePool

DETECTOR = "face-detector"
TERMS = "TERMS.md"
#: The photo of the conformance run: scikit-image's astronaut (NASA, public domain).
PHOTO = "astronaut.png"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Packed:
    """What was packed: the folder, its engines, and its bytes."""

    folder: Path
    engines: Sequence[str]
    bytes: int


def pack(
    method: str,
    out: Path,
    pool: EnginePool,
    *,
    strength: str = "medium",
    without: Sequence[str] = (),
    photo: Path | None = None,
    web: bool = False,
    report: Report = lambda _: None,
) -> Packed:
    """Write the bundle of ``method`` (a name, a recipe or a folder) into the new folder ``out``.

    ``strength``, ``photo``: of the conformance run (default: scikit-image's astronaut). ``without``: recognisers to leave out, shipped or
    fetched. ``web``: rounded and compressed, for a server (``web.py``). ``report``: called with what is being done. Raises OutputError for
    a folder that is there, and what searching and opening engines raise; nothing is left behind then.
    """
    if out.exists():
        raise OutputError(f"{out} exists. Name a folder that does not, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    recipe, store = find_recipe(method, pool.store)
    with EnginePool(store, pool.device, pool.threads) as own, temporary_folder(out.parent, ".pack-") as made:
        search = make_method(recipe, own, (), without)
        names = engines_of(search)
        terms = []
        for name in names:
            report(f"engine {name}")
            terms.append(copy_engine(store, name, made))
        if web:
            report("rounding and compressing")
            for_the_web(made, names)
        _copy_decoys(store.roots, made)
        document = {**recipe.document, "bundle": declared(search)}
        (made / FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        (made / TERMS).write_text(terms_page(recipe.name, terms, photo is None), encoding="utf-8")
        report("conformance run")
        pixels = load(photo).rgb8() if photo else _astronaut()
        conformance.write(_observed(made, pool, pixels, strength_of(recipe, strength), conformance.SEEDS), pixels, made)
        made.chmod(0o755)
        made.replace(out)
    return Packed(out, names, sum(path.stat().st_size for path in out.rglob("*") if path.is_file()))


def engines_of(search: Search) -> list[str]:
    """Names of the engines that a method needs: detector, those of its stages, its surrogates and the judges."""
    stages = [stage.engine for stage in search.recipe.stages]
    pool = search.pool
    judges = [name for name in pool.store.names() if pool.manifest(name).role == "judge"]
    return sorted({DETECTOR, *stages, *judges, *(one.name for one in search.surrogates())})


def declared(search: Search) -> dict[str, Any]:
    """What a program has to know beside the recipe, as JSON."""
    pool = search.pool
    inside = pool.manifest(search.step).metadata.get("surrogates", ())
    judges = [name for name in pool.store.names() if pool.manifest(name).role == "judge"]
    facts = [pool.manifest(stage.engine).metadata for stage in search.recipe.stages]
    return {
        "made_by": f"faceprotect-sdk {__version__}",
        "crop": {"size": CROP, "points": np.asarray(CANONICAL_POINTS).round(6).tolist()},
        "detector": {
            "engine": DETECTOR,
            "stride": faces.STRIDE,
            "multiple": faces.MULTIPLE,
            "pyramid": [list(level) for level in faces.PYRAMID],
            "same_face": faces.SAME_FACE,
            "best_width": faces.BEST_WIDTH,
        },
        "surrogates": [{**_described(one), "inside": one.name in inside} for one in search.surrogates()],
        "judges": [_described(EngineRecogniser(pool(name), pool.manifest(name))) for name in judges],
        "goals": sorted({str(goal) for found in facts for goal in found.get("goals", ())}) or ["dodge"],
        "looks": [str(look) for found in facts for look in found.get("looks", ())],
    }


def _described(one: EngineRecogniser) -> dict[str, Any]:
    return {"engine": one.name, "threshold": one.threshold, "spread": one.spread}


def compared(folder: Path, pool: EnginePool) -> dict[str, float]:
    """Run a bundle's conformance photo again, and say how far it is off what was packed, in parts of what is allowed.

    By the names of ``conformance.TOLERANCE``; raises what reading and running it raises.
    """
    expected, photo = conformance.read(folder)
    found = _observed(folder, pool, photo, expected.strength, [run.seed for run in expected.runs])
    return {name: apart / conformance.TOLERANCE[name] for name, apart in conformance.differences(found, expected).items()}


def failures(apart: Mapping[str, float]) -> list[str]:
    """A sentence for everything that is further off than it may be, or that is no number."""
    return [f"{name} is {value:.3g} times as far off as it may be" for name, value in apart.items() if not value <= 1]


def _astronaut() -> Pixels8:
    with resources.as_file(resources.files("faceprotect_sdk.bundle") / PHOTO) as picture:
        return load(picture).rgb8()


def _observed(folder: Path, pool: EnginePool, photo: Pixels8, strength: Strength, seeds: Sequence[int]) -> conformance.Observation:
    recipe, store = find_recipe(folder, pool.store)
    own = EnginePool(store, pool.device, pool.threads)
    try:
        return conformance.observe(make_method(recipe, own), own, DETECTOR, photo, strength, seeds)
    finally:
        own.close()


def _copy_decoys(roots: Sequence[Path], target: Path) -> None:
    found = next((root / decoy_faces.FOLDER for root in roots if (root / decoy_faces.FOLDER).is_dir()), None)
    if found is not None:
        shutil.copytree(found, target / decoy_faces.FOLDER)


def terms_page(method: str, terms: Sequence[Terms], ours: bool) -> str:
    """Whose the numbers of a bundle are, as Markdown. ``ours``: whether the photo of the conformance run is the one that ships."""
    astronaut = "\n`conformance/photo.png` is scikit-image's astronaut (NASA, public domain).\n" if ours else ""
    rows = "\n".join(f"| {one.engine} | {one.origin} | {one.terms} |" for one in terms)
    return (
        f"# Terms of the bundle `{method}`\n\nThe graphs were made by faceprotect-sdk {__version__} (Apache-2.0). The numbers inside them "
        "have terms of their own.\n\n| engine | numbers from | terms |\n|---|---|---|\n" + rows + "\n" + astronaut
    )

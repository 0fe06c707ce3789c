"""The kinds of networks that can be exported, and how an export becomes a folder."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from faceprotect_engines.files.manifest import MANIFEST_NAME, Manifest, read_manifest
from faceprotect_export.build.folder import EngineRecipe, build_engine
from faceprotect_export.pretrained.chains import ChainRecipe, build_chain
from faceprotect_export.pretrained.common import Options, PretrainedError
from faceprotect_export.pretrained.detector import DetectorRecipe
from faceprotect_export.trace.decompositions import VERSION
from faceprotect_sdk import __version__

Recipe = EngineRecipe | ChainRecipe | DetectorRecipe
Reader = Callable[[Path | str, Options], Sequence[Recipe]]
#: Kind to the file that reads it: only that one is imported.
MODULES = {
    **dict.fromkeys(("diffusion", "unet", "vae", "taesd"), "diffusion"),
    "clip": "clip",
    "stylegan": "stylegan",
    "recogniser": "recognisers",
    "detector": "detector",
}
Report = Callable[[str, int, int], None]


def reader(kind: str) -> Reader:
    """What reads checkpoints of that kind; raises PretrainedError for an unknown one."""
    if kind not in MODULES:
        raise PretrainedError(f"there is no kind '{kind}'; choose one of: {', '.join(MODULES)}")
    found: Reader = getattr(importlib.import_module(f"faceprotect_export.pretrained.{MODULES[kind]}"), kind)
    return found


def export(kind: str, source: Path | str, folder: Path, options: Options, report: Report | None = None) -> list[Manifest]:
    """Make the engines of a checkpoint: one in ``folder`` itself, several in folders below it.

    What an interrupted export of the same source and options had finished stays and is not made again. ``report``: called with an engine's
    name, the number made so far, and of how many. Raises PretrainedError, ``faceprotect_export.build.folder.ParityError``, OSError.
    """
    part = folder.with_name(f".{folder.name}.part")
    asked = json.dumps([kind, str(source), vars(options), _files(Path(source)), __version__, VERSION])
    note = part / "asked.json"
    if note.is_file() and note.read_text() != asked:
        shutil.rmtree(part)
    recipes = reader(kind)(source, options)
    part.mkdir(parents=True, exist_ok=True)
    note.write_text(asked)
    made = []
    try:
        for index, recipe in enumerate(recipes):
            if report is not None:
                report(recipe.name, index, len(recipes))
            own = part / recipe.name
            made.append(read_manifest(own) if (own / MANIFEST_NAME).is_file() else _build(recipe, own))
    finally:
        if not made:
            shutil.rmtree(part, ignore_errors=True)
    note.unlink()
    (part / recipes[0].name if len(recipes) == 1 else part).replace(folder)
    shutil.rmtree(part, ignore_errors=True)
    return made


def _files(source: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a local checkpoint's files: engines of other weights must not be taken for these."""
    found = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source] if source.is_file() else []
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found]


def _build(recipe: Recipe, folder: Path) -> Manifest:
    if isinstance(recipe, DetectorRecipe):
        return recipe.build(folder)
    return build_chain(recipe, folder) if isinstance(recipe, ChainRecipe) else build_engine(recipe, folder)

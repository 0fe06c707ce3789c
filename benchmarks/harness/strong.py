"""Which judges are strong: the mean of their rates is the headline. A rate under one judge alone says what that judge overlooks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from faceprotect_sdk.errors import UsageError

#: Strong where neither the command line nor fr.json says which are: they match at least 80 % of the unprotected pairs of CelebA-HQ at a
#: false accept rate of 1e-2, and come from three publishers.
DEFAULT = ("reid0095", "faceplugin", "faceres")
#: What the mean is called beside the judges' own names.
MEAN = "mean of the strong judges"


def strong_judges(folder: Path, scored: Sequence[str], named: Sequence[str] = ()) -> tuple[str, ...]:
    """Names, of those who scored, in that order: the ``named``; else those with ``"strong": true`` in ``folder``/fr.json; else those of
    :data:`DEFAULT`; and where none of these scored, all of fr.json (dlib, which methods search on, is none of them).

    Raises UsageError where one that is named does not score.
    """
    if unknown := sorted(set(named) - set(scored)):
        raise UsageError(f"--strong {', '.join(unknown)}: does not score here; there are: {', '.join(scored)}")
    models = json.loads((folder / "fr.json").read_text(encoding="utf-8"))["models"]
    files = {Path(model["file"]).stem: model for model in models.values()}  # a recogniser is called like its file
    listed = [name for name, model in files.items() if model.get("strong") is True]
    for wanted in (named, listed, DEFAULT, files):
        if found := tuple(name for name in scored if name in wanted):
            return found
    return tuple(scored)

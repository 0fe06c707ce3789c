"""What the library advises in terms of its calls, in terms of the command line."""

from __future__ import annotations

import re

from faceprotect_sdk.errors import FaceprotectError

#: Arguments of calls that are options as well; only where their names differ are the options' own given.
_ARGUMENTS = (
    "again",
    "device",
    "even_covered",
    "force",
    "goal",
    "judges",
    "look",
    "method",
    "strength",
    "surrogates",
    "threads",
    "time_budget",
    "without",
    "write_others",
)
_OWN_NAMES = {"judges": "judge"}
_CALL = re.compile(rf"\b({'|'.join(_ARGUMENTS)})=(?:'([^']*)'|\[(\w+)\]|True|(\w+))?")
#: Advice that is no argument of a call.
_PHRASES = {
    "confirm=False": "--no-confirm",
    "another path": "another -o",
    "a shorter path": "a shorter one with -o",
    "Pass the photos in it one by one": "Add --recursive to protect the photos in it",
}


def as_options(hint: str) -> str:
    """A hint with every argument as the option that it is: ``method='auto'`` as ``--method auto``, ``again=True`` as ``--again``."""
    for said, meant in _PHRASES.items():
        hint = hint.replace(said, meant)
    return _CALL.sub(_option, hint)


def said_of(error: BaseException) -> str:
    """An error's message and hint, for somebody who types commands."""
    if not isinstance(error, FaceprotectError) or not error.hint:
        return str(error)
    return f"{error.message}. {as_options(error.hint)}"


def _option(found: re.Match[str]) -> str:
    name, *values = found.groups()
    value = next((one for one in values if one), "")
    return f"--{_OWN_NAMES.get(name, name).replace('_', '-')} {value}".rstrip()

"""What a request may ask for: names and numbers, and no path, for the service's files are not the client's to name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from faceprotect_sdk.serve.desk import Order
from faceprotect_sdk.serve.upload import Refused

_NAME = re.compile(r"[\w-]{1,40}", re.ASCII)
_NAMES = ("strength", "goal", "decoy", "look")
_SEED_LIMIT = 2**63


def order_of(kind: Any, photos: tuple[bytes, ...], pairs: Iterable[tuple[str, str]]) -> Order:
    """The order that a query makes; raises Refused (400) for what it does not know, knows twice, or what is out of its range."""
    changes: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in pairs:
        if name in changes or name in others:
            raise Refused(400, "usage", f"{name[:40]!r} is given twice")
        if kind == "protect" and name in _NAMES:
            changes[name] = _checked(name, value, bool(_NAME.fullmatch(value)))
        elif kind == "protect" and name == "quality":
            changes[name] = int(_checked(name, value, value.isdecimal() and len(value) <= 3 and 1 <= int(value) <= 100))
        elif kind == "protect" and name == "even_covered":
            changes[name] = _checked(name, value, value in ("true", "false")) == "true"
        elif kind == "protect" and name == "seed":
            others[name] = int(_checked(name, value, value.isdecimal() and len(value) < 20 and int(value) < _SEED_LIMIT))
        elif name == "faces":
            others[name] = _checked(name, value, value in ("all", "largest"))
        else:
            raise Refused(400, "usage", f"{name[:40]!r} is nothing that can be asked for here")
    return Order(0, kind, photos, changes=changes, **others)  # type: ignore[arg-type]


def _checked(name: str, value: str, fits: bool) -> str:
    if not fits:
        raise Refused(400, "usage", f"{name}={value[:40]!r} cannot be")
    return value

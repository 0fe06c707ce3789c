"""What an entry of the panel is: who publishes which file under which terms, and how the network is fed. The entries are data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

ENTRIES = Path(__file__).with_name("entries.json")


@dataclass(frozen=True)
class Entry:
    """One recogniser of the panel.

    ``kind``: of its file (a key of ``READERS`` in build.py). ``file``: its path in the repository at ``commit``, or inside the ``wheel``
    ("name==version"). ``input``, ``thresholds``, ``impostor_mean``: fields of ``parse_specification``
    (:mod:`faceprotect_sdk.judging.specification`).
    ``same_network``: sha256 of other files with the same weights. ``instead_of``: the engine in whose place it joins.
    """

    name: str
    kind: str
    network: str
    publisher: str
    repository: str
    licence: str
    trained_on: str
    file: str
    sha256: str
    input: Mapping[str, Any]
    thresholds: Mapping[str, float]
    impostor_mean: float | None = None
    commit: str = ""
    wheel: str = ""
    same_network: tuple[str, ...] = ()
    instead_of: str = ""

    @property
    def file_name(self) -> str:
        """What a download of it is called."""
        return PurePosixPath(self.file).name

    @property
    def url(self) -> str:
        """Address of the file at its commit; none where it comes out of a wheel."""
        return "" if self.wheel else f"https://github.com/{self.repository}/raw/{self.commit}/{self.file}"

    @property
    def weights_file(self) -> str:
        """Field ``file`` of the manifest's weights."""
        return self.file if self.wheel else self.file_name

    def source(self) -> dict[str, Any]:
        """Field ``source`` of the manifest."""
        keys = ("network", "publisher", "repository", "commit", "wheel", "file", "licence", "trained_on")
        found: dict[str, Any] = {key: getattr(self, key) for key in keys if getattr(self, key)}
        return found | ({"same_network": list(self.same_network)} if self.same_network else {})

    def metadata(self) -> dict[str, Any]:
        """What of the manifest's ``metadata`` decides about joining."""
        return {"joins": True} | ({"instead_of": self.instead_of} if self.instead_of else {})

    def specification(self) -> dict[str, Any]:
        """How it is fed and what it decides by, as the SDK reads it."""
        strangers = {} if self.impostor_mean is None else {"impostor_mean": self.impostor_mean}
        return {"input": self.input, "thresholds": self.thresholds, **strangers}


def read_entries(path: Path = ENTRIES) -> dict[str, Entry]:
    """Every entry by name; raises TypeError for a field that is missing or unknown."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return {name: Entry(name, **{**fields, "same_network": tuple(fields.get("same_network", ()))}) for name, fields in document.items()}

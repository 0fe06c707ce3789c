"""The panel: recognisers that ship as graphs without weights, and join every search once the user has fetched those.

Which they are stands in their manifests: ``metadata.joins`` is true. ``metadata.instead_of`` names an engine that is the same network
from another source: this one joins only where that one has not been fetched.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from faceprotect_engines.files.manifest import Manifest
from faceprotect_engines.store import Store


@dataclass(frozen=True)
class Fetchable:
    """An engine whose weights the user fetches: what is stated about it, and whether they are ``there``."""

    name: str
    bytes: int
    terms: str
    publisher: str
    trained_on: str
    origin: str
    instead_of: str
    there: bool

    def to_json(self) -> dict[str, Any]:
        """JSON object."""
        return vars(self).copy()


def panel(store: Store) -> dict[str, str]:
    """Name of every engine that joins searches -> the engine whose place it takes ("" for most), fetched or not."""
    facts = {name: store.manifest(name).metadata for name in store.names()}
    return {name: str(found.get("instead_of", "")) for name, found in facts.items() if found.get("joins")}


def joining(store: Store, members: Mapping[str, str], without: Collection[str] = ()) -> list[str]:
    """Those ``members`` of the panel that join a search now: fetched, and neither they nor what they stand for left out."""
    there = [name for name, other in members.items() if not {name, other} & set(without) and store.has_weights(name)]
    return [name for name in there if members[name] not in there]


def fetchables(store: Store) -> list[Fetchable]:
    """Every engine of the store whose weights are fetched, by name."""
    return [_described(store.manifest(name), not store.waits(name)) for name in store.names() if store.is_fetched(name)]


def _described(manifest: Manifest, there: bool) -> Fetchable:
    source, fetched = manifest.source, [weights for weights in manifest.weights if weights.fetched]
    return Fetchable(
        name=manifest.name,
        bytes=sum(weights.bytes for weights in fetched),
        terms=str(source.get("licence", "not stated")),
        publisher=str(source.get("publisher", "not stated")),
        trained_on=str(source.get("trained_on", "not stated")),
        origin=", ".join(weights.origin for weights in fetched),
        instead_of=str(manifest.metadata.get("instead_of", "")),
        there=there,
    )

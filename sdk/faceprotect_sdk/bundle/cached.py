"""The bundle that ``faceprotect-sdk web`` serves: packed into the user's cache once, and again when its engines change."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from faceprotect_engines.files.leftovers import sweep
from faceprotect_engines.files.manifest import MANIFEST_NAME
from faceprotect_engines.store import Store
from faceprotect_sdk._version import __version__
from faceprotect_sdk.bundle.pack import Report, engines_of, pack
from faceprotect_sdk.methods import find_recipe, make_method
from faceprotect_sdk.methods.catalogue import FILE
from faceprotect_sdk.pool import EnginePool

FOLDER = "web"


def cached_bundle(method: str = "auto", *, report: Report = lambda _: None) -> Path:
    """The folder of a method's bundle in the cache, packed at need; ``report``: called with what is being done.

    Its name follows from the engines and the recipe, so that another recogniser or a new version gets a bundle of its own. Raises what
    packing raises, and OSError where the cache cannot be written.
    """
    with EnginePool(Store(), "cpu", None) as pool:
        place = pool.store.cache / FOLDER / f"{method}-{_fingerprint(method, pool)}.fp"
        if not (place / FILE).is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            sweep(place.parent, ".pack-")
            report("Making the bundle for the page. This is done once, and takes about half a minute")
            pack(method, place, pool, report=report)
    return place


def _fingerprint(method: str, pool: EnginePool) -> str:
    recipe, store = find_recipe(method, pool.store)
    manifests = [(store.folder(name) / MANIFEST_NAME).read_bytes() for name in engines_of(make_method(recipe, pool, (), ()))]
    told = [__version__.encode(), json.dumps(recipe.document, sort_keys=True).encode(), *manifests]
    return hashlib.sha256(b"\0".join(hashlib.sha256(one).digest() for one in told)).hexdigest()[:16]

"""``engines verify``: files as they were sealed, engines that compute what they did, and a bundle's run found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceprotect_engines.errors import EngineError
from faceprotect_engines.files.golden import check_golden
from faceprotect_engines.store import Store
from faceprotect_sdk.bundle import pack
from faceprotect_sdk.errors import FaceprotectError
from faceprotect_sdk.methods.catalogue import FILE
from faceprotect_sdk.pool import EnginePool
from faceprotect_sdk.result import finite

#: What the run of a bundle is called among its engines.
CONFORMANCE = "conformance"


@dataclass(frozen=True)
class Finding:
    """One engine, or a bundle's run; ``ok`` is None where weights wait to be fetched.

    ``apart``: the largest error of an engine, relative to its golden values, or of a run, in parts of what is allowed; None where nothing
    was compared.
    """

    name: str
    ok: bool | None
    problem: str = ""
    apart: float | None = None

    @property
    def worst(self) -> str:
        """The largest error in words, to be put behind what is said; "" where nothing was compared."""
        if self.apart is None:
            return ""
        if self.name == CONFORMANCE:
            return f", {self.apart:.0%} of what is allowed"
        return f", {self.apart:.0e} off its golden values"

    def to_json(self) -> dict[str, Any]:
        """JSON object."""
        row = {"name": self.name, "ok": self.ok, "error": self.problem or None, "apart": self.apart}
        return dict(finite(row))


def verified(store: Store, names: Sequence[str], files_only: bool = False, threads: int | None = None) -> Iterator[Finding]:
    """Findings for engines (names or folders) and bundles, as they come; without names for every engine of the store."""
    for name in names or store.names():
        if (Path(name) / FILE).is_file():
            yield from _bundle(Path(name), store, files_only, threads)
        elif not names and store.waits(name):
            yield Finding(name, None)
        else:
            yield _engine(store, name, files_only, threads)


def _engine(store: Store, name: str, files_only: bool, threads: int | None) -> Finding:
    try:
        store.verify(name)
        if files_only:
            return Finding(name, True)
        with closing(store.open(name, "cpu", threads)) as engine:
            errors = check_golden(engine, store.manifest(name), store.folder(name))
        return Finding(name, True, apart=max(errors.values(), default=None))
    except EngineError as error:
        return Finding(name, False, str(error))


def _bundle(folder: Path, store: Store, files_only: bool, threads: int | None) -> Iterator[Finding]:
    own = Store([folder], store.cache)
    sound = True
    for name in own.names():
        finding = _engine(own, name, files_only, threads)
        sound = sound and bool(finding.ok)
        yield finding
    if sound and not files_only:
        yield _conformance(folder, store, threads)


def _conformance(folder: Path, store: Store, threads: int | None) -> Finding:
    pool = EnginePool(store, "cpu", threads)
    try:
        apart = pack.compared(folder, pool)
    except FaceprotectError as error:
        return Finding(CONFORMANCE, False, str(error))
    wrong = pack.failures(apart)
    return Finding(CONFORMANCE, not wrong, "; ".join(wrong), max(apart.values()))

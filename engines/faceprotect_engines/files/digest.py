"""sha256 of files, and the comparison with what a manifest says."""

from __future__ import annotations

import hashlib
from pathlib import Path

from faceprotect_engines.errors import EngineCorrupt

_CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """Lower-case hex sha256 of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_file(path: Path, sha256: str, size: int, remedy: str) -> None:
    """Raise EngineCorrupt unless `path` has `size` bytes and that sha256; `remedy` is the next command to type."""
    try:
        found_size = path.stat().st_size
        if found_size != size:
            raise EngineCorrupt(f"{path} has {found_size} bytes, its manifest says {size}; {remedy}")
        found = sha256_file(path)
    except OSError as error:
        raise EngineCorrupt(f"{path} cannot be read: {error}; {remedy}") from error
    if found != sha256:
        raise EngineCorrupt(f"{path} has sha256 {found[:12]}..., its manifest says {sha256[:12]}...; {remedy}")

"""The manifest of a batch (``protect --manifest FILE.jsonl``): what became of every input, so that the next run goes on from there.

A JSON object a line, written to the disk before anything else is begun in its place: ``input_sha256``, ``settings_sha256``, ``target``
(the output's name where the photo is protected), ``files`` (what was written, by name, with its sha256), and what ``--json`` prints. Of
several lines about one input the last counts. A line that a crash has torn is passed over.

Beside it, for as long as a run lasts or where one was killed, lies ``FILE.jsonl.begun``: what was begun. An output that is there without a
line in the manifest, and was not there when its input was begun, was made by the run that was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from faceprotect_sdk.errors import OutputError, WriteError
from faceprotect_sdk.photo.write import ELSEWHERE

#: Statuses that another run of the same photo and settings would come to again.
SETTLED = ("protected", "partly_protected", "still_matched", "covered", "no_face")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Key:
    """What an input was: its bytes, the settings, and where its output goes. A photo of the same bytes elsewhere is another input."""

    input_sha256: str
    settings_sha256: str
    target: str

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Key:
        """That of a line."""
        return cls(*(str(document.get(name)) for name in ("input_sha256", "settings_sha256", "target")))


class Lines:
    """A file of JSON lines that is only added to: each line is on the disk when ``add`` returns."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it, for this run alone. Raises OutputError for a file that is no such list, or that another run has open."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a+b", buffering=0)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror or error})", hint=ELSEWHERE) from error
        try:
            _lock(self._stream, path)
            self.documents = list(self._read())
        except BaseException:
            self._stream.close()
            raise

    def add(self, document: Mapping[str, Any]) -> None:
        """Append a line; raises WriteError."""
        line = json.dumps(document, allow_nan=False, default=str).encode("ascii") + b"\n"
        try:
            while line:
                line = line[self._stream.write(line) or 0 :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise WriteError(
                f"{self.path}: writing failed ({error.strerror or error})", hint="Free some space, then run it again"
            ) from error

    def close(self) -> None:
        """Let another run have it."""
        self._stream.close()

    def _read(self) -> Iterator[dict[str, Any]]:
        self._stream.seek(0)
        data = self._stream.read()
        if data and not data.endswith(b"\n"):
            _begins_with_an_object(data.rpartition(b"\n")[2], self.path)
            self._stream.write(b"\n")  # what follows a torn line begins one of its own
        for line in data.splitlines():
            if line.strip(b"\0 "):  # a disk that lost its power may hold zeros
                _begins_with_an_object(line, self.path)
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


def _begins_with_an_object(line: bytes, path: Path) -> None:
    if not line.strip(b"\0 ").startswith(b"{"):
        raise OutputError(f"{path}: is a file, and no manifest of a batch", hint=ELSEWHERE)


def _lock(stream: IO[bytes], path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(f"{path}: another run is writing it", hint="Wait for that run, or give this one a manifest of its own") from error
    except OSError:
        return  # a file system that knows no locks


class Manifest:
    """What was done before, and what is done now."""

    def __init__(self, path: Path, settings: str) -> None:
        """``settings``: sha256 of all that decides what becomes of a photo. Raises what :class:`Lines` raises."""
        self._settings = settings
        self._lines = Lines(path)
        try:
            self._begun = Lines(path.with_name(f"{path.name}.begun"))
        except BaseException:
            self._lines.close()
            raise
        self._done = {Key.of(document): document for document in self._lines.documents}
        self._left = {Key.of(document) for document in self._begun.documents} - self._done.keys()

    def __enter__(self) -> Manifest:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close; what was begun is forgotten where all of it was ended."""
        if error is None or kind is SystemExit:
            self._begun.path.unlink(missing_ok=True)
        self._begun.close()
        self._lines.close()

    def key(self, photo: Path, target: Path) -> Key:
        """That of an input; without a digest where it cannot be read, which is said where it is worked on."""
        return Key(sha256_of(photo) or "", self._settings, str(target))

    def done(self, key: Key) -> dict[str, Any] | None:
        """What ``--json`` printed of this input, where it was settled and every file that was written of it is there as it was."""
        line = self._done.get(key)
        if line is None or line.get("status") not in SETTLED:
            return None
        if any(sha256_of(Path(name)) != digest for name, digest in line["files"].items()):
            return None
        return {name: value for name, value in line.items() if name not in ("input_sha256", "settings_sha256", "target", "files")}

    def begin(self, key: Key, places: tuple[Path, ...]) -> bool:
        """An input is begun whose outputs go to ``places``: whether those that are there were made by a run that was killed."""
        if key in self._left:
            return True
        if key.input_sha256 and not any(os.path.lexists(place) for place in places):
            self._begun.add(vars(key))
        return False

    def end(self, key: Key, document: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """An input is done: ``document`` is what ``--json`` prints, ``files`` what was written."""
        line = {**vars(key), "files": dict(files), **document}
        self._lines.add(line)
        self._done[key] = line


def sha256_of(path: Path) -> str | None:
    """Digest of a file in hexadecimal digits; None for what is no file, or cannot be read."""
    digest = hashlib.sha256()
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except (OSError, ValueError):
        return None
    return digest.hexdigest()

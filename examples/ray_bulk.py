"""Protect a folder of photos on a Ray cluster: one row out for every photo in, whichever worker dies.

pip install 'ray[data]'
python examples/ray_bulk.py PHOTOS OUT/ 8        # 8 workers, a protector each; OUT/ on a disk that all of them see
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from faceprotect_sdk import FaceprotectError, Protector

KINDS = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic")


class Protect:
    """An actor of Ray Data: engines are opened once, and kept for all the photos that come to it."""

    def __init__(self, out: str, settings: dict[str, Any]) -> None:
        self.out, self.protector = Path(out), Protector(**settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with what became of its photo.

        A row whose worker died comes again, to another: the same seed makes the same bytes, which take the place of those that are there.
        """
        photo = Path(row["input"])
        target = self.out / f"{photo.stem}_protected{photo.suffix}"
        try:
            result = self.protector.protect(photo, seed=0)
            output = str(result.save(target, force=True)) if result.protected else ""
        except FaceprotectError as error:
            return {**row, "status": error.code, "output": ""}
        return {**row, "status": result.status, "output": output}


def protect_all(photos: list[Path], out: Path, workers: int, **settings: Any) -> int:
    """Protect photos of different names into ``out``, and list them in ``out``/results.jsonl; how many there are."""
    import ray

    out.mkdir(parents=True, exist_ok=True)
    rows = ray.data.from_items([{"input": str(photo.absolute())} for photo in photos], override_num_blocks=min(len(photos), 16 * workers))
    compute = ray.data.ActorPoolStrategy(size=workers)
    done = rows.map(Protect, fn_constructor_args=(str(out.absolute()), settings), compute=compute, num_cpus=1)
    lines = [json.dumps(row) for row in done.iter_rows()]
    (out / "results.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return len(lines)


if __name__ == "__main__":
    found = sorted(path for path in Path(sys.argv[1]).iterdir() if path.suffix.lower() in KINDS)
    print(protect_all(found, Path(sys.argv[2]), int(sys.argv[3]), threads=1), "photos")

"""Photos that are protected again and again: whether a later pass leads back to the person.

    python benchmarks/passes.py --pairs DIR --fr FR --people 10 --out benchmarks/results/passes.json

With the mark that protected photos carry, a second pass has to be refused. Then the mark is taken out, as messengers do (JPEG, quality 95,
no metadata), and every pass goes on from what the one before gave, confirmed or not, until one is refused. After each, all recognisers
compare with the first original and with another photo of the person. Counted are people whom at least one recogniser, or each by itself,
still matches; a pass without a confirmed result counts as one that gave nothing to upload.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import click
from PIL import Image
from tqdm import tqdm

from faceprotect_sdk import Protector
from faceprotect_sdk.errors import AlreadyProtected
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.result import CheckResult, ProtectResult
from harness.pairs import Pair, read_pairs
from harness.provenance import command_line, environment
from protection import FAILURES, FOLDER, fail

PASSES = 3
QUALITY = 95


def without_mark(data: bytes) -> bytes:
    """The picture written anew without metadata."""
    stripped = io.BytesIO()
    Image.fromarray(load(data).rgb8()).save(stripped, "JPEG", quality=QUALITY)
    return stripped.getvalue()


def protected(protector: Protector, data: bytes, seed: int) -> ProtectResult | None:
    """What a pass gives; None where it is refused."""
    try:
        return protector.protect(data, seed=seed)
    except AlreadyProtected:
        return None


def refused(protector: Protector, data: bytes) -> bool:
    """Whether a marked photo is not protected again."""
    try:
        protector.protect(data)
    except AlreadyProtected:
        return True
    return False


def matching(found: CheckResult) -> list[str]:
    """Recognisers that match the two photos."""
    return sorted({verdict.recogniser for face in found.faces for verdict in face.verdicts if verdict.matched})


def passes(protector: Protector, pair: Pair, seed: int) -> dict[str, Any]:
    """One person: is a marked photo refused, and what is said after each pass without the mark."""
    rows, photo = [], pair.photo.read_bytes()
    marked = None
    for number in range(PASSES):
        result = protected(protector, photo, seed + number)
        if result is None:
            rows.append({"status": "refused"})
            break
        data = result.image or result.unconfirmed
        if data is None:
            rows.append({"status": result.status})
            break
        marked = refused(protector, data) if marked is None else marked
        photo = without_mark(data)
        checks = {name: matching(protector.check(other, photo)) for name, other in (("original", pair.photo), ("another", pair.partner))}
        rows.append({"status": result.status, **checks})
    return {"number": pair.number, "refused": marked, "passes": rows}


def summary(people: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By pass: how many were confirmed, and how many are matched with either photo, of all and of the confirmed."""
    rows = []
    for number in range(PASSES):
        seen = [person["passes"][number] for person in people if len(person["passes"]) > number]
        confirmed = [row for row in seen if row["status"] == "protected"]
        stopped = sum(row["status"] == "refused" for row in seen)
        found: dict[str, Any] = {"pass": number + 1, "people": len(seen), "refused": stopped, "confirmed": len(confirmed)}
        for photo in ("original", "another"):
            found[f"matched_with_{photo}"] = sum(bool(row.get(photo)) for row in seen)
            found[f"confirmed_and_matched_with_{photo}"] = sum(bool(row.get(photo)) for row in confirmed)
            names = sorted({name for row in seen for name in row.get(photo, ())})
            found[f"{photo}_by_recogniser"] = {name: sum(name in row.get(photo, ()) for row in seen) for name in names}
        rows.append(found)
    return rows


@click.command()
@click.option("--pairs", required=True, type=FOLDER)
@click.option("--fr", type=FOLDER, help="Folder of recognisers that judge besides those that ship.")
@click.option("--people", default=10, show_default=True, type=click.IntRange(1))
@click.option("--method", default="auto", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
def main(pairs: Path, fr: Path | None, people: int, method: str, seed: int, threads: int | None, out: Path) -> None:
    """Protect photos three times over and write who is matched."""
    try:
        with Protector(method, "cpu", threads=threads, judges=[fr] if fr else []) as protector:
            found = [passes(protector, pair, seed) for pair in tqdm(read_pairs(pairs)[:people])]
    except FAILURES as error:
        fail(error)
    result = {
        "schema": 1,
        "command": command_line(),
        "seed": seed,
        **environment(1),
        "method": method,
        "refused": sum(bool(person["refused"]) for person in found),
        "passes": summary(found),
        "people": found,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps({"refused": result["refused"], "passes": result["passes"]}, indent=1))


if __name__ == "__main__":
    sys.exit(main())

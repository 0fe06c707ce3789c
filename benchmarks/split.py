"""Make a folder of pairs from photos with a list of who is on them.

    python benchmarks/split.py PHOTOS identity.txt --people benchmarks/splits/celeba_held_out.json --part tuning -o DIR

``identity.txt`` has a line ``FILE PERSON`` per photo, as CelebA's has. Of each person the first two photos with a face are taken, and
enlarged until they are 256 pixels wide. ``--people`` is a JSON file with lists of persons; without it everybody with two photos is taken.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import cv2
from PIL import Image
from tqdm import tqdm

from faceprotect_engines.engine import Engine
from faceprotect_engines.store import Store
from faceprotect_sdk.errors import FaceprotectError, UsageError, exit_code_of
from faceprotect_sdk.face.detect import find_faces
from faceprotect_sdk.photo.reading import load
from harness.pairs import PARTNER, PHOTO

WIDTH = 256


def photos_by_person(folder: Path, listing: Path) -> dict[str, list[Path]]:
    """Photos of every person, in the listing's order; raises UsageError for a line or file that is not there."""
    people: dict[str, list[Path]] = {}
    for number, line in enumerate(listing.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            file, person = line.split()
        except ValueError:
            raise UsageError(f"{listing}, line {number}: expected 'FILE PERSON', found '{line}'") from None
        people.setdefault(person, []).append(folder / file)
    return people


def with_face(path: Path, detector: Engine) -> Image.Image | None:
    """The photo enlarged to ``WIDTH``, if it shows a face."""
    pixels = load(path).rgb8()
    scale = WIDTH / pixels.shape[1]
    if scale > 1:
        pixels = cv2.resize(pixels, (WIDTH, round(pixels.shape[0] * scale)), interpolation=cv2.INTER_CUBIC)
    return Image.fromarray(pixels) if find_faces(pixels, detector) else None


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("identity", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--people", "listing", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON with lists of persons.")
@click.option("--part", default="tuning", show_default=True, help="Which of its lists.")
@click.option("--without", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON with lists of persons to leave out.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N persons.")
def main(photos: Path, identity: Path, out: Path, listing: Path | None, part: str, without: Path | None, limit: int | None) -> None:
    """Write OUT/train_align and OUT/test_align."""
    try:
        known = photos_by_person(photos, identity)
        wanted = list(known)
        if listing:
            lists = json.loads(listing.read_text())
            if part not in lists:
                raise UsageError(f"{listing}: has no list '{part}'; there are: {', '.join(k for k in lists if isinstance(lists[k], list))}")
            wanted = [str(person) for person in lists[part]]
        if without:
            excluded = {str(p) for people in json.loads(without.read_text()).values() if isinstance(people, list) for p in people}
            wanted = [person for person in wanted if person not in excluded]
        if missing := [person for person in wanted if person not in known]:
            raise UsageError(f"{identity}: has no photo of {', '.join(missing[:5])}")
        count = write(known, wanted, out, limit)
    except FaceprotectError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(int(exit_code_of(error)))
    click.echo(f"{count} pairs in {out}")


def write(known: dict[str, list[Path]], wanted: list[str], out: Path, limit: int | None) -> int:
    """The pairs' files; returns how many pairs there are."""
    for part in (PHOTO, PARTNER):
        (out / part).mkdir(parents=True, exist_ok=True)
    number = 0
    with Store().open("face-detector") as detector:
        for person in tqdm(wanted[:limit]):
            usable = (image for path in known[person] if (image := with_face(path, detector)) is not None)
            first, second = next(usable, None), next(usable, None)
            if first is None or second is None:
                continue
            number += 1
            for part, image in ((PHOTO, first), (PARTNER, second)):
                image.save(out / part / f"{number}.png")
    return number


if __name__ == "__main__":
    main()

"""The command ``protect``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceprotect_sdk.cli.help import option
from faceprotect_sdk.cli.methods import MethodOption
from faceprotect_sdk.cli.options import (
    FILE,
    MACHINE,
    PLACE,
    NamesFormats,
    device_options,
    faces_option,
    json_option,
    panel_options,
    quiet_option,
    settings_of,
)
from faceprotect_sdk.cli.progress import ProgressLine
from faceprotect_sdk.cli.report import emit, left_out_json, show_done_before, show_left_out, show_protect
from faceprotect_sdk.errors import UsageError, worst
from faceprotect_sdk.methods import STRENGTHS
from faceprotect_sdk.photo.formats import SUFFIXES
from faceprotect_sdk.photo.write import Destination, for_several

if TYPE_CHECKING:
    from faceprotect_sdk.cli.batch import Done

WRITTEN, HOW = "What is written, and where", "How the photo is changed"
_FORMATS = ", ".join(f"{name} ({' '.join(suffixes)})" for name, suffixes in SUFFIXES.items())

_HELP = f"""Change PHOTOS so that face recognition no longer matches the people in them.

Each is written beside its original, as NAME_protected. The originals are never touched. What was written is read again and shown to every
recogniser here; a photo that one of them still matches is not written.

\b
  faceprotect-sdk protect me.jpg                     writes me_protected.jpg
  faceprotect-sdk protect *.jpg -o out/              into a folder
  faceprotect-sdk protect -r holiday/ -o out/        all photos in a folder
  faceprotect-sdk protect me.jpg --sheet look.png    before, after, difference

Formats: {_FORMATS}. What is written has the format of what was read.

Of several PHOTOS those that have been protected before, and outputs by their name (*_protected.*), are left out.
"-" among PHOTOS is standard input. A name that begins with a dash comes after "--": protect -- -me.jpg
"""


@click.command(cls=NamesFormats, help=_HELP)
@click.argument("photos", nargs=-1, required=True, type=FILE)
@option(
    WRITTEN,
    "-o",
    "--output",
    type=PLACE,
    metavar="FILE|FOLDER/",
    help="A file (for one photo), a folder, which is made if it is missing, or - for standard output (one photo; the report goes to "
    "stderr).  [default: PHOTO_protected.EXT beside the photo; standard output for standard input]",
)
@option(WRITTEN, "-r", "--recursive", is_flag=True, help="Take the photos in folders among PHOTOS, and below.")
@option(
    WRITTEN,
    "--manifest",
    type=FILE,
    metavar="FILE.jsonl",
    help="Add a line of JSON for every photo to this file. A run with the same file passes over what is settled there and still lies where "
    "it was written, and goes on from there, however the run before it ended.",
)
@option(WRITTEN, "--force", is_flag=True, help="Replace an output that exists.")
@option(
    WRITTEN,
    "--write-others",
    is_flag=True,
    help="Where some faces are protected and others stay matched: write the photo with those others as they were, as NAME_partly.EXT.",
)
@option(
    WRITTEN,
    "--keep-unconfirmed",
    is_flag=True,
    help="Write a photo that is still matched too, as NAME_unconfirmed.EXT. It is no protected photo.",
)
@option(
    WRITTEN,
    "--sheet",
    type=PLACE,
    metavar="FILE|FOLDER/",
    help="Also draw every face before, after and the difference, with what each recogniser says: a PNG or JPEG by its name, or a folder. "
    "It is drawn, and says so, where the photo is still matched, too.",
)
@option(
    WRITTEN,
    "--quality",
    type=click.IntRange(1, 100),
    metavar="1..100",
    default=95,
    show_default=True,
    help="Of JPEG, AVIF, HEIC and lossy WebP.",
)
@option(
    WRITTEN,
    "--again",
    is_flag=True,
    help="Also take photos that are marked as protected, or named like outputs. It may lead back to the person: give originals.",
)
@option(
    HOW,
    "--strength",
    type=click.Choice(STRENGTHS),
    default="medium",
    show_default=True,
    help="How much change people may see, at most, and how many of them three strong recognisers that were not searched on then lose. "
    "Change in SSIMULACRA2 (70: barely noticed, 50: slightly annoying), people on average: low 72, 58 %; medium 59, 92 %; high 43, 100 % "
    "(auto with SFace, 16 people). At medium it is seen on every face beside the original: look before you upload.",
)
@option(HOW, "--method", cls=MethodOption)
@option(
    HOW,
    "--goal",
    type=click.Choice(["dodge", "decoy"]),
    default="dodge",
    show_default=True,
    help="dodge: away from oneself. decoy: towards a face that belongs to nobody, too.",
)
@option(HOW, "--decoy", metavar="NAME", help="Of --goal decoy: which face, one of 1 to 6.  [default: per face the one least like it]")
@option(
    HOW,
    "--look",
    metavar="NAME|DIR",
    help="Of a method with looks: one that 'engines list' names, or the folder of yours (export makeup).  [default: its first]",
)
@option(
    HOW,
    "--time-budget",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="For all searches of a photo; what is found by then is scored and, if it is enough, written.  [default: no limit]",
)
@option(
    HOW,
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Of what the search draws: the same seed gives the same bytes (without a time budget).",
)
@option(
    HOW,
    "--even-covered",
    is_flag=True,
    help="Also change faces that seem to be covered by a mask or a hand, which is painted over then.  [default: they are left as they are]",
)
@option(HOW, "--engines", type=FILE, metavar="DIR", help="Look for engines there first: what export diffusion has made.")
@faces_option
@panel_options
@option(
    MACHINE,
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Work on N photos at once, in processes that share the threads out and open engines of their own: N times the memory. The bytes "
    "are those of one job.",
)
@device_options
@json_option
@quiet_option
def protect(
    photos: tuple[Path, ...],
    output: Destination | None,
    recursive: bool,
    jobs: int,
    manifest: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Parse, work through the photos, and leave with the worst code."""
    from faceprotect_sdk.cli.batch import Task
    from faceprotect_sdk.cli.files import TO_STDOUT, ProtectFiles, places_of, store_of
    from faceprotect_sdk.cli.jobs import ledger_of, worked
    from faceprotect_sdk.cli.own_outputs import MARKED, without_outputs
    from faceprotect_sdk.cli.walk import STREAM, photos_in

    photos = photos_in(photos, recursive=recursive)
    if output is None and photos == (STREAM,):
        output = TO_STDOUT
    to_stdout = output == TO_STDOUT
    _check_output(output, photos, to_stdout, as_json)
    _check_batch(photos, to_stdout, jobs, manifest)
    photos_left, left_out = (list(photos), {}) if options["again"] else without_outputs(photos)
    for photo, why in left_out.items():
        show_left_out(photo, why)
        if as_json:
            emit(left_out_json(photo, why))
    not_to_replace = [photo for photo in photos if left_out.get(photo) != MARKED]
    settings, others = settings_of(options)
    store = store_of(others.pop("engines"))
    arguments = {**others, "store": store, "photos": not_to_replace, "settings": settings, "output": output}
    tasks = [Task(photo, places_of(photo, output, options["sheet"])) for photo in photos_left]
    line = ProgressLine("photo", len(photos_left), quiet=quiet)
    codes: list[int] = []
    with (
        ProtectFiles(**arguments) as job,
        line,
        ledger_of(manifest, arguments) as ledger,
        closing(worked(job, jobs, arguments, tasks, ledger, line)) as results,
    ):
        for task, done in zip(tasks, results, strict=True):
            line.clear()
            _show(task.photo, done, as_json=as_json, to_stdout=to_stdout)
            codes.append(done.code)
    raise SystemExit(int(worst(codes)))


def _check_output(output: Destination | None, photos: Sequence[Path], to_stdout: bool, as_json: bool) -> None:
    """Raise UsageError for an output that cannot take these photos."""
    if to_stdout and (as_json or len(photos) > 1):
        raise UsageError("standard output takes one photo and nothing else: leave out --json, give one photo, or name a folder with -o")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("the photo would be printed on the terminal. Send it to a file: > FILE, or name one with -o")
    if output is not None and len(photos) > 1:
        for_several(output, "-o")


def _check_batch(photos: Sequence[Path], to_stdout: bool, jobs: int, manifest: Path | None) -> None:
    """Raise UsageError where standard streams are asked to be a batch, or the manifest is one of the photos."""
    from faceprotect_sdk.cli.walk import STREAM

    if (jobs > 1 or manifest is not None) and (to_stdout or STREAM in photos):
        raise UsageError("standard input and output are for one photo: leave out --jobs and --manifest, or give files")
    if manifest is not None and manifest.absolute() in {photo.absolute() for photo in photos}:
        raise UsageError(f"{manifest}: is itself a photo given in this run. Choose another --manifest")


def _show(photo: Path, done: Done, *, as_json: bool, to_stdout: bool) -> None:
    """Print what became of a photo."""
    if done.failure:
        click.echo(done.failure, err=True)
    if as_json:
        emit({**done.document, "done_before": True} if done.before else done.document)
    elif done.before:
        show_done_before(photo, done.document)
    elif done.outcome is not None:
        show_protect(photo, done.outcome.photo, done.outcome.result, done.outcome.sheet, err=to_stdout)

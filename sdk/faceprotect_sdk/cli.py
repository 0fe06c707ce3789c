"""The command line ``faceprotect-sdk``: data on stdout, progress and messages on stderr, exit codes of ``ExitCode``."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from faceprotect_sdk import __version__
from faceprotect_sdk.cli_engines import benchmark, doctor, engines
from faceprotect_sdk.cli_export import export
from faceprotect_sdk.cli_options import FILE, NamesFormats
from faceprotect_sdk.cli_report import (
    ProgressLine,
    emit,
    failure_json,
    left_out_json,
    show_check,
    show_faces,
    show_failure,
    show_left_out,
    show_protect,
)
from faceprotect_sdk.errors import ExitCode, ReportError, UsageError, exit_code_of, worst
from faceprotect_sdk.signals import catch, exit_code_of_stop
from faceprotect_sdk.streams import prepare

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="faceprotect-sdk")
def cli() -> None:
    """Protect photos from face recognition, on this machine and offline.

    Exit codes: 0 every selected face protected and confirmed; 1 internal error or failed write; 2 usage; 3 no face;
    4 unreadable input, or one that has been protected before; 5 engine or device missing, or failed verification; 6 changed but
    still matched; 130 interrupted (143 by SIGTERM, 129 by SIGHUP). A batch goes on past a bad file; the worst code wins
    (130, 1, 5, 2, 4, 6, 3, 0).
    """


def device_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what the engines run on."""
    command = click.option("--threads", type=click.IntRange(1), help="CPU threads, at most one a core (default: all cores).")(command)
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        help="auto, cpu, cuda, tensorrt, rtx or torch. One that is named and not really active is an error.",
    )(command)


def panel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that name recognisers."""
    command = click.option(
        "--surrogates", multiple=True, type=FILE, metavar="DIR", help="Also search on this recogniser (repeatable)."
    )(command)
    command = click.option(
        "--without", multiple=True, metavar="NAME", help="Leave this shipped surrogate out of the search (repeatable)."
    )(command)
    command = click.option(
        "--judge", multiple=True, metavar="FILE|DIR", help="Also score with this recogniser (repeatable)."
    )(command)
    return click.option(
        "--installed-judges/--no-installed-judges", default=True, help="Score with dlib where it is installed."
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per input on stdout.")
faces_option = click.option(
    "--faces", type=click.Choice(["all", "largest"]), default="all", show_default=True, help="Which faces."
)


@cli.command(cls=NamesFormats)
@click.argument("photos", nargs=-1, required=True, type=FILE)
@click.option(
    "-o", "--output", type=FILE,
    help="File (one photo), folder, or - for standard output (one photo; the report goes to stderr). Default: PHOTO_protected.EXT beside "
    "it, and standard output for standard input.",
)
@click.option("-r", "--recursive", is_flag=True, help="Protect the photos in folders among PHOTOS, and below.")
@click.option(
    "--method", default="auto", show_default=True,
    help="auto: a search of 40 steps in pixels; latent: of 60 in a latent, with smoother changes; fast: one pass of a network, not enough "
    "for every face, and plain to see; "
    "diffusion: a search in the latent of a diffusion model; style: one in the codes of a style generator; or makeup, which is there to be "
    "seen (--look).",
)
@click.option(
    "--goal", type=click.Choice(["dodge", "decoy"]), default="dodge", show_default=True,
    help="Away from oneself, or towards a synthetic face that belongs to nobody.",
)
@click.option("--decoy", metavar="NAME", help="Which synthetic face.  [default: per face the one least like it]")
@click.option(
    "--strength",
    type=click.Choice(["low", "medium", "high"]),
    default="medium",
    show_default=True,
    help="How much change people may see, at most. Points on a measured curve of SSIMULACRA2 (70: barely noticed, 50: slightly annoying) "
    "and of people whom three strong recognisers outside the search no longer match, on average: low 72, 67 %; medium 60, 90 %; "
    "high 45, 100 % (auto with SFace, 16 people; medium on 60 people: 60, 91 %).",
)
@click.option(
    "--look", metavar="NAME|DIR", help="Of --method makeup: see 'engines list', or make one: export makeup.  [default: natural]"
)
@click.option(
    "--time-budget", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="Per photo, for all searches of it; what is found by then is scored and, if it is enough, written.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same bytes (without a time budget).")
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of JPEG, AVIF, HEIC and lossy WebP.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option(
    "--keep-unconfirmed", is_flag=True, help="Write a photo that is still matched too, as NAME_unconfirmed.EXT."
)
@click.option(
    "--again", is_flag=True,
    help="Also protect photos that are marked as protected, or named like outputs. It may lead back to the person: give originals.",
)
@click.option(
    "--sheet", type=FILE, metavar="FILE",
    help="Also draw every face before, after and the difference, with what each recogniser says (PNG or JPEG by its name; a folder for "
    "several photos). Also drawn where the photo is still matched, and says so.",
)
@click.option("--engines", type=FILE, metavar="DIR", help="Look for engines and recipes there first: what export diffusion has made.")
@faces_option
@panel_options
@device_options
@json_option
def protect(photos: tuple[Path, ...], output: Path | None, recursive: bool, as_json: bool, **options: Any) -> None:
    """Protect PHOTOS. The result is scored as written; nothing is written for a photo that is still matched.

    Of several PHOTOS those that have been protected before, and outputs by their name (*_protected.*), are left out.
    "-" among PHOTOS is standard input. A name that begins with a dash comes after "--": protect -- -me.jpg
    """
    from faceprotect_sdk.own_outputs import MARKED, without_outputs
    from faceprotect_sdk.protect_files import ProtectFiles
    from faceprotect_sdk.walk import STREAM, photos_in
    from faceprotect_sdk.write import is_folder

    photos = photos_in(photos, recursive=recursive)
    if output is None and photos == (STREAM,):
        output = STREAM
    to_stdout = output == STREAM
    if to_stdout and (as_json or len(photos) > 1):
        raise UsageError("standard output takes one photo and nothing else: leave out --json, give one photo, or name a folder with -o")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("the photo would be printed on the terminal. Send it to a file: > FILE, or name one with -o")
    if output is not None and len(photos) > 1 and not is_folder(output):
        raise UsageError(f"{output}: with several photos -o must be an existing folder. Create it: mkdir -p '{output}'")
    photos_left, left_out = (list(photos), {}) if options["again"] else without_outputs(photos)
    for photo, why in left_out.items():
        show_left_out(photo, why)
        if as_json:
            emit(left_out_json(photo, why))
    codes: list[int] = []
    not_to_replace = [photo for photo in photos if left_out.get(photo) != MARKED]
    with ProtectFiles(not_to_replace, output=output, **options) as job, ProgressLine(enabled=sys.stderr.isatty()) as line:
        for photo in photos_left:

            def one(photo: Path = photo) -> tuple[int, dict[str, Any]]:
                line.start(str(photo))
                made = job.protect(photo, line.update)
                result, written = made.result, made.photo
                document = {"input": str(photo), "output": str(written) if written else None, **result.to_json()}
                if options["sheet"] is not None:
                    document["sheet"] = str(made.sheet) if made.sheet else None
                line.clear()
                if not as_json:
                    show_protect(photo, written, result, made.sheet, err=to_stdout)
                return int(result.exit_code), document

            codes.append(_guarded(str(photo), one, as_json, line))
    raise SystemExit(int(worst(codes)))


@cli.command()
@click.argument("original", type=FILE)
@click.argument("protected", type=FILE)
@faces_option
@panel_options
@device_options
@json_option
def check(original: Path, protected: Path, as_json: bool, faces: str, **options: Any) -> None:
    """Ask every recogniser at hand whether PROTECTED still shows the person of ORIGINAL."""
    from faceprotect_sdk.protector import Protector

    def one() -> tuple[int, dict[str, Any]]:
        with Protector(
            device=options["device"],
            surrogates=options["surrogates"],
            without=options["without"],
            judges=options["judge"],
            installed_judges=options["installed_judges"],
            threads=options["threads"],
        ) as protector:
            result = protector.check(original, protected, faces=faces)
        if not as_json:
            show_check(original, protected, result)
        return int(result.exit_code), {"original": str(original), "protected": str(protected), **result.to_json()}

    raise SystemExit(_guarded(str(original), one, as_json))


@cli.command()
@click.argument("photos", nargs=-1, required=True, type=FILE)
@device_options
@json_option
def faces(photos: tuple[Path, ...], as_json: bool, device: str, threads: int | None) -> None:
    """List the faces of PHOTOS: box, five points and score, in pixels of the upright photo."""
    from faceprotect_sdk.protector import Protector

    codes: list[int] = []
    with Protector(device=device, threads=threads) as protector:
        for photo in photos:

            def one(photo: Path = photo) -> tuple[int, dict[str, Any]]:
                found = protector.faces(photo)
                if not as_json:
                    show_faces(photo, found)
                listed = [{"box": face.box, "points": face.points.tolist(), "score": face.score} for face in found]
                code = ExitCode.PROTECTED if found else ExitCode.NO_FACE
                return int(code), {"input": str(photo), "exit_code": int(code), "faces": listed}

            codes.append(_guarded(str(photo), one, as_json))
    raise SystemExit(int(worst(codes)))


for _command in (engines, export, benchmark, doctor):
    cli.add_command(_command)


def _guarded(
    name: str, work: Callable[[], tuple[int, dict[str, Any]]], as_json: bool, line: ProgressLine | None = None
) -> int:
    """Run the work of one input; a failure becomes its exit code, so that a batch can go on."""
    from faceprotect_engines.errors import EngineError
    from faceprotect_sdk.errors import FaceprotectError

    try:
        code, document = work()
    except ReportError:
        raise  # the photo is not to blame, and the next ones could not be reported either
    except Exception as error:  # noqa: BLE001 - the last resort of one input, so that the others are still looked at
        code = int(exit_code_of(error))
        if not isinstance(error, (FaceprotectError, EngineError, MemoryError)):
            error = _unforeseen(error)
        document = failure_json(name, error, code)
        if line is not None:
            line.clear()
        show_failure(name, error)
    if as_json:
        emit(document)
    return code


def _unforeseen(error: Exception) -> RuntimeError:
    """What to say of an error that nobody raised on purpose, and where it came from."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return RuntimeError(f"internal error, please report it: {type(error).__name__} at {where}: {error}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; what :data:`project.scripts` calls."""
    from faceprotect_engines.errors import EngineError
    from faceprotect_sdk.errors import FaceprotectError

    try:
        given = None if arguments is None else list(arguments)
        cli.main(args=given, prog_name="faceprotect-sdk", standalone_mode=False)
    except click.NoSuchOption as error:
        error.show()
        click.echo('The name of a file that begins with a dash comes after "--".', err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as stopped:
        click.echo("interrupted; files already reported are complete, nothing else was written", err=True)
        return exit_code_of_stop(stopped)
    except (FaceprotectError, EngineError) as error:
        show_failure("", error)
        return int(exit_code_of(error))
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except Exception as error:  # noqa: BLE001 - the last resort of a command: a sentence, where Python would print its stack
        show_failure("", _unforeseen(error))
        return int(ExitCode.INTERNAL)
    return 0


def entry() -> None:
    """Console script."""
    prepare()
    catch()
    sys.exit(main())


if __name__ == "__main__":
    entry()

"""The command line ``faceprotect-sdk``: data on stdout, progress and messages on stderr, exit codes of ``ExitCode``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from faceprotect_sdk import __version__
from faceprotect_sdk.cli.camera import camera
from faceprotect_sdk.cli.engines import benchmark, doctor, engines
from faceprotect_sdk.cli.help import GroupedCommand
from faceprotect_sdk.cli.options import FILE, device_options, faces_option, json_option, panel_options, quiet_option, settings_of
from faceprotect_sdk.cli.pack import pack
from faceprotect_sdk.cli.progress import ProgressLine
from faceprotect_sdk.cli.protect import protect
from faceprotect_sdk.cli.report import guarded, show_check, show_faces, show_failure, unforeseen
from faceprotect_sdk.cli.serve import serve
from faceprotect_sdk.cli.signals import catch, exit_code_of_stop, stop_behind
from faceprotect_sdk.cli.streams import prepare
from faceprotect_sdk.cli.web import web
from faceprotect_sdk.errors import ExitCode, FaceprotectError, exit_code_of, worst

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="faceprotect-sdk")
def cli() -> None:
    """Protect photos from face recognition, on this machine and offline.

    Exit codes: 0 every selected face protected and confirmed; 1 internal error or failed write; 2 usage; 3 no face;
    4 unreadable input, or one that has been protected before; 5 engine or device missing, or failed verification; 6 changed but
    still matched, if only one face of several; 130
    interrupted (143 by SIGTERM, 129 by SIGHUP). A batch goes on past a bad file; the worst code wins
    (130, 1, 5, 2, 4, 6, 3, 0).
    """


@cli.command(cls=GroupedCommand)
@click.argument("original", type=FILE)
@click.argument("protected", type=FILE)
@faces_option
@panel_options
@device_options
@json_option
@quiet_option
def check(original: Path, protected: Path, as_json: bool, quiet: bool, faces: str, **options: Any) -> None:
    """Ask every recogniser at hand whether PROTECTED still shows the person of ORIGINAL."""
    from faceprotect_sdk.protector import Protector

    def one() -> tuple[int, dict[str, Any]]:
        with Protector(settings_of(options)[0]) as protector:
            line.start(str(protected))
            result = protector.check(original, protected, faces=faces, progress=line.update)
        line.clear()
        if not as_json:
            show_check(original, protected, result)
        return int(result.exit_code), {"original": str(original), "protected": str(protected), **result.to_json()}

    with ProgressLine("photo", quiet=quiet) as line:
        raise SystemExit(guarded(str(original), one, as_json, line))


@cli.command(cls=GroupedCommand)
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

            codes.append(guarded(str(photo), one, as_json))
    raise SystemExit(int(worst(codes)))


for _command in (protect, web, serve, camera, pack, engines, benchmark, doctor):
    cli.add_command(_command)
for _point in entry_points(group="faceprotect_sdk.commands"):  # of the floor above, which this one does not import
    cli.add_command(_point.load())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; what :data:`project.scripts` calls."""
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
        return _stopped(stopped)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except Exception as error:  # noqa: BLE001 - the last resort of a command: a sentence, where Python would print its stack
        if (behind := stop_behind(error)) is not None:
            return _stopped(behind)
        show_failure("", error if isinstance(error, FaceprotectError) else unforeseen(error))
        return int(exit_code_of(error))
    return 0


def _stopped(error: BaseException) -> int:
    click.echo("interrupted; files already reported are complete, nothing else was written", err=True)
    return exit_code_of_stop(error)


def entry() -> None:
    """Console script."""
    prepare()
    catch()
    sys.exit(main())


if __name__ == "__main__":
    entry()

"""Kinds of values, and options, that several commands take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceprotect_sdk.cli.help import GroupedCommand, option
from faceprotect_sdk.photo.write import Destination

if TYPE_CHECKING:
    from faceprotect_sdk.settings import Settings

#: Options that are called otherwise than the setting that they make.
_OF_SETTINGS = {"judge": "judges"}
#: A file or folder, looked at by the code that reads it: one that cannot be read ends its own input, not the whole batch.
FILE = click.Path(path_type=Path, readable=False)
#: Where something is to be written; a slash at the end means a folder.
PLACE = Destination.of
DEVICES = "[auto|cpu|cuda|tensorrt|rtx|torch]"
FACES, RECOGNISERS, MACHINE, REPORT = "Which faces", "Recognisers", "This machine", "What is reported"


def device_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what the engines run on."""
    threads = "Processor threads, at most one a core.  [default: all cores]"
    command = option(MACHINE, "--threads", type=click.IntRange(1), metavar="N", help=threads)(command)
    return option(
        MACHINE,
        "--device",
        default="auto",
        show_default=True,
        metavar=DEVICES,
        help="What to compute on. 'auto' takes what is there; one that is named and not there is an error, never replaced.",
    )(command)


def panel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that name recognisers."""
    for names, settings in (
        (("--surrogates",), {"multiple": True, "type": FILE, "metavar": "DIR", "help": "Also search on this recogniser (repeatable)."}),
        (("--without",), {"multiple": True, "metavar": "NAME", "help": "Leave this shipped recogniser out of the search (repeatable)."}),
        (("--judge",), {"multiple": True, "metavar": "FILE|DIR", "help": "Also ask this recogniser about the result (repeatable)."}),
        (
            ("--installed-judges/--no-installed-judges",),
            {"default": True, "help": "Whether to ask dlib about the result, where it is installed.  [default: yes]"},
        ),
    ):
        command = option(RECOGNISERS, *names, **settings)(command)
    return command


def settings_of(options: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Settings by the options of a command, and the options that are none of them; raises UsageError for a value out of range."""
    from faceprotect_sdk.settings import Settings

    names = {field.name for field in fields(Settings)}
    named = {_OF_SETTINGS.get(name, name): value for name, value in options.items()}
    return Settings(**{name: value for name, value in named.items() if name in names}), {
        name: value for name, value in named.items() if name not in names
    }


faces_option = option(
    FACES, "--faces", type=click.Choice(["all", "largest"]), default="all", show_default=True, help="All faces of a photo, or the largest."
)
json_option = option(REPORT, "--json", "as_json", is_flag=True, help="One JSON object per input on stdout, in place of words.")
quiet_option = option(REPORT, "-q", "--quiet", is_flag=True, help="No progress on stderr; errors are printed there all the same.")


class NamesFormats(GroupedCommand):
    """A command whose help says which kinds of photos this installation reads: looked up when help is asked for, not before."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The names, and what to install for those that are missing."""
        from faceprotect_sdk.photo.formats import NAMES, readable, remedy

        formatter.write_paragraph()
        formatter.write_text(f"Photos that this installation reads and writes: {', '.join(readable())}.")
        for container, name in NAMES.items():
            if name not in readable():
                formatter.write_text(remedy(container))

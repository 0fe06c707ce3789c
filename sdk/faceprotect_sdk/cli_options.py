"""Kinds of values that several commands take."""

from __future__ import annotations

from pathlib import Path

import click

#: A file or folder, looked at by the code that reads it: one that cannot be read ends its own input, not the whole batch.
FILE = click.Path(path_type=Path, readable=False)


class NamesFormats(click.Command):
    """A command whose help says which kinds of photos this installation reads: looked up when help is asked for, not before."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The names, and what to install for those that are missing."""
        from faceprotect_sdk.formats import NAMES, readable, remedy

        formatter.write_paragraph()
        formatter.write_text(f"Photos that this installation reads and writes: {', '.join(readable())}.")
        for container, name in NAMES.items():
            if name not in readable():
                formatter.write_text(remedy(container))

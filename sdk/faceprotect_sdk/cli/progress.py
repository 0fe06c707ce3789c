"""What says that a command works: one line on a terminal that is rewritten, else one line for every input; on stderr alone."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path
from types import TracebackType

import click

from faceprotect_sdk.cli.streams import printable
from faceprotect_sdk.progress import Progress

_BAR = 16
#: Columns of a terminal that does not say how many it has.
_COLUMNS = 80
_DOING = {"detect": "looking for faces", "score": "asking the recognisers"}


class ProgressLine:
    """Says which input of how many is at work, and how far it is.

    On a terminal it is one line, rewritten and never wider than the terminal; elsewhere a line for every input, as it begins. Silent where
    ``quiet``.
    """

    def __init__(self, noun: str = "photo", total: int = 1, *, quiet: bool = False) -> None:
        """Draw nothing yet. ``noun``: what an input is called; ``total``: how many there are."""
        self._noun, self._total, self._number = noun, total, 0
        self._terminal = not quiet and sys.stderr.isatty()
        self._lines = not quiet and not self._terminal
        self._name = ""
        self._width = 0

    def __enter__(self) -> ProgressLine:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Leave no half line behind."""
        self.clear()

    def start(self, name: str) -> None:
        """The next input begins; ``name`` is what it is called."""
        self._number += 1
        self._name = printable(Path(name).name or name)
        if self._lines:
            click.echo(f"{self._noun} {self._number} of {self._total}: {printable(name)}", err=True)
        self._draw(["starting"], ["starting"])

    def update(self, progress: Progress) -> None:
        """Draw the state of a protection or a comparison."""
        face = f"face {progress.face + 1} of {max(progress.faces, 1)}"
        if progress.stage == "search":
            search = f"search {progress.search + 1} of {progress.searches}"
            self._draw([face, search, _bar(progress)], [_short(face), _short(search), f"{progress.step}/{progress.steps}"])
        elif progress.stage == "compare":
            asked = f"recogniser {progress.step + 1} of {progress.steps}"
            self._draw([face, asked], [_short(face), _short(asked)])
        else:
            doing = _DOING.get(progress.stage, progress.stage)
            self._draw([doing], [doing])

    def count(self, done: int, total: int) -> None:
        """Draw how many runs of the input are done."""
        self._draw([f"run {min(done + 1, total)} of {total}"], [f"run {min(done + 1, total)}/{total}"])

    def clear(self) -> None:
        """Wipe the line."""
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)
            self._width = 0

    def _draw(self, words: list[str], short: list[str]) -> None:
        """Put the longest form that fits: ``words`` with the input's name, else ``short``, cut at the terminal's edge."""
        if not self._terminal:
            return
        room = columns() - 1  # a letter in the last column makes some terminals begin a line
        where = f"{self._noun} {self._number} of {self._total}"
        forms = ["  ".join([where, self._name, *words]), "  ".join([where, *words])]
        forms.append(" ".join([f"{self._number}/{self._total}", *short]))
        text = next((form for form in forms if width_of(form) <= room), cut(forms[-1], room))
        wide = width_of(text)
        padding = " " * max(min(self._width, room) - wide, 0)
        self._width = wide
        click.echo(f"\r{text}{padding}", nl=False, err=True)


def columns() -> int:
    """How wide the terminal of stderr is."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS


def width_of(text: str) -> int:
    """Columns that a terminal needs for the text: Chinese letters take two, accents none."""
    return sum(_width(letter) for letter in text)


def cut(text: str, room: int) -> str:
    """As much of the text as fits into ``room`` columns."""
    kept = ""
    for letter in text:
        if width_of(kept) + _width(letter) > room:
            break
        kept += letter
    return kept


def _width(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _bar(progress: Progress) -> str:
    done = "#" * round(_BAR * progress.step / max(progress.steps, 1))
    return f"[{done:<{_BAR}}] {progress.step}/{progress.steps}"


def _short(words: str) -> str:
    """Fewer letters: face 1/2."""
    return words.replace(" of ", "/")

"""The option ``--method``: what there is to choose from is read from the recipes when help is asked for, not before."""

from __future__ import annotations

from typing import Any

import click

from faceprotect_sdk.cli.help import GroupedOption
from faceprotect_sdk.methods import DEFAULT


class MethodName(click.types.StringParamType):
    """A method's name, or a folder of one's own; a wrong one is refused by whoever looks it up."""

    name = "method"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The names that ship, and DIR."""
        return f"[{'|'.join([*_described(), 'DIR'])}]"


class MethodOption(GroupedOption):
    """An option that takes a method, with a line on every one that ships as its recipe describes it."""

    def __init__(self, *declarations: Any, **settings: Any) -> None:
        """As ``click.Option``; type, default and help are its own."""
        super().__init__(*declarations, type=MethodName(), default=DEFAULT, show_default=True, **settings)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The help, read now."""
        lines = [f"{name}: {description}." for name, description in _described().items()]
        self.help = " ".join([*lines, "DIR: a folder of yours with recipe.json and its engines."])
        return super().get_help_record(ctx)


def _described() -> dict[str, str]:
    from faceprotect_engines.store import Store
    from faceprotect_sdk.methods import methods_of

    return {name: recipe.method.description for name, recipe in methods_of(Store()).items()}

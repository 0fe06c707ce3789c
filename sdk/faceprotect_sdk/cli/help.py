"""A command whose ``--help`` puts its options into groups, in the order in which somebody who is new asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class GroupedOption(click.Option):
    """An option that belongs to a group of ``--help``."""

    def __init__(self, *declarations: Any, group: str = "", **settings: Any) -> None:
        """As ``click.Option``; ``group``: the heading under which it stands."""
        super().__init__(*declarations, **settings)
        self.group = group


class GroupedCommand(click.Command):
    """Lists options under their groups' headings, in the order in which the groups come; those without a group come last."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in their groups."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(parameter, "group", ""), []).append(record)
        rest = groups.pop("", [])
        for heading, records in (*groups.items(), ("Other", rest)):
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records, col_max=28)


def option(group: str, *declarations: str, **settings: Any) -> Decorator:
    """``click.option`` in a group; ``cls``: a class below :class:`GroupedOption`."""
    return click.option(*declarations, group=group, **{"cls": GroupedOption, **settings})

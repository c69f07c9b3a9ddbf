"""The commands as a table, out of the parser of the command line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Command(NamedTuple):
    """One command: how it is called, what it does, and its arguments with what each means."""

    name: str
    usage: str
    description: str
    arguments: list[tuple[str, str]]


def command_table(parser: argparse.ArgumentParser) -> Iterator[Command]:
    """Yield the commands of a parser in their order."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to its commands.
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same again.
            yield from map(_command, action.choices.values())


def _command(parser: argparse.ArgumentParser) -> Command:
    usage, arguments = [parser.prog, "[options]"], []
    for group in parser._action_groups:  # noqa: SLF001 - argparse prints help, but lists nothing.
        for action in group._group_actions:  # noqa: SLF001 - the same again.
            value = f" {action.metavar}" if action.metavar else ""
            name = f"{', '.join(action.option_strings)}{value}".strip()
            if not action.option_strings:
                usage.append(name)
            if "--help" not in action.option_strings:
                arguments.append((name, action.help or group.title or ""))
    return Command(parser.prog, " ".join(usage), str(parser.description).strip(), arguments)

"""The command that explains who gets an event."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from notifyd.commands_control import control_path
from notifyd.core.events import Rule, encode_rule
from notifyd.core.explanation_page import page
from notifyd.daemon import control

if TYPE_CHECKING:
    from argparse import Namespace


def explain(arguments: Namespace) -> int:
    """Tell who would get an event from the running daemon, who would not, and why."""
    question = _question(arguments)
    if question is None:
        print("notifyd: say which event: its id, its JSON, or an audience", file=sys.stderr)
        return 2
    path = control_path(arguments)
    answer = asyncio.run(control.ask(path, "explain", **question, users=arguments.user))
    print(json.dumps(answer, indent=2) if arguments.json else "\n".join(page(answer)))
    return 0


def _question(arguments: Namespace) -> dict[str, Any] | None:
    """Return which event the command line means, None if none. Raises Rejected."""
    rule = Rule(
        groups=frozenset(arguments.group),
        permissions=frozenset(arguments.permission),
        content_types=frozenset(arguments.content_type),
        everyone=arguments.everyone,
    )
    event = sys.stdin.read() if arguments.event == "-" else arguments.event
    if event is None and rule == Rule():
        # Then it is about one that is for these users alone.
        rule = Rule(users=frozenset(arguments.user))
    to = {} if rule == Rule() else {"to": encode_rule(rule).decode()}
    if event is None:
        return {"event": "{}", **to} if to else None
    # No object begins with a digit, as ids do.
    return {"id": event} if event[:1].isdigit() else {"event": event, **to}

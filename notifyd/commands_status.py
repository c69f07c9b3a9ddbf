"""The commands that look at the running daemon: `status`, once or all the time."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from notifyd.commands_control import control_path
from notifyd.core.screen import frame
from notifyd.core.status_page import page
from notifyd.daemon import control

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

_EVERY: Final = 1.0
"""Seconds between two looks."""


def status(arguments: Namespace) -> int:
    """Show what the running daemon is doing."""
    path = control_path(arguments)
    answer = asyncio.run(control.ask(path, "status"))
    if not arguments.watch:
        print(json.dumps(answer, indent=2) if arguments.json else "\n".join(page(answer)))
        return 0
    while True:
        _show(answer, as_json=arguments.json)
        time.sleep(_EVERY)
        answer = _ask_again(path)


def _ask_again(path: str) -> dict[str, Any]:
    """Return the status, or the reason for having none: the daemon may just be restarted."""
    try:
        return asyncio.run(control.ask(path, "status"))
    except control.ControlError as error:
        return {"error": str(error)}


def _show(answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer), flush=True)
    elif sys.stdout.isatty():
        size = shutil.get_terminal_size()
        print(frame(page(answer), size.columns, size.lines), end="", flush=True)
    else:
        print("\n".join([*page(answer), ""]), flush=True)

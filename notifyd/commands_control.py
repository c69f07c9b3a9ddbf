"""The commands that ask the running daemon to do something, and where all find it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from notifyd.daemon import config, control

if TYPE_CHECKING:
    from argparse import Namespace


def reload(arguments: Namespace) -> int:
    """Have the running daemon read its configuration anew."""
    answer = asyncio.run(control.ask(control_path(arguments), "reload"))
    print(f"changed: {', '.join(answer['changed']) or 'nothing'}")
    if answer["waiting"]:
        print(f"for a restart, which disconnects nobody: {', '.join(answer['waiting'])}")
    return 0


def disconnect(arguments: Namespace) -> int:
    """Close the connections of users, at every daemon."""
    path = control_path(arguments)
    answer = asyncio.run(control.ask(path, "disconnect", users=arguments.user))
    print(f"connections closed at this daemon: {answer['connections']}")
    print(f"other daemons read of it in the stream: {answer['id']}")
    return 0


def control_path(arguments: Namespace) -> str:
    """Return where the daemon listens that the command line means."""
    try:
        loaded, _ = config.load(arguments.config, os.environ)
    except config.ConfigError as error:
        # The daemon runs with an earlier one, and says best what is wrong with this.
        loaded = error.rest
    return loaded.control.socket or control.find(os.environ)

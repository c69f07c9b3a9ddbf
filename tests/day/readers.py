"""The people of the day: pages that stay, guide's clients, and those who make trouble."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from websockets.asyncio.client import ClientConnection

_PLAIN: Final[dict[str, Any]] = {"compression": None, "ping_interval": None, "close_timeout": 1}
_UNAUTHENTICATED: Final = 4401
_LOST: Final = (ConnectionClosed, InvalidHandshake, OSError, EOFError, TimeoutError)

ACKNOWLEDGE_EVERY: Final = 1.0
"""Seconds between two acknowledgements of a page, at least."""


class Page:
    """A page that stays: it comes back with its ticket, and acknowledges what it gets.

    `fetch` is the site's view, which gives a new token.
    """

    def __init__(self, address: str, fetch: Callable[[], Awaitable[str]]) -> None:
        self._address = address
        self._fetch = fetch
        self._ticket: str | None = None
        self._position: dict[str, str] = {}
        self._acknowledged = 0.0
        self.welcomes = 0
        self.resyncs = 0

    async def stay(self) -> None:
        """Hold a connection, over every restart, until cancelled."""
        while True:
            with contextlib.suppress(*_LOST):
                credentials = await self._credentials()
                async with connect(f"ws://{self._address}/", proxy=None, **_PLAIN) as connection:
                    await connection.send(json.dumps(credentials | self._position))
                    async for message in connection:
                        await self._take(json.loads(message), connection)
                if connection.close_code == _UNAUTHENTICATED:
                    self._ticket = None
            await asyncio.sleep(random.uniform(0.1, 0.5))

    async def _credentials(self) -> dict[str, str]:
        if self._ticket is None:
            return {"token": await self._fetch()}
        return {"ticket": self._ticket}

    async def _take(self, message: dict[str, Any], connection: ClientConnection) -> None:
        match message:
            case {"notifyd": "welcome", "ticket": ticket}:
                self.welcomes += 1
                self._ticket = ticket
                self._position = {"since": message["last_id"], "epoch": message["epoch"]}
            case {"notifyd": "ticket", "ticket": ticket}:
                self._ticket = ticket
            case {"notifyd": "resync"}:
                self.resyncs += 1
            case {"id": id_}:
                self._position |= {"since": id_}
                if time.monotonic() > self._acknowledged + ACKNOWLEDGE_EVERY:
                    self._acknowledged = time.monotonic()
                    await connection.send(json.dumps({"notifyd": "ack", "id": id_}))


async def stay_bare(address: str, token: str) -> None:
    """Be a client of the guide's: a token, then events. It does not come back."""
    with contextlib.suppress(*_LOST):
        async with connect(f"ws://{address}/", proxy=None, **_PLAIN) as connection:
            await connection.send(token)
            async for _ in connection:
                pass


async def say(address: str, message: str, *, come_from: str) -> None:
    """Say one thing, and wait for the end that it leads to."""
    with contextlib.suppress(*_LOST):
        here = (come_from, 0)
        async with connect(f"ws://{address}/", proxy=None, local_addr=here, **_PLAIN) as connection:
            await connection.send(message)
            async for _ in connection:
                pass


async def look_in(address: str) -> None:
    """Connect, and go at once."""
    with contextlib.suppress(*_LOST):
        async with connect(f"ws://{address}/", proxy=None, **_PLAIN):
            pass


@contextlib.asynccontextmanager
async def dawdling(path: str, message: str) -> AsyncIterator[ClientConnection]:
    """Have a client at a Unix socket that takes next to nothing until somebody reads from it."""
    async with unix_connect(path, max_queue=1, **_PLAIN) as connection:
        await connection.send(message)
        yield connection

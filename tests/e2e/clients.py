"""Clients of a running daemon that keep everything they are sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from waiting import until
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from daemons import Daemon
    from websockets.asyncio.client import ClientConnection


class Page:
    """A connection, and what came over it until now: its texts, those decoded, and the events."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.texts: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.connection:
                assert isinstance(message, str)
                self._take(message)

    def _take(self, text: str) -> None:
        message = json.loads(text)
        self.texts.append(text)
        self.messages.append(message)
        if "notifyd" not in message:
            self.events.append(message)

    def controls(self, kind: str) -> list[dict[str, Any]]:
        """Return the control frames of one kind."""
        return [message for message in self.messages if message.get("notifyd") == kind]

    async def event(self, **fields: object) -> dict[str, Any]:
        """Wait for an event with these fields, and return it."""
        found = await until(lambda: [e for e in self.events if fields.items() <= e.items()])
        return dict(found[0])

    async def count(self, events: int) -> None:
        """Wait for so many events."""
        await until(lambda: len(self.events) >= events)

    async def control(self, kind: str) -> dict[str, Any]:
        """Wait for a control frame, and return the first of its kind."""
        return dict((await until(lambda: self.controls(kind)))[0])

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait for the end, and return the code and the reason of the daemon's Close."""
        async with asyncio.timeout(20):
            await self.connection.wait_closed()
        await self._reading
        # What the daemon has sent, and not what this client answered.
        close = self.connection.protocol.close_rcvd
        return (close.code, close.reason) if close else (None, None)

    @property
    def open(self) -> bool:
        """Whether it was never closed."""
        return self.connection.close_code is None

    async def close(self) -> None:
        """Leave."""
        await self.connection.close()
        await self._reading


class Pages:
    """The clients of a test; they leave at its end."""

    def __init__(self) -> None:
        self._ends = contextlib.AsyncExitStack()

    async def connect(self, address: str, **options: Any) -> Page:
        """Return a client after its handshake at an address as the daemon tells it."""
        options = {"compression": None, "ping_interval": None} | options
        if address.startswith("unix:"):
            connection = await unix_connect(address.removeprefix("unix:"), **options)
        else:
            connection = await connect(f"ws://{address}/", proxy=None, **options)
        page = Page(connection)
        self._ends.push_async_callback(page.close)
        return page

    async def hello(self, daemon: Daemon, token: str, at: int = 0, **more: str) -> Page:
        """Return a client that said hello and was welcomed, at the daemon's n-th address."""
        page = await self.connect(daemon.addresses[at])
        await page.connection.send(json.dumps({"token": token, **more}))
        await page.control("welcome")
        return page

    async def bare(self, daemon: Daemon, token: str, at: int = 0) -> Page:
        """Return a client like the guide's, which sent its token and was let in."""
        before = daemon.metric("authentications_total", result="ok")
        page = await self.connect(daemon.addresses[at])
        await page.connection.send(token)
        # Nobody tells such a client that it is in.
        await until(lambda: daemon.metric("authentications_total", result="ok") > before)
        return page

    async def close(self) -> None:
        """Have all of them leave."""
        await self._ends.aclose()

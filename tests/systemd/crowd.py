"""Thousands of browsers, as little as they can be: what they are sent is kept, and read later."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import TYPE_CHECKING, Any

from raws import PONG, REQUEST, text
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_AT_ONCE = 250


class Browser(asyncio.Protocol):
    """One of them."""

    def __init__(self, hello: str) -> None:
        self._hello = hello
        self.received = bytearray()
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say everything that there is to say."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(REQUEST + b"\r\n" + text(self._hello))

    def data_received(self, data: bytes) -> None:
        """Keep what comes, and answer pings."""
        self.received += data
        # An empty ping of a server, which no text of ours contains.
        if b"\x89\x00" in data:
            self.transport.write(PONG)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Note that it was disconnected."""
        self.open = False

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what came (RFC 6455 section 5.2), as far as it is complete; a Close is `code`."""
        data = bytes(self.received).partition(b"\r\n\r\n")[2]
        while len(data) >= 2:
            size, head = data[1], 2
            if size == 126:
                size, head = int.from_bytes(data[2:4]), 4
            payload, opcode = data[head : head + size], data[0] & 15
            if len(payload) < size:
                return
            data = data[head + size :]
            if opcode == 1:
                yield json.loads(payload)
            elif opcode == 8:
                yield {"code": int.from_bytes(payload[:2])}

    def ids(self) -> list[str]:
        """Return the ids of the events that it got."""
        return [message["id"] for message in self.messages() if "id" in message]


async def gather(port: int, hellos: Sequence[str]) -> list[Browser]:
    """Connect a browser for each hello, and wait until all are welcome."""
    loop = asyncio.get_running_loop()
    crowd: list[Browser] = []
    for start in range(0, len(hellos), _AT_ONCE):
        made = [Browser(hello) for hello in hellos[start : start + _AT_ONCE]]
        await asyncio.gather(
            *(loop.create_connection(_given(each), "127.0.0.1", port) for each in made)
        )
        crowd += made
        await until(functools.partial(_welcome, made), 30)
    return crowd


def _given(browser: Browser) -> Callable[[], Browser]:
    return lambda: browser


def _welcome(crowd: Sequence[Browser]) -> bool:
    return all(b"welcome" in each.received for each in crowd)


async def leave(crowd: Sequence[Browser]) -> None:
    """Have all of them gone."""
    for browser in crowd:
        browser.transport.abort()
    await until(lambda: not any(browser.open for browser in crowd))

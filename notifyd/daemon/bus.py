"""The event bus in Redis: what the site publishes, in order and, over the stream, without loss.

Two links run beside each other and mend themselves: the stream (bus_stream.py), which makes up for
every outage that its history spans, and the Pub/Sub channel (bus_pubsub.py), which can't. A third
is opened when somebody asks for what the stream has kept (bus_archive.py).
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import ResponseError

from notifyd.core.batch import Batch, Positioned
from notifyd.core.faults import Fault
from notifyd.daemon.bus_archive import Archive
from notifyd.daemon.bus_link import FAULTS, Link, RedisURL, check_url, describe
from notifyd.daemon.bus_outage import BusStats, Outage
from notifyd.daemon.bus_pubsub import Listener
from notifyd.daemon.bus_stream import Follower, keys, locate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from notifyd.daemon.bus_outage import Reader

Item = TypeVar("Item")

__all__ = [
    "Batch",
    "Bus",
    "BusError",
    "BusStats",
    "Positioned",
    "check_url",
    "fault",
    "order",
    "publish",
]

_MOVED: Final = ConnectionError("[redis] url was changed to this address")

PATIENCE: Final = 5.0
"""Seconds that the commands `publish` and `tail` wait for an answer."""


class BusError(Fault):
    """Redis could not be used; the text says why and what to do, and names no secret."""


class Bus:
    """The bus at a Redis URL, read for as long as somebody iterates.

    An answer from Redis later than `timeout` seconds means a dead link. `history` is how many
    seconds the stream keeps its entries; infinite: it is not trimmed. `decided` is set when the
    first attempt to reach the stream has succeeded, which iterating has then told, or failed.
    Raises ValueError with the words of check_url.
    """

    def __init__(
        self, url: str, *, prefix: str, channel: str, timeout: float, history: float
    ) -> None:
        self._url = RedisURL(url)
        self._prefix = prefix
        self._channel = channel
        self._timeout = timeout
        self._history = history
        self._readers: set[Reader[Any]] = set()
        self._moves = 0
        self._closed = asyncio.Event()
        self.decided = asyncio.Event()
        self.archive = Archive(self._url, prefix=prefix, within=timeout)
        self.stats = BusStats()
        # An epoch and a position in it, from which the stream is read.
        self._start: tuple[str, str] | None = None
        # Since when each is down; None while it works.
        self._down: dict[Reader[Any], float | None] = {}

    @property
    def address(self) -> str:
        """Where the bus is, without the password."""
        return str(self._url)

    def resume(self, epoch: str, last_id: str) -> None:
        """Read the stream from a position of that epoch on, instead of from its end."""
        self._start = epoch, last_id

    async def move(self, url: str) -> None:
        """Read from another address from now on, and go on there if its history is the same.

        Raises ValueError with the words of check_url.
        """
        self._url.become(url)
        self._moves += 1
        await self.archive.close()
        for reader in tuple(self._readers):
            await reader.close()

    def stream(self) -> AsyncGenerator[Batch | Positioned, None]:
        """Yield the entries from the end of the stream on, over every outage, for ever.

        First comes where that is; later the same whenever entries may have been missed. After
        `resume` only the latter.
        """
        follower = Follower(
            self._url,
            self.stats,
            prefix=self._prefix,
            within=self._timeout,
            history=self._history,
            start=self._start,
        )
        return self._run(follower, self.decided)

    def pubsub(self) -> AsyncGenerator[Batch, None]:
        """Yield what is published to the channel while it is connected, for ever.

        Iterate without pause: Redis cuts a subscriber that falls behind.
        """
        listener = Listener(
            self._url,
            self.stats,
            prefix=self._prefix,
            channel=self._channel,
            within=self._timeout,
        )
        return self._run(listener, asyncio.Event())

    async def close(self) -> None:
        """Close the connections; whoever iterates comes to the end."""
        self._closed.set()
        await self.archive.close()
        for reader in tuple(self._readers):
            await reader.close()

    async def _run(
        self, reader: Reader[Item], decided: asyncio.Event
    ) -> AsyncGenerator[Item, None]:
        outage = Outage(reader, self._url, self.stats, self._down)
        self._readers.add(reader)
        try:
            while not self._closed.is_set():
                delay, moves = 0.0, self._moves
                try:
                    await reader.step()
                except FAULTS as error:
                    await reader.close()
                    if not self._closed.is_set():
                        # Where we have left ourselves, the other end is not to blame.
                        delay = outage.failed(error if moves == self._moves else _MOVED)
                else:
                    outage.worked()
                decided.set()
                # What came before an error came all the same.
                for item in reader.take():
                    yield item
                await self._pause(delay)
        finally:
            await reader.close()
            self._readers.discard(reader)
            outage.forget()

    async def _pause(self, seconds: float) -> None:
        if seconds:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closed.wait()


async def publish(
    url: str,
    *,
    prefix: str,
    payload: bytes,
    rule: bytes | None,
    maxlen: int,
    traceparent: bytes | None = None,
) -> str:
    """Add an event to the stream, kept at about `maxlen` entries, and return its id.

    Payload and rule are taken as they are. Raises BusError; its text says so when it is unknown
    whether the event was added.
    """
    parts = {b"event": payload, b"to": rule, b"traceparent": traceparent}
    return await _add(url, prefix, {k: v for k, v in parts.items() if v is not None}, maxlen)


async def order(url: str, *, prefix: str, body: Mapping[str, Any], maxlen: int) -> str:
    """Add a control entry in the same way, and return its id. Raises BusError."""
    return await _add(url, prefix, {b"control": json.dumps(body).encode()}, maxlen)


async def _add(url: str, prefix: str, fields: Mapping[bytes, bytes], maxlen: int) -> str:
    if fault := check_url(url):
        raise BusError(f"redis.url: {fault}")
    address = RedisURL(url)
    words = [word for field in fields.items() for word in field]
    outcome = ""
    link = None
    try:
        link = await Link.open(address, within=PATIENCE)
        # An event must not be a history's first entry, whose place is the start's.
        await locate(link, prefix)
        outcome = "; it is unknown whether the entry was added"
        added = await link.call("XADD", keys(prefix)[0], "MAXLEN", "~", maxlen, "*", *words)
    except FAULTS as error:
        told = describe(address, error)
        known = isinstance(error, ResponseError)
        # Not chained: only explain() has taken the password out of what the error says.
        raise BusError(told if known else told + outcome) from None
    finally:
        if link is not None:
            await link.close()
    return str(added.decode())


async def fault(url: str, *, timeout: float) -> str | None:  # noqa: ASYNC109 - of each answer
    """Return why Redis can't be used and what to do about it, None if it answers."""
    address = RedisURL(url)
    link = None
    try:
        link = await Link.open(address, within=timeout)
        await link.call("PING")
    except FAULTS as error:
        return describe(address, error)
    finally:
        if link is not None:
            await link.close()
    return None

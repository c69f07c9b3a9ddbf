"""The Pub/Sub channel of publishers that know nothing of the stream.

Pub/Sub keeps nothing: what is published while nobody listens is lost, and a subscriber can't tell
silence from a dead link. So each listener publishes to a channel of its own, its canary, and a
canary that doesn't come back means a dead link.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from notifyd.daemon.bus_link import Link, NoAnswerError
from notifyd.daemon.bus_stream import BATCH_BYTES, batches

if TYPE_CHECKING:
    from notifyd.core.batch import Batch, RawEntry
    from notifyd.daemon.bus_link import RedisURL
    from notifyd.daemon.bus_outage import BusStats

GRACE: Final = 0.05
"""Seconds for what the kernel has kept for us, after we were held up ourselves."""


class Listener:
    """Reads the channel, over one pair of links after the other.

    Each step() waits for messages, on new links if there are none; after an error of it, close().
    take() returns what came, as entries without id whose one field `event` is the message.
    """

    source: Final = "pubsub"
    lost: Final = "messages published during the outage: Pub/Sub keeps none"

    def __init__(
        self, url: RedisURL, stats: BusStats, *, prefix: str, channel: str, within: float
    ) -> None:
        self._url = url
        self._stats = stats
        self._channel = channel.encode()
        self._canary = f"{{{prefix}}}:canary:{secrets.token_hex(8)}".encode()
        self._within = within
        self._subscriber: Link | None = None
        self._publisher: Link | None = None
        self._messages: list[RawEntry] = []
        # When the next canary is sent and, while one is under way, until when it may be.
        self._canary_due = 0.0
        self._deadline: float | None = None
        self.ready = False

    def fields(self) -> dict[str, Any]:
        """Return what the log tells of links that are ready."""
        return {}

    def take(self) -> list[Batch]:
        """Return what came since the last time."""
        messages, self._messages = self._messages, []
        return batches("pubsub", messages)

    async def step(self) -> None:
        """Wait until something comes, or a canary is due or overdue, and take all there is.

        Raises FAULTS.
        """
        if self._subscriber is None or self._publisher is None:
            self._publisher = await Link.open(self._url, within=self._within)
            self._subscriber = await Link.open(self._url, within=self._within)
            await self._subscriber.send("SUBSCRIBE", self._channel, self._canary)
            self._canary_due = 0.0
            self._deadline = None
        if self._deadline is None and time.monotonic() >= self._canary_due:
            await self._publisher.call("PUBLISH", self._canary, b"")
            self._deadline = time.monotonic() + self._within
        await self._receive(self._subscriber)

    async def close(self) -> None:
        """Close the links; the next step opens others."""
        self.ready = False
        subscriber, self._subscriber = self._subscriber, None
        publisher, self._publisher = self._publisher, None
        for link in (subscriber, publisher):
            if link is not None:
                await link.close()

    async def _receive(self, subscriber: Link) -> None:
        until = self._canary_due if self._deadline is None else self._deadline
        answer = await subscriber.receive(max(GRACE, until - time.monotonic()))
        if answer is None:
            if self._deadline is not None:
                raise NoAnswerError(f"no message came back within {self._within:g} s")
            return
        size = 0
        while answer is not None:
            size += self._take(answer)
            if size >= BATCH_BYTES:
                break
            answer = await subscriber.receive(0)

    def _take(self, answer: list[Any]) -> int:
        kind, channel, data = answer
        now = time.monotonic()
        if self._deadline is not None:
            # Whatever comes proves the link; a canary may be far behind in a burst.
            self._deadline = now + self._within
        if kind != b"message":
            return 0
        self._stats.proofs["pubsub"] = now
        if channel == self._canary:
            self._deadline = None
            self._canary_due = now + self._within / 2
            self.ready = True
            return 0
        self._messages.append((None, {b"event": data}))
        return len(data)

"""The heart of the daemon: batches from the bus, through the hub, to the clients."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import structlog

from notifyd.core.batch import Batch, Positioned
from notifyd.core.events import Control, Event, Rejected, Rejection, parse_entry
from notifyd.core.protocol import text_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from notifyd.core.batch import RawEntry, Source
    from notifyd.core.hub import Delivery, Hub

log = structlog.stdlib.get_logger()

_TURN: Final = 0.01
"""Seconds a fan-out may keep the loop, before pings, accepts and health checks have their turn."""

_SLICE: Final = 128
"""Clients written to between two looks at the clock."""


class Recipient(Protocol):
    """What the relay asks of a client."""

    def write(self, data: bytes, events: int) -> None:
        """Write the frames of some events; never waits, never raises."""


Member = TypeVar("Member", bound=Recipient)


@dataclass(slots=True)
class RelayStats:
    """Counts since the start, read by the metrics at each scrape."""

    events: dict[Source, int] = field(default_factory=lambda: {"stream": 0, "pubsub": 0})
    rejected: dict[Rejection, int] = field(default_factory=lambda: dict.fromkeys(Rejection, 0))
    deliveries: int = 0
    delivered_bytes: int = 0
    clamped: int = 0
    lag: float = 0.0


class Relay(Generic[Member]):
    """Relays each batch whole: between two batches every client is at the same position.

    `resync` tells the clients that events may be missing. `observe_latency` gets, for each event
    of the stream, the seconds from its publication (the time in its id, by Redis' clock) until it
    was written to its last recipient; `observe_fanout` the seconds each batch took.
    """

    def __init__(
        self,
        hub: Hub[Member],
        *,
        resync: Callable[[str], None],
        observe_latency: Callable[[float], None],
        observe_fanout: Callable[[float], None],
    ) -> None:
        self._hub = hub
        self._resync = resync
        self._observe_latency = observe_latency
        self._observe_fanout = observe_fanout
        self._one_at_a_time = asyncio.Lock()
        self._at_boundary: list[Callable[[], None]] = []
        self.epoch: str | None = None
        self.last_id: str | None = None
        self.stats = RelayStats()

    async def run(self, source: AsyncIterator[Batch | Positioned]) -> None:
        """Relay everything that a source brings, for as long as it does."""
        async for item in source:
            async with self._one_at_a_time:
                if isinstance(item, Positioned):
                    self._take_position(item)
                else:
                    await self._relay(item)
                self._pass_boundary()

    def at_boundary(self, action: Callable[[], None]) -> None:
        """Call the action between two batches: at once, or at the end of the present fan-out.

        A client's position is so always the end of a batch, and a client that joins gets a batch
        either whole or, being told the position behind it, not at all.
        """
        if self._one_at_a_time.locked():
            self._at_boundary.append(action)
        else:
            action()

    def _pass_boundary(self) -> None:
        actions, self._at_boundary = self._at_boundary, []
        for action in actions:
            action()

    def _take_position(self, position: Positioned) -> None:
        self.epoch, self.last_id = position.epoch, position.last_id
        self._resync(position.gap or "the daemon has just found its event bus")

    async def _relay(self, batch: Batch) -> None:
        started = time.perf_counter()
        if batch.source == "stream":
            self.stats.lag = max(0.0, _age(batch.entries[-1][0]))
        events = [event for entry in batch.entries if (event := self._parse(entry, batch.source))]
        await self._write(
            self._hub.deliveries([(event.rule, text_frame(event.text)) for event in events])
        )
        if batch.source == "stream":
            self.last_id = batch.entries[-1][0]
        self._observe_fanout(time.perf_counter() - started)
        for event in events:
            self._observe_age(event.id)

    def _parse(self, entry: RawEntry, source: Source) -> Event | None:
        id_, fields = entry
        try:
            parsed = parse_entry(fields, id_)
        except Rejected as error:
            self.stats.rejected[error.reason] += 1
            log.warning(
                "event.rejected", reason=error.reason, detail=str(error), id=id_, source=source
            )
            return None
        if isinstance(parsed, Control):
            return None
        self.stats.events[source] += 1
        return parsed

    async def _write(self, deliveries: list[Delivery[Member]]) -> None:
        turn_ends = time.perf_counter() + _TURN
        for delivery in deliveries:
            data, events = delivery.data, delivery.events
            for start in range(0, len(delivery.members), _SLICE):
                members = delivery.members[start : start + _SLICE]
                for member in members:
                    member.write(data, events)
                self.stats.deliveries += events * len(members)
                self.stats.delivered_bytes += len(data) * len(members)
                if time.perf_counter() > turn_ends:
                    await asyncio.sleep(0)
                    turn_ends = time.perf_counter() + _TURN

    def _observe_age(self, id_: str | None) -> None:
        if id_ is None:
            return
        age = _age(id_)
        if age < 0:
            self.stats.clamped += 1
        self._observe_latency(max(0.0, age))


def _age(id_: str | None) -> float:
    """Return the seconds since the stream gave out the id, by Redis' clock against ours."""
    assert id_ is not None
    return time.time() - int(id_.partition("-")[0]) / 1000

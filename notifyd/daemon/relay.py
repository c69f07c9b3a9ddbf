"""The heart of the daemon: batches from the bus, through the hub, to the clients."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic

import structlog

from notifyd.core.batch import Batch, Positioned
from notifyd.core.controls import EVERYBODY, parse_order
from notifyd.core.events import Control, Event, Rejected, Rejection, parse_entry
from notifyd.core.positions import format_position, parse_position
from notifyd.core.protocol import text_frame
from notifyd.core.traceparent import Passage, recorded_parent
from notifyd.daemon.relay_feeder import Member
from notifyd.daemon.relay_records import to_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from notifyd.core.batch import RawEntry, Source
    from notifyd.core.block import Record
    from notifyd.core.controls import Order
    from notifyd.core.history import History
    from notifyd.core.hub import Delivery, Hub
    from notifyd.core.positions import Position
    from notifyd.daemon.relay_feeder import Feeder

log = structlog.stdlib.get_logger()

_TURN: Final = 0.01
"""Seconds a fan-out may keep the loop, before pings, accepts and health checks have their turn."""

_SLICE: Final = 128
"""Clients written to between two looks at the clock."""


@dataclass(slots=True)
class RelayStats:
    """Counts since the start, read by the metrics at each scrape."""

    events: dict[Source, int] = field(default_factory=lambda: {"stream": 0, "pubsub": 0})
    rejected: dict[Rejection, int] = field(default_factory=lambda: dict.fromkeys(Rejection, 0))
    deliveries: int = 0
    delivered_bytes: int = 0
    missed: int = 0
    clamped: int = 0
    lag: float = 0.0


class Relay(Generic[Member]):
    """Relays each batch whole: between two batches every live client is at the same position.

    `obey` is given the order of each control entry, with its position, when everything before it
    was relayed and nothing behind it. `restarted` hears that the position became known or jumped,
    and why. `observe_latency` gets, for the events of each batch of the stream, the seconds from
    their publication (the times in their ids, by Redis' clock) until they were read, those until
    they were written to their last live recipients, and the id of the last of them;
    `observe_fanout` the seconds each batch took. `trace` gets those whose publisher's trace is
    recorded; None: nobody traces.
    """

    def __init__(
        self,
        hub: Hub[Member],
        history: History,
        feeder: Feeder[Member],
        *,
        obey: Callable[[Position, Order], None],
        restarted: Callable[[Position, str], None],
        observe_latency: Callable[[list[float], float, str], None],
        observe_fanout: Callable[[float], None],
        trace: Callable[[Passage], None] | None = None,
    ) -> None:
        self._hub = hub
        self._history = history
        self._feeder = feeder
        self._obey = obey
        self._restarted = restarted
        self._observe_latency = observe_latency
        self._observe_fanout = observe_fanout
        self._trace = trace
        self._at_boundary: list[Callable[[], None]] = []
        self.one_at_a_time = asyncio.Lock()
        """Held while clients are written to; whoever holds it is between two batches."""
        self.begun: Position | None = None
        """The position up to which clients were written to: ahead while a batch is under way."""
        self.epoch: str | None = None
        self.stats = RelayStats()

    @property
    def position(self) -> Position | None:
        """The position up to which everything was relayed; None until Redis was reached."""
        return self._history.end

    @property
    def last_id(self) -> str | None:
        """The same as an id."""
        return None if self._history.end is None else format_position(self._history.end)

    def resume(self, epoch: str, position: Position) -> None:
        """Go on from where another process has stopped, before anything is relayed here."""
        self.epoch = epoch
        self.begun = position
        self._history.reset(position)

    async def run(self, source: AsyncIterator[Batch | Positioned]) -> None:
        """Relay everything that a source brings, for as long as it does."""
        async for item in source:
            async with self.one_at_a_time:
                if isinstance(item, Positioned):
                    self._take_position(item)
                elif item.source == "stream":
                    await self._relay(item.entries)
                else:
                    await self._relay_channel(item.entries)
                self._pass_boundary()

    async def feed(self) -> None:
        """Serve the clients that are behind whenever there is something for them, for ever."""
        while True:
            await self._feeder.wanted.wait()
            async with self.one_at_a_time:
                self._feeder.feed(time.perf_counter() + _TURN)
                self._pass_boundary()
            # Whoever waits for the lock is served first, and whoever waits for the loop then.
            await asyncio.sleep(0)

    def at_boundary(self, action: Callable[[], None]) -> None:
        """Call the action between two batches: at once, or at the end of the present fan-out.

        A client's position is so always the end of a batch, and a client that joins gets a batch
        either whole or, being told the position behind it, not at all.
        """
        if self.one_at_a_time.locked():
            self._at_boundary.append(action)
        else:
            action()

    def _pass_boundary(self) -> None:
        # What an action asks for in turn is done, too: the next batch may be long in coming.
        while self._at_boundary:
            actions, self._at_boundary = self._at_boundary, []
            for action in actions:
                action()

    def _take_position(self, item: Positioned) -> None:
        position = parse_position(item.last_id)
        self.epoch = item.epoch
        self.begun = position
        self._history.reset(position)
        self._feeder.restart(position)
        self._restarted(position, item.gap or "the daemon has just found its event bus")

    async def _relay(self, entries: Sequence[RawEntry]) -> None:
        started, read_at = time.perf_counter(), time.time()
        parsed = [self._parse(entry, "stream") for entry in entries]
        before = self.stats.deliveries
        records = [to_record(entry, each) for entry, each in zip(entries, parsed, strict=True)]
        self.stats.lag = max(0.0, read_at - _published(records[-1]))
        self.begun = records[-1].position
        await self._write(
            self._hub.deliveries([(each.rule, each.frame) for each in records if each.rule])
        )
        self._history.append(records)
        took = time.perf_counter() - started
        self._observe_fanout(took)
        self._observe(records, read_at, took)
        if self._trace is not None:
            deliveries = self.stats.deliveries - before
            for passage in _passages(entries, records, (read_at, read_at + took), deliveries):
                self._trace(passage)
        for event, record in zip(parsed, records, strict=True):
            if isinstance(event, Control):
                self._obey(record.position, self._order(event))
        self._feeder.advanced()

    async def _relay_channel(self, entries: Sequence[RawEntry]) -> None:
        started = time.perf_counter()
        parsed = [self._parse(entry, "pubsub") for entry in entries]
        events = [each for each in parsed if isinstance(each, Event)]
        self.stats.events["pubsub"] += len(events)
        # It has no place in the history: whoever is behind misses it.
        self.stats.missed += len(events) * len(self._feeder)
        await self._write(
            self._hub.deliveries([(event.rule, text_frame(event.text)) for event in events])
        )
        self._observe_fanout(time.perf_counter() - started)

    def _parse(self, entry: RawEntry, source: Source) -> Event | Control | None:
        id_, fields = entry
        try:
            parsed = parse_entry(fields, id_)
        except Rejected as error:
            self._reject(error.reason, str(error), id_, source)
            if b"control" not in fields or id_ is None:
                return None
            # Nobody knows what it was to revoke.
            return Control(id_, {"recheck": {"all": True}})
        return parsed

    def _order(self, control: Control) -> Order:
        try:
            return parse_order(control.body)
        except ValueError as error:
            self._reject(Rejection.BAD_CONTROL, str(error), control.id, "stream")
            return EVERYBODY

    def _reject(self, reason: Rejection, detail: str, id_: str | None, source: Source) -> None:
        self.stats.rejected[reason] += 1
        log.warning("event.rejected", reason=reason, detail=detail, id=id_, source=source)

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

    def _observe(self, records: Sequence[Record], read_at: float, took: float) -> None:
        events = [each for each in records if each.rule]
        if not events:
            return
        ages = [read_at - _published(each) for each in events]
        self.stats.events["stream"] += len(ages)
        # They stand in the order of their publication: the last one is the youngest.
        if ages[-1] < 0:
            self.stats.clamped += sum(age < 0 for age in ages)
            ages = [max(0.0, age) for age in ages]
        self._observe_latency(ages, took, format_position(events[-1].position))


def _passages(
    entries: Sequence[RawEntry],
    records: Sequence[Record],
    times: tuple[float, float],
    deliveries: int,
) -> Iterator[Passage]:
    """Yield the passage of each event whose trace is recorded, of a batch read and written then."""
    events = sum(bool(each.rule) for each in records)
    for (id_, fields), record in zip(entries, records, strict=True):
        parent = recorded_parent(fields)
        if record.rule and parent is not None:
            yield Passage(parent, str(id_), _published(record), *times, events, deliveries)


def _published(record: Record) -> float:
    """Return when the stream gave out the record's id, as Unix time by Redis' clock."""
    return record.position[0] / 1000

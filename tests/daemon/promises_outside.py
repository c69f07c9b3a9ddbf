"""What lies outside of the daemons, as far as the promises need it: time, Redis, and the database.

Time passes when the test says so. Redis and the database answer when it says so, with what was
true when they were asked, or is true when they answer, or not at all.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from notifyd.core.batch import Batch, Extent, Page, Positioned, Unavailable
from notifyd.core.controls import parse_order
from notifyd.core.positions import format_position
from notifyd.daemon import bus_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from notifyd.core.batch import RawEntry
    from notifyd.core.controls import Order
    from notifyd.core.positions import Position

T = TypeVar("T")
Rule = dict[str, Any]

# Entries that the archive returns at once.
COUNT = 2

# Turns of the loop after which something is taken to go round in circles.
_RESTLESS = 20_000


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still; it serves as the module `time`, too."""

    def __init__(self) -> None:
        self._now = 1_000_000.0
        self._looks = 0
        super().__init__()

    def time(self) -> float:
        """Return the one time that there is."""
        return self._now

    monotonic = time

    def perf_counter(self) -> float:
        """Return at each look so much more that every turn is over."""
        self._looks += 1
        return float(self._looks)

    def act(self, action: Callable[[], object] = lambda: None) -> None:
        """Do something inside the loop, and let it turn until nothing moves any more."""
        self.run_until_complete(self._act(action))

    async def _act(self, action: Callable[[], object]) -> None:
        action()
        for _ in range(_RESTLESS):
            await asyncio.sleep(0)
            # The loop's own words for: somebody wants to run, now or at a time that has come.
            state = vars(self)
            if not state["_ready"] and not any(
                timer.when() <= self._now and not timer.cancelled() for timer in state["_scheduled"]
            ):
                return
        raise AssertionError("it goes round in circles")

    def pass_time(self, seconds: float) -> None:
        """Let time pass at once."""
        self._now += seconds


class Answers:
    """Somebody outside, who answers `how` the test says, so many steps after the question."""

    def __init__(self, fault: Callable[[], Exception]) -> None:
        self._fault = fault
        self._waiting: dict[asyncio.Future[None], int] = {}
        self.lag = 0
        self.how = "as it was"

    @property
    def bad(self) -> bool:
        """Whether somebody may wait in vain."""
        return self.lag > 0 or self.how == "fails"

    async def ask(self, look: Callable[[], T]) -> T:
        """Return what `look` does, when it is asked or when it answers."""
        at_first = look()
        await asyncio.sleep(0)
        if self.lag:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[waiter] = 0
            try:
                await waiter
            finally:
                self._waiting.pop(waiter, None)
        if self.how == "fails":
            raise self._fault()
        return look() if self.how == "as it is" else at_first

    def step(self) -> None:
        """Answer what has waited for long enough."""
        for waiter, age in [*self._waiting.items()]:
            self._waiting[waiter] = age + 1
            if age + 1 > self.lag and not waiter.done():
                waiter.set_result(None)

    def become(self, lag: int, how: str) -> None:
        """Be slow, or fail, from now on."""
        self.lag, self.how = lag, how
        self.step()


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the stream, and the moment when it was acknowledged."""

    epoch: str
    position: Position
    moment: int
    fields: Mapping[bytes, bytes]
    rule: Rule | None = None
    order: Order | None = None

    @property
    def raw(self) -> RawEntry:
        """What Redis returns."""
        return format_position(self.position), dict(self.fields)


class Redis:
    """The stream: what it has, and everything that it ever acknowledged. It is its own archive."""

    def __init__(self, tick: Callable[[], int]) -> None:
        self._tick = tick
        self.answers = Answers(lambda: Unavailable("away"))
        self.away = False
        self._ever: dict[str, dict[Position, Entry]] = {}
        self.orders: list[Entry] = []
        self.epochs: dict[str, int] = {}
        """Each history, and the moment when it began."""
        self._number = 100
        self.flush(lower=False)

    @property
    def first(self) -> Position:
        """The position of the oldest entry."""
        return self._entries[0].position

    @property
    def last(self) -> Position:
        """The position of the newest entry."""
        return self._entries[-1].position

    def flush(self, *, lower: bool) -> None:
        """Begin another history, whose ids may be those of the one before once more."""
        self._number = 100 if lower else self._number + 10
        self.epoch = f"epoch-{len(self.epochs)}"
        self.epochs[self.epoch] = self._tick()
        self._entries: list[Entry] = []
        self._add({b"control": b'{"start": true}'})

    def trim(self, kept: int) -> None:
        """Drop the oldest entries; one stays."""
        del self._entries[: -max(1, kept)]

    def publish(self, event: bytes, rule: Rule, to: bytes | None) -> None:
        """Acknowledge an event."""
        self._add({b"event": event, **({} if to is None else {b"to": to})}, rule=rule)

    def command(self, body: bytes, order: Mapping[str, Any]) -> None:
        """Acknowledge a control entry."""
        self._add({b"control": body}, order=parse_order(order))

    def _add(
        self, fields: Mapping[bytes, bytes], rule: Rule | None = None, order: Order | None = None
    ) -> None:
        self._number += 1
        position = divmod(self._number, 2)
        entry = Entry(self.epoch, position, self._tick(), fields, rule, order)
        self._entries.append(entry)
        self._ever.setdefault(self.epoch, {})[position] = entry
        if order is not None:
            self.orders.append(entry)

    def between(self, epoch: str, after: Position, to: Position) -> Iterator[Entry]:
        """Yield what a history ever had behind a position, up to another."""
        for position, entry in self._ever[epoch].items():
            if after < position <= to:
                yield entry

    def at(self, epoch: str, position: Position) -> Entry:
        """Return what stood at a position."""
        return self._ever[epoch][position]

    def ended(self, epoch: str, user: str) -> Iterator[Position]:
        """Yield the positions of the orders that end a user's connections."""
        for entry in self.orders:
            assert entry.order is not None
            if entry.epoch == epoch and user in entry.order.disconnect | entry.order.reauthenticate:
                yield entry.position

    # What the reader of the stream does (bus_stream.Follower).

    def read(self, epoch: str | None, after: Position, most: int) -> list[Batch | Positioned]:
        """Return what follows a position, or why nothing can be said to follow it."""
        first, position, last = map(
            format_position, (self._entries[0].position, after, self._entries[-1].position)
        )
        reason = None if epoch is None else bus_stream.gap(first, position, last)
        if epoch not in (None, self.epoch):
            reason = "the stream has another epoch"
        if epoch is None or reason is not None:
            return [Positioned(self.epoch, last, reason)]
        found = [entry.raw for entry in self._entries if entry.position > after]
        return [*bus_stream.batches("stream", found[:most])]

    # What the archive does (bus_archive.Archive).

    async def extent(self) -> Extent:
        """Return how far the stream reaches."""
        return await self._ask(self._extent)

    async def forward(self, after: Position, until: Position) -> Page:
        """Return the oldest entries behind `after`."""
        return await self._ask(lambda: self._page(after, until, slice(COUNT)))

    async def backward(self, until: Position, after: Position) -> Page:
        """Return the newest entries up to `until`."""
        return await self._ask(lambda: self._page(after, until, slice(-COUNT, None)))

    async def controls(self, until: Position) -> tuple[Extent, list[RawEntry]]:
        """Return the control entries up to `until`."""
        return await self._ask(lambda: self._controls(until))

    async def _ask(self, look: Callable[[], T]) -> T:
        if self.away:
            raise Unavailable("away")
        return await self.answers.ask(look)

    def _extent(self) -> Extent:
        return Extent(self.epoch, self._entries[0].position, self.last)

    def _page(self, after: Position, until: Position, which: slice) -> Page:
        found = [each.raw for each in self._entries if after < each.position <= until]
        return Page(self._extent(), found[which], complete=len(found) < COUNT)

    def _controls(self, until: Position) -> tuple[Extent, list[RawEntry]]:
        found = [each for each in self._entries if each.position <= until]
        return self._extent(), [each.raw for each in found if b"control" in each.fields]

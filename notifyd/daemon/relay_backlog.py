"""The part of the stream that is older than the history in memory: asked for in Redis, for all.

Ten thousand clients that return together make one question of it: as much as memory may hold is
read once and kept, and only what is older still is read again for those who need it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import structlog

from notifyd.core.backoff import Backoff
from notifyd.core.batch import Unavailable
from notifyd.core.positions import Position, parse_position
from notifyd.daemon.relay_feeder import Recipient
from notifyd.daemon.relay_records import to_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from notifyd.core.audience import Audience
    from notifyd.core.batch import Extent, Page
    from notifyd.core.history import History
    from notifyd.daemon.relay_feeder import Feeder

log = structlog.stdlib.get_logger()

PATIENCE: Final = 10.0
"""Seconds that a client which resumes waits for Redis, before it is told to load its state."""

_FIRST: Final = 0.05
_MOST: Final = 2.0
"""Seconds: the ceilings of the delay before the first question that is repeated and all later."""


class Archive(Protocol):
    """What is asked of the bus. Every method may raise Unavailable."""

    async def extent(self) -> Extent:
        """Return how far the stream reaches."""

    async def forward(self, after: Position, until: Position) -> Page:
        """Return the oldest entries behind `after`, none behind `until`."""

    async def backward(self, until: Position, after: Position) -> Page:
        """Return the newest entries up to `until`, none before `after`."""


Member = TypeVar("Member", bound=Recipient)


class Backlog(Generic[Member]):
    """What stands before the history in memory. `epoch` returns the relay's present one.

    `guard` is held while clients are served, which may only be between two batches.
    """

    def __init__(
        self,
        history: History,
        feeder: Feeder[Member],
        archive: Archive,
        *,
        epoch: Callable[[], str | None],
        guard: asyncio.Lock,
    ) -> None:
        self._history = history
        self._feeder = feeder
        self._archive = archive
        self._epoch = epoch
        self._guard = guard
        self._extent: Extent | None = None
        # Set when Redis has answered; None: it is not being asked.
        self._asking: asyncio.Event | None = None

    async def locate(self, since: str, epoch: str | None) -> Position | None:
        """Return the position that a client resumes from, None if it can't get all since then.

        Where memory doesn't tell, Redis is asked, once for all who want to know the same; while it
        is away the client waits, but not for ever.
        """
        try:
            position = parse_position(since)
        except ValueError:
            return None
        # Nearly always somebody has asked before: then nobody has to wait, or to be timed.
        known = self._known(position, epoch)
        if known is None:
            try:
                async with asyncio.timeout(PATIENCE):
                    known = await self._reaches(position, epoch)
            except TimeoutError:
                return None
        return position if known else None

    def put(self, member: Member, user: str, audience: Audience | None, at: Position) -> None:
        """Have a member behind, at a position."""
        self._feeder.put(member, user, audience, at)

    async def run(self) -> None:
        """Fetch older history whenever somebody needs it, for ever."""
        backoff = Backoff(_FIRST, _MOST)
        while True:
            await self._feeder.older_wanted.wait()
            oldest = self._feeder.oldest
            if oldest is None:
                self._feeder.older_wanted.clear()
                continue
            try:
                fetched = await self._fetch(oldest)
            except Unavailable as error:
                fetched = False
                log.warning("history.unavailable", error=str(error))
            if fetched:
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next())

    def _known(self, position: Position, epoch: str | None) -> bool | None:
        """Tell whether all that follows the position can be had; None: that has to be asked."""
        present, floor, end = self._epoch(), self._history.floor, self._history.end
        if floor is None or end is None:
            return None
        if epoch not in (None, present):
            return False
        if floor <= position <= end:
            return True
        extent = self._extent
        # The stream's beginning and its end only ever move on: an earlier answer may be too good
        # at one end, which shows when the history is fetched, and too bad at the other.
        if extent is None or extent.epoch != present or position > extent.last:
            return None
        return extent.first <= position

    async def _reaches(self, position: Position, epoch: str | None) -> bool:
        backoff = Backoff(_FIRST, _MOST)
        while True:
            known = self._known(position, epoch)
            if known is None and self._history.end is not None:
                known = await self._ask(position, epoch)
            if known is not None:
                return known
            # Redis is away, or the relay has not yet heard of what it has become.
            await asyncio.sleep(backoff.next())

    async def _ask(self, position: Position, epoch: str | None) -> bool | None:
        """Tell the same by what Redis says now, or is just being asked; None: not known now."""
        if self._asking is not None:
            # With a lock they would go on one by one, a turn of the loop for each. In a storm that
            # is a long time, and some would take it for Redis' and lose patience.
            await self._asking.wait()
            return self._known(position, epoch)
        self._asking = answered = asyncio.Event()
        try:
            extent = self._extent = await self._archive.extent()
        except Unavailable:
            return None
        finally:
            self._asking = None
            answered.set()
        known = self._known(position, epoch)
        # An answer that came when the history was another one already tells nothing of this.
        if known is None and extent.epoch == self._epoch():
            return False
        return known

    async def _fetch(self, oldest: Position) -> bool:
        """Bring older history to those who need it; False if it can't be had now."""
        floor = self._history.floor
        assert floor is not None, "nobody can need what is older than nothing"
        if not self._history.full:
            page = await self._archive.backward(floor, oldest)
            if page.extent.epoch != self._epoch():
                return False
            # If the history has moved on meanwhile, this is no longer what stands before it.
            if self._history.floor == floor:
                self._keep(page, oldest, floor)
            return True
        page = await self._archive.forward(oldest, floor)
        async with self._guard:
            if page.extent.epoch != self._epoch():
                return False
            self._hand_out(page, oldest, floor)
        return True

    def _keep(self, page: Page, oldest: Position, floor: Position) -> None:
        """Put a page before the history in memory, which begins at `floor`."""
        self._extent = page.extent
        first = page.extent.first
        records = [to_record(entry) for entry in page.entries]
        reached = max(oldest, first) if page.complete else records[0].position
        older = [record for record in records if record.position > reached]
        self._history.prepend(older, min(reached, floor))
        self._feeder.reaches_back(first)

    def _hand_out(self, page: Page, oldest: Position, floor: Position) -> None:
        """Write a page to those who need it, and forget it."""
        self._extent = page.extent
        records = [to_record(entry) for entry in page.entries]
        end = floor if page.complete else records[-1].position
        self._feeder.feed_older(records, oldest, end, page.extent.first)

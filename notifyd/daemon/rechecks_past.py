"""What was ordered before this daemon began to listen: read back from the stream, once for all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from notifyd.core.backoff import Backoff
from notifyd.core.batch import Unavailable
from notifyd.core.controls import EVERYBODY, Order, parse_order
from notifyd.core.events import Control, Rejected, parse_entry
from notifyd.core.positions import parse_position

if TYPE_CHECKING:
    from collections.abc import Callable

    from notifyd.core.batch import Extent, RawEntry
    from notifyd.core.ledger import Ledger
    from notifyd.core.positions import Position

PATIENCE: Final = 10.0
"""Seconds that somebody waits for Redis, which alone can tell what was ordered."""

_FIRST: Final = 0.05
_MOST: Final = 2.0
"""Seconds: the ceilings of the delays between questions that Redis does not answer."""


class Archive(Protocol):
    """What is asked of the bus."""

    async def controls(self, until: Position) -> tuple[Extent, list[RawEntry]]:
        """Return the control entries up to `until`, and the extent. Raises Unavailable."""


class Past:
    """Fills the ledger with what the stream still has. `epoch` returns the relay's present one."""

    def __init__(
        self, ledger: Ledger, archive: Archive, *, epoch: Callable[[], str | None]
    ) -> None:
        self._ledger = ledger
        self._archive = archive
        self._epoch = epoch
        # Set when it has been read; None: it is not being read.
        self._reading: asyncio.Event | None = None
        # The floor of the ledger where the stream begins: there is nothing further back.
        self._bottom: Position | None = None

    async def covers(self, epoch: str | None, position: Position) -> bool:
        """Tell whether every order after a position of that history is known by now.

        Raises TimeoutError where Redis can't be asked.
        """
        # Nearly always somebody has asked before: then nobody has to wait, or to be timed.
        known = self._known(epoch, position)
        if known is None:
            async with asyncio.timeout(PATIENCE):
                return await self._covers(epoch, position)
        return known

    async def _covers(self, epoch: str | None, position: Position) -> bool:
        backoff = Backoff(_FIRST, _MOST)
        while True:
            known = self._known(epoch, position)
            if known is not None:
                return known
            if self._epoch() is None or not await self._read():
                await asyncio.sleep(backoff.next())

    def _known(self, epoch: str | None, position: Position) -> bool | None:
        """Tell the same without asking Redis; None: it has to be asked."""
        present = self._epoch()
        if present is None:
            return None
        if epoch != present:
            return False
        if self._ledger.covers(position):
            return True
        return False if self._ledger.floor == self._bottom else None

    async def _read(self) -> bool:
        """Read back to where the stream begins; False if that is not possible now."""
        if self._reading is not None:
            # With a lock they would go on one by one, a turn of the loop for each. In a storm that
            # is a long time, and some would take it for Redis' and lose patience.
            await self._reading.wait()
            return self._ledger.floor == self._bottom
        self._reading = read = asyncio.Event()
        try:
            return await self._read_back()
        finally:
            self._reading = None
            read.set()

    async def _read_back(self) -> bool:
        floor = self._ledger.floor
        assert floor is not None, "whoever has an epoch has a floor"
        try:
            extent, entries = await self._archive.controls(floor)
        except Unavailable:
            return False
        # Otherwise the relay will soon have heard of another history.
        if extent.epoch != self._epoch() or self._ledger.floor != floor:
            return False
        for entry in entries:
            self._ledger.note(parse_position(entry[0] or ""), _order(entry))
        self._ledger.extend(extent.first)
        self._bottom = self._ledger.floor
        return True


def _order(entry: RawEntry) -> Order:
    try:
        control = parse_entry(entry[1], entry[0])
        return parse_order(control.body) if isinstance(control, Control) else EVERYBODY
    except (Rejected, ValueError):
        return EVERYBODY

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
        self._reading = asyncio.Lock()
        # The floor of the ledger where the stream begins: there is nothing further back.
        self._bottom: Position | None = None

    async def covers(self, epoch: str | None, position: Position) -> bool:
        """Tell whether every order after a position of that history is known by now.

        Raises TimeoutError where Redis can't be asked.
        """
        backoff = Backoff(_FIRST, _MOST)
        async with asyncio.timeout(PATIENCE):
            while True:
                if self._epoch() is not None:
                    if epoch != self._epoch():
                        return False
                    if self._ledger.covers(position):
                        return True
                    if self._ledger.floor == self._bottom:
                        return False
                    if await self._read():
                        continue
                await asyncio.sleep(backoff.next())

    async def _read(self) -> bool:
        """Read back to where the stream begins; False if that is not possible now."""
        async with self._reading:
            floor = self._ledger.floor
            assert floor is not None, "whoever has an epoch has a floor"
            if floor == self._bottom:
                return True
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

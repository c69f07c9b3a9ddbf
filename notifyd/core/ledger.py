"""The ledger of revocations: since when what was read of a user can't be relied on any more.

Whatever is read from the database is true as of a position of the stream. The ledger has every
order of the control entries behind its floor, and so tells whether one of them concerns a user
after that position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from notifyd.core.controls import Order
    from notifyd.core.positions import Position

_MOST: Final = 100_000
"""Users, and groups, that are remembered at a time."""

_NEVER: Final[Position] = (-1, -1)


class Ledger:
    """Which users, groups, or all, were named when. Positions are those of the entries."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        # Each key's latest entry.
        self._rechecked: dict[str, Position] = {}
        self._ended: dict[str, Position] = {}
        self._groups: dict[str, Position] = {}
        self._all = _NEVER
        # Of what was noted for this position and before, something may be forgotten.
        self._forgotten = _NEVER
        self.floor: Position | None = None
        """Every order of an entry behind this position is known; None: no position is."""

    def reset(self, floor: Position) -> None:
        """Begin anew: what happened up to this position can't be known."""
        self._rechecked.clear()
        self._ended.clear()
        self._groups.clear()
        self._all = self._forgotten = _NEVER
        self.floor = floor

    def note(self, position: Position, order: Order) -> None:
        """Take in an entry's order; after a reset, in whatever sequence entries are noted."""
        _advance(self._rechecked, order.recheck_users, position)
        _advance(self._ended, order.disconnect | order.reauthenticate, position)
        _advance(self._groups, order.recheck_groups, position)
        if order.recheck_all:
            self._all = max(self._all, position)
        for table in (self._rechecked, self._ended, self._groups):
            if len(table) > self._most:
                self._forget(table)

    def extend(self, floor: Position) -> None:
        """Lower the floor: the entries behind it, up to where it was, have been noted.

        It stays above what had to be forgotten meanwhile.
        """
        assert self.floor is not None, "nothing was noted before a reset"
        self.floor = max(min(self.floor, floor), self._forgotten)

    def covers(self, position: Position) -> bool:
        """Tell whether every order after this position is known."""
        return self.floor is not None and position >= self.floor

    def concerned(self, user: str, groups: Iterable[str], since: Position) -> bool:
        """Tell whether an entry after `since` concerns the user, as a member of those groups.

        What isn't covered counts as one that does.
        """
        if not self.covers(since):
            return True
        latest = max(self._all, self._rechecked.get(user, _NEVER), self._ended.get(user, _NEVER))
        return latest > since or any(self._groups.get(key, _NEVER) > since for key in groups)

    def ended(self, user: str, since: Position) -> bool:
        """Tell whether an entry after `since`, which must be covered, ended the user."""
        return self._ended.get(user, _NEVER) > since

    def _forget(self, table: dict[str, Position]) -> None:
        """Drop the older half of a table; what was read before can't be relied on any more."""
        kept = sorted(table.items(), key=lambda item: item[1])[len(table) // 2 :]
        self._forgotten = max(self._forgotten, kept[0][1])
        table.clear()
        table.update(kept)
        assert self.floor is not None, "nothing is noted before a reset"
        self.floor = max(self.floor, self._forgotten)


def _advance(table: dict[str, Position], keys: Iterable[str], position: Position) -> None:
    for key in keys:
        table[key] = max(table.get(key, _NEVER), position)

"""Deadlines for ten thousand clients from one timer: every operation takes constant time.

Times are seconds of a monotonic clock, given by the caller.
"""

from __future__ import annotations

import collections
import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Deadlines(Generic[T]):
    """Items that are due ``seconds`` after they were added.

    All have the same time, so the order of insertion is the order in which they are due; ``now``
    must not go backwards.
    """

    __slots__ = ("_due", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # Not a dict: finding its first item means stepping over all that were deleted before it.
        self._due: collections.OrderedDict[T, float] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def change(self, seconds: float) -> None:
        """Give all another time, those that are waiting too, reckoned from when they were added."""
        later, self._seconds = seconds - self._seconds, seconds
        for item in self._due:
            self._due[item] += later

    def add(self, item: T, now: float) -> None:
        """Start the item's time, again if it is there already."""
        self._due[item] = now + self._seconds
        self._due.move_to_end(item)

    def discard(self, item: T) -> None:
        """Forget the item, if it is there."""
        self._due.pop(item, None)

    def due(self, now: float) -> list[T]:
        """Remove the items whose time is over, and return them, the oldest first."""
        items: list[T] = []
        while self._due:
            item = next(iter(self._due))
            if self._due[item] > now:
                break
            del self._due[item]
            items.append(item)
        return items


class Agenda(Generic[T]):
    """Items that are due at a time of their own; an item has one."""

    __slots__ = ("_due", "_order", "_serial")

    def __init__(self) -> None:
        self._due: dict[T, float] = {}
        # Entries of items that were discarded, or added anew, stay until their time is over.
        self._order: list[tuple[float, int, T]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, item: T) -> bool:
        return item in self._due

    def add(self, item: T, due: float) -> None:
        """Have the item due at that time, and at no other."""
        self._due[item] = due
        self._serial += 1
        heapq.heappush(self._order, (due, self._serial, item))

    def discard(self, item: T) -> None:
        """Forget the item, if it is there."""
        self._due.pop(item, None)

    def due(self, now: float, most: int) -> list[T]:
        """Remove the items whose time is over, the earliest first, and return them.

        At most so many; ask again for the others.
        """
        items: list[T] = []
        while self._order and self._order[0][0] <= now and len(items) < most:
            due, _, item = heapq.heappop(self._order)
            if self._due.get(item) == due:
                del self._due[item]
                items.append(item)
        return items


class Wheel(Generic[T]):
    """Items in ``slots`` groups, each of which has its turn once in every ``interval``.

    For a keepalive, with ``late: Deadlines[tuple[float, int]]`` made for the time an answer may
    take (it may be longer than the interval)::

        for slot in wheel.turn(now):
            for item in wheel.slot(slot): ping it; note now unless a ping is still unanswered
            late.add((now, slot), now)
        for then, slot in late.due(now):
            for item in wheel.slot(slot): drop it if it hasn't answered a ping of then or before

    An item keeps its slot as long as it stays, so the second loop meets those that were pinged
    and are still there, besides newcomers that owe nothing.
    """

    __slots__ = ("_next", "_place", "_slots", "_step", "_tick")

    def __init__(self, interval: float, slots: int) -> None:
        self._step = interval / slots
        self._slots: list[set[T]] = [set() for _ in range(slots)]
        self._place: dict[T, int] = {}
        self._next = 0
        self._tick: int | None = None

    def __len__(self) -> int:
        return len(self._place)

    def add(self, item: T) -> None:
        """Put the item into the emptier of the next two slots, unless it is there already.

        Taking them in turn spreads a crowd that arrives together; the choice evens out what
        departures leave behind.
        """
        if item in self._place:
            return
        count = len(self._slots)
        first, second = self._next, (self._next + 1) % count
        slot = second if len(self._slots[second]) < len(self._slots[first]) else first
        self._slots[slot].add(item)
        self._place[item] = slot
        self._next = (slot + 1) % count

    def discard(self, item: T) -> None:
        """Forget the item, if it is there."""
        slot = self._place.pop(item, None)
        if slot is not None:
            self._slots[slot].discard(item)

    def slot(self, index: int) -> list[T]:
        """Return the items of a slot, as they are now."""
        return list(self._slots[index])

    def turn(self, now: float) -> list[int]:
        """Return the slots whose turn came since the last call, none at the first.

        After a pause of more than an interval each slot has one turn, not several.
        """
        tick = int(now / self._step)
        if self._tick is None:
            self._tick = tick
        count = len(self._slots)
        ticks = range(max(self._tick, tick - count) + 1, tick + 1)
        self._tick = max(self._tick, tick)
        return [tick % count for tick in ticks]

"""Limits: token buckets and counts. Times are seconds of a monotonic clock, given by the caller."""

from __future__ import annotations

import collections
import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Bucket:
    """A token bucket: ``rate`` tokens a second flow in, at most ``burst`` are kept.

    It starts full, and holds one token at least: a rate below one a second, used as the burst
    too, would otherwise never let anything through. Raises ValueError for a rate that isn't
    positive.
    """

    __slots__ = ("_burst", "_level", "_rate", "_since")

    def __init__(self, rate: float, burst: float) -> None:
        if not rate > 0:
            raise ValueError(f"a rate must be positive, not {rate}")
        self._rate = rate
        self._burst = max(burst, 1.0)
        self._level = self._burst
        self._since = 0.0

    def take(self, now: float) -> bool:
        """Take one token; False if there is none."""
        self._level = self._level_at(now)
        # Never backwards: the same seconds would flow in twice.
        self._since = max(self._since, now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def charge(self, now: float) -> None:
        """Take one token, or owe it if there is none; at most a burst is owed, and flows in first.

        For what has been done when it is counted: of many at a time, each saw the last token.
        """
        self._level = max(self._level_at(now) - 1, -self._burst)
        self._since = max(self._since, now)

    def empty(self, now: float) -> bool:
        """Tell whether a take would fail, without taking."""
        return self._level_at(now) < 1

    def full_at(self) -> float:
        """Return the time from which on the bucket is as good as a new one."""
        return self._since + (self._burst - self._level) / self._rate

    def _level_at(self, now: float) -> float:
        return min(self._burst, self._level + max(now - self._since, 0.0) * self._rate)


class Buckets:
    """A bucket for each key, at most ``most`` of them, so that no crowd of keys fills the memory.

    Full buckets are forgotten first, which changes nothing for their keys. When all are in use,
    the one that would be full soonest goes: who is deepest in debt stays known.
    """

    __slots__ = ("_buckets", "_burst", "_most", "_order", "_rate", "_serial")

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._buckets: dict[Hashable, Bucket] = {}
        # One entry per bucket: the time when it is full, as known when the entry was written.
        # Taking only ever moves that time on, so entries are put right when they reach the top,
        # and a take costs the heap nothing. The serial number spares comparing the keys.
        self._order: list[tuple[float, int, Hashable]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float) -> bool:
        """Take one token of this key; False if there is none."""
        return self._bucket(key, now).take(now)

    def charge(self, key: Hashable, now: float) -> None:
        """Take one token of this key, or owe it if there is none."""
        self._bucket(key, now).charge(now)

    def empty(self, key: Hashable, now: float) -> bool:
        """Tell whether a take would fail, without taking and without adding the key."""
        bucket = self._buckets.get(key)
        return bucket is not None and bucket.empty(now)

    def _bucket(self, key: Hashable, now: float) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[key] = Bucket(self._rate, self._burst)
            self._serial += 1
            heapq.heappush(self._order, (now, self._serial, key))
        return bucket

    def _make_room(self, now: float) -> None:
        """Forget the buckets that are full, and one more if there is still no room."""
        while self._order:
            noted, serial, key = self._order[0]
            full = self._buckets[key].full_at()
            if full > noted:
                heapq.heapreplace(self._order, (full, serial, key))
            elif full > now and len(self._order) < self._most:
                return
            else:
                heapq.heappop(self._order)
                del self._buckets[key]


class Counts:
    """How many there are of each key. Keys that have none are forgotten."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: collections.Counter[Hashable] = collections.Counter()

    def __getitem__(self, key: Hashable) -> int:
        return self._counts[key]

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, key: Hashable, most: int) -> bool:
        """Count one more; False, counting nothing, if there would be more than ``most``.

        A ``most`` of 0 is no limit.
        """
        count = self._counts[key]
        if most and count >= most:
            return False
        self._counts[key] = count + 1
        return True

    def remove(self, key: Hashable) -> None:
        """Count one less. Raises KeyError if there is none."""
        count = self._counts[key]
        if count == 1:
            del self._counts[key]
        elif count:
            self._counts[key] = count - 1
        else:
            raise KeyError(key)

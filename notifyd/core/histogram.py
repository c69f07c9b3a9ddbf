"""Histograms: how many values were observed up to each of some bounds, as plain numbers.

An observation is a search and two additions, since there are several for each event; what a
scraper wants to read is made when it asks.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Example(NamedTuple):
    """A value that was observed, what it belongs to, and when that was, as Unix time."""

    of: str
    value: float
    at: float


class Histogram:
    """Counts values by upper bounds, which are included; above the last one is a bucket more.

    `bounds` are in ascending order.
    """

    __slots__ = ("_counts", "bounds", "examples", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.examples: dict[int, Example] = {}
        """The latest example of each bucket that has one, by the bucket's index."""

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_example(self, example: Example) -> None:
        """Count a value that is remembered as the example of its bucket."""
        bucket = bisect_left(self.bounds, example.value)
        self._counts[bucket] += 1
        self.sum += example.value
        self.examples[bucket] = example

    def cumulated(self) -> list[int]:
        """Return how many values were no greater than each bound, and last how many there were."""
        return [*accumulate(self._counts)]

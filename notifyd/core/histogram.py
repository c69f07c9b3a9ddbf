"""Histograms: how many values were observed up to each of some bounds, as plain numbers.

An observation is a search and two additions, since there are some for each event; what a scraper
wants to read is made when it asks.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Example = tuple[str, float]
"""What a value belongs to, and when it was observed, as Unix time."""


class Histogram:
    """Counts values by upper bounds, which are included; above the last one is a bucket more.

    `bounds` are in ascending order.
    """

    __slots__ = ("_counts", "bounds", "examples", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.examples: dict[int, tuple[float, Example]] = {}
        """The latest value in each bucket that has an example, with that, by the bucket's index."""

    def observe(self, value: float, times: int = 1, example: Example | None = None) -> None:
        """Count a value so many times; it may have an example."""
        bucket = bisect_left(self.bounds, value)
        self._counts[bucket] += times
        self.sum += value * times
        if example is not None:
            self.examples[bucket] = value, example

    def observe_all(self, values: Sequence[float], more: float, example: Example) -> None:
        """Count values, each that much greater; the example is that of the last."""
        bounds, counts = self.bounds, self._counts
        for value in values:
            counts[bisect_left(bounds, value + more)] += 1
        self.sum += sum(values) + more * len(values)
        self.examples[bisect_left(bounds, values[-1] + more)] = values[-1] + more, example

    def cumulated(self) -> list[int]:
        """Return how many values were no greater than each bound, and last how many there were."""
        return [*accumulate(self._counts)]

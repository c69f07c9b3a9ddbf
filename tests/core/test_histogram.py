from __future__ import annotations

import pytest

from notifyd.core.histogram import Histogram


def test_nothing_was_observed() -> None:
    """A new histogram counts nothing, up to each bound and above the last."""
    histogram = Histogram((1.0, 2.0))
    assert (histogram.cumulated(), histogram.sum, histogram.examples) == ([0, 0, 0], 0.0, {})


@pytest.mark.parametrize(
    ("value", "cumulated"),
    [(0.0, [1, 1, 1]), (1.0, [1, 1, 1]), (1.1, [0, 1, 1]), (2.0, [0, 1, 1]), (9.0, [0, 0, 1])],
)
def test_value_counts_up_to_its_bound(value: float, cumulated: list[int]) -> None:
    """A value counts for each bound that it does not exceed: a bound is part of its bucket."""
    histogram = Histogram((1.0, 2.0))
    histogram.observe(value)
    assert histogram.cumulated() == cumulated


def test_values_are_added_up() -> None:
    """The sum is that of all values, as often as each was observed."""
    histogram = Histogram((1.0,))
    histogram.observe(0.5, 3)
    histogram.observe_all([3.75, 0.25], 0.25, ("1-0", 10.0))
    assert (histogram.sum, histogram.cumulated()) == (6.0, [4, 5])


def test_latest_example_of_each_bucket_stays() -> None:
    """A bucket keeps the latest example that it was given, whatever comes to the others."""
    histogram = Histogram((1.0,))
    histogram.observe(0.1, example=("1-0", 10.0))
    histogram.observe_all([0.4, 4.0], 1.0, ("2-0", 11.0))
    histogram.observe(0.2, 2, ("3-0", 12.0))
    histogram.observe(0.3)
    assert histogram.examples == {0: (0.2, ("3-0", 12.0)), 1: (5.0, ("2-0", 11.0))}

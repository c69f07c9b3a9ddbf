from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.backoff import Backoff


def test_the_ceiling_doubles_up_to_the_most() -> None:
    """The ceiling of the delays starts at first and doubles up to most."""
    backoff = Backoff(0.5, 5, random=lambda: 1.0)
    assert [backoff.next() for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]


def test_reset_starts_over() -> None:
    """After a success the delays start over."""
    backoff = Backoff(1, 60, random=lambda: 0.5)
    assert [backoff.next(), backoff.next()] == [0.5, 1]
    backoff.reset()
    assert backoff.next() == 0.5


def test_the_most_holds_from_the_start() -> None:
    """No delay is above most, the first one included."""
    backoff = Backoff(10, 3, random=lambda: 1.0)
    assert [backoff.next(), backoff.next()] == [3, 3]
    backoff.reset()
    assert backoff.next() == 3


def test_a_night_without_the_other_side() -> None:
    """Thousands of attempts neither overflow nor exceed the most."""
    backoff = Backoff(0.1, 30, random=lambda: 1.0)
    assert max(backoff.next() for _ in range(10_000)) == 30


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1), st.floats(0.01, 10))
def test_full_jitter(draws: list[float], first: float) -> None:
    """Each delay is a random part of min(most, first * 2**n)."""
    backoff = Backoff(first, 60, random=itertools.chain(draws).__next__)
    for n, draw in enumerate(draws):
        assert backoff.next() == draw * min(60, first * 2**n)


def test_delays_are_random_by_themselves() -> None:
    """Two daemons that fail together don't return together."""
    one, two = Backoff(1, 60), Backoff(1, 60)
    delays = [(one.next(), two.next()) for _ in range(10)]
    assert any(first != second for first, second in delays)
    assert all(0 <= delay < 60 for pair in delays for delay in pair)

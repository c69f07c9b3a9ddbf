"""The growth of counters per second."""

from __future__ import annotations

from notifyd.core.rates import Rates


def test_no_sample() -> None:
    """Before anything was counted twice, nothing is known."""
    rates = Rates(10, 1)
    assert rates.per_second() == {}
    rates.add(0, {"events": 5})
    assert rates.per_second() == {}


def test_growth() -> None:
    """What counts is the growth between the first and the last sample, for each counter."""
    rates = Rates(10, 1)
    rates.add(100, {"events": 5, "logins": 1})
    rates.add(101, {"events": 5, "logins": 2})
    rates.add(104, {"events": 25, "logins": 3})
    assert rates.per_second() == {"events": 5, "logins": 0.5}


def test_window() -> None:
    """Samples older than the window are forgotten, but for the one it begins with."""
    rates = Rates(10, 1)
    for second in range(31):
        rates.add(second, {"events": max(0, second - 20)})
    assert rates.per_second() == {"events": 1}


def test_new_counter() -> None:
    """A counter that is new began at zero."""
    rates = Rates(10, 1)
    rates.add(0, {})
    rates.add(2, {"events": 4})
    assert rates.per_second() == {"events": 2}


def test_due() -> None:
    """A sample is due when the latest is old enough."""
    rates = Rates(10, 1)
    assert rates.due(0)
    rates.add(0, {})
    assert not rates.due(0.9)
    assert rates.due(1)

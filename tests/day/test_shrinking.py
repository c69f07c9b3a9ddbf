"""The day's rules are the shipped ones, in less time."""

from __future__ import annotations

import re

import pytest
from boards import RULES
from day.shrinking import FACTOR, shrink


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("        for: 1m\n", "        for: 4000ms\n"),
        ("rate(x[5m])", "rate(x[20000ms])"),
        ("rate(x[1h] offset 5m)", "rate(x[240000ms] offset 20000ms)"),
        ("job:x:ratio_rate5m > 6 * 0.01", "job:x:ratio_rate5m > 6 * 0.01"),
        ("of the last 15 minutes", "of the last 15 minutes"),
    ],
)
def test_durations(before: str, after: str) -> None:
    """Durations become shorter, and nothing else changes."""
    assert shrink(before) == after


def test_all_of_the_rules() -> None:
    """No duration of the shipped rules is left as long as it was, and none vanishes."""
    shipped = re.findall(r"(?:for: |offset |\[)(\d+[smh])\b", RULES.read_text())
    shrunk = re.findall(r"(?:for: |offset |\[)(\d+)ms\b", shrink(RULES.read_text()))
    seconds = [int(each[:-1]) * {"s": 1, "m": 60, "h": 3600}[each[-1]] for each in shipped]
    assert [int(each) * FACTOR for each in shrunk] == [each * 1000 for each in seconds]

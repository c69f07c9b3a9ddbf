"""One factor for all durations: what takes a quarter of an hour elsewhere takes a minute here."""

from __future__ import annotations

import re
from typing import Final

FACTOR: Final = 15
"""How much shorter the day's durations are than those of the shipped rules and pages."""

SCRAPE: Final = 15 / FACTOR
"""Seconds between two scrapes, and two evaluations; docs/how-to/monitor.md says 15."""

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_DURATION: Final = re.compile(r"((?:for: |offset |\[))(\d+)([smh])\b")


def shrink(rules: str) -> str:
    """Return the text of the rules with every `for`, range and offset divided by the factor."""
    return _DURATION.sub(_shorter, rules)


def _shorter(match: re.Match[str]) -> str:
    before, number, unit = match.groups()
    return f"{before}{milliseconds(int(number) * _SECONDS[unit] / FACTOR)}"


def milliseconds(seconds: float) -> str:
    """Return a duration as PromQL has it, which knows no fractions."""
    return f"{round(seconds * 1000)}ms"

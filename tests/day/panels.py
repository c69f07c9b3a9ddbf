"""What the dashboard's panels show of a day: their queries, asked as Grafana asks them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from boards import board, panels
from day.shrinking import SCRAPE, milliseconds

if TYPE_CHECKING:
    from day.prometheus import Prometheus

STEP: Final = SCRAPE
"""Seconds between two points of a graph."""

_VARIABLES: Final = {
    # As Grafana reckons it: at least four scrapes, so that a rate has more than one of them.
    "$__rate_interval": milliseconds(max(4 * SCRAPE, STEP + SCRAPE)),
    "$job": "notifyd",
    # All of them, by the variable's own value for that.
    "$instance": ".+",
}


class Line(NamedTuple):
    """A line of a graph: how the legend calls it, and its points, as Unix time and value."""

    legend: str
    points: list[tuple[float, float]]


class Shown(NamedTuple):
    """A panel, in which row it stands, and the lines of all its queries."""

    row: str
    panel: dict[str, Any]
    lines: list[list[Line]]

    @property
    def title(self) -> str:
        """How it is called."""
        return str(self.panel["title"])


def substituted(expr: str) -> str:
    """Return a query with the variables' values in their places."""
    for name, value in _VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the panels of each row of the dashboard, by the row's title."""
    found: dict[str, list[dict[str, Any]]] = {}
    for panel in board()["panels"]:
        if panel["type"] == "row":
            found[panel["title"]] = []
        else:
            found[[*found][-1]].append(panel)
    assert sum(map(len, found.values())) == len(panels(board()))
    return found


def ask(prometheus: Prometheus, start: float, end: float) -> list[Shown]:
    """Return what every panel shows between two times."""
    return [
        Shown(row, panel, [_lines(prometheus, each, start, end) for each in panel["targets"]])
        for row, found in rows().items()
        for panel in found
    ]


def _lines(prometheus: Prometheus, target: dict[str, Any], start: float, end: float) -> list[Line]:
    series = prometheus.series(substituted(target["expr"]), start, end, STEP)
    return [
        Line(_legend(target["legendFormat"], each["metric"]), points)
        for each in series
        if (points := [(at, float(text)) for at, text in each["values"] if _is_number(text)])
    ]


def _is_number(text: str) -> bool:
    return math.isfinite(float(text))


def _legend(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), form)

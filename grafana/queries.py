"""What rows and panels of the dashboard consist of, and their queries in PromQL."""

from __future__ import annotations

from typing import Final, NamedTuple

SELECTOR: Final = 'job=~"$job", instance=~"$instance"'
"""What every query chooses."""


class Query(NamedTuple):
    """An expression of PromQL, and how each of its series is called (Grafana's legend format)."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """A panel. `unit` is one of Grafana's; `alert` is the one whose section of the runbook helps.

    `low` is a value below which it is red, `high` one above which it is. `stat` makes it a number,
    otherwise it is a graph.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    alert: str
    low: float | None = None
    high: float | None = None
    stat: bool = False
    stacked: bool = False


class Row(NamedTuple):
    """A row of panels, each of them `width` of Grafana's 24 columns wide."""

    title: str
    width: int
    panels: tuple[Panel, ...]


def selected(name: str, also: str = "") -> str:
    """Return the series of a metric; `also` has matchers besides."""
    more = f", {also}" if also else ""
    return f"{name}{{{SELECTOR}{more}}}"


def total(name: str, by: str = "", also: str = "") -> str:
    """Return the sum of a gauge, or one for each value of a label."""
    return f"{_sum(by)}({selected(name, also)})"


def each(name: str) -> tuple[Query, ...]:
    """Return the query of a gauge that is told for each daemon."""
    return (Query(selected(name), "{{instance}}"),)


def rate(name: str, by: str = "", also: str = "") -> str:
    """Return by how much a counter grows in a second."""
    return f"{_sum(by)}(rate({selected(name, also)}[$__rate_interval]))"


def increase(name: str, by: str = "") -> str:
    """Return by how much a counter grows around each point of a graph."""
    return f"{_sum(by)}(increase({selected(name)}[$__rate_interval]))"


def within(name: str, seconds: float) -> str:
    """Return the part of a histogram's observations up to `seconds`, one of its bounds."""
    bound = f'le="{seconds:.12g}"' if seconds % 1 else f'le="{seconds:.1f}"'
    return f"{rate(f'{name}_bucket', also=bound)} / {rate(f'{name}_count')}"


def quantiles(name: str) -> tuple[Query, ...]:
    """Return the median of a histogram, and what one in twenty and one in a hundred exceed."""
    buckets = rate(f"{name}_bucket", "le")
    return tuple(
        Query(f"histogram_quantile({part}, {buckets})", f"{part:.0%}") for part in (0.5, 0.95, 0.99)
    )


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum "

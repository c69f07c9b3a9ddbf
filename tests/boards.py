"""Reading what is in grafana/: panels, queries, rules, and the metrics they name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from notifyd.daemon.metrics import PREFIX
from notifyd.daemon.metrics_table import METRICS

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "grafana" / "notifyd.json"
RULES = ROOT / "grafana" / "rules" / "notifyd.rules.yml"
RUNBOOK = ROOT / "docs" / "how-to" / "runbook.md"

# What Prometheus adds, and what the client library tells of the process.
FOREIGN = re.compile(r"up|process_\w+|python_gc_\w+|python_info")
SUFFIXES = ("_bucket", "_count", "_sum")


def board() -> dict[str, Any]:
    """Return the dashboard."""
    whole: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return whole


def panels(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without its rows."""
    return [panel for panel in whole["panels"] if panel["type"] != "row"]


def expressions(whole: dict[str, Any]) -> list[str]:
    """Return the queries of a dashboard."""
    return [target["expr"] for panel in panels(whole) for target in panel["targets"]]


def selectors(expr: str) -> dict[str, str]:
    """Return the matchers of a query's last selector of each metric."""
    return dict(re.findall(r"([a-z_]\w*)\{([^}]*)\}", expr))


def unknown(names: set[str]) -> set[str]:
    """Return the names that are no metric of the daemon."""
    known = {PREFIX + metric.name for metric in METRICS if metric.kind != "histogram"}
    known |= {
        PREFIX + metric.name + suffix
        for metric in METRICS
        if metric.kind == "histogram"
        for suffix in SUFFIXES
    }
    return {name for name in names - known if not FOREIGN.fullmatch(name)}


def anchors() -> set[str]:
    """Return the fragments by which sections of the runbook are found, from their headings."""
    headings = re.findall(r"^## (.+)$", RUNBOOK.read_text(), re.MULTILINE)
    return {heading.lower().replace(" ", "-") for heading in headings}

"""The dashboard keeps the rules of Grafana's dashboard-linter, and agrees with what it is about."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from boards import ROOT, anchors, board, expressions, panels, selectors, unknown

if TYPE_CHECKING:
    from pathlib import Path

# Of Grafana's units those that the dashboard may use.
UNITS = {"short", "s", "dtdurations", "cps", "bytes", "Bps", "percentunit", "bool_yes_no"}

BOARD = board()
PANELS = panels(BOARD)
EXPRESSIONS = expressions(BOARD)
VARIABLES = {each["name"]: each for each in BOARD["templating"]["list"]}


def title(panel: dict[str, Any]) -> str:
    """Return how a panel is called in a failure."""
    return str(panel["title"])


def test_file_is_fresh() -> None:
    """The dashboard is what its script makes of its rows."""
    done = subprocess.run(
        [sys.executable, "grafana/make.py", "--check"], cwd=ROOT, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_way_of_an_event() -> None:
    """Its rows follow the way of an event."""
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "At a glance",
        "Clients",
        "Authentication",
        "Bus",
        "Fan-out",
        "Latency",
        "Trouble",
        "Process",
    ]


def test_data_source() -> None:
    """The data source is a variable, named and labelled as usual, and nothing is to be put in."""
    variable = VARIABLES["datasource"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    assert variable["label"] == "Data source"
    assert "__inputs" not in BOARD


@pytest.mark.parametrize("name", ["job", "instance"])
def test_variables(name: str) -> None:
    """Job and instance are chosen from what there is in the time shown, several or all at once."""
    variable = VARIABLES[name]
    assert variable["type"] == "query"
    assert variable["label"] == name.title()
    assert variable["datasource"]["uid"] == "${datasource}"
    assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
    assert variable["refresh"] == 2
    assert re.fullmatch(r"label_values\(notifyd_build_info(\{.*\})?, \w+\)", variable["query"])


def test_is_not_edited() -> None:
    """Nobody edits in Grafana what a file brings."""
    assert BOARD["editable"] is False


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_panel(panel: dict[str, Any]) -> None:
    """A panel has a title, a description, a known unit, the chosen data source and queries."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_panel_leads_to_the_runbook(panel: dict[str, Any]) -> None:
    """A panel has a link to the section of the runbook that says what to do."""
    [link] = panel["links"]
    assert link["url"].removeprefix("${runbook}#") in anchors()


@pytest.mark.parametrize("expr", sorted(set(EXPRESSIONS)))
def test_query(expr: str) -> None:
    """A query asks for the chosen daemons only, and rates reach over Grafana's own interval."""
    matchers = re.findall(r"\{([^}]*)\}", expr)
    assert matchers
    assert all('job=~"$job", instance=~"$instance"' in each for each in matchers)
    assert set(re.findall(r"\[([^]]+)\]", expr)) <= {"$__rate_interval"}


@pytest.mark.parametrize("expr", sorted(set(EXPRESSIONS)))
def test_counters_are_rates(expr: str) -> None:
    """A counter is shown by how it grows."""
    counted = re.findall(r"(\w*)\(?\b\w+_total\{", expr)
    assert set(counted) <= {"rate", "increase"}


@pytest.mark.long
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_queries_are_valid(tmp_path: Path) -> None:
    """Prometheus takes every query, its variables substituted as Grafana does."""
    values = {"$__rate_interval": "1m", "$job": "notifyd", "$instance": "(a:1|b:2)"}
    rules = []
    for number, expr in enumerate(EXPRESSIONS):
        for name, value in values.items():
            expr = expr.replace(name, value)  # noqa: PLW2901 - one value after another
        rules.append({"record": f"query:{number}", "expr": expr})
    path = tmp_path / "rules.yml"
    # What is JSON is YAML as well.
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_metrics_exist() -> None:
    """The dashboard names only metrics that the daemon has."""
    assert unknown({name for expr in EXPRESSIONS for name in selectors(expr)}) == set()


def test_panels_do_not_overlap() -> None:
    """Every panel has a number and a place of its own."""
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24

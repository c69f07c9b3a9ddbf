"""Writes the dashboard for Grafana, or compares it: `python grafana/make.py [--check]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

from grafana.daemon import PROCESS, TROUBLE
from grafana.events import BUS, FAN_OUT, LATENCIES
from grafana.pages import AUTHENTICATION, CLIENTS, GLANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.queries import Panel

FILE: Final = Path(__file__).with_name("notifyd.json")
ROWS: Final = (GLANCE, CLIENTS, AUTHENTICATION, BUS, FAN_OUT, LATENCIES, TROUBLE, PROCESS)
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOK: Final = "file:///usr/share/doc/notifyd/docs/how-to/runbook.md"


def thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    """Return where a panel turns red and where it is green."""
    steps = [Threshold(None, "green")]
    if panel.low is not None:
        steps = [Threshold(None, "red"), Threshold(panel.low, "green")]
    if panel.high is not None:
        steps.append(Threshold(panel.high, "red"))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def link(title: str, fragment: str = "") -> dashboard.DashboardLink:
    """Return a link to the runbook, wherever its pages are served."""
    url = "${runbook}" + (f"#{fragment}" if fragment else "")
    built = dashboard.DashboardLink(title).type(DashboardLinkType.LINK).url(url)
    return built.target_blank(True)


def drawn(panel: Panel, width: int) -> stat.Panel | timeseries.Panel:
    """Return a panel as Grafana takes it: a number, or a graph with a line at its threshold."""
    drawing: stat.Panel | timeseries.Panel
    if panel.stat:
        drawing = stat.Panel().height(4)
    else:
        legend = common.VizLegendOptions().show_legend(True)
        legend = legend.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        stacking = StackingMode.NORMAL if panel.stacked else StackingMode.NONE
        line = panel.low is not None or panel.high is not None
        style = GraphThresholdsStyleMode.DASHED if line else GraphThresholdsStyleMode.OFF
        drawing = (
            timeseries.Panel()
            .height(8)
            .min(0)
            .legend(legend)
            .fill_opacity(20 if panel.stacked else 0)
            .stacking(common.StackingConfig().mode(stacking))
            .thresholds_style(common.GraphThresholdsStyleConfig().mode(style))
        )
    drawing = drawing.title(panel.title).description(panel.description).unit(panel.unit)
    drawing = drawing.span(width).datasource(SOURCE).thresholds(thresholds(panel))
    drawing = drawing.links([link("Runbook", panel.alert.lower())])
    for query, ref_id in zip(panel.queries, "ABCDEFGH", strict=False):
        target = prometheus.Dataquery().ref_id(ref_id).expr(query.expr)
        target = target.legend_format(query.legend).datasource(SOURCE)
        drawing = drawing.with_target(target)
    return drawing


def variable(name: str, query: str) -> dashboard.QueryVariable:
    """Return a choice of one, several or all values of a label."""
    return (
        dashboard.QueryVariable(name)
        .label(name.title())
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
    )


def text() -> str:
    """Return the dashboard as JSON, the same for the same rows."""
    board = dashboard.Dashboard("notifyd").uid("notifyd").tags(["notifyd"]).readonly()
    board = board.description("Whether notifications flow, and where they don't.")
    board = board.time("now-1h", "now").refresh("30s").timezone("browser")
    board = board.tooltip(DashboardCursorSync.CROSSHAIR).link(link("Runbook"))
    board = (
        board.with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(variable("job", "label_values(notifyd_build_info, job)"))
        .with_variable(
            variable("instance", 'label_values(notifyd_build_info{job=~"$job"}, instance)')
        )
        .with_variable(
            dashboard.TextBoxVariable("runbook")
            .label("Runbook")
            .description("Where the page docs/how-to/runbook.md is served.")
            .default_value(RUNBOOK)
        )
    )
    number = 0
    for row in ROWS:
        number += 1
        board = board.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            board = board.with_panel(drawn(panel, row.width).id(number))
    return json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write or compare the file, and return the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition(":")[0])
    parser.add_argument("--check", action="store_true", help="only tell whether it is out of date")
    if not parser.parse_args(argv).check:
        FILE.write_text(text(), "utf-8")
    elif FILE.read_text("utf-8") != text():
        print("grafana/notifyd.json is out of date; run: make dashboard", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

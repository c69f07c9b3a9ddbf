"""Previews of the dashboard: each row as a picture, drawn from what its queries have returned.

Grafana itself is not asked: these show what there is to see, not how exactly it looks there.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any, Final

from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from day.panels import Line, Shown
    from matplotlib.axes import Axes

LABEL: Final = "A preview, drawn from a scripted day on real servers; not Grafana."

_COLUMNS: Final = 24
_WIDTH: Final = 13.0
_HEIGHTS: Final = {"stat": 1.5, "timeseries": 2.9}
"""Inches: of a picture, and of a panel in it by its type."""

_STYLE: Final[dict[str, Any]] = {
    "axes.edgecolor": "#b8bcc4",
    "axes.grid": True,
    "axes.labelcolor": "#3b3f46",
    "axes.prop_cycle": cycler(
        color=["#3f6fb5", "#d9822b", "#4f9d69", "#b94a5a", "#7d62a8", "#8a6d4f", "#4aa3b5"]
    ),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.color": "#e6e8ec",
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "text.color": "#23262b",
    "xtick.color": "#5b606a",
    "ytick.color": "#5b606a",
}
_GOOD: Final = "#2e7d4f"
_BAD: Final = "#b3394b"

_SCALES: Final[dict[str, tuple[tuple[float, str], ...]]] = {
    "s": ((60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")),
    "dtdurations": ((3600, " h"), (60, " min"), (1, " s")),
    "bytes": ((1 << 30, " GiB"), (1 << 20, " MiB"), (1 << 10, " KiB"), (1, " B")),
    "Bps": ((1e9, " GB/s"), (1e6, " MB/s"), (1e3, " kB/s"), (1, " B/s")),
    "cps": ((1e6, "M/s"), (1e3, "k/s"), (1, "/s")),
    "short": ((1e6, "M"), (1e3, "k"), (1, "")),
}


def draw(folder: Path, shown: Sequence[Shown]) -> list[Path]:
    """Draw each row of the dashboard into the folder, and return the files."""
    rows: dict[str, list[Shown]] = {}
    for each in shown:
        rows.setdefault(each.row, []).append(each)
    folder.mkdir(parents=True, exist_ok=True)
    with plt.style.context(_STYLE):
        return [_draw_row(folder / name(title), title, found) for title, found in rows.items()]


def name(row: str) -> str:
    """Return the file's name of a row."""
    return f"{row.lower().replace(' ', '-')}.png"


def words(value: float, unit: str) -> str:
    """Return a value as it is written beside a graph, by Grafana's name of its unit."""
    match unit:
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "bool_yes_no":
            return "yes" if value else "no"
    if value == 0:
        return "0"
    scales = _SCALES[unit]
    factor, suffix = next((each for each in scales if abs(value) >= each[0]), scales[-1])
    return f"{value / factor:.3g}{suffix}"


def _draw_row(path: Path, title: str, found: Sequence[Shown]) -> Path:
    columns = _COLUMNS // int(found[0].panel["gridPos"]["w"])
    lines = math.ceil(len(found) / columns)
    height = lines * _HEIGHTS[found[0].panel["type"]] + 0.7
    figure, grid = plt.subplots(
        lines, columns, figsize=(_WIDTH, height), squeeze=False, layout="constrained"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.text(0.99, 0.995, LABEL, ha="right", va="top", fontsize=8, color="#5b606a")
    places = [axes for row in grid for axes in row]
    for axes, each in zip(places, found, strict=False):
        _draw_panel(axes, each)
    for axes in places[len(found) :]:
        axes.axis("off")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path


def _draw_panel(axes: Axes, shown: Shown) -> None:
    axes.set_title(shown.title, loc="left", fontsize=9.5)
    unit = shown.panel["fieldConfig"]["defaults"]["unit"]
    lines = [line for found in shown.lines for line in found]
    if shown.panel["type"] == "stat":
        _draw_number(axes, shown.panel, lines, unit)
    else:
        _draw_graph(axes, shown.panel, lines, unit)


def _draw_number(axes: Axes, panel: dict[str, Any], lines: Sequence[Line], unit: str) -> None:
    _, value = lines[0].points[-1]
    axes.axis("off")
    colour = _colour(panel, value)
    axes.text(0.5, 0.42, words(value, unit), ha="center", va="center", fontsize=24, color=colour)


def _draw_graph(axes: Axes, panel: dict[str, Any], lines: Sequence[Line], unit: str) -> None:
    start = min(line.points[0][0] for line in lines)
    drawn = [line for line in lines if any(value for _, value in line.points)]
    # Where nothing happened one line of it is enough, as one sees it in Grafana.
    drawn = drawn or list(lines[:1])
    if panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal":
        _stack(axes, drawn, start)
    else:
        for line in drawn:
            times, values = zip(*line.points, strict=True)
            axes.plot([at - start for at in times], values, label=line.legend)
    for limit in _limits(panel):
        axes.axhline(limit, color=_BAD, linewidth=1, linestyle="--", alpha=0.8)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_formatter(unit))
    axes.yaxis.set_major_locator(
        MaxNLocator(1 if unit == "bool_yes_no" else 5, integer=unit == "short")
    )
    axes.xaxis.set_major_formatter(FuncFormatter(_clock))
    axes.legend(loc="upper left", ncols=2, frameon=False, handlelength=1.2, columnspacing=1)


def _stack(axes: Axes, lines: Sequence[Line], start: float) -> None:
    times = sorted({at for line in lines for at, _ in line.points})
    values = [[dict(line.points).get(at, 0.0) for at in times] for line in lines]
    labels = [line.legend for line in lines]
    axes.stackplot([at - start for at in times], values, labels=labels, alpha=0.75)


def _limits(panel: dict[str, Any]) -> list[float]:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return [step["value"] for step in steps if step["value"] is not None]


def _colour(panel: dict[str, Any], value: float) -> str:
    colour = ""
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return _GOOD if colour == "green" else _BAD


def _formatter(unit: str) -> FuncFormatter:
    def written(value: float, _position: int | None) -> str:
        return words(value, unit)

    function: Callable[[float, int | None], str] = written
    return FuncFormatter(function)


def _clock(seconds: float, _position: int | None) -> str:
    whole = str(dt.timedelta(seconds=max(0, round(seconds))))
    return whole.removeprefix("0:")

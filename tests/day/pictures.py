"""Previews of the dashboard: each row as a picture, drawn from what its queries have returned.

Grafana itself is not asked: these show what there is to see, not how exactly it looks there.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from day.panels import Line, Shown
    from matplotlib.axes import Axes

LABEL: Final = "A preview, drawn from a scripted day on real servers; not Grafana."

_COLUMNS: Final = {4: 6, 6: 2, 8: 3, 12: 2}
"""Panels beside one another by their width in Grafana, whose screen is wider than a page is."""

_WIDTH: Final = 11.0
_HEIGHTS: Final = {"stat": 1.4, "timeseries": 2.4}
"""Inches: of a picture, and of a panel in it by its type."""

_DPI: Final = 100

_STYLE: Final[dict[str, Any]] = {
    "axes.edgecolor": "#b8bcc4",
    "axes.grid": True,
    "axes.labelcolor": "#3b3f46",
    # The first of them can be told apart by those who see red and green alike, too.
    "axes.prop_cycle": cycler(
        color=[
            *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"),
            *("#7d62a8", "#8a6d4f", "#888888", "#b3a100"),
        ]
    ),
    "axes.spines.bottom": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.color": "#e6e8ec",
    "legend.columnspacing": 1.0,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
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
    columns = _COLUMNS[int(found[0].panel["gridPos"]["w"])]
    lines = math.ceil(len(found) / columns)
    height = lines * _HEIGHTS[found[0].panel["type"]] + 0.7
    figure, grid = plt.subplots(
        lines, columns, figsize=(_WIDTH, height), squeeze=False, layout="constrained"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    figure.text(0.99, 1 - 0.1 / height, LABEL, ha="right", va="top", color="#5b606a")
    places = [axes for row in grid for axes in row]
    span = _span(found)
    for axes, each in zip(places, found, strict=False):
        _draw_panel(axes, each)
        _draw_clock(axes, *span)
    for axes in places[len(found) :]:
        axes.axis("off")
    figure.savefig(path, dpi=_DPI, metadata={"Software": None}, pil_kwargs={"optimize": True})
    plt.close(figure)
    return path


def _span(found: Sequence[Shown]) -> tuple[float, float]:
    times = [
        at for each in found for lines in each.lines for line in lines for at, _ in line.points
    ]
    return min(times), max(times)


def _draw_panel(axes: Axes, shown: Shown) -> None:
    axes.set_title(shown.title, loc="left", fontsize=10.5, fontweight="bold")
    unit = shown.panel["fieldConfig"]["defaults"]["unit"]
    lines = [line for found in shown.lines for line in found]
    if shown.panel["type"] == "stat":
        _draw_number(axes, shown.panel, lines, unit)
    else:
        _draw_graph(axes, shown.panel, lines, unit)


def _draw_number(axes: Axes, panel: dict[str, Any], lines: Sequence[Line], unit: str) -> None:
    """Draw the latest value, and behind it how it came about."""
    times, values = zip(*lines[0].points, strict=True)
    colour = _colour(panel, values[-1])
    axes.axis("off")
    axes.fill_between(times, values, color=colour, alpha=0.15, linewidth=0)
    # Room above, so that what never changes is no full block.
    axes.set_ylim(0, max(*values, 1e-9) * 1.25)
    axes.text(
        0.5,
        0.5,
        words(values[-1], unit),
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=20,
        fontweight="bold",
        color=colour,
    )


def _draw_graph(axes: Axes, panel: dict[str, Any], lines: Sequence[Line], unit: str) -> None:
    drawn = [line for line in lines if any(value for _, value in line.points)]
    # Where nothing happened one line of it is enough, as one sees it in Grafana.
    drawn = drawn or list(lines[:1])
    if panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal":
        _stack(axes, drawn)
    else:
        for line in drawn:
            axes.plot(*_broken(line.points), label=line.legend)
    top = max(value for line in drawn for _, value in line.points)
    axes.set_ylim(bottom=0, top=None if top else 1)
    for limit in _limits(panel):
        # One far above all there is would press the lines down to the axis.
        if limit <= axes.get_ylim()[1]:
            axes.axhline(limit, color=_BAD, linewidth=1, linestyle="--", alpha=0.8)
    axes.yaxis.set_major_formatter(_formatter(unit))
    if unit == "bytes":
        # Round in their own unit, which is no power of ten.
        axes.yaxis.set_major_locator(MultipleLocator(2 ** round(math.log2(top / 3))))
    else:
        most = 1 if unit == "bool_yes_no" else 4
        axes.yaxis.set_major_locator(MaxNLocator(most, integer=unit == "short"))
    # Below the graph, where it hides nothing.
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.12), ncols=4, borderpad=0)


def _draw_clock(axes: Axes, start: float, end: float) -> None:
    """Have a panel show the whole day, as all show the same time in Grafana."""
    axes.set_xlim(start, end)
    axes.xaxis.set_major_locator(MultipleLocator(60, offset=start % 60))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{(at - start) / 60:.0f} min"))


def _broken(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return times and values, with a break wherever points are missing, as Grafana draws them."""
    step = min((b[0] - a[0] for a, b in pairwise(points)), default=1.0)
    times: list[float] = []
    values: list[float] = []
    for at, value in points:
        if times and at - times[-1] > 1.5 * step:
            times.append(times[-1] + step)
            values.append(math.nan)
        times.append(at)
        values.append(value)
    return times, values


def _stack(axes: Axes, lines: Sequence[Line]) -> None:
    instants = sorted({at for line in lines for at, _ in line.points})
    found = [dict(line.points) for line in lines]
    broken = [_broken([(at, each.get(at, 0.0)) for at in instants]) for each in found]
    labels = [line.legend for line in lines]
    axes.stackplot(broken[0][0], [values for _, values in broken], labels=labels, alpha=0.75)


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

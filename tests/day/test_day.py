"""A day with everything real: what the dashboard, the alerts and the daemon tell of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from boards import ROOT, RULES, RUNBOOK, anchors
from day.outage import PLACES
from day.panels import rows
from day.pictures import draw, name
from day.script import SCRIPT
from day.shrinking import FACTOR, SCRAPE
from day.world import LOOK_EVERY

if TYPE_CHECKING:
    from day.conftest import Day

pytestmark = pytest.mark.long

ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())
CAUSES = {alert: chapter.title for chapter in SCRIPT for alert in chapter.raises}
PANELS = [(row, number) for row, found in rows().items() for number in range(len(found))]

# The alert about Redis, and for how long it is to be pending.
AWAY = "NotifydRedisAway"
FOR = 60 / FACTOR


def test_script() -> None:
    """Every alert of the rules is raised by one chapter of the day."""
    raised = [alert for chapter in SCRIPT for alert in chapter.raises]
    assert sorted(raised) == sorted(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_fires(alert: str, day: Day) -> None:
    """Every alert fires after what is to raise it has begun, and not before."""
    assert day.world.fired[alert] > day.began[CAUSES[alert]]


@pytest.mark.parametrize("alert", ALERTS)
def test_resolves(alert: str, day: Day) -> None:
    """Every alert is over when the day is."""
    assert day.world.firing[alert] < day.ended - LOOK_EVERY


def test_nothing_else(day: Day) -> None:
    """No other alert fires."""
    assert set(day.world.fired) == set(ALERTS)


@pytest.mark.parametrize("place", PLACES)
def test_redis_away_is_seen(place: str, day: Day) -> None:
    """Whoever kills Redis sees it within ten seconds, wherever they look at the daemon."""
    assert day.world.noticed[place] - day.world.killed < 10


def test_redis_away_is_pending(day: Day) -> None:
    """In Prometheus it is pending within two evaluations of the rules, behind the scrape."""
    seen = day.world.pending[AWAY] - day.world.killed
    assert seen < SCRAPE + 2 * SCRAPE + LOOK_EVERY


def test_redis_away_fires(day: Day) -> None:
    """It fires when it has been pending for as long as the rule says."""
    pending = day.world.fired[AWAY] - day.world.pending[AWAY]
    assert FOR - SCRAPE <= pending < FOR + 2 * SCRAPE + LOOK_EVERY


def test_runbook_leads_to_the_cause() -> None:
    """The alert's section of the runbook names the line of the log that has the cause."""
    [fragment] = set(re.findall(rf"{AWAY}\n.*?runbook\.md#(\w+)", RULES.read_text(), re.DOTALL)[:1])
    assert fragment in anchors()
    section = re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)
    [text] = [each for each in section if each.startswith(AWAY)]
    assert "bus.disconnected" in text


@pytest.mark.parametrize(("row", "number"), PANELS)
def test_panel_has_data(row: str, number: int, day: Day) -> None:
    """Every query of every panel returns data of the day."""
    shown = [each for each in day.shown if each.row == row][number]
    assert all(lines and all(line.points for line in lines) for lines in shown.lines), shown.title


def test_pictures(day: Day) -> None:
    """Every row is drawn with all its panels; the pictures are left in .cache/day."""
    drawn = draw(ROOT / ".cache" / "day", day.shown)
    assert [path.name for path in drawn] == [name(row) for row in rows()]
    assert all(path.stat().st_size > 10_000 for path in drawn)

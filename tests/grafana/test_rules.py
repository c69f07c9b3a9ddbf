from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from boards import RULES, anchors, unknown

from notifyd.daemon.metrics import BUCKETS

if TYPE_CHECKING:
    from pathlib import Path

TRIALS = sorted((RULES.parent / "tests").glob("*.yml"))
TEXT = RULES.read_text()
ALERTS = dict(re.findall(r"- alert: (\w+)\n(.*?)(?=\n\n|\Z)", TEXT, re.DOTALL))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool in the folder of the rules."""
    return subprocess.run(
        ["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False
    )


@pytest.mark.long
@needs_promtool
def test_rules_are_valid() -> None:
    """Prometheus takes the rules, and its linter has nothing to say against them."""
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES.name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@needs_promtool
@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.stem)
def test_alerts(trial: Path) -> None:
    """The alerts fire when they should, stay silent when they shouldn't, and resolve."""
    done = promtool("test", "rules", str(trial))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    """Each alert is tried: as one that fires, and at least twice as one that is silent."""
    trials = "\n".join(trial.read_text() for trial in TRIALS)
    outcomes = re.findall(r"alertname: (\w+)\n +exp_alerts:( \[\])?", trials)
    fires = {name for name, silent in outcomes if not silent}
    silent = [name for name, silent in outcomes if silent]
    assert fires == set(ALERTS)
    assert [name for name in ALERTS if silent.count(name) < 2] == []


@pytest.mark.parametrize("name", ALERTS)
def test_alert_is_complete(name: str) -> None:
    """Every alert has a severity, a summary, a description, and a section of the runbook."""
    alert = ALERTS[name]
    assert re.search(r"severity: (critical|warning|info)$", alert, re.MULTILINE)
    assert "summary: " in alert
    assert "description: " in alert
    [fragment] = re.findall(r"runbook_url: file://\S+/docs/how-to/runbook\.md#(\S+)", alert)
    assert fragment in anchors()


def test_runbook_has_nothing_else() -> None:
    """Every section of the runbook is one of an alert."""
    assert anchors() == set(re.findall(r"runbook\.md#(\S+)", TEXT))


def test_metrics_exist() -> None:
    """The rules name only metrics that the daemon has."""
    # Not behind a colon: that is a name the rules have made.
    names = set(re.findall(r"(?<![:\w])([a-z_]\w*)\{job=", TEXT))
    assert "notifyd_redis_up" in names
    assert unknown(names) == set()


def test_objective_is_a_bound() -> None:
    """The objective of latency is a bound of the histogram, so that it can be counted."""
    [bound] = set(re.findall(r'le="([^"]+)"', TEXT))
    assert float(bound) in BUCKETS

"""The units are what systemd takes, and as hard to get out of as they are meant to be."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from daemons import ROOT

if TYPE_CHECKING:
    from pathlib import Path

UNIT = ROOT / "packaging" / "systemd" / "notifyd.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Give the unit with a program that exists: systemd looks for it."""
    text = UNIT.read_text()
    path = tmp_path / UNIT.name
    path.write_text(text.replace("/usr/lib/notifyd/bin/notifyd", "/bin/true"))
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


@needs_systemd
def test_verify(unit: Path) -> None:
    """systemd-analyze has nothing to say against the unit."""
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_verify_notices(unit: Path) -> None:
    """It would say something against a directive that it does not know."""
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchDogSec="))
    assert "WatchDogSec" in analyze("verify", str(unit)).stderr


@needs_systemd
def test_exposure(unit: Path) -> None:
    """The exposure, as systemd-analyze judges it, is 1.1 at most."""
    # The threshold is in tenths.
    done = analyze("security", "--offline=true", "--threshold=11", str(unit))
    assert done.returncode == 0, done.stdout


def test_directives_are_explained() -> None:
    """Every directive has a comment right above it."""
    lines = UNIT.read_text().splitlines()
    directives = [n for n, line in enumerate(lines) if re.match(r"[A-Z]\w+=", line)]
    assert len(directives) > 40
    assert [lines[n] for n in directives if not lines[n - 1].startswith("# ")] == []


def test_metrics_stay() -> None:
    """The unit does not hide the files of /proc that the process_* metrics come from."""
    assert "ProcSubset=" not in re.sub(r"^#.*", "", UNIT.read_text(), flags=re.MULTILINE)

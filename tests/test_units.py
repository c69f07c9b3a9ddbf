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

FOLDER = ROOT / "packaging" / "systemd"
UNITS = sorted(each.name for each in FOLDER.iterdir() if each.suffix)
DROP_INS = sorted(str(each.relative_to(FOLDER)) for each in FOLDER.glob("examples/*/*.conf"))

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Give a folder with all units and programs that exist: systemd looks for them."""
    for name in UNITS:
        text = (FOLDER / name).read_text()
        text = re.sub(r"/usr/(lib/notifyd/bin/notifyd|libexec/notifyd/stop)", "/bin/true", text)
        (tmp_path / name).write_text(text)
    return tmp_path


def verify(units: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Let systemd-analyze look at a unit, or at an instance of a template."""
    name = name.replace("@.", "@site-1.")
    # Of the machine's own units only the standard ones, as systemd has them.
    path = f"{units}:/usr/lib/systemd/system"
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", name],
        capture_output=True,
        text=True,
        check=False,
        cwd=units,
        env={"SYSTEMD_UNIT_PATH": path, "PATH": "/usr/bin:/bin"},
    )


def exposure(unit: Path, most: float) -> None:
    """Find a unit's exposure, as systemd-analyze judges it, not above a bound."""
    # The threshold is in tenths.
    threshold = f"--threshold={round(most * 10)}"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", threshold, str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_verify(units: Path, name: str) -> None:
    """systemd-analyze has nothing to say against the unit."""
    done = verify(units, name)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_verify_notices(units: Path) -> None:
    """It would say something against a directive that it does not know."""
    unit = units / "notifyd.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchDogSec="))
    assert "WatchDogSec" in verify(units, unit.name).stderr


@needs_systemd
@pytest.mark.parametrize("name", ["notifyd.service", "notifyd@.service"])
def test_exposure(units: Path, name: str) -> None:
    """The exposure of the daemon is 1.1 at most."""
    exposure(units / name, 1.1)


@needs_systemd
def test_exposure_without_a_network(units: Path) -> None:
    """With the drop-in for Unix sockets it is 0.3 at most."""
    drop_in = FOLDER / "examples" / "notifyd.service.d" / "unix-sockets.conf"
    unit = units / "notifyd.service"
    unit.write_text(unit.read_text() + drop_in.read_text())
    exposure(unit, 0.3)


@pytest.mark.parametrize("name", [*UNITS, *DROP_INS])
def test_directives_are_explained(name: str) -> None:
    """Every directive has a comment right above it."""
    lines = (FOLDER / name).read_text().splitlines()
    directives = [n for n, line in enumerate(lines) if re.match(r"[A-Z]\w+=", line)]
    assert [lines[n] for n in directives if not lines[n - 1].startswith("# ")] == []


@pytest.mark.parametrize("name", [*UNITS, *DROP_INS])
def test_lines_fit_a_terminal(name: str) -> None:
    """No comment is longer than 100 characters."""
    lines = (FOLDER / name).read_text().splitlines()
    assert [line for line in lines if len(line) > 100 and line.startswith("#")] == []


def test_metrics_stay() -> None:
    """The unit does not hide the files of /proc that the process_* metrics come from."""
    unit = (FOLDER / "notifyd.service").read_text()
    assert "ProcSubset=" not in re.sub(r"^#.*", "", unit, flags=re.MULTILINE)

"""The package over its life: installed, upgraded, removed, purged."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from systemd.conftest import CONFIGURATION, configure, install, joined
from systemd.container import Container
from systemd.crowd import gather
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def machine(package: Path) -> Iterator[Container]:
    """Give a system of its own, which has not seen the package."""
    assert package.exists()
    with Container() as machine:
        yield machine


def files(machine: Container) -> set[str]:
    """Return the names of everything below the folders that packages and administrators use."""
    found = machine.run(
        *(
            "find",
            "/etc",
            "/lib/systemd",
            "/run",
            "/usr",
            "/var/lib",
            "-xdev",
            "-iname",
            "*notifyd*",
        )
    )
    return {*found.splitlines()}


def live(machine: Container) -> int:
    """Return how many clients the daemon has."""
    status = json.loads(machine.run("notifyd", "status", "--json"))
    return int(status["connections"]["live"])


def newer(package: Path, folder: Path) -> Path:
    """Return the same package as a later version."""
    root = folder / "root"
    subprocess.run(["dpkg-deb", "--raw-extract", package, root], check=True)
    control = root / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^(Version: .*)$", r"\1+later", control.read_text()))
    module = root / "usr/lib/notifyd/lib/python3.11/site-packages/notifyd/__init__.py"
    module.write_text(
        re.sub(r'__version__ = "(.*)"', r'__version__ = "\1+later"', module.read_text())
    )
    built = folder / "later.deb"
    options = ("--root-owner-group", "-Znone")
    subprocess.run(["dpkg-deb", *options, "--build", root, built], check=True)
    return built


async def test_a_life(machine: Container, package: Path, tmp_path: Path) -> None:
    """An upgrade keeps configuration and connections, removal the configuration, purge nothing."""
    # Before anybody connects: the crowd could not answer pings meanwhile.
    later = newer(package, tmp_path)
    before = files(machine)
    install(machine, package)
    assert machine.state("notifyd") == "inactive"
    assert machine.run("systemctl", "--failed", "--no-legend") == ""
    newsroom = configure(machine)
    local = CONFIGURATION + '\n[log]\nlevel = "debug"\n'
    machine.write("/etc/notifyd/notifyd.toml", local)
    machine.run("systemctl", "start", "notifyd")
    with joined(machine):
        hello = json.dumps({"token": newsroom.token("nadia")})
        crowd = await gather(8888, [hello] * 100)
        newsroom.close()
        await asyncio.to_thread(install, machine, later)
        status = json.loads(machine.run("notifyd", "status", "--json"))
        assert status["version"].endswith("+later")
        await until(
            lambda: (
                json.loads(machine.run("notifyd", "status", "--json"))["connections"]["live"] == 100
            )
        )
        assert all(browser.open for browser in crowd)
        assert machine.run("cat", "/etc/notifyd/notifyd.toml") == local.strip()
        await asyncio.to_thread(machine.run, "apt-get", "remove", "--yes", "notifyd")
        await until(lambda: not any(browser.open for browser in crowd))
    assert machine.run("cat", "/etc/notifyd/notifyd.toml") == local.strip()
    assert not machine.succeeds("test", "-e", "/usr/lib/notifyd")
    machine.run("rm", "-r", "/etc/systemd/system/notifyd.service.d")
    machine.run("rm", "-r", "/etc/systemd/system/notifyd@.service.d")
    machine.run("apt-get", "purge", "--yes", "notifyd")
    machine.run("rm", "/root/notifyd.deb")
    assert files(machine) - before == set()
    assert not machine.succeeds("getent", "passwd", "notifyd")

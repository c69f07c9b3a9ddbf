"""A container with the package, the newsroom and a Redis: one for a run, and clients for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from daemons import ROOT, Site
from e2e.clients import Pages
from systemd.container import Container

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

DATABASE = "/srv/newsroom/data/newsroom.sqlite3"

CONFIGURATION = """\
[server]
listen = ["systemd:public"]
drain = 1.0
max_connections_per_user = 0

[admin]
listen = "systemd:admin"

[redis]
url = "redis://127.0.0.1:6379/1"

[django]
settings = "newsroom.settings"
path = "/srv/newsroom"

[auth]
failures_burst = 10000
"""

# As docs/how-to/harden-further.md says it: a SQLite database needs its folder.
DROP_IN = """\
[Service]
ReadWritePaths=/srv/newsroom/data
"""

_CLONE_NEWNET = 0x40000000


class Newsroom(Site):
    """The newsroom inside of a container, run by the package's own Python."""

    def __init__(self, container: Container) -> None:
        super().__init__(Path("/srv/newsroom"), "redis://127.0.0.1:6379/1", DATABASE)
        self._container = container

    def command(self) -> list[str]:
        """Return how the site's Python is called."""
        variables = {
            "PYTHONPATH": "/srv/newsroom",
            "DJANGO_SETTINGS_MODULE": "newsroom.settings",
            "NEWSROOM_DATABASE": DATABASE,
            "NEWSROOM_REDIS": "redis://127.0.0.1:6379/1",
        }
        words = [f"{name}={value}" for name, value in variables.items()]
        return self._container.command("env", *words, "/usr/lib/notifyd/bin/python3", "-B")


def install(container: Container, package: Path) -> None:
    """Install a package with apt, as an administrator does."""
    shutil.copy(package, container.inside("/root/notifyd.deb"))
    container.run(
        *("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes"),
        *("--no-install-recommends", "/root/notifyd.deb"),
    )


def configure(container: Container) -> Newsroom:
    """Put the newsroom beside the daemon, and tell it where that is."""
    target = container.inside("/srv/newsroom")
    ignored = shutil.ignore_patterns("__pycache__", "*.sqlite3")
    shutil.copytree(ROOT / "site", target, ignore=ignored, dirs_exist_ok=True)
    container.run("install", "-d", "-o", "notifyd", "-g", "notifyd", "/srv/newsroom/data")
    newsroom = Newsroom(container)
    newsroom.fill()
    container.run("chown", "-R", "notifyd:", "/srv/newsroom/data")
    container.write("/etc/notifyd/notifyd.toml", CONFIGURATION)
    container.write("/etc/default/notifyd", f"NEWSROOM_DATABASE={DATABASE}\n")
    for unit in ("notifyd.service", "notifyd@.service"):
        container.write(f"/etc/systemd/system/{unit}.d/site.conf", DROP_IN)
    container.run("systemctl", "daemon-reload")
    return newsroom


@pytest.fixture(scope="session")
def package() -> Path:
    """Give the package, built from this tree."""
    done = subprocess.run([ROOT / ".ci" / "deb"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return max((ROOT / "dist").glob("notifyd_*.deb"), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="session")
def container(package: Path) -> Iterator[Container]:
    """Give a booted system with the package, whose journal has no traceback at the end."""
    with Container() as container:
        install(container, package)
        yield container
        container.run("journalctl", "--sync")
        text = container.run("journalctl", "--unit=notifyd*", "--output=cat")
        assert text.count("Traceback (most recent call last)") == 0


@pytest.fixture(scope="session")
def newsroom(container: Container) -> Iterator[Newsroom]:
    """Give the newsroom beside the daemon."""
    with configure(container) as newsroom:
        yield newsroom


@pytest.fixture
def network(container: Container) -> Iterator[None]:
    """Let what the test opens be in the container's network."""
    with joined(container):
        yield


@contextlib.contextmanager
def joined(container: Container) -> Iterator[None]:
    """Be in the container's network, with this thread and those that it starts (setns(2))."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(container.namespace("net"), os.O_RDONLY | os.O_CLOEXEC)
    _set(there)
    try:
        yield
    finally:
        _set(here)
        os.close(here)
        os.close(there)


def _set(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@pytest.fixture
async def pages(network: None) -> AsyncIterator[Pages]:  # noqa: ARG001 - it is where they are opened
    """Give the test's clients."""
    opened = Pages()
    yield opened
    await opened.close()


@pytest.fixture
def bus(network: None) -> Iterator[Any]:  # noqa: ARG001 - it is where they are opened
    """Give a client of the site's Redis."""
    with redis.Redis(port=6379, db=1, decode_responses=True) as client:
        yield client


@pytest.fixture
def running(
    container: Container,
    newsroom: Newsroom,
    network: None,  # noqa: ARG001 - it is where the test is
) -> Newsroom:
    """Have the daemon run by the configuration as it was at the beginning."""
    container.write("/etc/notifyd/notifyd.toml", CONFIGURATION)
    container.run("systemctl", "reset-failed")
    container.run("systemctl", "start", "notifyd")
    return newsroom

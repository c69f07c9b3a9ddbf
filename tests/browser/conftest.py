"""The browser, and what it looks at: the newsroom with its Redis and its daemon."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser.chromium import Browser, Tab, missing
from browser.webserver import WebServer, seed
from daemons import Daemon, Site
from servers import LOOPBACK, RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Give the browser."""
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())}")
    with Browser() as running:
        yield running


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a SQLite file with the newsroom in it, to be copied."""
    with Site(tmp_path_factory.mktemp("newsroom"), "redis://127.0.0.1:1/0") as site:
        seed(site)
    return Path(site.database)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Give a folder with a path short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="notifyd-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def redis(home: Path) -> Iterator[RedisServer]:
    """Give the bus."""
    with RedisServer(home) as server:
        yield server


@pytest.fixture(scope="module")
def port() -> int:
    """Give the daemon's port, the same for every start."""
    return free_port()


@pytest.fixture(scope="module")
def site(home: Path, redis: RedisServer, template: Path, port: int) -> Iterator[Site]:
    """Give the newsroom, which tells its pages that the daemon is at that port."""
    shutil.copy(template, home / "newsroom.sqlite3")
    address = f"ws://{LOOPBACK}:{port}/"
    with Site(home, redis.unix_url, NEWSROOM_WEBSOCKET=address) as newsroom:
        yield newsroom


@pytest.fixture(scope="module")
def newsroom(home: Path, site: Site) -> Iterator[WebServer]:
    """Give the newsroom's web server."""
    with WebServer(site, home / "runserver.log") as server:
        yield server


@pytest.fixture(scope="module")
def running(home: Path, site: Site, port: int) -> Iterator[Daemon]:
    """Give the daemon that is shared; its pings are frequent, so that their end is soon noticed."""
    options = {"server_ping_interval": "5", "server_ping_timeout": "4", "server_drain": "1"}
    with Daemon(home, site, server_listen=f"{LOOPBACK}:{port}", **options) as daemon:
        yield daemon


@pytest.fixture
def daemon(running: Daemon) -> Daemon:
    """Give the daemon at work, whatever the test before has done to it."""
    if running.process.poll() is not None:
        running.start()
    running.wait_for_bus()
    return running


@pytest.fixture
def enter(browser: Browser, newsroom: WebServer, daemon: Daemon) -> Iterator[Callable[..., Tab]]:
    """Give a function that opens a tab and logs somebody in there; the daemon is at work."""
    assert daemon.process.poll() is None
    with contextlib.ExitStack() as tabs:

        def log_in(
            name: str, path: str = "/admin/", address: str = newsroom.address, **size: Any
        ) -> Tab:
            tab = tabs.enter_context(browser.tab(**size))
            tab.go(f"{address}/admin/login/?next={path}")
            tab.fill(username=name, password="newsroom")
            tab.press("[type=submit]")
            return tab

        yield log_in

"""The newsroom, its Redis and a daemon beside it: one of each for a module's tests to share."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from daemons import Daemon, Site
from e2e.clients import Pages
from servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a SQLite file with the newsroom in it, to be copied."""
    folder = tmp_path_factory.mktemp("newsroom")
    with Site(folder, "redis://127.0.0.1:1/0") as site:
        site.fill()
    return Path(site.database)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Give a folder with a path short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="notifyd-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def redis(home: Path) -> Iterator[RedisServer]:
    """Give a Redis that keeps its data when it is killed; leave it running."""
    with RedisServer(home, persistent=True) as server:
        yield server


@pytest.fixture(scope="module")
def site(home: Path, redis: RedisServer, template: Path) -> Iterator[Site]:
    """Give the newsroom, with its people in it."""
    shutil.copy(template, home / "newsroom.sqlite3")
    with Site(home, redis.url) as newsroom:
        yield newsroom


@pytest.fixture(scope="module")
def daemon(home: Path, site: Site) -> Iterator[Daemon]:
    """Give a daemon at a TCP port and at a Unix socket; a dead Redis is soon noticed."""
    listen = f"127.0.0.1:0,unix:{home}/public"
    with Daemon(home, site, server_listen=listen, redis_timeout="1") as running:
        running.wait_for_bus()
        yield running


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    """Give the test's clients."""
    opened = Pages()
    yield opened
    await opened.close()

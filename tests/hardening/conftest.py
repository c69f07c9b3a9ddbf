"""The house that is attacked, and the attacks."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from daemons import Daemon, Site
from servers import RedisServer

# Before it is imported: its assertions are to say what they have seen.
pytest.register_assert_rewrite("hardening.attacks")

from hardening.attacks import KEY, PASSWORD, Attack, House  # noqa: E402 - see above

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

# Short, so that nobody waits long for them; small, so that few clients reach them.
LIMITS = {
    "server_handshake_timeout": "2",
    "server_hello_timeout": "2",
    "server_close_timeout": "0.5",
    "server_max_connections": "300",
    "server_max_connections_per_address": "50",
    "server_max_connections_per_user": "10",
    # 127.0.0.1 is anybody here, and so as limited as anybody; this one is the proxy.
    "server_trusted_proxies": "127.0.0.77",
    # The debug lines of all libraries are where a secret would be found first.
    "log_level": "debug",
}


@contextlib.contextmanager
def inhabited(folder: Path, database: str, **options: str) -> Iterator[House]:
    """Have a daemon for the site with that database, and with a Redis that asks for a password."""
    server = RedisServer(folder, persistent=True, arguments=("--requirepass", PASSWORD))
    url = server.url.replace("://", f"://:{PASSWORD}@")
    with (
        server,
        Site(folder, url, database, SECRET_KEY=KEY) as site,
    ):
        with Daemon(folder, site, **{**LIMITS, **options}) as daemon:
            daemon.wait_for_bus()
            house = House(site, daemon, server)
            yield house
        # From its first line to its last.
        house.spotless()


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a SQLite file with the newsroom in it, to be copied."""
    folder = tmp_path_factory.mktemp("newsroom")
    with Site(folder, "redis://127.0.0.1:1/0", SECRET_KEY=KEY) as site:
        site.fill()
    return Path(site.database)


@pytest.fixture(scope="session")
def house(seeded: Path) -> Iterator[House]:
    """Give the house that most attacks are directed at."""
    with tempfile.TemporaryDirectory(prefix="notifyd-") as name:
        path = shutil.copy(seeded, Path(name) / "newsroom.sqlite3")
        with inhabited(Path(name), str(path)) as house:
            yield house


@pytest.fixture
async def attack(house: House) -> AsyncIterator[Attack]:
    """Give an attack on that house; at its end all must be as it was."""
    async with Attack(house) as attack:
        yield attack
        await attack.finish()


@pytest.fixture
def build(folder: Path, seeded: Path) -> Iterator[Callable[..., House]]:
    """Give a function that builds a house of the test's own, which is gone at its end."""
    with contextlib.ExitStack() as stack:

        def build(database: str = "", **options: str) -> House:
            path = database or str(shutil.copy(seeded, folder / "newsroom.sqlite3"))
            return stack.enter_context(inhabited(folder, path, **options))

        yield build

"""The daemon is killed again and again, under load: nobody loses an event, or gets one twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest
from daemons import Daemon, Site
from e2e.flow import STREAM, flowing, number
from servers import free_port
from waiting import until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from servers import RedisServer

RATE = 1000
"""Events a second, each for one user."""


class Page:
    """A client that comes back whenever it is cut off, as notifyd.js does; and what it has got."""

    def __init__(self, url: str, user: str, tokens: dict[str, str]) -> None:
        self.user = user
        self.start = ""
        self.ids: list[str] = []
        self.resyncs = 0
        self.returns = -1
        self.open = False
        self._url = url
        self._token = tokens[user]
        self._hello: dict[str, str] = {}

    async def run(self) -> None:
        """Connect, and again whenever that ends."""
        while True:
            with contextlib.suppress(OSError, ConnectionClosed, InvalidMessage):
                async with connect(self._url, compression=None, proxy=None) as connection:
                    await connection.send(json.dumps(self._hello or {"token": self._token}))
                    async for message in connection:
                        self._take(json.loads(message))
            self.open = False
            # With jitter, as every client should.
            await asyncio.sleep(random.uniform(0, 0.2))

    def _take(self, message: dict[str, Any]) -> None:
        kind = message.get("notifyd")
        if kind == "welcome":
            self.start = self.start or message["last_id"]
            self.returns += 1
            self.open = True
            self._hello = {k: message[k] for k in ("ticket", "epoch")}
        self.resyncs += kind == "resync"
        self._hello["since"] = message.get("last_id" if kind else "id") or self._hello["since"]
        if kind is None:
            self.ids.append(message["id"])


@pytest.mark.parametrize(
    ("users", "clients", "kills"),
    [
        pytest.param(10, 50, 1, id="short", marks=pytest.mark.long),
        pytest.param(200, 1000, 10, id="long", marks=pytest.mark.long),
    ],
)
async def test_killed(
    users: int, clients: int, kills: int, folder: Path, redis_server: RedisServer, template: Path
) -> None:
    """A daemon that is killed at any moment costs no client an event, a repetition or the order."""
    shutil.copy(template, folder / "newsroom.sqlite3")
    bus: Any = redis_server.client(decode_responses=True)
    port = free_port()
    with Site(folder, redis_server.url) as site:
        tokens = people(site, users)
        keys = list(tokens)
        daemon = Daemon(folder, site, server_listen=f"127.0.0.1:{port}")
        async with daemon, returning(f"ws://127.0.0.1:{port}/", tokens, clients) as pages:
            await until(lambda: all(page.start for page in pages), 60)
            flow = flowing(bus, RATE, lambda n: ({"n": n}, {"users": [keys[n % users]]}))
            async with flow as ids:
                for _ in range(kills):
                    # At any moment: before the first is back, among them, after the last.
                    moment = returns(pages) + random.randrange(clients + clients // 4)
                    later = len(ids) + RATE * 5
                    await until(lambda: returns(pages) >= moment or len(ids) >= later, 60)  # noqa: B023 - of this turn
                    await asyncio.to_thread(daemon.stop, signal.SIGKILL)
                    await asyncio.to_thread(daemon.start)
                await until(lambda: all(page.open for page in pages), 60)
            end = bus.xadd(STREAM, {"event": "{}", "to": '{"everyone": true}'})
            await until(lambda: all(page.ids[-1:] == [end] for page in pages), 60)
    truth = {key: [*ids[n::users], end] for n, key in enumerate(keys)}
    for page in pages:
        assert page.ids == [id_ for id_ in truth[page.user] if number(id_) > number(page.start)]
        assert page.resyncs == 0
    assert returns(pages) >= kills * clients / 5


def returns(pages: list[Page]) -> int:
    """Return how often clients have come back until now."""
    return sum(page.returns for page in pages)


@contextlib.asynccontextmanager
async def returning(url: str, tokens: dict[str, str], count: int) -> AsyncIterator[list[Page]]:
    """Have so many clients connected, shared by the users, for the length of a block."""
    users = list(tokens)
    pages = [Page(url, users[n % len(users)], tokens) for n in range(count)]
    tasks = [asyncio.create_task(page.run()) for page in pages]
    try:
        yield pages
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def people(site: Site, count: int) -> dict[str, str]:
    """Create users, and return a token for each by the primary key."""
    site.run(
        "from sesame.utils import get_token\n"
        "crowd = User.objects.bulk_create("
        f"[User(username=f'u{{n}}', password='!') for n in range({count})])"
    )
    tokens: dict[str, str] = site.value("{str(u.pk): get_token(u, scope='notifyd') for u in crowd}")
    return tokens

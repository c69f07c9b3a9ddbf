"""What an operator reads: the log of the real daemon, in a storm and about one connection."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from daemons import Daemon
from raws import Raw
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemons import Site
    from e2e.clients import Pages

STORM = 1_000
AT_A_TIME = 50


@pytest.fixture(scope="module")
def daemon(home: Path, site: Site) -> Iterator[Daemon]:
    """Give a daemon that folds what repeats within two seconds, so that nobody waits for long."""
    with Daemon(home, site, log_fold="2") as running:
        running.wait_for_bus()
        yield running


async def fail(daemon: Daemon) -> None:
    """Come with a token that is none, and hang up when the daemon has closed."""
    host, _, port = daemon.addresses[0].rpartition(":")
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        raw = Raw(sock)
        await raw.handshake(json.dumps({"token": "AAAAAAAAAAAAAAAAAAAA"}))
        assert await raw.frame() is not None


def times(lines: list[dict[str, Any]]) -> int:
    """Return how many lines these stand for."""
    return sum(line.get("repeated", 1) for line in lines)


@pytest.mark.long
async def test_storm_of_bad_tokens(daemon: Daemon) -> None:
    """A thousand bad tokens are a few lines, which count them all, as the metrics do."""
    before = len(daemon.events())
    for _ in range(STORM // AT_A_TIME):
        await asyncio.gather(*(fail(daemon) for _ in range(AT_A_TIME)))
    await until(lambda: times(daemon.events("connection.closed", code=4401)) == STORM, 20)
    await until(lambda: times(daemon.events("auth.failed", result="invalid")) == STORM, 20)
    assert daemon.metric("authentications_total", result="invalid") == STORM
    assert daemon.metric("connections_closed_total", code="4401") == STORM
    # The first of each at once, then one line in two seconds.
    assert "repeated" not in daemon.events("auth.failed")[0]
    assert len(daemon.events()) - before < 20


async def test_way_of_a_connection(daemon: Daemon, site: Site, pages: Pages) -> None:
    """One line tells all of a connection that has ended."""
    page = await pages.hello(daemon, site.token("nadia"))
    await page.close()
    [line] = await until(lambda: daemon.events("connection.closed", user=site.key("nadia")))
    assert (line["code"], line["reason"], line["events"]) == (1000, "closed by the client", 0)
    assert line["address"] == "127.0.0.1"
    assert line["connection"] > 0
    assert line["seconds"] > 0


async def test_nothing_is_untold(home: Path, site: Site) -> None:
    """What was held back is told before the daemon's last line."""
    async with Daemon(home, site, "brief", log_fold="600") as daemon:
        await asyncio.gather(*(fail(daemon) for _ in range(5)))
        await asyncio.to_thread(daemon.stop)
        assert times(daemon.events("auth.failed", result="invalid")) == 5
        assert times(daemon.events("connection.closed")) == 5
        assert daemon.events()[-1]["event"] == "service.stopped"

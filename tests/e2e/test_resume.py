"""Clients come back: after the daemon, a link or a page was lost, with what they have missed."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest
from daemons import Daemon, Site
from e2e.flow import STREAM
from servers import free_port
from waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from e2e.clients import Page, Pages
    from servers import RedisServer


FOREIGN = ["", "Xyzzy", "1-1", "99999999999999-0", "18446744073709551616-0", "1-2-3", "٣-0"]

# Often enough for a test, and with time to answer on a loaded machine.
OFTEN = {"server_ping_interval": "1.5", "server_ping_timeout": "1.4"}


@pytest.fixture
def site(folder: Path, redis_server: RedisServer, template: Path) -> Iterator[Site]:
    """Give a site of the test's own."""
    shutil.copy(template, folder / "newsroom.sqlite3")
    with Site(folder, redis_server.url) as site:
        yield site


@pytest.fixture
async def house(
    folder: Path, redis_server: RedisServer, site: Site
) -> AsyncIterator[tuple[Site, Daemon, Any]]:
    """Give a site, a daemon that comes back at the same address, and a client of their bus."""
    bus: Any = redis_server.client(decode_responses=True)
    listen = f"127.0.0.1:{free_port()}"
    async with Daemon(folder, site, server_listen=listen, redis_timeout="1") as daemon:
        daemon.wait_for_bus()
        yield site, daemon, bus


def write(bus: Any, numbers: range, **to: Any) -> list[str]:
    """Add numbered events to the stream, by default for everyone, and return their ids."""
    rule = json.dumps(to or {"everyone": True})
    with bus.pipeline() as pipeline:
        for number in numbers:
            pipeline.xadd(STREAM, {"event": json.dumps({"number": number}), "to": rule})
        return [str(id_) for id_ in pipeline.execute()]


def restart(daemon: Daemon, how: signal.Signals = signal.SIGKILL) -> None:
    """End the daemon and start it again."""
    daemon.stop(how)
    daemon.start()
    daemon.wait_for_bus()


def numbers(page: Page) -> list[int]:
    """Return the numbers that a client has got."""
    return [event["number"] for event in page.events]


def position(page: Page) -> dict[str, str]:
    """Return what a client says of where it is."""
    [welcome] = page.controls("welcome")
    ids = [event["id"] for event in page.events]
    return {"since": ids[-1] if ids else welcome["last_id"], "epoch": welcome["epoch"]}


def hello(page: Page, **more: Any) -> str:
    """Return the hello with which a client comes back by its ticket."""
    [welcome] = page.controls("welcome")
    return json.dumps({"ticket": welcome["ticket"], **position(page), **more})


async def come_back(pages: Pages, daemon: Daemon, message: str) -> Page:
    """Connect again."""
    page = await pages.connect(daemon.addresses[0])
    await page.connection.send(message)
    return page


async def test_missed_events(house: tuple[Site, Daemon, Any], pages: Pages) -> None:
    """After the daemon was killed a client gets what it missed, then what is new, in order."""
    site, daemon, bus = house
    first = await pages.hello(daemon, site.token("nadia"))
    write(bus, range(3))
    await first.count(3)
    daemon.stop(signal.SIGKILL)
    write(bus, range(3, 600))
    daemon.start()
    second = await pages.hello(daemon, site.token("nadia"), 0, **position(first))
    [welcome] = second.controls("welcome")
    assert (welcome["recovered"], welcome["last_id"]) == (True, position(first)["since"])
    write(bus, range(600, 603))
    await second.count(600)
    assert numbers(second) == [*range(3, 603)]
    assert daemon.metric("connections", state="live") == 1
    assert daemon.metric("replayed_total") >= 597


async def test_only_what_the_user_may_see(house: tuple[Site, Daemon, Any], pages: Pages) -> None:
    """What is missed and not the user's to see is not replayed."""
    site, daemon, bus = house
    omar = site.key("omar")
    first = await pages.hello(daemon, site.token("nadia"))
    write(bus, range(10), users=[omar])
    write(bus, range(10, 20), content_types=[site.content_type("article")])
    write(bus, range(20, 30), users=[omar, site.key("nadia")])
    second = await pages.hello(daemon, site.token("nadia"), 0, **position(first))
    await second.count(20)
    assert numbers(second) == [*range(10, 30)]


@pytest.mark.long
async def test_quiet_position_stays_fresh(
    folder: Path, redis_server: RedisServer, site: Site, pages: Pages
) -> None:
    """A client that sees nothing learns its position by pings, and resumes from there."""
    bus: Any = redis_server.client(decode_responses=True)
    async with Daemon(folder, site, "other", **OFTEN) as daemon:
        daemon.wait_for_bus()
        page = await pages.hello(daemon, site.token("omar"))
        last = write(bus, range(5), users=["0"])[-1]
        await until(lambda: page.controls("ping") and page.controls("ping")[-1]["last_id"] == last)


@pytest.mark.long
async def test_foreign_positions(house: tuple[Site, Daemon, Any], pages: Pages) -> None:
    """From a position that the stream never had nothing is replayed, and the client is told."""
    site, daemon, bus = house
    last = write(bus, range(5))[-1]
    await until(lambda: daemon.metric("events_total", source="stream") >= 5)
    opened = []
    for since in FOREIGN:
        page = await pages.hello(daemon, site.token("nadia"), since=since)
        resync = await page.control("resync")
        [welcome] = page.controls("welcome")
        assert (welcome["recovered"], welcome["last_id"]) == (False, last)
        assert (resync["last_id"], resync["epoch"]) == (last, welcome["epoch"])
        opened.append(page)
    write(bus, range(5, 6))
    for page in opened:
        await page.count(1)
        assert numbers(page) == [5]


@pytest.mark.long
async def test_trimmed(house: tuple[Site, Daemon, Any], pages: Pages) -> None:
    """If the stream was trimmed behind the position there is no partial replay, but a resync."""
    site, daemon, bus = house
    first = await pages.hello(daemon, site.token("nadia"))
    write(bus, range(2))
    await first.count(2)
    daemon.stop(signal.SIGKILL)
    write(bus, range(2, 100))
    bus.xtrim(STREAM, maxlen=50, approximate=False)
    daemon.start()
    second = await pages.hello(daemon, site.token("nadia"), 0, **position(first))
    await second.control("resync")
    assert second.controls("welcome")[0]["recovered"] is False
    assert numbers(second) == []


@pytest.mark.long
async def test_another_epoch(house: tuple[Site, Daemon, Any], pages: Pages) -> None:
    """A position of a history that is gone can't be resumed from, even where the ids would fit."""
    site, daemon, bus = house
    first = await pages.hello(daemon, site.token("nadia"))
    write(bus, range(2))
    await first.count(2)
    bus.flushdb()
    await first.control("resync")
    second = await pages.hello(daemon, site.token("nadia"), 0, **position(first))
    assert second.controls("welcome")[0]["recovered"] is False


@pytest.mark.long
async def test_daemon_that_lags(
    folder: Path, house: tuple[Site, Daemon, Any], pages: Pages
) -> None:
    """A client that has seen more than the daemon it comes to gets nothing twice."""
    site, daemon, bus = house
    async with Daemon(folder, site, "other") as other:
        other.wait_for_bus()
        first = await pages.hello(other, site.token("nadia"))
        token = site.token("nadia")
        page = await pages.connect(daemon.addresses[0])
        with daemon.paused():
            write(bus, range(50))
            await first.count(50)
            await page.connection.send(json.dumps({"token": token, **position(first)}))
        await page.control("welcome")
        write(bus, range(50, 60))
        await page.count(10)
    assert page.controls("welcome")[0]["recovered"] is True
    assert numbers(page) == [*range(50, 60)]


async def test_ticket(house: tuple[Site, Daemon, Any], pages: Pages, folder: Path) -> None:
    """A ticket brings a client back without the database: it may even be gone."""
    site, daemon, bus = house
    first = await pages.hello(daemon, site.token("nadia"))
    write(bus, range(3))
    await first.count(3)
    daemon.stop(signal.SIGKILL)
    write(bus, range(3, 6), content_types=[site.content_type("article")])
    site.close()
    (folder / "newsroom.sqlite3").rename(folder / "away")
    daemon.start()
    second = await come_back(pages, daemon, hello(first))
    await second.count(3)
    assert numbers(second) == [3, 4, 5]
    assert daemon.metric("authentications_total", result="ok") == 1
    assert second.controls("welcome")[0]["ticket"] != first.controls("welcome")[0]["ticket"]


@pytest.mark.long
async def test_ticket_is_replaced(
    folder: Path, redis_server: RedisServer, site: Site, pages: Pages
) -> None:
    """Long before a ticket runs out the client gets another."""
    bus: Any = redis_server.client(decode_responses=True)
    times = {"auth_ticket_ttl": "3", **OFTEN}
    async with Daemon(folder, site, "other", **times) as daemon:
        daemon.wait_for_bus()
        page = await pages.hello(daemon, site.token("nadia"))
        write(bus, range(1))
        await until(lambda: len(page.controls("ticket")) >= 2)
        tickets = [each["ticket"] for each in page.controls("ticket")]
        assert {each["ticket_ttl"] for each in page.controls("ticket")} == {3}
        back = await pages.connect(daemon.addresses[0])
        await back.connection.send(json.dumps({"ticket": tickets[-1]}))
        assert (await back.control("welcome"))["recovered"] is None
        assert tickets[-1] not in daemon.log


@pytest.mark.long
@pytest.mark.parametrize("how", ["forged", "of another site"])
async def test_worthless_ticket(folder: Path, site: Site, pages: Pages, how: str) -> None:
    """A ticket that is forged, or of another site, is worth nothing."""
    async with Daemon(folder, site, "other") as daemon:
        daemon.wait_for_bus()
        page = await pages.hello(daemon, site.token("nadia"))
        ticket = page.controls("welcome")[0]["ticket"]
        if how == "forged":
            ticket = ("B" if ticket[0] != "B" else "C") + ticket[1:]
        else:
            daemon.stop()
            daemon.environment["SECRET_KEY"] = "another"
            daemon.start()
        assert await shown(pages, daemon, ticket) == (4401, "authentication failed")
        assert ticket not in daemon.log


@pytest.mark.long
async def test_old_ticket(folder: Path, site: Site, pages: Pages) -> None:
    """A ticket that has run out is worth nothing."""
    async with Daemon(folder, site, "other", auth_ticket_ttl="1") as daemon:
        daemon.wait_for_bus()
        page = await pages.hello(daemon, site.token("nadia"))
        ticket = page.controls("welcome")[0]["ticket"]
        assert await refused(pages, daemon, ticket) == (4401, "authentication failed")
        assert daemon.events("auth.failed", result="expired")


async def refused(pages: Pages, daemon: Daemon, ticket: str) -> tuple[int | None, str | None]:
    """Show a ticket until it is no longer good, and return how the connection is closed."""
    while (outcome := await shown(pages, daemon, ticket)) is None:
        pass
    return outcome


async def shown(pages: Pages, daemon: Daemon, ticket: str) -> tuple[int | None, str | None] | None:
    """Show a ticket, and return how the connection is closed, None if it is good."""
    page = await pages.connect(daemon.addresses[0])
    await page.connection.send(json.dumps({"ticket": ticket}))
    await until(lambda: page.controls("welcome") or not page.open)
    return None if page.controls("welcome") else await page.closed()


@pytest.mark.long
async def test_lifetime(folder: Path, site: Site, pages: Pages) -> None:
    """A connection whose lifetime is over is closed with 4410; then its ticket runs out as well."""
    times = {"auth_lifetime": "1", **OFTEN}
    async with Daemon(folder, site, "other", **times) as daemon:
        daemon.wait_for_bus()
        page = await pages.hello(daemon, site.token("nadia"))
        ticket = page.controls("welcome")[0]["ticket"]
        assert await page.closed() == (4410, "connection lifetime over")
        assert daemon.metric("connections_closed_total", code="4410") == 1
        assert await refused(pages, daemon, ticket) == (4401, "authentication failed")


@pytest.mark.long
async def test_slow_client_is_fed_from_the_history(
    house: tuple[Site, Daemon, Any], pages: Pages
) -> None:
    """20 MB published at once reach a client that reads at an ordinary pace, in order and once."""
    site, daemon, bus = house
    page = await pages.hello(daemon, site.token("nadia"))
    text = "x" * 20_000
    for start in range(0, 1000, 100):
        with bus.pipeline() as pipeline:
            for number in range(start, start + 100):
                event = json.dumps({"number": number, "text": text})
                pipeline.xadd(STREAM, {"event": event, "to": '{"everyone": true}'})
            pipeline.execute()
    await until(lambda: len(page.events) >= 1000, 30)
    assert numbers(page) == [*range(1000)]
    assert page.open

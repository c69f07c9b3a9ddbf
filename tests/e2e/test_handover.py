"""One process follows another at `notifyd run --take-over`, and no client notices."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from typing import TYPE_CHECKING, Any

import pytest
from daemons import Daemon, Site
from e2e.flow import STREAM, flowing
from raws import Raw, text
from servers import free_port
from waiting import until

from notifyd.daemon import handover
from notifyd.daemon.control import ControlServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from e2e.clients import Page, Pages
    from servers import RedisServer


@pytest.fixture
def site(folder: Path, redis_server: RedisServer, template: Path) -> Iterator[Site]:
    """Give a site of the test's own."""
    shutil.copy(template, folder / "newsroom.sqlite3")
    with Site(folder, redis_server.url) as site:
        yield site


@pytest.fixture
async def daemon(folder: Path, site: Site) -> AsyncIterator[Daemon]:
    """Give a daemon at a port of its own and at a Unix socket."""
    listen = f"127.0.0.1:{free_port()},unix:{folder}/public"
    async with Daemon(folder, site, server_listen=listen, redis_timeout="1") as daemon:
        daemon.wait_for_bus()
        yield daemon


def everyone(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an event for everyone."""
    return {"number": number}, {"everyone": True}


async def complete(page: Page, ids: list[str]) -> None:
    """Wait until a client has the last event, and find that it has all since its first one."""
    await until(lambda: page.events and page.events[-1]["id"] == ids[-1])
    got = [event["id"] for event in page.events]
    assert got == ids[ids.index(got[0]) :]


async def raw(daemon: Daemon, *, receive_buffer: int = 0) -> Raw:
    """Return a connection that says nothing yet."""
    host, _, port = daemon.addresses[0].rpartition(":")
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    return Raw(sock)


async def test_nobody_is_disconnected(
    site: Site, daemon: Daemon, redis_server: RedisServer, pages: Pages
) -> None:
    """Clients of each kind stay connected, and get every event once and in order."""
    token = site.token("nadia")
    clients = [
        await pages.hello(daemon, token),
        await pages.hello(daemon, token, 1),
        await pages.bare(daemon, token),
    ]
    bus: Any = redis_server.client(decode_responses=True)
    async with flowing(bus, 1000, everyone) as ids:
        before = await asyncio.to_thread(daemon.take_over)
        written = len(ids)
        await until(lambda: len(ids) > written + 1000)
    for page in clients:
        await complete(page, ids)
        assert page.open
    assert daemon.metric("connections", state="live") == 3
    assert daemon.metric("handover_connections_total", result="taken") == 3
    [taken] = daemon.events("handover.taken")
    assert taken["clients"] == 3
    assert not [line for line in before if line["event"] == "connection.closed"]
    assert [line["level"] for line in before if line["level"] not in {"info", "warning"}] == []


@pytest.mark.long
async def test_who_has_said_nothing_yet(site: Site, daemon: Daemon) -> None:
    """Who is about to speak, or does while nobody listens, is heard by the successor."""
    silent, upgraded = await raw(daemon), await raw(daemon)
    await upgraded.handshake()
    await until(lambda: daemon.metric("connections", state="hello") == 1)
    await until(lambda: daemon.metric("connections", state="handshake") == 1)
    taking = asyncio.create_task(asyncio.to_thread(daemon.take_over))
    await upgraded.send(text(json.dumps({"token": site.token("nadia")})))
    await taking
    await silent.handshake(json.dumps({"token": site.token("omar")}))
    for each in (upgraded, silent):
        assert (await each.message())["notifyd"] == "welcome"
        each.socket.close()


@pytest.mark.long
async def test_half_a_frame(site: Site, daemon: Daemon) -> None:
    """Who is in the middle of a message is closed with 1012, and told when to come back."""
    client = await raw(daemon)
    await client.handshake(json.dumps({"token": site.token("nadia")}))
    assert (await client.message())["notifyd"] == "welcome"
    await client.send(text("what begins here")[:-3])
    lag = daemon.metric("connections", state="live")
    assert lag == 1
    await asyncio.to_thread(daemon.take_over)
    assert (await client.message())["notifyd"] == "closing"
    assert await client.close_code() == 1012
    client.socket.close()


@pytest.mark.long
async def test_who_owes(site: Site, daemon: Daemon, redis_server: RedisServer) -> None:
    """Who takes nothing is closed without a frame: half of one may have gone out."""
    client = await raw(daemon, receive_buffer=4096)
    await client.handshake(json.dumps({"token": site.token("nadia")}))
    assert (await client.message())["notifyd"] == "welcome"
    bus: Any = redis_server.client()
    event = json.dumps({"text": "." * 60_000})
    with bus.pipeline() as pipeline:
        for _ in range(200):
            pipeline.xadd(STREAM, {"event": event, "to": '{"everyone": true}'})
        pipeline.execute()
    await until(lambda: daemon.metric("connections", state="behind") == 1)
    before = await asyncio.to_thread(daemon.take_over)
    [closed] = [line for line in before if line["event"] == "connection.closed"]
    assert (closed["code"], closed["reason"]) == (1006, "it owed too much to be handed over")
    assert daemon.metric("handover_connections_total", result="taken") == 0
    client.socket.close()


@pytest.mark.long
async def test_what_was_revoked(
    site: Site, daemon: Daemon, redis_server: RedisServer, pages: Pages
) -> None:
    """An order that comes between the two processes is obeyed, and no event behind it is leaked."""
    page = await pages.hello(daemon, site.token("nadia"))
    witness = await pages.hello(daemon, site.token("omar"))
    article = site.content_type("article")
    bus: Any = redis_server.client(decode_responses=True)
    taking = asyncio.create_task(asyncio.to_thread(daemon.take_over))
    site.run("User.objects.get(username='nadia').groups.clear()")
    ids = [
        bus.xadd(STREAM, {"event": json.dumps({"number": 1}), "to": json.dumps(rule)})
        for rule in ({"content_types": [article]}, {"everyone": True})
    ]
    await taking
    await witness.count(1)
    await page.count(1)
    assert [event["id"] for event in page.events] == [ids[1]]
    assert page.open


@pytest.mark.long
async def test_tickets_are_still_good(site: Site, daemon: Daemon, pages: Pages) -> None:
    """A ticket of the predecessor admits to the successor."""
    page = await pages.hello(daemon, site.token("nadia"))
    [welcome] = page.controls("welcome")
    await asyncio.to_thread(daemon.take_over)
    again = await pages.connect(daemon.addresses[0])
    await again.connection.send(json.dumps({"ticket": welcome["ticket"]}))
    await again.control("welcome")


@pytest.mark.long
async def test_three_in_a_row(
    site: Site, daemon: Daemon, redis_server: RedisServer, pages: Pages
) -> None:
    """Whoever was taken over can be taken over."""
    page = await pages.hello(daemon, site.token("nadia"))
    bus: Any = redis_server.client(decode_responses=True)
    async with flowing(bus, 500, everyone) as ids:
        for _ in range(3):
            await asyncio.to_thread(daemon.take_over)
    await complete(page, ids)
    assert page.open


def test_alone(site: Site, folder: Path) -> None:
    """Where no daemon runs, the one that would take over just starts, and says so."""
    daemon = Daemon(folder, site, name="alone")
    daemon.start("--take-over")
    try:
        assert daemon.events("handover.alone", level="warning")
    finally:
        assert daemon.stop() == 0


async def test_a_state_that_nobody_can_read(site: Site, folder: Path) -> None:
    """Whose state is of a newer form is closed with 1012, and the daemon serves all others."""
    daemon = Daemon(folder, site)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    client = Raw(theirs)

    async def give(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        queue, _ = handover.enqueue([ours])
        state = handover.memory(b"notifyd handover 999\n...")
        with handover.reach(arguments["to"]) as successor:
            handover.give(successor, [state, queue.fileno()])
        queue.close()
        os.close(state)
        asyncio.get_running_loop().call_soon(predecessor.path.unlink)
        return {}

    predecessor = ControlServer(daemon.environment["NOTIFYD_CONTROL_SOCKET"], {"handover": give})
    await predecessor.start()
    await asyncio.to_thread(daemon.start, "--take-over")
    try:
        ours.close()
        assert await client.close_code() == 1012
        [line] = daemon.events("handover.unreadable", level="error")
        assert "the version 999" in line["detail"]
        assert daemon.metric("handover_connections_total", result="refused") == 1
    finally:
        theirs.close()
        await predecessor.close()
        assert daemon.stop() == 0

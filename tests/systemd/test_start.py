"""From `systemctl start notifyd` to a client that is served, and what an operator sees of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from waiting import until

from notifyd.core.records import EVENTS

if TYPE_CHECKING:
    from e2e.clients import Pages
    from systemd.conftest import Newsroom
    from systemd.container import Container

pytestmark = pytest.mark.long

ADDRESS = "127.0.0.1:8888"


async def test_active_means_served(container: Container, running: Newsroom, pages: Pages) -> None:
    """When `systemctl start` returns, a client can connect and log in."""
    container.run("systemctl", "stop", "notifyd")
    await asyncio.to_thread(container.run, "systemctl", "start", "notifyd")
    page = await pages.connect(ADDRESS)
    await page.connection.send(f'{{"token": "{running.token("nadia")}"}}')
    await page.control("welcome")


async def test_status_line(container: Container, running: Newsroom, pages: Pages) -> None:
    """`systemctl status` says how many clients there are, and whether Redis answers."""
    page = await pages.connect("[::1]:8888")
    await page.connection.send(f'{{"token": "{running.token("nadia")}"}}')
    await page.control("welcome")
    await until(
        lambda: container.show("notifyd", "StatusText").startswith(
            "1 clients of 1 users, Redis connected"
        ),
        20,
    )


@pytest.mark.usefixtures("running")
async def test_journal(container: Container, pages: Pages) -> None:
    """Fields are fields in the journal, and priorities are priorities."""
    after = container.cursor()
    page = await pages.connect(ADDRESS)
    await page.connection.send("AAAAAAAAAAAAAAAAAAAA")
    assert (await page.closed())[0] == 4401
    [line] = await until(lambda: container.events("auth.failed", after=after))
    assert line["PRIORITY"] == "4"
    assert line["NOTIFYD_RESULT"] == "invalid"
    assert line["NOTIFYD_ADDRESS"] == "127.0.0.1"
    assert int(line["NOTIFYD_CONNECTION"]) > 0
    assert line["MESSAGE_ID"] == EVENTS["auth.failed"].id
    assert int(line["CODE_LINE"]) > 0
    assert line["_SYSTEMD_UNIT"] == "notifyd.service"
    assert "auth.failed" in line["MESSAGE"]


async def test_a_client_starts_it(container: Container, running: Newsroom, pages: Pages) -> None:
    """While the daemon is down and its sockets are open, a client waits and is served."""
    container.run("systemctl", "stop", "notifyd.service")
    container.run("systemctl", "start", "notifyd.socket")
    assert container.state("notifyd") == "inactive"
    page = await pages.connect(ADDRESS, open_timeout=30)
    await page.connection.send(f'{{"token": "{running.token("nadia")}"}}')
    await page.control("welcome")
    assert container.state("notifyd") == "active"


async def test_stop(container: Container, running: Newsroom, pages: Pages) -> None:
    """`systemctl stop` tells clients when to come back, closes them, and closes the sockets."""
    page = await pages.connect(ADDRESS)
    await page.connection.send(f'{{"token": "{running.token("nadia")}"}}')
    await page.control("welcome")
    await asyncio.to_thread(container.run, "systemctl", "stop", "notifyd")
    assert (await page.closed())[0] == 1012
    assert page.controls("closing")
    await until(lambda: container.state("notifyd.socket") == "inactive")
    with pytest.raises(OSError, match="Connect"):
        await pages.connect(ADDRESS)
    assert container.show("notifyd", "Result") == "success"


@pytest.mark.usefixtures("running")
async def test_an_address_that_is_not_there(container: Container, pages: Pages) -> None:
    """Sockets are opened at all addresses, also at one that the machine doesn't have yet."""
    drop_in = "/etc/systemd/system/notifyd.socket.d/address.conf"
    container.run("systemctl", "stop", "notifyd", "notifyd.socket")
    container.write(drop_in, "[Socket]\nListenStream=192.0.2.1:8888\n")
    try:
        container.run("systemctl", "daemon-reload")
        container.run("systemctl", "start", "notifyd")
        await pages.connect(ADDRESS)
    finally:
        container.run("rm", drop_in)
        container.run("systemctl", "daemon-reload")
        container.run("systemctl", "stop", "notifyd", "notifyd.socket")


def test_enabled(container: Container) -> None:
    """After the installation the daemon and its sockets start with the machine."""
    for unit in ("notifyd.service", "notifyd.socket", "notifyd-admin.socket"):
        assert container.run("systemctl", "is-enabled", unit) == "enabled"

"""`systemctl reload notifyd`: all of a configuration, or nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from systemd.conftest import CONFIGURATION

if TYPE_CHECKING:
    from e2e.clients import Page, Pages
    from systemd.conftest import Newsroom
    from systemd.container import Container

pytestmark = pytest.mark.long

FILE = "/etc/notifyd/notifyd.toml"


async def welcome(pages: Pages, newsroom: Newsroom) -> Page:
    """Return a client that was let in."""
    page = await pages.connect("127.0.0.1:8888")
    await page.connection.send(f'{{"token": "{newsroom.token("nadia")}"}}')
    await page.control("welcome")
    return page


async def test_good(container: Container, running: Newsroom, pages: Pages) -> None:
    """A reload takes effect for the next client, and the daemon is the same process."""
    page = await welcome(pages, running)
    before = container.show("notifyd", "MainPID")
    limit = "max_connections_per_user = 1"
    container.write(FILE, CONFIGURATION.replace("max_connections_per_user = 0", limit))
    container.run("systemctl", "reload", "notifyd")
    other = await pages.connect("127.0.0.1:8888")
    await other.connection.send(f'{{"token": "{running.token("nadia")}"}}')
    assert (await other.closed())[0] == 4429
    assert page.open
    assert container.show("notifyd", "MainPID") == before
    container.write(FILE, CONFIGURATION)
    container.run("systemctl", "reload", "notifyd")


async def test_bad(container: Container, running: Newsroom, pages: Pages) -> None:
    """A bad configuration fails the reload, says why, and changes nothing."""
    page = await welcome(pages, running)
    after = container.cursor()
    container.write(FILE, CONFIGURATION.replace("drain = 1.0", "drain = -1.0"))
    assert not container.succeeds("systemctl", "reload", "notifyd")
    assert container.state("notifyd") == "active"
    assert page.open
    words = container.run("journalctl", "--unit=notifyd", f"--after-cursor={after}")
    assert "server.drain = -1.0" in words
    assert container.events("config.rejected", after=after)
    container.write(FILE, CONFIGURATION)
    container.run("systemctl", "reload", "notifyd")

"""A configuration that can't be used: it fails once, visibly, and does not loop."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from systemd.conftest import CONFIGURATION
from waiting import until
from websockets.exceptions import InvalidMessage

if TYPE_CHECKING:
    from e2e.clients import Pages
    from systemd.conftest import Newsroom
    from systemd.container import Container

pytestmark = pytest.mark.long

FILE = "/etc/notifyd/notifyd.toml"
WRONG = CONFIGURATION.replace('settings = "newsroom.settings"', 'settings = "nowhere.settings"')


@pytest.mark.usefixtures("running")
async def test_fails_once(container: Container, pages: Pages) -> None:
    """It is not started again, its sockets are closed, and its status says why."""
    container.run("systemctl", "stop", "notifyd")
    container.write(FILE, WRONG)
    after = container.cursor()
    assert not container.succeeds("systemctl", "start", "notifyd")
    assert container.state("notifyd") == "failed"
    assert container.show("notifyd", "ExecMainStatus") == "78"
    assert container.show("notifyd", "NRestarts") == "0"
    assert "nowhere.settings" in container.run("systemctl", "status", "notifyd", check=False)
    await until(lambda: container.state("notifyd.socket") == "inactive")
    with pytest.raises(OSError, match="Connect"):
        await pages.connect("127.0.0.1:8888")
    words = container.run("journalctl", "--unit=notifyd", f"--after-cursor={after}")
    assert words.count("nothing was started") == 1


@pytest.mark.usefixtures("running")
async def test_with_clients_who_knock(container: Container, pages: Pages) -> None:
    """Clients who wait at the socket start it a few times at most; then they are refused."""
    container.run("systemctl", "stop", "notifyd")
    container.write(FILE, WRONG)
    after = container.cursor()
    container.run("systemctl", "start", "notifyd.socket")

    async def knock() -> bool:
        # It waits in the queue, or is dropped, or refused.
        with contextlib.suppress(OSError, EOFError, InvalidMessage):
            await pages.connect("127.0.0.1:8888", open_timeout=5)
        return container.state("notifyd.socket") != "active"

    await until(knock, 40)
    words = container.run("journalctl", "--unit=notifyd", f"--after-cursor={after}")
    assert 1 <= words.count("nothing was started") <= 5
    assert container.state("notifyd") == "failed"


async def test_mended(container: Container, running: Newsroom, pages: Pages) -> None:
    """When it is mended, a start opens the sockets again."""
    container.run("systemctl", "stop", "notifyd")
    container.write(FILE, WRONG)
    assert not container.succeeds("systemctl", "start", "notifyd")
    await until(lambda: container.state("notifyd.socket") == "inactive")
    container.write(FILE, CONFIGURATION)
    container.run("systemctl", "start", "notifyd")
    page = await pages.connect("127.0.0.1:8888")
    await page.connection.send(f'{{"token": "{running.token("nadia")}"}}')
    await page.control("welcome")

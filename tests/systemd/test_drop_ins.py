"""The drop-ins among the examples, on a real systemd."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from systemd.conftest import CONFIGURATION
from websockets.asyncio.client import unix_connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from systemd.conftest import Newsroom
    from systemd.container import Container

pytestmark = pytest.mark.long

EXAMPLES = "/usr/share/doc/notifyd/examples"
UNITS = ("notifyd.service", "notifyd.socket", "notifyd-admin.socket")
REDIS = "unixsocket /run/redis/redis-server.sock\nunixsocketperm 770\n"
BY_SOCKET = "unix:///run/redis/redis-server.sock?db=1"


@pytest.fixture
def closed(container: Container, running: Newsroom) -> Iterator[Newsroom]:
    """Have the daemon without a network: everything by Unix sockets."""
    container.run("groupadd", "--force", "www-data")
    container.write("/etc/redis/redis.conf", REDIS, append=True)
    container.run("systemctl", "restart", "redis-server")
    for unit in UNITS:
        folder = f"/etc/systemd/system/{unit}.d"
        container.run("mkdir", "-p", folder)
        container.run("cp", f"{EXAMPLES}/{unit}.d/unix-sockets.conf", folder)
    text = CONFIGURATION.replace("redis://127.0.0.1:6379/1", BY_SOCKET)
    container.write("/etc/notifyd/notifyd.toml", text)
    container.run("systemctl", "stop", *UNITS)
    container.run("systemctl", "daemon-reload")
    container.run("systemctl", "start", "notifyd")
    yield running
    container.run("systemctl", "stop", *UNITS)
    for unit in UNITS:
        container.run("rm", f"/etc/systemd/system/{unit}.d/unix-sockets.conf")
    container.run("systemctl", "daemon-reload")


async def test_without_a_network(container: Container, closed: Newsroom) -> None:
    """A client comes in by the proxy's socket, and the daemon has no network but its own."""
    path = container.inside("/run/notifyd.sock")
    async with unix_connect(str(path), "ws://localhost/", compression=None) as client:
        await client.send(json.dumps({"token": closed.token("nadia")}))
        async with asyncio.timeout(10):
            welcome = json.loads(await client.recv())
        assert welcome["notifyd"] == "welcome"
        pid = container.show("notifyd", "MainPID")
        links = container.run("cat", f"/proc/{pid}/net/dev").splitlines()[2:]
        assert [link.split(":")[0].strip() for link in links] == ["lo"]
        assert container.run("stat", "--format=%a %G", "/run/notifyd.sock") == "660 www-data"


@pytest.mark.usefixtures("running")
def test_a_site_under_home(container: Container) -> None:
    """The error of a site under /home names the drop-in, and with it the daemon starts."""
    container.run("cp", "-r", "/srv/newsroom", "/home/newsroom")
    text = CONFIGURATION.replace('path = "/srv/newsroom"', 'path = "/home/newsroom"')
    container.write("/etc/notifyd/notifyd.toml", text)
    container.run("systemctl", "stop", "notifyd")
    after = container.cursor()
    try:
        assert not container.succeeds("systemctl", "start", "notifyd")
        words = container.run("journalctl", "--unit=notifyd", f"--after-cursor={after}")
        assert "/home/newsroom" in words
        assert "site-in-home.conf" in words
        container.run(
            "cp",
            f"{EXAMPLES}/notifyd.service.d/site-in-home.conf",
            "/etc/systemd/system/notifyd.service.d",
        )
        container.run("systemctl", "daemon-reload")
        container.run("systemctl", "reset-failed")
        container.run("systemctl", "start", "notifyd")
        container.run("rm", "/etc/systemd/system/notifyd.service.d/site-in-home.conf")
    finally:
        container.run("rm", "-r", "/home/newsroom")
        container.run("systemctl", "daemon-reload")
        container.run("systemctl", "stop", "notifyd")

"""Several instances: of one site at one port, each with its own control and admin address."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from systemd.conftest import CONFIGURATION
from systemd.crowd import gather, leave
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from systemd.conftest import Newsroom
    from systemd.container import Container

pytestmark = pytest.mark.long

FILE = "/etc/notifyd/blog.toml"
NAMES = ("blog-1", "blog-2")


@pytest.fixture
def instances(container: Container, running: Newsroom) -> Iterator[Newsroom]:
    """Have two instances of one site instead of the single daemon."""
    container.run("systemctl", "stop", "notifyd", "notifyd.socket", "notifyd-admin.socket")
    container.write(FILE, CONFIGURATION)
    units = [f"notifyd@{name}.service" for name in NAMES]
    container.run("systemctl", "start", *units)
    yield running
    sockets = [f"{unit}@{name}.socket" for unit in ("notifyd", "notifyd-admin") for name in NAMES]
    container.run("systemctl", "stop", *units, *sockets)


def connections(container: Container, name: str) -> int:
    """Return how many clients an instance has."""
    status = container.run("notifyd", "status", "--json", "--instance", name, check=False)
    # While it restarts there is nobody to ask.
    return int(json.loads(status)["connections"]["live"]) if status.startswith("{") else 0


async def test_one_port(container: Container, instances: Newsroom, bus: Any) -> None:
    """Both get their share of the clients, and one of them restarts without losing any."""
    hello = json.dumps({"token": instances.token("nadia")})
    crowd = await gather(8888, [hello] * 100)
    shares = [connections(container, name) for name in NAMES]
    assert sum(shares) == 100
    assert min(shares) > 0
    await asyncio.to_thread(container.run, "systemctl", "restart", "notifyd@blog-1")
    await until(lambda: [connections(container, name) for name in NAMES] == shares)
    id_ = bus.xadd("{notifyd}:events", {"event": '{"n": 1}', "to": '{"everyone": true}'})
    await until(lambda: all(id_.encode() in browser.received for browser in crowd))
    assert all(browser.open for browser in crowd)
    await leave(crowd)


@pytest.mark.usefixtures("instances")
def test_admin(container: Container) -> None:
    """Each has an admin address of its own."""
    for name in NAMES:
        path = f"/run/notifyd-admin-{name}"
        script = (
            "import http.client, socket\n"
            "connection = http.client.HTTPConnection('notifyd')\n"
            "connection.sock = socket.socket(socket.AF_UNIX)\n"
            f"connection.sock.connect({path!r})\n"
            "connection.request('GET', '/readyz')\n"
            "print(connection.getresponse().status)\n"
        )
        assert container.run("python3", "-c", script) == "200"


async def test_one_fails(container: Container, instances: Newsroom) -> None:
    """An instance that fails for good gives up its socket: everybody goes to the other one."""
    container.write("/etc/notifyd/blog-2.toml", "[server]\ndrain = -1\n")
    try:
        assert not container.succeeds("systemctl", "restart", "notifyd@blog-2")
        await until(lambda: container.state("notifyd@blog-2.socket") == "inactive")
        hello = json.dumps({"token": instances.token("nadia")})
        crowd = await gather(8888, [hello] * 50)
        assert connections(container, "blog-1") == 50
        await leave(crowd)
    finally:
        container.run("rm", "/etc/notifyd/blog-2.toml")
        container.run("systemctl", "reset-failed")


async def test_target(container: Container, instances: Newsroom) -> None:
    """Restarting the target restarts all instances, and disconnects nobody."""
    hello = json.dumps({"token": instances.token("nadia")})
    container.run("systemctl", "start", "notifyd.target")
    crowd = await gather(8888, [hello] * 20)
    before = [container.show(f"notifyd@{name}", "MainPID") for name in NAMES]
    await asyncio.to_thread(container.run, "systemctl", "restart", "notifyd.target")

    def pids() -> list[str]:
        return [container.show(f"notifyd@{name}", "MainPID") for name in NAMES]

    # systemctl waits for the target alone.
    await until(lambda: not {*before} & {*pids()} and "0" not in pids(), 20)
    await until(lambda: sum(connections(container, name) for name in NAMES) == 20)
    assert all(browser.open for browser in crowd)
    await leave(crowd)

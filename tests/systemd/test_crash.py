"""What systemd does about a daemon that hangs or is killed, and the daemon about Redis."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from systemd.crowd import gather, leave
from waiting import until

if TYPE_CHECKING:
    from e2e.clients import Pages
    from systemd.conftest import Newsroom
    from systemd.container import Container

pytestmark = pytest.mark.long

STREAM = "{notifyd}:events"

# A file of the test's own: at SIGUSR2 the event loop stops turning.
HANG = """\
import signal
import time


def hang(*_):
    time.sleep(600)


signal.signal(signal.SIGUSR2, hang)
"""


async def test_sigkill(container: Container, running: Newsroom, bus: Any, pages: Pages) -> None:
    """A daemon that is killed is back, and a client resumes with what it has missed."""
    page = await pages.connect("127.0.0.1:8888")
    await page.connection.send(json.dumps({"token": running.token("nadia")}))
    welcome = await page.control("welcome")
    container.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", "notifyd")
    assert (await page.closed())[0] is None
    id_ = bus.xadd(STREAM, {"event": '{"n": 1}', "to": '{"everyone": true}'})
    hello = {name: welcome[name] for name in ("ticket", "epoch")} | {"since": welcome["last_id"]}
    # It waits in the queue of the socket, and is not refused.
    again = await pages.connect("127.0.0.1:8888", open_timeout=10)
    await again.connection.send(json.dumps(hello))
    event = await again.event(n=1)
    assert event["id"] == id_
    assert container.show("notifyd", "NRestarts") == "1"


@pytest.mark.usefixtures("running")
async def test_watchdog(container: Container) -> None:
    """A daemon that hangs is ended, with a traceback that names the line, and started again."""
    packages = "/usr/lib/notifyd/lib/python3.11/site-packages"
    drop_in = "/etc/systemd/system/notifyd.service.d/watchdog.conf"
    container.write(f"{packages}/hang.pth", "import hang_at_a_signal\n")
    container.write(f"{packages}/hang_at_a_signal.py", HANG)
    container.write(drop_in, "[Service]\nWatchdogSec=2\n")
    container.run("systemctl", "daemon-reload")
    await asyncio.to_thread(container.run, "systemctl", "restart", "notifyd")
    after = container.cursor()
    before = container.show("notifyd", "MainPID")
    container.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGUSR2", "notifyd")
    await until(lambda: container.show("notifyd", "MainPID") not in {before, "0"}, 20)
    await until(lambda: container.state("notifyd") == "active", 20)
    words = container.run("journalctl", "--unit=notifyd", f"--after-cursor={after}")
    assert "Watchdog timeout" in words
    assert "hang_at_a_signal.py" in words
    container.run("rm", f"{packages}/hang.pth", f"{packages}/hang_at_a_signal.py", drop_in)
    container.run("systemctl", "daemon-reload")
    await asyncio.to_thread(container.run, "systemctl", "restart", "notifyd")


async def test_redis_is_stopped(
    container: Container, running: Newsroom, bus: Any, pages: Pages
) -> None:
    """While Redis is stopped clients stay, and when it is back they get what is published."""
    page = await pages.connect("127.0.0.1:8888")
    await page.connection.send(json.dumps({"token": running.token("nadia")}))
    await page.control("welcome")
    await asyncio.to_thread(container.run, "systemctl", "stop", "redis-server")
    await until(lambda: "Redis away" in container.show("notifyd", "StatusText"), 20)
    await asyncio.to_thread(container.run, "systemctl", "start", "redis-server")
    await until(lambda: "Redis connected" in container.show("notifyd", "StatusText"), 30)
    id_ = bus.xadd(STREAM, {"event": '{"n": 2}', "to": '{"everyone": true}'})
    assert (await page.event(n=2))["id"] == id_
    assert page.open
    assert container.state("notifyd") == "active"


async def test_a_crowd_comes_back(container: Container, running: Newsroom) -> None:
    """A thousand who come while nothing runs wait in the queue, and all are let in."""
    container.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", "notifyd")
    hello = json.dumps({"token": running.token("nadia")})
    crowd = await gather(8888, [hello] * 1000)
    assert all(browser.open for browser in crowd)
    await leave(crowd)

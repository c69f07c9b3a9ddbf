"""`systemctl restart notifyd`: nobody is disconnected, nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from e2e.flow import flowing
from systemd.crowd import gather, leave
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.clients import Pages
    from systemd.conftest import Newsroom
    from systemd.container import Container
    from systemd.crowd import Browser

pytestmark = pytest.mark.long

CROWD = 5000
# Few events for everybody, and many for one who has few clients: the test has to read them all.
EVERYBODY_EVERY = 50


def hellos(newsroom: Newsroom, count: int, user: str = "nadia") -> list[str]:
    """Return the first messages of so many clients of a user."""
    return [json.dumps({"token": newsroom.token(user)})] * count


async def whole(crowd: list[Browser], ids: list[str]) -> None:
    """Wait until all have the last event, and find that each has all since its first, once."""
    last = ids[-1].encode()
    await until(lambda: all(last in browser.received for browser in crowd), 60)
    for browser in crowd:
        assert browser.open
        got = browser.ids()
        assert got == ids[ids.index(got[0]) :]


def mixed(omar: str) -> Callable[[int], tuple[dict[str, Any], dict[str, Any]]]:
    """Return what to publish: each so many-th event is for everybody, the others for one user."""

    def entry(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        everybody = number % EVERYBODY_EVERY == 0
        return {"number": number}, {"everyone": True} if everybody else {"users": [omar]}

    return entry


async def test_five_thousand(
    container: Container,
    running: Newsroom,
    bus: Any,
    pages: Pages,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Five thousand live clients stay connected, and get every event once and in order."""
    crowd = await gather(8888, hellos(running, CROWD))
    few = await gather(8888, hellos(running, 10, "omar"))
    for browser in crowd + few:
        browser.received.clear()
        browser.received += b"\r\n\r\n"
    before = container.show("notifyd", "MainPID")
    after = container.cursor()
    async with flowing(bus, 200, mixed(running.key("omar"))) as ids:
        began = time.monotonic()
        await asyncio.to_thread(container.run, "systemctl", "restart", "notifyd")
        took = time.monotonic() - began
        page = await pages.connect("127.0.0.1:8888")
        written = len(ids)
        await until(lambda: len(ids) > written + 2 * EVERYBODY_EVERY)
    assert page.open
    assert container.show("notifyd", "MainPID") != before
    await whole(few, ids)
    await whole(crowd, ids[::EVERYBODY_EVERY])
    [prepared] = container.events("handover.prepared", after=after)
    [taken] = container.events("handover.taken", after=after)
    assert (prepared["NOTIFYD_CLIENTS"], prepared["NOTIFYD_CLOSED"]) == (str(CROWD + 10), "0")
    assert taken["NOTIFYD_CLIENTS"] == str(CROWD + 10)
    with capsys.disabled():
        print(  # noqa: T201 - the figure is what people ask for
            f"\na restart with {CROWD} clients: {took:.2f} s; at rest after"
            f" {prepared['NOTIFYD_SECONDS']} s, taken in {taken['NOTIFYD_SECONDS']} s"
        )
    await leave(crowd + few)


@pytest.mark.parametrize("unit", ["notifyd", "notifyd.target"])
async def test_who_connects_meanwhile(container: Container, running: Newsroom, unit: str) -> None:
    """Who connects while the daemon restarts is not refused, and served a moment later."""
    before = container.show("notifyd", "MainPID")
    restarting = asyncio.create_task(asyncio.to_thread(container.run, "systemctl", "restart", unit))
    crowd = []
    # For the target, systemctl does not wait until the daemon is back.
    while not restarting.done() or container.show("notifyd", "MainPID") in {before, "0"}:
        crowd += await gather(8888, hellos(running, 1))
    await restarting
    assert crowd
    assert all(browser.open for browser in crowd)
    await leave(crowd)


async def test_without_its_files(container: Container, running: Newsroom, bus: Any) -> None:
    """Nobody is lost where an upgrade has replaced the virtual environment before the signal."""
    crowd = await gather(8888, hellos(running, 20))
    pid = container.show("notifyd", "MainPID")
    # While it is stopped its files are moved away; they are back before the successor starts.
    hide = "/bin/mv /usr/lib/notifyd /usr/lib/notifyd.old\n"
    back = "/bin/mv /usr/lib/notifyd.old /usr/lib/notifyd\n"
    container.write(
        "/etc/systemd/system/notifyd.service.d/hidden.conf",
        f"[Service]\nExecStop=+{hide}ExecStopPost=+{back}",
    )
    container.run("systemctl", "daemon-reload")
    try:
        await asyncio.to_thread(container.run, "systemctl", "restart", "notifyd")
    finally:
        container.run("rm", "/etc/systemd/system/notifyd.service.d/hidden.conf")
        container.run("systemctl", "daemon-reload")
    assert container.show("notifyd", "MainPID") != pid
    id_ = bus.xadd("{notifyd}:events", {"event": '{"n": 1}', "to": '{"everyone": true}'})
    await until(lambda: all(id_.encode() in browser.received for browser in crowd))
    assert all(browser.open for browser in crowd)
    await leave(crowd)


async def test_a_newer_state(container: Container, running: Newsroom) -> None:
    """After a step back to a version that can't read the state, clients are closed with 1012."""
    crowd = await gather(8888, hellos(running, 5))
    module = "/usr/lib/notifyd/lib/python3.11/site-packages/notifyd/core/handover.py"
    after = container.cursor()
    # The daemon that runs keeps its version; its successor reads another one.
    container.run("sed", "-i", "s/^VERSION: Final = 1$/VERSION: Final = 0/", module)
    try:
        await asyncio.to_thread(container.run, "systemctl", "restart", "notifyd")
    finally:
        container.run("sed", "-i", "s/^VERSION: Final = 0$/VERSION: Final = 1/", module)
    await until(lambda: all([*browser.messages()][-1].get("code") == 1012 for browser in crowd))
    assert container.events("handover.unreadable", after=after)
    await asyncio.to_thread(container.run, "systemctl", "restart", "notifyd")

"""Redis goes and comes back: clients stay, and what is in the stream reaches them once."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from daemons import Daemon, Site
from e2e.flow import STREAM
from e2e.service_manager import ServiceManager
from servers import RedisServer
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.clients import Page, Pages

LINKS = ("stream", "pubsub")


@pytest.fixture(scope="module")
def bus(redis: RedisServer) -> Any:
    """Give a client of the bus."""
    return redis.client(decode_responses=True)


def write(bus: Any, number: int) -> str:
    """Add a numbered event for everyone to the stream, and return its id."""
    event = json.dumps({"number": number})
    return str(bus.xadd(STREAM, {"event": event, "to": '{"everyone": true}'}))


def numbers(page: Page) -> list[tuple[str, int]]:
    """Return what a client has got, each number with its id."""
    return [(event["id"], event["number"]) for event in page.events]


async def noticed(daemon: Daemon, event: str, times: int) -> None:
    """Wait until both links have logged an event so many times."""
    await until(lambda: all(len(daemon.events(event, source=s)) >= times for s in LINKS), 30)


class Publisher:
    """publisher.py at work."""

    def __init__(self, output: Path, process: subprocess.Popen[bytes]) -> None:
        self._output = output
        self.process = process

    @property
    def written(self) -> dict[int, str]:
        """The numbers until now, each with its id, or a dash where Redis gave no answer."""
        lines = self._output.read_text().splitlines(keepends=True)
        pairs = [line.split() for line in lines if "\n" in line]
        return {int(number): id_ for number, id_ in pairs}

    def has_written(self, count: int) -> bool:
        """Tell whether it has come so far."""
        return self._output.read_bytes().count(b"\n") >= count


@contextlib.contextmanager
def publishing(url: str, count: int, rate: int, output: Path) -> Iterator[Publisher]:
    """Have numbers published in another process for the length of a block."""
    command = [sys.executable, str(Path(__file__).parent / "publisher.py")]
    with output.open("wb") as file:
        process = subprocess.Popen([*command, url, str(count), str(rate)], stdout=file)
    try:
        yield Publisher(output, process)
    finally:
        process.kill()
        process.wait()


async def hold_through(
    daemon: Daemon, redis: RedisServer, publisher: Publisher, count: int
) -> None:
    """Freeze Redis a third of the way, kill it at two thirds, and wait for the publisher's end."""
    ways: list[Callable[[], contextlib.AbstractContextManager[None]]] = [
        redis.paused,
        lambda: redis.stopped(signal.SIGKILL),
    ]
    for n, outage in enumerate(ways, 1):
        await until(functools.partial(publisher.has_written, count * n // 3), 60)
        with outage():
            await noticed(daemon, "bus.disconnected", n)
            assert daemon.metric("redis_up") == 0
        await noticed(daemon, "bus.connected", n + 1)
        assert daemon.metric("redis_up") == 1
    await until(lambda: publisher.process.poll() is not None, 60)


@pytest.mark.parametrize(
    ("count", "rate", "patience"),
    [
        pytest.param(600, 200, "1", id="short"),
        pytest.param(10_000, 500, "5", id="long", marks=pytest.mark.long),
    ],
)
async def test_no_event_is_lost(
    count: int,
    rate: int,
    patience: str,
    folder: Path,
    redis: RedisServer,
    bus: Any,
    site: Site,
    pages: Pages,
) -> None:
    """A frozen and a killed Redis cost no client an event, a repetition or its connection."""
    async with Daemon(folder, site, redis_timeout=patience) as daemon:
        daemon.wait_for_bus()
        present = [await pages.hello(daemon, site.token(name)) for name in ("nadia", "omar")]
        present.append(await pages.bare(daemon, site.token("admin", scope="")))
        start = bus.xrevrange(STREAM, count=1)[0][0]
        with publishing(redis.url, count, rate, folder / "published") as publisher:
            await hold_through(daemon, redis, publisher, count)
        stream = bus.xrange(STREAM, min=f"({start}")
        truth = [(id_, json.loads(fields["event"])["number"]) for id_, fields in stream]
        acknowledged = {n: id_ for n, id_ in publisher.written.items() if id_ != "-"}
        assert acknowledged.items() <= {number: id_ for id_, number in truth}.items()
        assert len(acknowledged) > 0.95 * count
        for page in present:
            await page.count(len(truth))
            assert numbers(page) == truth
            assert page.open
        for source in LINKS:
            assert len(daemon.events("bus.disconnected", source=source)) == 2
            assert len(daemon.events("bus.connected", source=source)) == 3
        assert daemon.metric("redis_reconnects_total") == 4
        assert daemon.metric("gaps_total") == 0
        assert "Traceback" not in daemon.log


async def test_recovered_events_are_counted(
    daemon: Daemon, redis: RedisServer, bus: Any, site: Site, pages: Pages
) -> None:
    """What was written before the daemon was back is counted as recovered, and logged."""
    page = await pages.hello(daemon, site.token("nadia"))
    recovered = daemon.metric("events_recovered_total")
    outages = len(daemon.events("bus.disconnected", source="stream"))
    redis.stop(signal.SIGKILL)
    await noticed(daemon, "bus.disconnected", outages + 1)
    with daemon.paused():
        redis.start()
        written = [(write(bus, n), n) for n in range(50)]
    await page.count(50)
    assert numbers(page) == written
    await noticed(daemon, "bus.connected", outages + 2)
    assert daemon.metric("events_recovered_total") == recovered + 50
    assert daemon.events("bus.connected", source="stream")[-1]["recovered"] == 50


@pytest.mark.long
async def test_readiness(daemon: Daemon, redis: RedisServer, site: Site, pages: Pages) -> None:
    """After 5 s without Redis the daemon is not ready and says why, but lives, and recovers."""
    page = await pages.hello(daemon, site.token("nadia"))
    began = time.monotonic()
    with redis.stopped(signal.SIGKILL):
        await until(lambda: daemon.metric("redis_up") == 0)
        assert daemon.get("/readyz") == (200, "ok")
        await until(lambda: daemon.get("/readyz")[0] == 503)
        assert time.monotonic() - began >= 5
        assert json.loads(daemon.get("/readyz")[1])["failing"].keys() == {"redis"}
        assert daemon.get("/livez") == (200, "ok")
    await until(lambda: daemon.get("/readyz") == (200, "ok"))
    assert page.open


@pytest.mark.long
async def test_started_without_redis(folder: Path, template: Path, pages: Pages) -> None:
    """A daemon that finds no Redis is ready for clients, and tells them once events flow."""
    redis = RedisServer(folder)
    shutil.copy(template, folder / "newsroom.sqlite3")
    with Site(folder, redis.url) as site, ServiceManager(folder / "notify") as systemd:
        async with Daemon(folder, site, NOTIFY_SOCKET=systemd.path) as daemon:
            await until(lambda: "READY=1" in systemd.heard())
            assert [line["redis"] for line in daemon.events("service.started")] == [False]
            page = await pages.hello(daemon, site.token("nadia"))
            assert page.controls("welcome")[0]["last_id"] is None
            with redis:
                assert (await page.control("resync"))["reason"]
                id_ = write(redis.client(decode_responses=True), 1)
                assert await page.event(number=1) == {"id": id_, "number": 1}


async def test_flushed(daemon: Daemon, bus: Any, site: Site, pages: Pages) -> None:
    """When Redis was emptied, clients are told to load their state, stay, and get what follows."""
    page = await pages.hello(daemon, site.token("nadia"))
    bare = await pages.bare(daemon, site.token("omar", scope=""))
    gaps = daemon.metric("gaps_total")
    bus.flushall()
    await page.control("resync")
    assert daemon.metric("gaps_total") == gaps + 1
    assert "another epoch" in daemon.events("bus.gap")[-1]["reason"]
    id_ = write(bus, 1)
    for each in (page, bare):
        assert await each.event(number=1) == {"id": id_, "number": 1}
    later = await pages.hello(daemon, site.token("omar"))
    epochs = {each.controls("welcome")[0]["epoch"] for each in (page, later)}
    assert len(epochs) == 2

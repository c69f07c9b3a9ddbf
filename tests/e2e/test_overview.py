"""What the daemon's metrics tell of its state."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import pytest
from e2e.flow import STREAM
from waiting import until

if TYPE_CHECKING:
    from daemons import Daemon, Site
    from e2e.clients import Pages
    from servers import RedisServer


@pytest.mark.long
async def test_ready(daemon: Daemon, redis: RedisServer) -> None:
    """Readiness is a metric, by check: what /readyz says, and Prometheus can wait for."""
    checks = ("listeners", "redis", "database", "draining")
    assert [daemon.metric("ready", check=check) for check in checks] == [1, 1, 1, 1]
    with redis.stopped():
        await until(lambda: daemon.metric("ready", check="redis") == 0, 20)
        assert daemon.get("/readyz")[0] == 503
        assert daemon.metric("ready", check="listeners") == 1
    await until(lambda: daemon.metric("ready", check="redis") == 1, 20)


@pytest.mark.long
async def test_proof_of_the_bus(daemon: Daemon, redis: RedisServer) -> None:
    """How long ago Redis proved that it is heard is a metric, and in the readiness on request."""
    ways = ("stream", "pubsub")
    await until(lambda: all(daemon.metric("bus_proof_age_seconds", source=way) < 6 for way in ways))
    status, body = daemon.get("/readyz?verbose")
    details = json.loads(body)
    assert (status, details["failing"]) == (200, {})
    assert set(details["checks"].values()) == {"ok"}
    with redis.stopped():
        await until(lambda: daemon.get("/readyz?verbose")[0] == 503, 20)
        details = json.loads(daemon.get("/readyz?verbose")[1])
        assert details["checks"]["redis"].startswith("away for ")
        assert details["bus"]["up"] is False
        assert min(details["bus"]["proof_age"].values()) > 4


async def test_stall(daemon: Daemon) -> None:
    """The time for which the event loop stood still is counted when it turns again."""
    before = daemon.metric("event_loop_stall_seconds_total")
    daemon.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(1)
    daemon.process.send_signal(signal.SIGCONT)
    await until(lambda: daemon.metric("event_loop_stall_seconds_total") > before + 0.5, 10)


async def test_acknowledgement(
    daemon: Daemon, redis: RedisServer, site: Site, pages: Pages
) -> None:
    """A page is asked to acknowledge some events, and tells by that how long they take."""
    page = await pages.hello(daemon, site.token("nadia"))
    assert (await page.control("welcome"))["ack"] == 0.01
    results = ("ok", "replayed", "unknown", "limited")
    before = [daemon.metric("acknowledgements_total", result=result) for result in results]
    rule = json.dumps({"everyone": True})
    redis.client().xadd(STREAM, {"event": json.dumps({"acknowledged": True}), "to": rule})
    event = await page.event(acknowledged=True)
    await page.connection.send(json.dumps({"notifyd": "ack", "id": event["id"]}))
    await until(lambda: daemon.metric("acknowledgements_total", result="ok") == before[0] + 1)
    after = [daemon.metric("acknowledgements_total", result=result) for result in results]
    assert after[1:] == before[1:]
    assert daemon.metric("client_latency_seconds_count") == after[0]
    assert 0 <= daemon.metric("client_latency_seconds_sum") < 10 * after[0]

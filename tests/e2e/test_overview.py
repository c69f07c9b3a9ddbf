"""What the daemon's metrics tell of its state."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import pytest
from waiting import until

if TYPE_CHECKING:
    from daemons import Daemon
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

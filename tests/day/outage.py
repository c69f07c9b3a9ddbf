"""Redis is killed: when each place that an operator looks at says so."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from day.world import World

PLACES: Final = ("the status line", "notifyd status", "the log", "the metric", "/readyz")
"""Where somebody sees it who looks at the daemon itself."""


async def outage(world: World) -> None:
    """Kill Redis, note when it is seen where, and start it again once its alert fires."""
    daemon = world.daemon

    def status() -> dict[str, Any]:
        return dict(json.loads(daemon.command("status", "--json").stdout))

    looks: dict[str, Callable[[], bool]] = {
        "the status line": lambda: "Redis away" in world.status,
        "notifyd status": lambda: not status()["bus"]["up"],
        "the log": lambda: bool(daemon.events("bus.disconnected")),
        "the metric": lambda: daemon.metric("redis_up") == 0,
        "/readyz": lambda: daemon.get("/readyz")[0] == 503,
    }
    world.redis.stop(signal.SIGKILL)
    world.killed = time.time()

    async def look(place: str) -> None:
        await until(lambda: asyncio.to_thread(looks[place]), 30)
        world.noticed[place] = time.time()

    await asyncio.gather(*map(look, PLACES))
    await world.seen("NotifydRedisAway")
    world.redis.start()
    await until(lambda: daemon.metric("redis_up") == 1, 30)

"""Events that flow at a steady rate while a test does something else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from daemons import Daemon
    from e2e.clients import Page

STREAM = "{notifyd}:events"

Entry = tuple[dict[str, Any], dict[str, Any] | None]
"""An event, and its rule, None if the event itself says who may see it."""


@contextlib.asynccontextmanager
async def flowing(bus: Any, rate: int, entry: Callable[[int], Entry]) -> AsyncIterator[list[str]]:
    """Write the entries of the numbers from 0 on, `rate` a second; give the ids of all until now.

    It goes through while Redis is there; what is written is acknowledged.
    """
    ids: list[str] = []
    stop = asyncio.Event()

    def write(count: int) -> list[str]:
        with bus.pipeline(transaction=False) as pipeline:
            for number in range(len(ids), len(ids) + count):
                event, rule = entry(number)
                fields: dict[Any, Any] = {"event": json.dumps(event)}
                if rule is not None:
                    fields["to"] = json.dumps(rule)
                pipeline.xadd(STREAM, fields)
            return [str(id_) for id_ in pipeline.execute()]

    async def flow() -> None:
        began = time.monotonic()
        while not stop.is_set():
            missing = int((time.monotonic() - began) * rate) - len(ids)
            ids.extend(await asyncio.to_thread(write, max(missing, 1)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.005):
                    await stop.wait()

    task = asyncio.create_task(flow())
    try:
        await until(lambda: len(ids) > 100)
        yield ids
    finally:
        stop.set()
        await task


async def fall_behind(page: Page, daemon: Daemon, bus: Any) -> None:
    """Have a page take nothing any more, of 200 large events, until the daemon says so."""
    page.connection.transport.pause_reading()
    with bus.pipeline(transaction=False) as pipeline:
        for _ in range(200):
            event = {"event": json.dumps({"text": "x" * 60_000}), "to": '{"everyone": true}'}
            pipeline.xadd(STREAM, event)
        pipeline.execute()
    await until(lambda: daemon.metric("connections", state="behind") == 1)


def number(id_: str) -> tuple[int, int]:
    """Return an id as numbers, which can be compared."""
    milliseconds, _, serial = id_.partition("-")
    return int(milliseconds), int(serial)

"""The bus as it flows, for `notifyd tail`: what comes from now on, and what came before."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final

from notifyd.core.batch import SOURCES, Batch, Positioned, Unavailable
from notifyd.core.positions import format_position, parse_position
from notifyd.daemon.bus import PATIENCE, Bus, BusError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection

    from notifyd.core.batch import RawEntry, Source
    from notifyd.core.positions import Position

_NOWHERE: Final = (0, 0)


async def tail(
    url: str,
    *,
    prefix: str,
    channel: str,
    sources: Collection[Source] = SOURCES,
    since: Position | float | None = None,
) -> AsyncGenerator[RawEntry, None]:
    """Yield every entry of some sources as it is, with its id, or None if it came by the channel.

    First come those that the stream has behind the position `since`, or of so many seconds until
    now by our clock; None: only what comes from now on. Changes nothing but to begin the stream
    if there is none. Raises ValueError as Bus does, and BusError where the past can't be read.
    """
    bus = Bus(url, prefix=prefix, channel=channel, timeout=PATIENCE, history=math.inf)
    flows = {"stream": lambda: _stream(bus, since), "pubsub": bus.pubsub}
    running: list[AsyncGenerator[Batch | Positioned, None]] = [flows[each]() for each in sources]
    pending = {asyncio.ensure_future(anext(source)): source for source in running}
    try:
        while True:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                source = pending.pop(task)
                item = task.result()
                pending[asyncio.ensure_future(anext(source))] = source
                for entry in item.entries if isinstance(item, Batch) else ():
                    yield entry
    except Unavailable as error:
        raise BusError(str(error)) from None
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for source in running:
            await source.aclose()
        await bus.close()


async def _stream(
    bus: Bus, since: Position | float | None
) -> AsyncGenerator[Batch | Positioned, None]:
    """Yield what the stream has behind `since`, and what comes then. Raises Unavailable."""
    if since is not None:
        extent = await bus.archive.extent()
        position = since if isinstance(since, tuple) else _ago(since)
        complete = False
        while not complete:
            page = await bus.archive.forward(position, extent.last)
            if page.entries:
                yield Batch("stream", page.entries)
                position = parse_position(str(page.entries[-1][0]))
            complete = page.complete
        if extent.last > _NOWHERE:
            bus.resume(extent.epoch, format_position(extent.last))
    async for item in bus.stream():
        yield item


def _ago(seconds: float) -> Position:
    return max(0, round((time.time() - seconds) * 1000)), 0

"""The command that shows the bus as it flows."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

from notifyd.core.batch import SOURCES
from notifyd.core.entry_filter import Filter
from notifyd.core.entry_text import as_object, as_words
from notifyd.daemon import bus_tail, config, logs, preflight

if TYPE_CHECKING:
    from argparse import Namespace

    from notifyd.daemon.config import Redis


def tail(arguments: Namespace) -> int:
    """Print events as they pass on the bus."""
    if arguments.since is not None and arguments.source == "pubsub":
        print("notifyd: the channel has no past: --since is for the stream", file=sys.stderr)
        return 2
    loaded, _ = config.load(arguments.config, os.environ)
    resolved = preflight.resolve(loaded)
    # What is wrong with the bus goes to standard error, beside the events.
    logs.configure("warning")
    asyncio.run(_tail(resolved.redis, arguments))
    return 0


async def _tail(redis: Redis, arguments: Namespace) -> None:
    wanted = Filter(frozenset(arguments.content_type), frozenset(arguments.user))
    terminal = sys.stdout.isatty()
    colours = terminal and _in_colours()
    flow = bus_tail.tail(
        redis.url,
        prefix=redis.prefix,
        channel=redis.channel,
        sources=[arguments.source] if arguments.source else SOURCES,
        since=arguments.since,
    )
    async for id_, fields in flow:
        entry = as_object(id_, fields, redis.channel)
        if not wanted.admits(id_, fields) or not _has(entry, arguments.grep):
            continue
        words = terminal and not arguments.json
        print(as_words(entry, colours=colours) if words else json.dumps(entry), flush=True)


def _has(entry: object, text: str) -> bool:
    return not text or text in json.dumps(entry, ensure_ascii=False)


def _in_colours() -> bool:
    # Source: no-color.org, whose variable counts unless it is empty.
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

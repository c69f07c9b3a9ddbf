"""The bus as it flows, and as it did."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from servers import LOOPBACK, free_port
from waiting import until

from notifyd.daemon.bus import BusError
from notifyd.daemon.bus_stream import COUNT
from notifyd.daemon.bus_tail import tail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from servers import RedisServer

EVENTS = "{notifyd}:events"
EPOCH = "{notifyd}:epoch"


class Tail:
    """What `tail` has yielded, read in the background."""

    def __init__(self, server: RedisServer, **options: Any) -> None:
        self.entries: list[tuple[str | None, dict[bytes, bytes]]] = []
        source = tail(server.url, prefix="notifyd", channel="events", **options)
        self.task = asyncio.create_task(self._read(source))

    async def _read(self, source: Any) -> None:
        async with aclosing(source):
            async for entry in source:
                self.entries.append(entry)

    @property
    def events(self) -> list[bytes]:
        """The events, in the order in which they came."""
        return [fields[b"event"] for _, fields in self.entries if b"event" in fields]

    async def close(self) -> None:
        """Read no more."""
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture(name="client")
def _client(redis_server: RedisServer) -> Any:
    return redis_server.client()


@pytest.fixture(name="tails")
async def _tails() -> AsyncIterator[list[Tail]]:
    opened: list[Tail] = []
    yield opened
    for each in opened:
        await each.close()


def add(client: Any, *words: str) -> list[str]:
    """Add events, and return their ids."""
    return [client.xadd(EVENTS, {"event": word}).decode() for word in words]


async def test_from_now_on(redis_server: RedisServer, client: Any, tails: list[Tail]) -> None:
    """What flows over the bus from now on can be watched, both of its sources."""
    add(client, "old")
    tails.append(Tail(redis_server))
    await until(lambda: client.pubsub_numsub("events")[0][1])
    await until(lambda: client.exists(EPOCH))
    [id_] = add(client, "1")
    client.publish("events", "2")
    await until(lambda: tails[0].entries[1:])
    assert sorted(tails[0].entries, key=str) == [(id_, {b"event": b"1"}), (None, {b"event": b"2"})]
    await tails[0].close()
    assert [each for each in client.client_list() if each["name"] == "notifyd"] == []


async def test_stream_only(redis_server: RedisServer, client: Any, tails: list[Tail]) -> None:
    """One source may be left out."""
    tails.append(Tail(redis_server, sources=["stream"]))
    await until(lambda: client.exists(EPOCH))
    assert client.publish("events", "1") == 0
    add(client, "2")
    await until(lambda: tails[0].events == [b"2"])


async def test_since_a_position(redis_server: RedisServer, client: Any, tails: list[Tail]) -> None:
    """What the stream has behind a position comes first, then what is new, each once."""
    client.set(EPOCH, "e")
    first, *_ = add(client, *map(str, range(2 * COUNT + 2)))
    position = tuple(map(int, first.split("-")))
    tails.append(Tail(redis_server, since=position))
    await until(lambda: len(tails[0].events) > 2 * COUNT)
    add(client, "new")
    await until(lambda: b"new" in tails[0].events)
    expected = [str(number).encode() for number in range(1, 2 * COUNT + 2)]
    assert tails[0].events == [*expected, b"new"]


async def test_since_a_time(redis_server: RedisServer, client: Any, tails: list[Tail]) -> None:
    """The past may be told in seconds."""
    client.set(EPOCH, "e")
    now = round(time.time() * 1000)
    for age in (100, 50):
        client.xadd(EVENTS, {"event": str(age)}, id=f"{now - age * 1000}-0")
    tails += [Tail(redis_server, since=75.0), Tail(redis_server, since=1e12)]
    await until(lambda: tails[0].events == [b"50"])
    await until(lambda: tails[1].events == [b"100", b"50"])


async def test_since_without_a_stream(
    redis_server: RedisServer, client: Any, tails: list[Tail]
) -> None:
    """Where there is no stream yet, there is no past."""
    tails.append(Tail(redis_server, since=60.0))
    await until(lambda: client.exists(EPOCH))
    add(client, "1")
    await until(lambda: tails[0].events == [b"1"])


async def test_since_without_redis() -> None:
    """Without Redis there is no past to be had, and the words say why."""
    url = f"redis://:s3cret@{LOOPBACK}:{free_port()}/0"
    source = tail(url, prefix="notifyd", channel="events", sources=["stream"], since=60.0)
    with pytest.raises(BusError, match="refused") as caught:
        await anext(source)
    assert "s3cret" not in str(caught.value)

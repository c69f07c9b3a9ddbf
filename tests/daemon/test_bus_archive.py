from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until

from notifyd.core.batch import Unavailable
from notifyd.core.positions import parse_position
from notifyd.daemon.bus_archive import SCAN, Archive
from notifyd.daemon.bus_link import RedisURL
from notifyd.daemon.bus_stream import COUNT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from servers import RedisServer

EVENTS = "{notifyd}:events"
EPOCH = "{notifyd}:epoch"
FAR = (1 << 63, 0)


@pytest.fixture
def client(redis_server: RedisServer) -> Any:
    """Give a client of a Redis with a stream of 1,000 events, whose ids are their numbers."""
    client: Any = redis_server.client(decode_responses=True)
    client.set(EPOCH, "e")
    fill(client, 1, 1000)
    return client


@pytest.fixture
async def archive(redis_server: RedisServer) -> AsyncIterator[Archive]:
    """Give the archive of that Redis, which is quick to notice a dead link."""
    archive = Archive(RedisURL(redis_server.url), prefix="notifyd", within=0.5)
    yield archive
    await archive.close()


def fill(client: Any, start: int, end: int, **fields: str) -> None:
    """Add entries with the numbers from start to end as ids."""
    pipeline = client.pipeline()
    for number in range(start, end + 1):
        pipeline.xadd(EVENTS, fields or {"event": f'{{"n": {number}}}'}, id=f"{number}-0")
    pipeline.execute()


def numbers(entries: list[Any]) -> list[int]:
    """Return the numbers of entries."""
    return [parse_position(id_)[0] for id_, _ in entries]


async def test_extent(archive: Archive, client: Any) -> None:
    """The extent tells the epoch, the first entry, and the last id even if its entry is gone."""
    assert await archive.extent() == ("e", (1, 0), (1000, 0))
    client.xdel(EVENTS, "1000-0")
    client.xtrim(EVENTS, minid="500-0", approximate=False)
    assert await archive.extent() == ("e", (500, 0), (1000, 0))


async def test_extent_of_nothing(archive: Archive, client: Any) -> None:
    """Without a stream, or without an entry in it, the extent is empty, and nothing is created."""
    client.xtrim(EVENTS, maxlen=0, approximate=False)
    assert await archive.extent() == ("e", (1000, 0), (1000, 0))
    client.delete(EVENTS, EPOCH)
    assert await archive.extent() == ("", (0, 0), (0, 0))
    assert client.dbsize() == 0


async def test_forward(archive: Archive, client: Any) -> None:
    """Forward, pages follow each other from the oldest entry behind a position."""
    assert client.exists(EVENTS)
    page = await archive.forward((100, 0), (1000, 0))
    assert numbers(page.entries) == [*range(101, 101 + COUNT)]
    assert not page.complete
    page = await archive.forward((900, 0), (950, 0))
    assert numbers(page.entries) == [*range(901, 951)]
    assert (page.complete, page.extent.first) == (True, (1, 0))
    assert page.entries[0][1] == {b"event": b'{"n": 901}'}


async def test_backward(archive: Archive, client: Any) -> None:
    """Backward, a page has the newest entries up to a position, in stream order."""
    assert client.exists(EVENTS)
    page = await archive.backward((1000, 0), (100, 0))
    assert numbers(page.entries) == [*range(1001 - COUNT, 1001)]
    assert not page.complete
    page = await archive.backward((150, 0), (100, 0))
    assert numbers(page.entries) == [*range(101, 151)]
    assert page.complete


async def test_controls(archive: Archive, client: Any) -> None:
    """Of all entries up to a position, only the control entries are handed over."""
    fill(client, 1001, 1001, control='{"recheck": {"all": true}}')
    fill(client, 1002, 1001 + SCAN, event="{}")
    fill(client, 2001, 2001, event="{}", control='{"disconnect": {"users": ["1"]}}')
    extent, found = await archive.controls(FAR)
    assert extent == ("e", (1, 0), (2001, 0))
    assert [(id_, fields[b"control"][:6]) for id_, fields in found] == [
        ("1001-0", b'{"rech'),
        ("2001-0", b'{"disc'),
    ]
    assert (await archive.controls((2000, 0)))[1] == found[:1]


async def test_questions_take_turns(archive: Archive, client: Any) -> None:
    """Questions that are asked at once share one connection, and each gets its own answer."""
    assert client.exists(EVENTS)
    pages = await asyncio.gather(*[archive.forward((n, 0), (n + 2, 0)) for n in range(50)])
    assert [numbers(page.entries) for page in pages] == [[n + 1, n + 2] for n in range(50)]
    assert len([c for c in client.client_list() if c["name"] == "notifyd"]) == 1


async def test_idle_link(archive: Archive, client: Any) -> None:
    """A connection that was cut while nobody asked is no reason to fail."""
    await archive.extent()
    [ours] = [c["id"] for c in client.client_list() if c["name"] == "notifyd"]
    client.client_kill_filter(_id=ours)
    assert (await archive.extent()).epoch == "e"


async def test_away(archive: Archive, redis_server: RedisServer, client: Any) -> None:
    """While Redis is away the answer is Unavailable, and later it is an answer again."""
    assert client.exists(EVENTS)
    with redis_server.stopped(signal.SIGKILL), pytest.raises(Unavailable, match="refused"):
        await archive.extent()
    assert (await archive.extent()).epoch == "e"


async def test_frozen(archive: Archive, redis_server: RedisServer, client: Any) -> None:
    """A Redis that does not answer in time is away, too."""
    assert client.exists(EVENTS)
    await archive.extent()
    with redis_server.paused(), pytest.raises(Unavailable, match="no connection within"):
        await archive.extent()
    assert (await until(archive.extent)).epoch == "e"


async def test_secrets(redis_server: RedisServer, client: Any) -> None:
    """What goes wrong is told without the password."""
    client.acl_setuser("bob", enabled=True, passwords=["+Xyzzy"], keys="*", commands=["+select"])
    url = f"redis://bob:Xyzzy@127.0.0.1:{redis_server.port}/0"
    archive = Archive(RedisURL(url), prefix="notifyd", within=1)
    with pytest.raises(Unavailable, match="let this user run") as caught:
        await archive.extent()
    assert "Xyzzy" not in str(caught.value)
    assert caught.value.__cause__ is None

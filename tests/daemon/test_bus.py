from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import ssl
import subprocess
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from servers import LOOPBACK, RedisServer, free_port
from structlog.testing import capture_logs
from waiting import until

from notifyd.core.batch import SOURCES
from notifyd.daemon.bus import Batch, Bus, BusError, Positioned, check_url, fault, publish
from notifyd.daemon.bus_link import RedisURL
from notifyd.daemon.bus_stream import BATCH_BYTES, KEEP, batches, gap

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from pathlib import Path

EVENTS = "{notifyd}:events"
EPOCH = "{notifyd}:epoch"
# What the hint for a user without permissions asks for, and nothing else.
RULES = (
    *("~{notifyd}:*", "resetchannels", "&{notifyd}:canary:*", "&events"),
    *("+eval", "+exists", "+get", "+publish", "+role", "+select", "+set", "+subscribe"),
    *("+xadd", "+xinfo", "+xlen", "+xrange", "+xread", "+xrevrange", "+xtrim"),
)

Items = list[Any]


def bus_at(url: str, **options: Any) -> Bus:
    """Return a bus that is quick to notice a dead link."""
    defaults: dict[str, Any] = {
        "prefix": "notifyd",
        "channel": "events",
        "timeout": 0.4,
        "history": 600.0,
    }
    return Bus(url, **(defaults | options))


@contextlib.asynccontextmanager
async def reading(source: AsyncGenerator[Any, None]) -> AsyncIterator[Items]:
    """Read in the background, into a list, for the length of a block."""
    items: Items = []

    async def read() -> None:
        async with aclosing(source):
            async for item in source:
                items.append(item)

    task = asyncio.create_task(read())
    try:
        yield items
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.done(), "not cancelled"
        assert task.cancelled() or task.exception() is None


def events(items: Items) -> list[bytes]:
    """Return the events in what was read, in order."""
    return [
        fields[b"event"]
        for item in items
        if isinstance(item, Batch)
        for _, fields in item.entries
        if b"event" in fields
    ]


def gaps(items: Items) -> list[str | None]:
    """Return the reasons of all positions that were told."""
    return [item.gap for item in items if isinstance(item, Positioned)]


def add(client: Any, *words: str) -> None:
    """Add events at once: nobody reads one of them without the others."""
    with client.pipeline() as transaction:
        for word in words:
            transaction.xadd(EVENTS, {"event": word})
        transaction.execute()


def links(client: Any) -> list[str]:
    """Return the ids of our connections, as the server knows them by their name."""
    return [found["id"] for found in client.client_list() if found["name"] == "notifyd"]


def named(logs: list[Any], event: str, source: str | None = None) -> list[Any]:
    """Return the log lines of an event."""
    return [
        line for line in logs if line["event"] == event and source in {None, line.get("source")}
    ]


@contextlib.asynccontextmanager
async def proxy(
    target: int, *, context: ssl.SSLContext | None = None, until: bytes | None = None
) -> AsyncIterator[int]:
    """Forward a port to another, with TLS, or until something is said; give its number."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if until is None or until not in data:
                    writer.write(data)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(LOOPBACK, target)
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

    server = await asyncio.start_server(forward, LOOPBACK, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def client(redis_server: RedisServer) -> Any:
    """Give a publisher's client; what it returns depends on more than its types tell."""
    return redis_server.client()


@pytest.fixture
def certificate(folder: Path) -> Path:
    """Give a file with a certificate for the loopback interface and its key."""
    path = folder / "certificate.pem"
    words = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=notifyd"
    more = f"-addext subjectAltName=IP:{LOOPBACK} -keyout {path} -out {path}"
    subprocess.run([*words.split(), *more.split()], check=True, capture_output=True)
    return path


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """Give the log lines as they come."""
    with capture_logs() as lines:
        yield lines


async def test_history_begins_once(redis_server: RedisServer, client: Any) -> None:
    """Of several daemons that find no epoch, one creates it and the first entry."""
    sources = [bus_at(redis_server.url).stream() for _ in range(5)]
    positions = await asyncio.gather(*(anext(source) for source in sources))
    for source in sources:
        await source.aclose()
    [(id_, fields)] = client.xrange(EVENTS)
    assert json.loads(fields[b"control"]) == {"start": True}
    assert set(positions) == {Positioned(client.get(EPOCH).decode(), id_.decode(), None)}


async def test_starts_at_the_end(redis_server: RedisServer, client: Any) -> None:
    """The daemon starts at the end of the stream."""
    await publish(redis_server.url, prefix="notifyd", payload=b"old", rule=None, maxlen=10)
    async with reading(bus_at(redis_server.url).stream()) as items:
        await until(lambda: items)
        add(client, "new")
        await until(lambda: events(items))
    assert items[0].last_id == client.xrange(EVENTS)[1][0].decode()
    assert events(items) == [b"new"]


async def test_entries_come_verbatim(redis_server: RedisServer, client: Any) -> None:
    """An entry comes with its id and all of its fields, as bytes."""
    fields = {b"event": b"\xff\r\n\x00", b"to": b"?", b"else": b""}
    async with reading(bus_at(redis_server.url).stream()) as items:
        await until(lambda: items)
        id_ = client.xadd(EVENTS, fields)
        await until(lambda: items[1:])
    assert items[1] == Batch("stream", [(id_.decode(), fields)])


async def test_order(redis_server: RedisServer, client: Any) -> None:
    """Entries come in the order of the stream, each once."""
    words = [str(number) for number in range(1000)]
    async with reading(bus_at(redis_server.url).stream()) as items:
        await until(lambda: items)
        for start in range(0, 1000, 50):
            await asyncio.to_thread(add, client, *words[start : start + 50])
        await until(lambda: len(events(items)) >= 1000)
    assert events(items) == [word.encode() for word in words]


async def test_other_prefix(redis_server: RedisServer, client: Any) -> None:
    """Buses with different prefixes know nothing of each other."""
    async with reading(bus_at(redis_server.url, prefix="other").stream()) as items:
        await until(lambda: items)
        add(client, "not for us")
        client.xadd("{other}:events", {"event": "for us"})
        await until(lambda: events(items))
    assert events(items) == [b"for us"]


async def test_recovers_after_a_crash(
    redis_server: RedisServer, client: Any, logs: list[Any]
) -> None:
    """What is written while the link is down comes after it, once and in order."""
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()) as items:
        await until(lambda: items)
        add(client, "1")
        await until(lambda: events(items))
        redis_server.stop(signal.SIGKILL)
        await until(lambda: not bus.stats.up)
        # The same data at another port, where the publisher finds it and the daemon doesn't.
        with RedisServer(redis_server.folder, persistent=True):
            add(client, "2", "3")
        redis_server.start()
        await until(lambda: bus.stats.up)
        add(client, "4")
        await until(lambda: len(events(items)) >= 4)
    assert events(items) == [b"1", b"2", b"3", b"4"]
    assert gaps(items) == [None]
    assert (bus.stats.recovered, bus.stats.reconnects, bus.stats.gaps) == (2, 1, 0)
    assert named(logs, "bus.connected")[1]["recovered"] == 2


async def test_recovers_after_a_freeze(redis_server: RedisServer, client: Any) -> None:
    """A server that accepts but does not answer is noticed, and nothing is lost over it."""
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()) as items:
        await until(lambda: bus.stats.up)
        with redis_server.paused():
            await until(lambda: not bus.stats.up)
            writing = asyncio.create_task(asyncio.to_thread(add, client, "1", "2"))
        await writing
        await until(lambda: len(events(items)) >= 2)
    assert (events(items), gaps(items)) == ([b"1", b"2"], [None])


async def test_recovers_after_cut_links(
    redis_server: RedisServer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often links are cut, every entry comes once and in order."""
    monkeypatch.setattr("notifyd.daemon.bus_outage.MOST", 0.01)
    bus = bus_at(redis_server.url)
    words = [str(number) for number in range(40)]
    async with reading(bus.stream()) as items:
        for number, word in enumerate(words):
            if number % 10 == 0:
                await until(lambda: bus.stats.up)
                for id_ in links(client):
                    client.client_kill_filter(_id=id_)
            add(client, word)
        await until(lambda: events(items)[-1:] == [b"39"])
    assert events(items) == [word.encode() for word in words]


@pytest.mark.long
async def test_tells_of_an_outage(redis_server: RedisServer, logs: list[Any]) -> None:
    """An outage is one line when it begins and one when it is over, however many attempts fail."""
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()):
        await until(lambda: bus.stats.up)
        before = time.monotonic()
        with redis_server.stopped():
            attempts = len(logs)
            await until(lambda: time.monotonic() - before > 0.8)
            assert before <= (bus.stats.down_since or 0) <= time.monotonic()
            assert len(logs) - attempts <= 1
        await until(lambda: bus.stats.up)
    [lost] = named(logs, "bus.disconnected", "stream")
    back = named(logs, "bus.connected", "stream")[-1]
    assert (lost["log_level"], lost["address"]) == ("warning", redis_server.url)
    assert (back["log_level"], back["outage"] > 0.5) == ("info", True)
    assert bus.stats.down_since is None


async def test_decides_without_redis(logs: list[Any]) -> None:
    """The first attempt decides, also when nobody is there."""
    bus = bus_at(f"redis://{LOOPBACK}:{free_port()}")
    async with reading(bus.stream()) as items:
        await asyncio.wait_for(bus.decided.wait(), 5)
    assert (items, bus.stats.up, bus.stats.reconnects) == ([], False, 0)
    assert "refused" in logs[0]["error"]


async def test_decides_with_a_frozen_redis(redis_server: RedisServer, logs: list[Any]) -> None:
    """A server that accepts and does not answer is no reason to wait longer."""
    bus = bus_at(redis_server.url)
    with redis_server.paused():
        async with reading(bus.stream()):
            await asyncio.wait_for(bus.decided.wait(), 5)
    assert "no connection within 0.4 s" in logs[0]["error"]


async def test_decides_with_redis(redis_server: RedisServer) -> None:
    """Whoever waits for the decision finds the position already told."""
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()) as items:
        await bus.decided.wait()
        assert gaps(items) == [None]
    assert "stream" in bus.stats.proofs


@pytest.mark.parametrize("what", ["flush", "stream", "epoch", "entries"])
async def test_another_history(
    what: str, redis_server: RedisServer, client: Any, logs: list[Any]
) -> None:
    """Another history is noticed while connected, counted, told, and read from its end on."""
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()) as items:
        await until(lambda: items)
        add(client, "1")
        await until(lambda: events(items))
        {
            "flush": client.flushall,
            "stream": lambda: client.delete(EVENTS),
            "epoch": lambda: client.delete(EPOCH),
            "entries": lambda: client.xtrim(EVENTS, maxlen=0, approximate=False),
        }[what]()
        await until(lambda: gaps(items)[1:])
        add(client, "2")
        await until(lambda: events(items)[1:])
    assert items[0].epoch != items[2].epoch == client.get(EPOCH).decode()
    assert (items[2].gap, bus.stats.gaps) == (named(logs, "bus.gap")[0]["reason"], 1)
    assert "epoch" in items[2].gap


async def test_clock_that_went_back(redis_server: RedisServer, client: Any) -> None:
    """A stream whose ids are lower than ours is a gap, and read from its end on."""
    async with reading(bus_at(redis_server.url).stream()) as items:
        await until(lambda: items)
        with client.pipeline() as transaction:
            transaction.delete(EVENTS)
            transaction.xadd(EVENTS, {"event": "1"}, id="7-7")
            transaction.execute()
        await until(lambda: gaps(items)[1:])
        client.xadd(EVENTS, {"event": "2"}, id="7-8")
        await until(lambda: events(items))
    assert (items[1].last_id, events(items)) == ("7-7", [b"2"])
    assert "ends before" in items[1].gap


async def test_trimmed_during_an_outage(redis_server: RedisServer, client: Any) -> None:
    """After an outage that the stream does not reach back over comes a gap."""
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()) as items:
        await until(lambda: bus.stats.up)
        redis_server.stop()
        await until(lambda: not bus.stats.up)
        with RedisServer(redis_server.folder, persistent=True):
            add(client, "1", "2", "3")
            client.xtrim(EVENTS, maxlen=2, approximate=False)
        redis_server.start()
        await until(lambda: gaps(items)[1:])
        add(client, "4")
        await until(lambda: events(items))
    assert (events(items), bus.stats.recovered) == ([b"4"], 0)
    assert "trimmed" in items[1].gap


async def test_trimmed_while_behind(redis_server: RedisServer, client: Any) -> None:
    """A reader whom the trimming overtakes is told of the gap, not given the rest."""
    async with aclosing(bus_at(redis_server.url).stream()) as stream:
        await anext(stream)
        add(client, *map(str, range(1000)))
        client.xtrim(EVENTS, maxlen=500, approximate=False)
        position: Any = await anext(stream)
    assert "trimmed" in position.gap
    assert position.last_id == client.xinfo_stream(EVENTS)["last-generated-id"].decode()


async def test_trimmed_while_held_up(redis_server: RedisServer, client: Any) -> None:
    """The same goes for few entries, when the reader was away for longer than a read takes."""
    async with aclosing(bus_at(redis_server.url).stream()) as stream:
        await anext(stream)
        began = time.monotonic()
        add(client, "1", "2", "3")
        client.xtrim(EVENTS, maxlen=2, approximate=False)
        await until(lambda: time.monotonic() - began > 0.5)
        position: Any = await anext(stream)
    assert "trimmed" in position.gap


@pytest.mark.parametrize(
    ("first", "last", "missed"),
    [
        ("5-0", "5-0", False),
        ("4-9", "5-1", False),
        ("5-1", "9-0", True),
        ("10-0", "10-0", True),
        ("1-0", "4-18446744073709551615", True),
    ],
)
def test_gap(first: str, last: str, missed: bool) -> None:  # noqa: FBT001 - the table's column
    """All entries behind a position follow only if one as old is left and the last is not older."""
    assert bool(gap(first, "5-0", last)) is missed


@pytest.mark.long
async def test_removed_entry(redis_server: RedisServer, client: Any) -> None:
    """That an operator removes the last entry is no gap."""
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()) as items:
        await until(lambda: items)
        client.xdel(EVENTS, client.xadd(EVENTS, {"event": "1"}))
        began = time.monotonic()
        await until(lambda: bus.stats.proofs.get("stream", 0) > began + 0.9)
        add(client, "2")
        await until(lambda: b"2" in events(items))
    assert gaps(items) == [None]


async def test_burst(redis_server: RedisServer, client: Any) -> None:
    """A burst is read in batches of at most 256 KiB, and of not much less."""
    async with reading(bus_at(redis_server.url).stream()) as items:
        await until(lambda: items)
        await asyncio.to_thread(add, client, *["x" * 2000] * 1000)
        await until(lambda: len(events(items)) >= 1000)
    sizes = [sum(map(len, events([item]))) for item in items[1:]]
    assert max(sizes) <= BATCH_BYTES
    assert len(sizes) <= 12


async def test_control_ends_a_batch(redis_server: RedisServer, client: Any) -> None:
    """A batch ends behind every control entry."""
    async with reading(bus_at(redis_server.url).stream()) as items:
        await until(lambda: items)
        with client.pipeline() as transaction:
            for name in ("event", "event", "control", "control", "event"):
                transaction.xadd(EVENTS, {name: "{}"})
            transaction.execute()
        await until(lambda: len(events(items)) >= 3)
    assert [len(item.entries) for item in items[1:]] == [3, 1, 1]


def test_batches() -> None:
    """An entry larger than a batch may be is one of its own."""
    sizes = [1, BATCH_BYTES * 2, 1, BATCH_BYTES - 10, 0, 100]
    found = batches("pubsub", [(None, {b"event": b"x" * size}) for size in sizes])
    assert [len(batch.entries) for batch in found] == [1, 1, 1, 2, 1]
    assert batches("pubsub", []) == []


async def test_demoted_master(redis_server: RedisServer, client: Any, logs: list[Any]) -> None:
    """A master that becomes a replica is dropped, and read on from when it is one again."""
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()) as items:
        await until(lambda: bus.stats.up)
        client.replicaof(LOOPBACK, free_port())
        await until(lambda: named(logs, "bus.demoted"))
        client.replicaof("NO", "ONE")
        add(client, "1")
        await until(lambda: bus.stats.up and events(items))
    assert (events(items), gaps(items)) == ([b"1"], [None])
    assert named(logs, "bus.disconnected") == []
    assert named(logs, "bus.demoted")[0]["error"] == "the server became a replica"


@pytest.mark.parametrize("address", ["redis://:{}@{}:{}", "unix://:{}@{}?db=0"])
async def test_wrong_password(
    address: str, redis_server: RedisServer, client: Any, logs: list[Any]
) -> None:
    """A wrong password is said once, with what to do, and the daemon keeps trying."""
    client.config_set("requirepass", "right")
    place = (LOOPBACK, redis_server.port) if "redis:" in address else (redis_server.socket,)
    bus = bus_at(address.format("s3cret", *place))
    async with reading(bus.stream()):
        await until(lambda: logs)
        assert "check the user and the password" in logs[0]["hint"]
        client.config_set("requirepass", "s3cret")
        await until(lambda: bus.stats.up)
    assert [line["event"] for line in logs] == ["bus.disconnected", "bus.connected"]
    assert "s3cret" not in repr(logs)


async def test_missing_password(redis_server: RedisServer, client: Any, logs: list[Any]) -> None:
    """A password that Redis wants while links are up is said beside the outage itself."""
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()):
        await until(lambda: bus.stats.up)
        client.config_set("requirepass", "right")
        for id_ in links(client):
            client.client_kill_filter(_id=id_)
        await until(lambda: named(logs, "bus.disconnected")[1:])
        client.config_set("requirepass", "")
        await until(lambda: bus.stats.up)
    [cut, refused] = named(logs, "bus.disconnected")
    assert "hint" not in cut
    assert "Authentication required" in refused["error"]


async def test_wrong_type(redis_server: RedisServer, client: Any, logs: list[Any]) -> None:
    """A key that another program uses is said, with what to do, and the daemon keeps trying."""
    client.set(EVENTS, "something else")
    async with reading(bus_at(redis_server.url).stream()) as items:
        await until(lambda: logs)
        assert "choose another [redis] prefix" in logs[0]["hint"]
        client.delete(EVENTS)
        await until(lambda: items)
    assert named(logs, "bus.gap") == []


async def test_read_only_replica(redis_server: RedisServer, client: Any, logs: list[Any]) -> None:
    """An address that leads to a replica is said."""
    client.replicaof(LOOPBACK, free_port())
    async with reading(bus_at(redis_server.url).stream()) as items:
        await until(lambda: logs)
    assert (logs[0]["event"], items) == ("bus.demoted", [])
    assert logs[0]["error"] == "the server is a replica"


async def test_user_with_few_permissions(
    redis_server: RedisServer, client: Any, logs: list[Any]
) -> None:
    """The permissions that the hint asks for are enough, with trimming, in any database."""
    client.execute_command("ACL", "SETUSER", "site", "on", ">secret", *RULES)
    bus = bus_at(f"redis://site:secret@{LOOPBACK}:{redis_server.port}/3", history=0.1)
    async with reading(bus.stream()), reading(bus.pubsub()) as messages:
        await until(lambda: bus.stats.up)
        began = time.monotonic()
        await until(lambda: bus.stats.proofs.get("stream", 0) > began + 0.2)
        client.publish("events", "x")
        await until(lambda: messages)
    assert {line["event"] for line in logs} == {"bus.connected"}


@pytest.mark.parametrize("missing", ["eval", "xread", "subscribe", "publish", "xinfo", "get"])
async def test_user_without_a_permission(
    missing: str, redis_server: RedisServer, client: Any, logs: list[Any]
) -> None:
    """A permission that is missing is said once, with what to do, not as a link that flaps."""
    rules = [*RULES, f"-{missing}"]
    client.execute_command("ACL", "SETUSER", "site", "on", ">secret", *rules)
    bus = bus_at(f"redis://site:secret@{LOOPBACK}:{redis_server.port}")
    async with reading(bus.stream()), reading(bus.pubsub()):
        await until(lambda: named(logs, "bus.disconnected"))
        client.execute_command("ACL", "SETUSER", "site", f"+{missing}")
        await until(lambda: bus.stats.up)
    [line] = named(logs, "bus.disconnected")
    assert "let this user run" in line["hint"]


@pytest.mark.long
async def test_user_who_may_not_ask_for_the_role(
    redis_server: RedisServer, client: Any, logs: list[Any]
) -> None:
    """A server that doesn't say whether it is a master is taken for one."""
    client.execute_command("ACL", "SETUSER", "default", "-role", "-client")
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()) as items:
        began = time.monotonic()
        await until(lambda: bus.stats.proofs.get("stream", 0) > began + 0.9)
        add(client, "1")
        await until(lambda: events(items))
    assert [line["event"] for line in logs] == ["bus.connected"]


async def test_trims_to_the_newest(redis_server: RedisServer, client: Any) -> None:
    """Trimming by age leaves the newest 1,000 entries, however old they are."""
    with client.pipeline() as transaction:
        for number in range(1, 3001):
            transaction.xadd(EVENTS, {"event": "x"}, id=f"{number}-1")
        transaction.execute()
    async with reading(bus_at(redis_server.url, history=0.2).stream()):
        # Whole nodes of the stream, of a hundred entries at most, are removed or left.
        await until(lambda: client.xlen(EVENTS) < KEEP + 100)
    assert client.xlen(EVENTS) >= KEEP
    assert client.xrevrange(EVENTS, count=KEEP)[-1][0] == b"2002-1"


@pytest.mark.long
async def test_trims_by_age(redis_server: RedisServer, client: Any) -> None:
    """Trimming is by age, reckoned from the newest id and not from a clock."""
    client.set(EPOCH, "one")
    with client.pipeline() as transaction:
        for number in range(4000):
            transaction.xadd(EVENTS, {"event": "x"}, id=f"{10_000 + number}-1")
        transaction.execute()
    async with reading(bus_at(redis_server.url, history=2.0).stream()):
        await until(lambda: client.xlen(EVENTS) < 4000)
    assert 2000 <= client.xlen(EVENTS) <= 2100
    assert client.xinfo_stream(EVENTS)["last-generated-id"] == b"13999-1"


@pytest.mark.long
async def test_trimming_may_fail(redis_server: RedisServer, client: Any, logs: list[Any]) -> None:
    """A stream that can't be trimmed is read all the same, and said once."""
    add(client, *["x"] * (KEEP + 1))
    client.execute_command("ACL", "SETUSER", "default", "-xtrim")
    bus = bus_at(redis_server.url, history=0.1)
    async with reading(bus.stream()) as items:
        await until(lambda: named(logs, "bus.untrimmed"))
        began = time.monotonic()
        await until(lambda: bus.stats.proofs.get("stream", 0) > began + 0.9)
        add(client, "1")
        await until(lambda: events(items))
    assert [line["event"] for line in logs] == ["bus.connected", "bus.untrimmed"]


async def test_proof(redis_server: RedisServer) -> None:
    """While nothing is written either way is proved again and again, and then no more."""
    bus = bus_at(redis_server.url)
    async with reading(bus.stream()), reading(bus.pubsub()):
        await until(lambda: bus.stats.up)
        for _ in range(2):
            earlier = dict(bus.stats.proofs)
            await until(lambda: all(bus.stats.proofs[way] > earlier[way] for way in SOURCES))  # noqa: B023 - called at once
        with redis_server.paused():
            await until(lambda: min(bus.stats.ages().values()) > 1)
        await until(lambda: max(bus.stats.ages().values()) < 1)


async def test_proof_without_redis() -> None:
    """What was never proved is as old as the daemon."""
    ages = bus_at(f"redis://{LOOPBACK}:{free_port()}").stats.ages()
    assert [*ages] == [*SOURCES]
    assert max(ages.values()) < 1


async def test_messages_come_verbatim(redis_server: RedisServer, client: Any) -> None:
    """A message of the channel comes as it was published, without an id."""
    bus = bus_at(redis_server.url)
    async with reading(bus.pubsub()) as items:
        await until(lambda: bus.stats.up)
        client.publish("events", b"\xff not JSON\r\n")
        client.publish("other", b"not for us")
        await until(lambda: items)
    assert items == [Batch("pubsub", [(None, {b"event": b"\xff not JSON\r\n"})])]


async def test_messages_come_in_batches(redis_server: RedisServer, client: Any) -> None:
    """Messages that are already there come together, at most 256 KiB of them."""
    bus = bus_at(redis_server.url)
    async with reading(bus.pubsub()) as items:
        await until(lambda: bus.stats.up)
        with client.pipeline() as transaction:
            for number in range(2000):
                transaction.publish("events", f"{number:<1000}")
            await asyncio.to_thread(transaction.execute)
        await until(lambda: len(events(items)) >= 2000)
    assert [int(event) for event in events(items)] == list(range(2000))
    assert max(sum(map(len, events([item]))) for item in items) <= BATCH_BYTES
    assert len(items) < 1000


async def test_frozen_subscription(redis_server: RedisServer, client: Any, logs: list[Any]) -> None:
    """A subscription that has gone silent is noticed by its canary, and what it cost is said."""
    bus = bus_at(redis_server.url)
    async with reading(bus.pubsub()) as items:
        await until(lambda: bus.stats.up)
        with redis_server.paused():
            await until(lambda: named(logs, "bus.disconnected", "pubsub"))
        await until(lambda: bus.stats.up)
        client.publish("events", "1")
        await until(lambda: items)
    assert "Pub/Sub keeps none" in named(logs, "bus.connected")[-1]["lost"]
    assert bus.stats.reconnects == 1


async def test_silent_subscription(redis_server: RedisServer, logs: list[Any]) -> None:
    """A subscription that brings nothing, though its server answers, does not count."""
    async with proxy(redis_server.port, until=b"SUBSCRIBE") as port:
        bus = bus_at(f"redis://{LOOPBACK}:{port}")
        async with reading(bus.pubsub()):
            await until(lambda: logs)
            assert not bus.stats.up
    assert "no message came back" in logs[0]["error"]


async def test_lost_subscription(redis_server: RedisServer, client: Any) -> None:
    """A subscription whose messages don't come, though its server answers, is renewed."""
    bus = bus_at(redis_server.url)
    async with reading(bus.pubsub()) as items:
        await until(lambda: bus.stats.up)
        # Redis takes the channels from a user who loses the right to them by cutting the link.
        client.execute_command("ACL", "SETUSER", "default", "resetchannels")
        await until(lambda: not bus.stats.up)
        client.execute_command("ACL", "SETUSER", "default", "allchannels")
        await until(lambda: bus.stats.up)
        client.publish("events", "1")
        await until(lambda: items)
    assert events(items) == [b"1"]


@pytest.mark.long
async def test_held_up_itself(redis_server: RedisServer, client: Any) -> None:
    """A daemon that was held up finds its messages, and does not take the link for dead."""
    bus = bus_at(redis_server.url)
    expected = []
    async with reading(bus.pubsub()) as items:
        await until(lambda: bus.stats.up)
        for word in (b"1", b"2", b"3"):
            expected.append(word)
            client.publish("events", word)
            time.sleep(0.9)  # noqa: ASYNC251 - to block the loop is the point
            await until(lambda: events(items) == expected)
    assert bus.stats.reconnects == 0


async def test_both_links_count(redis_server: RedisServer, client: Any) -> None:
    """The bus is up when both links are, and nothing stays open when it was read."""
    bus = bus_at(redis_server.unix_url)
    async with reading(bus.stream()):
        async with reading(bus.pubsub()):
            await until(lambda: bus.stats.up and len(links(client)) == 3)
        await until(lambda: len(links(client)) == 1)
        assert bus.stats.up
    await until(lambda: links(client) == [])
    assert (bus.stats.up, bus.stats.down_since) == (False, None)


@pytest.mark.parametrize("source", ["stream", "pubsub"])
async def test_cancelled_at_any_moment(
    source: str, redis_server: RedisServer, client: Any, logs: list[Any]
) -> None:
    """A reader who is cancelled ends, whatever it is about to do."""
    for moment in range(0, 300, 3):
        async with reading(getattr(bus_at(redis_server.url), source)()):
            for _ in range(moment):
                await asyncio.sleep(0)
    await until(lambda: links(client) == [])
    assert named(logs, "bus.disconnected") == []


async def test_resumes_where_another_stopped(redis_server: RedisServer, client: Any) -> None:
    """A bus that goes on from a position reads what follows it, and says nothing of a gap."""
    async with reading(bus_at(redis_server.url).stream()) as items:
        await until(lambda: items)
    [positioned] = items
    for number in range(3):
        add(client, str(number))
    bus = bus_at(redis_server.url)
    bus.resume(positioned.epoch, positioned.last_id)
    async with reading(bus.stream()) as items:
        await until(lambda: len(events(items)) == 3)
    assert events(items) == [b"0", b"1", b"2"]
    assert gaps(items) == []


async def test_resumes_in_another_history(redis_server: RedisServer, client: Any) -> None:
    """One that would go on in a history that is gone says so, and begins at the end."""
    bus = bus_at(redis_server.url)
    bus.resume("another", "5-0")
    add(client, "0")
    async with reading(bus.stream()) as items:
        await until(lambda: items)
    assert gaps(items) == ["the stream has another epoch: flushed, deleted, or another Redis"]


async def test_moves(redis_server: RedisServer, client: Any, folder: Path) -> None:
    """It goes on at another address, with that one's history."""
    (folder / "other").mkdir()
    with RedisServer(folder / "other") as other:
        bus = bus_at(redis_server.url)
        async with reading(bus.stream()) as items, reading(bus.pubsub()) as messages:
            await until(lambda: bus.stats.up)
            await bus.move(other.url)
            await until(lambda: len(gaps(items)) == 2 and bus.stats.up)
            add(client, "here")
            add(other.client(), "there")
            other.client().publish("events", "live")
            await until(lambda: events(items) == [b"there"] and messages)
    assert events(messages) == [b"live"]


async def test_close(redis_server: RedisServer, client: Any, logs: list[Any]) -> None:
    """Closing ends whoever reads, whatever they wait for, and is no outage."""
    bus = bus_at(redis_server.url, timeout=5.0)
    lost = bus_at(f"redis://{LOOPBACK}:{free_port()}")
    async with reading(bus.stream()), reading(bus.pubsub()), reading(lost.stream()):
        await until(lambda: bus.stats.up and lost.decided.is_set())
        await bus.close()
        await lost.close()
        await until(lambda: links(client) == [] and not bus.stats.up)
        await until(lambda: lost.stats.down_since is None)
    assert [item async for item in bus.stream()] == []
    assert len(named(logs, "bus.disconnected")) == 1


async def test_publish(redis_server: RedisServer, client: Any) -> None:
    """An event that the shell publishes comes with its rule and trace, behind the first entry."""
    for word in (b"1", b"2"):
        id_ = await publish(
            redis_server.url,
            prefix="notifyd",
            payload=word,
            rule=b"{}" if word == b"1" else None,
            maxlen=10,
            traceparent=b"00" if word == b"1" else None,
        )
    entries = client.xrange(EVENTS)
    assert [fields for _, fields in entries[1:]] == [
        {b"event": b"1", b"to": b"{}", b"traceparent": b"00"},
        {b"event": b"2"},
    ]
    assert (entries[2][0].decode(), b"control" in entries[0][1]) == (id_, True)


async def test_publish_trims(redis_server: RedisServer, client: Any) -> None:
    """Publishing keeps the stream at about its greatest length."""
    add(client, *["x"] * 1000)
    await publish(redis_server.url, prefix="notifyd", payload=b"1", rule=None, maxlen=300)
    assert 300 <= client.xlen(EVENTS) <= 400


async def test_publish_fails_in_words(redis_server: RedisServer, client: Any) -> None:
    """What keeps an event from being published is said in words, without the password."""

    async def words(url: str) -> str:
        with pytest.raises(BusError) as caught:
            await publish(url, prefix="notifyd", payload=b"{}", rule=None, maxlen=10)
        assert "s3cret" not in repr(caught.value)
        return str(caught.value)

    place = f"{LOOPBACK}:{redis_server.port}"
    assert "must begin with redis://" in await words("http://:s3cret@example.com")
    assert "check the user" in await words(f"redis://me:s3cret@{place}")
    assert "refused" in await words(f"redis://:s3cret@{LOOPBACK}:{free_port()}")
    client.set(EVENTS, "something else")
    assert "WRONGTYPE" in await words(redis_server.url)
    client.delete(EVENTS)
    client.config_set("maxmemory", 1)
    assert "raise its maxmemory" in await words(redis_server.url)


async def test_publish_may_be_unknown(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event whose publication was not answered is said to be of unknown fate."""
    monkeypatch.setattr("notifyd.daemon.bus.PATIENCE", 0.5)
    async with proxy(redis_server.port, until=b"MAXLEN") as port:
        with pytest.raises(BusError, match="it is unknown whether"):
            await publish(
                f"redis://{LOOPBACK}:{port}", prefix="notifyd", payload=b"", rule=None, maxlen=10
            )


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls(
    trusted: bool,  # noqa: FBT001 - the two cases
    redis_server: RedisServer,
    certificate: Path,
    logs: list[Any],
) -> None:
    """A rediss:// address is encrypted, and its certificate checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    options = f"?ssl_ca_certs={certificate}" if trusted else ""
    async with proxy(redis_server.port, context=context) as port:
        bus = bus_at(f"rediss://{LOOPBACK}:{port}/0{options}")
        async with reading(bus.stream()) as items:
            await until(lambda: items if trusted else logs)
    assert bool(items) is trusted
    assert "ssl_ca_certs" in logs[0].get("hint", options)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:pass%2Fword@[::1]:6380/2?protocol=3&socket_timeout=1&decode_responses=true",
        "rediss://user:password@redis.example.com:6379/0?ssl_cert_reqs=none",
        "unix:///run/redis/redis.sock",
        "unix:///run/redis/redis.sock?db=2&password=x",
    ],
)
def test_good_addresses(url: str) -> None:
    """redis://, rediss:// and unix:// addresses are good, whatever else a cache's URL sets."""
    assert check_url(url) is None
    assert "pass" not in str(RedisURL(url))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "must begin with redis://"),
        ("localhost:6379", "must begin with redis://"),
        ("http://secret@localhost", "must begin with redis://"),
        ("redis+sentinel://:secret@a:1,b:2/service/0", "Sentinel addresses are not supported yet"),
        ("redis+cluster://:secret@a:1", "Redis Cluster is not supported yet"),
        ("redis://:secret@a:1,b:2", "names several hosts"),
        ("redis://:secret@a,b", "names several hosts"),
        ("redis://:secret/more@localhost:6379", "percent-encoded"),
        ("redis://:12?secret@localhost:6379", "no host"),
        ("redis://:secret#more@localhost:6379", "percent-encoded"),
        ("redis://localhost:6379#secret", "%23"),
        ("redis://localhost:99999", "port must be a number"),
        ("redis://localhost/secret", "the database"),
        ("redis://localhost/1/2", "the database"),
        ("redis://localhost?db=secret", "behind the question mark"),
        ("rediss://localhost?ssl_secret=1", "behind the question mark"),
        ("rediss://localhost?ssl_cert_reqs=secret", "behind the question mark"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
    ],
)
def test_bad_addresses(url: str, words: str) -> None:
    """What is wrong with an address is said without any part of it."""
    fault = check_url(url)
    assert fault is not None
    assert words in fault
    assert "secret" not in fault
    with pytest.raises(ValueError, match=re.escape(fault)):
        bus_at(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:s3cret@localhost", "redis://localhost:6379/0"),
        ("rediss://:s3cret@[::1]:1/2", "rediss://[::1]:1/2"),
        ("unix:///a.sock?db=3&password=s3cret", "unix:///a.sock?db=3"),
    ],
)
def test_addresses_in_the_log(url: str, shown: str) -> None:
    """The log shows where Redis is, not how to log in, even if a server repeats the password."""
    address = RedisURL(url)
    assert str(address) == shown
    echo = address.explain(ValueError("unknown command `AUTH`, with args beginning with: s3cret"))
    assert "s3cret" not in echo["error"]
    assert address.explain(OSError()) == {"error": "OSError"}


async def test_fault(redis_server: RedisServer) -> None:
    """A Redis that answers has no fault; of one that is away the words say where it was sought."""
    assert await fault(redis_server.url, timeout=5) is None
    with redis_server.stopped():
        words = await fault(redis_server.url, timeout=5)
    assert words == f"{redis_server.url}: Connection refused"

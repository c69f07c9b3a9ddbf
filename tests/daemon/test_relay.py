from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from serving import AUDIENCE, batch, entry, pubsub, source
from structlog.testing import capture_logs

from notifyd.core.batch import Batch, Positioned
from notifyd.core.events import Rejection
from notifyd.core.hub import Hub
from notifyd.daemon.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable

BOB = '{"users": ["bob"], "content_types": [7]}'


class Sink:
    """A client that keeps what is written to it; `delay` is how long a write takes, in seconds."""

    def __init__(self, on_write: Callable[[Sink], None] = lambda _: None, delay: float = 0) -> None:
        self.writes: list[tuple[bytes, int]] = []
        self._on_write = on_write
        self._delay = delay

    def write(self, data: bytes, events: int) -> None:
        """Keep it."""
        self.writes.append((data, events))
        self._on_write(self)
        end = time.perf_counter() + self._delay
        while time.perf_counter() < end:
            pass


class Bench:
    """A relay and what it reports."""

    def __init__(self) -> None:
        self.hub: Hub[Sink] = Hub()
        self.resyncs: list[str] = []
        self.latencies: list[float] = []
        self.fanouts: list[float] = []
        self.relay = Relay(
            self.hub,
            resync=self.resyncs.append,
            observe_latency=self.latencies.append,
            observe_fanout=self.fanouts.append,
        )

    def join(self, sink: Sink, user: str = "alice") -> Sink:
        """Let a client in."""
        self.hub.join(sink, user, AUDIENCE)
        return sink

    def leave(self, sink: Sink) -> None:
        """Take a client out."""
        self.hub.leave(sink, "alice")

    async def run(self, *items: Batch | Positioned) -> None:
        """Relay the items."""
        await self.relay.run(source(*items))


def frame(text: str) -> bytes:
    """Return the frame of a short event (RFC 6455 section 5.2)."""
    return bytes([0x81, len(text)]) + text.encode()


async def test_one_write_for_a_batch() -> None:
    """A client gets its part of a batch in one write, in order, each event with its id."""
    bench = Bench()
    sink = bench.join(Sink())
    everyone = '{"everyone": true}'
    await bench.run(batch(entry(1, "{}", to=everyone), entry(2, '{"a":1}', to=everyone)))
    data = frame('{"id": "1-0"}') + frame('{"id": "2-0", "a":1}')
    assert sink.writes == [(data, 2)]


async def test_each_event_once() -> None:
    """However many of its audience's alternatives match, a client gets an event once."""
    bench = Bench()
    alice, bob = bench.join(Sink()), bench.join(Sink(), "bob")
    await bench.run(batch(entry(1, "{}", to=BOB), entry(2, "{}", to='{"users": ["bob"]}')))
    first, second = frame('{"id": "1-0"}'), frame('{"id": "2-0"}')
    assert (alice.writes, bob.writes) == ([(first, 1)], [(first + second, 2)])


async def test_unseen() -> None:
    """Whoever may not see an event isn't written to."""
    bench = Bench()
    sink = bench.join(Sink())
    await bench.run(batch(entry(1, '{"content_type_id": 8}'), entry(2, "{}", to='{"groups":[1]}')))
    assert sink.writes == []
    assert bench.relay.stats.deliveries == 0


async def test_counts() -> None:
    """Events are counted by their source, deliveries and bytes by their recipients."""
    bench = Bench()
    sinks = [bench.join(Sink()) for _ in range(300)]
    await bench.run(batch(entry(1), entry(2)), pubsub('{"content_type_id": 7}'))
    assert bench.relay.stats.events == {"stream": 2, "pubsub": 1}
    assert bench.relay.stats.deliveries == 900
    assert bench.relay.stats.delivered_bytes == 300 * sum(len(d) for d, _ in sinks[0].writes)


async def test_position() -> None:
    """The position is that of the last entry of the last batch of the stream."""
    bench = Bench()
    seen: list[str | None] = []
    bench.join(Sink(lambda _: seen.append(bench.relay.last_id)))
    await bench.run(batch(entry(1), entry(2)), batch(entry(3)))
    assert seen == [None, "2-0"]
    assert bench.relay.last_id == "3-0"


async def test_pubsub() -> None:
    """What came by Pub/Sub is relayed word for word, has no id and moves no position."""
    bench = Bench()
    sink = bench.join(Sink())
    await bench.run(batch(entry(1)), pubsub('{"content_type_id": 7}'))
    assert sink.writes[1:] == [(frame('{"content_type_id": 7}'), 1)]
    assert (bench.relay.last_id, len(bench.latencies)) == ("1-0", 1)


async def test_rejected_entries() -> None:
    """A bad entry is counted and logged once, without its content, and harms no other."""
    bench = Bench()
    sink = bench.join(Sink())
    secret = '{"content_type_id": 7, "id": "Xyzzy"}'
    bad: list[Any] = [entry(1, "Xyzzy"), entry(2, secret), entry(3, "{}"), ("4-0", {})]
    with capture_logs() as logs:
        await bench.run(batch(*bad, entry(5)), pubsub("[]"))
    assert sink.writes == [(frame('{"id": "5-0", "content_type_id": 7}'), 1)]
    assert [(line["reason"], line["id"], line["source"]) for line in logs] == [
        ("not_json", "1-0", "stream"),
        ("reserved_key", "2-0", "stream"),
        ("no_audience", "3-0", "stream"),
        ("not_json", "4-0", "stream"),
        ("not_object", None, "pubsub"),
    ]
    assert {(line["event"], line["log_level"]) for line in logs} == {("event.rejected", "warning")}
    assert "Xyzzy" not in str(logs)


async def test_rejected_count() -> None:
    """Every reason to reject an entry is counted by itself, from 0 on."""
    bench = Bench()
    assert bench.relay.stats.rejected == dict.fromkeys(Rejection, 0)
    with capture_logs():
        await bench.run(batch(entry(1, "{}"), entry(2, "{}"), entry(3, "[]")))
    assert bench.relay.stats.rejected[Rejection.NO_AUDIENCE] == 2
    assert bench.relay.stats.rejected[Rejection.NOT_OBJECT] == 1
    assert bench.relay.stats.events["stream"] == 0


async def test_rejected_entries_move_the_position() -> None:
    """The position goes past entries that no client gets."""
    bench = Bench()
    with capture_logs():
        await bench.run(batch(entry(1), entry(2, "")))
        assert bench.relay.last_id == "2-0"
        await bench.run(batch(("3-0", {b"control": b'{"start": true}'})))
    assert bench.relay.last_id == "3-0"


async def test_control_entries() -> None:
    """A control message is no event: no client gets it."""
    bench = Bench()
    sink = bench.join(Sink())
    await bench.run(batch(entry(1, "{}", to=BOB, control='{"start": true}')))
    assert sink.writes == []
    assert bench.relay.stats.events["stream"] == 0


async def test_first_position() -> None:
    """Clients who came before the position was known are told to load their state."""
    bench = Bench()
    await bench.run(Positioned("e", "9-0", None))
    assert (bench.relay.epoch, bench.relay.last_id) == ("e", "9-0")
    assert bench.resyncs == ["the daemon has just found its event bus"]


async def test_gap() -> None:
    """After a gap the clients are told to load their state, and the position is the new one."""
    bench = Bench()
    await bench.run(batch(entry(9)), Positioned("f", "2-0", "another history"), batch(entry(3)))
    assert (bench.relay.epoch, bench.relay.last_id) == ("f", "3-0")
    assert bench.resyncs == ["another history"]


async def test_latency() -> None:
    """The latency is observed once for each event of the stream, from the time in its id."""
    bench = Bench()
    bench.join(Sink())
    bench.join(Sink())
    past = int(time.time() * 1000) - 2000
    with capture_logs():
        await bench.run(batch(entry(past), entry(past + 500, "[]"), entry(past + 1000)))
    assert [int(seconds) for seconds in bench.latencies] == [2, 1]
    assert int(bench.relay.stats.lag) == 1
    assert bench.relay.stats.clamped == 0


async def test_latency_includes_the_fanout() -> None:
    """The latency ends when the last recipient was written to."""
    bench = Bench()
    for _ in range(3):
        bench.join(Sink(delay=0.02))
    now = int(time.time() * 1000)
    await bench.run(batch(entry(now)))
    assert 0.06 <= bench.latencies[0] < 2
    assert 0.06 <= bench.fanouts[0] < 2


async def test_latency_is_clamped() -> None:
    """A latency below 0 (Redis' clock is ahead) counts as 0, and is counted as such."""
    bench = Bench()
    await bench.run(batch(entry(int(time.time() * 1000) + 60_000)))
    assert (bench.latencies, bench.relay.stats.clamped, bench.relay.stats.lag) == ([0], 1, 0)


async def test_boundary_between_batches() -> None:
    """While nothing is written the present is a boundary."""
    bench = Bench()
    seen: list[str] = []
    bench.relay.at_boundary(lambda: seen.append("now"))
    assert seen == ["now"]


async def test_boundary_during_a_fanout() -> None:
    """What is to happen at a boundary happens after the fan-out and before the next batch."""
    bench = Bench()
    late = Sink()

    def on_write(_: Sink) -> None:
        if not late_joins:
            late_joins.append("asked")
            bench.relay.at_boundary(lambda: late_joins.append(bench.relay.last_id))
            bench.relay.at_boundary(lambda: bench.hub.join(late, "late", AUDIENCE))

    late_joins: list[str | None] = []
    sinks = [bench.join(Sink(on_write)) for _ in range(3)]
    await bench.run(batch(entry(1), entry(2)), batch(entry(3)))
    assert late_joins == ["asked", "2-0"]
    assert [len(sink.writes) for sink in sinks] == [2, 2, 2]
    assert late.writes == [(frame('{"id": "3-0", "content_type_id": 7}'), 1)]


async def test_fanout_yields() -> None:
    """A large fan-out lets other tasks have their turn."""
    bench = Bench()
    sinks = [bench.join(Sink(delay=0.0001)) for _ in range(1000)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while not all(sink.writes for sink in sinks):
            turns += any(sink.writes for sink in sinks)
            await asyncio.sleep(0)

    await asyncio.gather(bench.run(batch(entry(1))), others())
    assert turns >= 3


async def test_small_fanout_does_not_yield() -> None:
    """A small fan-out is over in one turn of the loop."""
    bench = Bench()
    sinks = [bench.join(Sink()) for _ in range(100)]
    running = asyncio.create_task(bench.run(batch(entry(1))))
    await asyncio.sleep(0)
    assert {len(sink.writes) for sink in sinks} == {1}
    await running


async def test_one_batch_at_a_time() -> None:
    """Batches of two sources don't mix: each is written to everybody before the other begins."""
    bench = Bench()
    order: list[str] = []

    def on_write(sink: Sink) -> None:
        order.append("stream" if b'"id"' in sink.writes[-1][0] else "pubsub")

    for _ in range(500):
        bench.join(Sink(on_write, delay=0.0001))
    await asyncio.gather(
        bench.run(batch(entry(1)), batch(entry(2))),
        bench.run(pubsub('{"content_type_id": 7}'), pubsub('{"content_type_id": 7}')),
    )
    runs = [set(order[start : start + 500]) for start in range(0, 2000, 500)]
    assert sorted(map(list, runs)) == [["pubsub"], ["pubsub"], ["stream"], ["stream"]]


async def test_departures_during_a_fanout() -> None:
    """Whoever leaves during a fan-out doesn't disturb it for the others."""
    bench = Bench()
    staying = [bench.join(Sink(delay=0.0001)) for _ in range(200)]
    leaving = [bench.join(Sink(bench.leave, delay=0.0001)) for _ in range(200)]
    await bench.run(batch(entry(1)), batch(entry(2)))
    assert {len(sink.writes) for sink in staying} == {2}
    assert {len(sink.writes) for sink in leaving} == {1}

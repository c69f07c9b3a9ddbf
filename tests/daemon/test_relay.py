from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from neighbours import AUDIENCE, batch, control, entries, entry, pubsub, source
from sinks import Sink
from structlog.testing import capture_logs
from waiting import until

from notifyd.core.batch import Batch, Positioned
from notifyd.core.controls import EVERYBODY, Order
from notifyd.core.events import Rejection
from notifyd.core.history import History
from notifyd.core.hub import Hub
from notifyd.daemon.relay import Relay
from notifyd.daemon.relay_feeder import Feeder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from notifyd.core.audience import Audience
    from notifyd.core.positions import Position
    from notifyd.core.traceparent import Passage

BOB = '{"users": ["bob"], "content_types": [7]}'


class Bench:
    """A relay with its feeder, and what it reports."""

    def __init__(self) -> None:
        self.hub: Hub[Sink] = Hub()
        self.history = History(10_000_000)
        self.feeder: Feeder[Sink] = Feeder(self.hub, self.history, left_behind=lambda _: None)
        self.orders: list[tuple[Position, Order]] = []
        self.restarts: list[tuple[Position, str]] = []
        self.latencies: list[tuple[list[float], float, str]] = []
        self.fanouts: list[float] = []
        self.passages: list[Passage] = []
        self.relay = Relay(
            self.hub,
            self.history,
            self.feeder,
            obey=self.obey,
            restarted=lambda *restart: self.restarts.append(restart),
            observe_latency=lambda *latency: self.latencies.append(latency),
            observe_fanout=self.fanouts.append,
            trace=self.passages.append,
        )

    def obey(self, position: Position, order: Order) -> None:
        """Keep it."""
        self.orders.append((position, order))

    def join(self, sink: Sink, user: str = "alice") -> Sink:
        """Let a client in."""
        self.hub.join(sink, user, AUDIENCE)
        return sink

    def put(self, sink: Sink, position: int, audience: Audience | None = AUDIENCE) -> Sink:
        """Have a client behind."""
        self.feeder.put(sink, "alice", audience, (position, 0))
        return sink

    def leave(self, sink: Sink) -> None:
        """Take a client out."""
        self.hub.leave(sink, "alice")

    async def run(self, *items: Batch | Positioned) -> None:
        """Relay the items."""
        await self.relay.run(source(*items))

    @contextlib.asynccontextmanager
    async def feeding(self) -> AsyncIterator[None]:
        """Serve those who are behind meanwhile."""
        task = asyncio.create_task(self.relay.feed())
        yield
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


def ids(first: int, last: int) -> list[str]:
    """Return the ids from one number to the other."""
    return [f"{n}-0" for n in range(first, last + 1)]


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
    assert bench.orders == [((1, 0), Order())]


async def test_orders() -> None:
    """What a control entry asks for is obeyed with its position."""
    bench = Bench()
    body = '{"recheck": {"users": [5, "x"]}, "disconnect": {"users": [6]}, "later": 1}'
    await bench.run(batch(entry(1), control(2, body)))
    order = Order(recheck_users=frozenset({"5", "x"}), disconnect=frozenset({"6"}))
    assert bench.orders == [((2, 0), order)]


async def test_orders_in_their_place() -> None:
    """When an order is obeyed, all before it was written, nothing behind it, and it is passed."""
    bench = Bench()
    sinks = [bench.join(Sink(delay=0.0001)) for _ in range(300)]
    seen: list[Any] = []

    def obey(position: Position, _: Order) -> None:
        seen.append(({*map(str, (sink.ids for sink in sinks))}, position, bench.relay.position))

    bench.relay._obey = obey
    await bench.run(batch(*entries(1, 2), control(3, "{}")), batch(*entries(4, 5)))
    assert seen == [({"['1-0', '2-0']"}, (3, 0), (3, 0))]


async def test_suspended_by_an_order() -> None:
    """Whoever an order suspends gets nothing behind it until there is an audience, and then all."""
    bench = Bench()
    sink, other = bench.join(Sink()), bench.join(Sink(), "bob")

    def obey(position: Position, _: Order) -> None:
        bench.put(sink, position[0], None)

    bench.relay._obey = obey
    await bench.run(Positioned("e", "1-0", None))
    async with bench.feeding():
        await bench.run(batch(entry(2), control(3, "{}")), batch(entry(4)), batch(entry(5)))
        await asyncio.sleep(0)
        assert (sink.ids, other.ids) == (["2-0"], ["2-0", "4-0", "5-0"])
        bench.put(sink, 0)
        await until(lambda: sink.ids == ["2-0", "4-0", "5-0"])
        assert sink.heard == ["behind", "live"]


async def test_order_that_is_not_formed_well() -> None:
    """An order that can't be read is rejected, and obeyed as if it concerned everybody."""
    bench = Bench()
    with capture_logs() as logs:
        await bench.run(batch(control(1, '{"recheck": {"users": "Xyzzy"}}')))
    assert bench.orders == [((1, 0), EVERYBODY)]
    assert bench.relay.stats.rejected[Rejection.BAD_CONTROL] == 1
    [line] = logs
    assert (line["event"], line["reason"], line["id"]) == ("event.rejected", "bad_control", "1-0")
    assert "Xyzzy" not in str(line)


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"{Xyzzy", "not_json"), (b"\xff", "not_utf8"), (b"[1]", "not_object"), (b"", "not_json")],
)
async def test_order_that_is_no_object(body: bytes, reason: str) -> None:
    """A control entry that isn't even a JSON object is rejected as events are, and obeyed."""
    bench = Bench()
    fields = {b"control": body, b"event": b'{"content_type_id": 7}'}
    with capture_logs() as logs:
        await bench.run(batch(("1-0", fields)))
    assert bench.orders == [((1, 0), EVERYBODY)]
    assert [(line["reason"], line["source"]) for line in logs] == [(reason, "stream")]
    assert bench.relay.stats.rejected[Rejection(reason)] == 1


async def test_bad_event_is_no_order() -> None:
    """An event that is rejected orders nothing."""
    bench = Bench()
    with capture_logs():
        await bench.run(batch(entry(1, "[]"), entry(2, "{}")))
    assert bench.orders == []


async def test_no_orders_by_pubsub() -> None:
    """What came by Pub/Sub orders nothing, whatever it looks like."""
    bench = Bench()
    body = {b"control": b'{"disconnect": {"users": [1]}}'}
    with capture_logs():
        await bench.run(
            Batch("pubsub", [(None, body), (None, body | {b"event": b"[]"})]),
            pubsub('{"control": {"recheck": {"all": true}}, "content_type_id": 7}'),
        )
    assert bench.orders == []
    assert bench.relay.stats.events["pubsub"] == 1


async def test_first_position() -> None:
    """When the position becomes known, that is said, in words for clients who came before."""
    bench = Bench()
    assert (bench.relay.position, bench.relay.last_id, bench.relay.epoch) == (None, None, None)
    await bench.run(Positioned("e", "9-1", None))
    assert (bench.relay.position, bench.relay.last_id, bench.relay.epoch) == ((9, 1), "9-1", "e")
    assert bench.restarts == [((9, 1), "the daemon has just found its event bus")]


async def test_gap() -> None:
    """After a gap the position is the new one, and the reason is passed on."""
    bench = Bench()
    await bench.run(batch(entry(9)), Positioned("f", "2-0", "another history"), batch(entry(3)))
    assert (bench.relay.epoch, bench.relay.last_id) == ("f", "3-0")
    assert bench.restarts == [((2, 0), "another history")]


async def test_gap_while_clients_are_behind() -> None:
    """After a gap those who are behind go on from the new position, like everybody else."""
    bench = Bench()
    await bench.run(Positioned("e", "1-0", None), batch(*entries(2, 9)))
    some = [bench.put(Sink(), 3), bench.put(Sink(), 30), bench.put(Sink(), 0)]
    some[0].owed = 1
    async with bench.feeding():
        await bench.run(Positioned("f", "5-0", "another history"), batch(*entries(6, 7)))
        await until(lambda: len(bench.feeder) == 1)
        some[0].owed = 0
        bench.feeder.drained(some[0])
        await until(lambda: len(bench.feeder) == 0)
        await bench.run(batch(entry(8)))
    assert [sink.ids for sink in some] == [ids(6, 8)] * 3


async def test_missed() -> None:
    """What comes by Pub/Sub is missed by those who are behind, and that is counted."""
    bench = Bench()
    await bench.run(Positioned("e", "1-0", None))
    live, *behind = bench.join(Sink()), bench.put(Sink(), 1), bench.put(Sink(), 1)
    await bench.run(pubsub(*['{"content_type_id": 7}'] * 3))
    assert (bench.relay.stats.missed, [sink.writes for sink in behind]) == (6, [[], []])
    assert [events for _, events in live.writes] == [3]


@pytest.mark.long
@pytest.mark.parametrize("delay", [0, 0.0002])
async def test_replay_while_batches_flow(delay: float) -> None:
    """However batches and replays interleave, everybody gets everything once and in order."""
    bench = Bench()
    await bench.run(Positioned("e", "1-0", None), batch(*entries(2, 50, 20_000)))
    live = [bench.join(Sink(delay=delay)) for _ in range(200)]
    behind = []
    async with bench.feeding():
        for n in range(50, 90):
            behind += [bench.put(Sink(delay=delay), start) for start in (1, n // 2, n, n + 1)]
            # Whoever is put there is told the position before it.
            await bench.run(batch(*entries(n + 1, n + 1, 20_000)))
        await until(lambda: len(bench.feeder) == 0)
        await bench.run(batch(*entries(91, 92)))
    assert {*map(tuple, (sink.ids for sink in live))} == {tuple(ids(51, 92))}
    starts = [start for n in range(50, 90) for start in (1, n // 2, n, n + 1)]
    assert [sink.ids for sink in behind] == [ids(start + 1, 92) for start in starts]


async def test_feeding_yields() -> None:
    """While many are served who are behind, other tasks and batches have their turn."""
    bench = Bench()
    await bench.run(Positioned("e", "1-0", None), batch(entry(2)))
    sinks = [bench.put(Sink(delay=0.0005), 1) for _ in range(200)]
    async with bench.feeding():
        await until(lambda: any(sink.writes for sink in sinks))
        await bench.run(batch(entry(3)))
        assert len(bench.feeder) > 100
        await until(lambda: len(bench.feeder) == 0)
    assert {*map(tuple, (sink.ids for sink in sinks))} == {("2-0", "3-0")}


async def test_boundary_of_feeding() -> None:
    """What is to happen at a boundary happens when those served at the moment were served."""
    bench = Bench()
    seen: list[int] = []
    sinks: list[Sink] = []

    def on_write(_: Sink) -> None:
        bench.relay.at_boundary(lambda: seen.append(sum(len(sink.writes) for sink in sinks)))

    await bench.run(Positioned("e", "1-0", None), batch(entry(2)))
    sinks += [bench.put(Sink(on_write), 1) for _ in range(3)]
    async with bench.feeding():
        await until(lambda: seen)
    assert seen == [3, 3, 3]


async def test_boundary_within_a_boundary() -> None:
    """What is wanted between two batches while something happens there happens then, too."""
    bench = Bench()
    seen: list[str | None] = []

    def on_write(_: Sink) -> None:
        bench.relay.at_boundary(
            lambda: bench.relay.at_boundary(lambda: seen.append(bench.relay.last_id))
        )

    bench.join(Sink(on_write))
    await bench.run(batch(entry(1)))
    assert seen == ["1-0"]


async def test_latency() -> None:
    """The latency of each event of the stream is observed, from the time in its id."""
    bench = Bench()
    bench.join(Sink())
    bench.join(Sink())
    past = int(time.time() * 1000) - 2000
    with capture_logs():
        await bench.run(batch(entry(past), entry(past + 500, "[]"), entry(past + 1000)))
    [(until_read, _, last)] = bench.latencies
    assert [*map(int, until_read)] == [2, 1]
    assert last == f"{past + 1000}-0"
    assert int(bench.relay.stats.lag) == 1
    assert bench.relay.stats.clamped == 0


async def test_latency_includes_the_fanout() -> None:
    """The latency ends when the last recipient was written to."""
    bench = Bench()
    for _ in range(3):
        bench.join(Sink(delay=0.02))
    now = int(time.time() * 1000)
    await bench.run(batch(entry(now)))
    [(until_read, until_written, _)] = bench.latencies
    assert until_read[0] < 2
    assert 0.06 <= until_written < 2
    assert 0.06 <= bench.fanouts[0] < 2


async def test_latency_is_clamped() -> None:
    """A latency below 0 (Redis' clock is ahead) counts as 0, and is counted as such."""
    bench = Bench()
    await bench.run(batch(entry(int(time.time() * 1000) + 60_000)))
    [(until_read, _, _)] = bench.latencies
    assert (until_read, bench.relay.stats.clamped, bench.relay.stats.lag) == ([0], 1, 0)


async def test_orders_have_no_latency() -> None:
    """A batch of nothing but orders has no event, and no latency."""
    bench = Bench()
    await bench.run(batch(control(1, '{"recheck": {"all": true}}')))
    assert (bench.latencies, len(bench.orders)) == ([], 1)


async def test_latency_of_an_event_before_an_order() -> None:
    """The latency of a batch goes by the name of its last event, and not of what stands behind."""
    bench = Bench()
    await bench.run(batch(entry(1), control(2, '{"recheck": {"all": true}}')))
    assert [last for _, _, last in bench.latencies] == ["1-0"]


async def test_traces() -> None:
    """The passage of an event whose trace is recorded is told once, whoever gets it."""
    bench = Bench()
    bench.join(Sink())
    bench.join(Sink(delay=0.02))
    now = int(time.time() * 1000) - 1000
    ids = f"{'4' * 32}-{'b' * 16}"
    with capture_logs():
        await bench.run(
            batch(
                entry(now, traceparent=f"00-{ids}-01"),
                entry(now + 1),
                entry(now + 2, traceparent=f"00-{ids}-00"),
                entry(now + 3, traceparent="nonsense"),
                entry(now + 4, "[]", traceparent=f"00-{ids}-01"),
            )
        )
    [passage] = bench.passages
    assert str(passage.parent) == f"00-{ids}-01"
    assert (passage.id, passage.published) == (f"{now}-0", now / 1000)
    assert (passage.events, passage.deliveries) == (4, 8)
    assert now / 1000 + 1 <= passage.read <= passage.written - 0.02


async def test_traces_of_controls() -> None:
    """A control is no event: it has no passage, whatever it carries."""
    bench = Bench()
    id_, fields = control(1, '{"disconnect": {"users": ["7"]}}')
    header = f"00-{'4' * 32}-{'b' * 16}-01".encode()
    await bench.run(batch((id_, {**fields, b"traceparent": header})))
    assert bench.passages == []


async def test_begun() -> None:
    """While a batch is being written, it is known how far clients may already have come."""
    bench = Bench()
    seen: list[Position | None] = []
    bench.join(Sink(lambda _: seen.extend((bench.relay.begun, bench.relay.position))))
    assert bench.relay.begun is None
    await bench.run(Positioned("e", "1-0", None))
    assert bench.relay.begun == (1, 0)
    await bench.run(batch(entry(2), entry(3)))
    assert seen == [(3, 0), (1, 0)]
    await bench.run(Positioned("another", "1-5", "another history"))
    assert bench.relay.begun == (1, 5)


async def test_begun_by_another_process() -> None:
    """What another process has written to clients counts, too."""
    bench = Bench()
    bench.relay.resume("e", (7, 0))
    assert bench.relay.begun == (7, 0)


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

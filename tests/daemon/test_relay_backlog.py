from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from neighbours import AUDIENCE, COUNT, Shelf, batch, control, entries, entry, nothing, source
from sinks import Sink
from structlog.testing import capture_logs
from waiting import until

from notifyd.core.batch import Batch, Positioned
from notifyd.core.history import History
from notifyd.core.hub import Hub
from notifyd.core.positions import parse_position
from notifyd.daemon import relay_backlog
from notifyd.daemon.relay import Relay
from notifyd.daemon.relay_backlog import Backlog
from notifyd.daemon.relay_feeder import Feeder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from notifyd.core.positions import Position


class Bench:
    """A backlog with its shelf and its relay."""

    def __init__(self, most: int = 10_000_000) -> None:
        self.hub: Hub[Sink] = Hub()
        self.history = History(most)
        self.most = most
        self.shelf = Shelf()
        self.left: list[Sink] = []
        self.feeder = Feeder(self.hub, self.history, left_behind=self.left_behind)
        self.relay = Relay(
            self.hub,
            self.history,
            self.feeder,
            obey=lambda _position, _order: None,
            restarted=lambda _position, _reason: None,
            observe_latency=lambda *_: None,
            observe_fanout=lambda _seconds: None,
        )
        self.backlog = Backlog(
            self.history,
            self.feeder,
            self.shelf,
            epoch=lambda: self.relay.epoch,
            guard=self.relay.one_at_a_time,
        )

    def left_behind(self, sink: Sink) -> None:
        """Keep it, and have it gone."""
        self.left.append(sink)
        self.feeder.leave(sink, "alice")

    async def bring(self, *items: Batch | Positioned) -> None:
        """Relay what the bus brings, and keep it on the shelf."""
        for item in items:
            if isinstance(item, Positioned):
                self.shelf.epoch = item.epoch
                self.shelf.last = parse_position(item.last_id)
            else:
                self.shelf.add(*item.entries)
        await self.relay.run(source(*items))

    async def begin(self, at: int, last: int, size: int = 0) -> None:
        """Have a stream of so many entries, those up to a number from before our time."""
        self.shelf.add(*entries(1, at, size))
        await self.bring(Positioned("e", f"{at}-0", None))
        for number in range(at + 1, last + 1):
            await self.bring(batch(*entries(number, number, size)))

    def put(self, position: int) -> Sink:
        """Have a client behind that resumes from there."""
        sink = Sink()
        self.backlog.put(sink, "alice", AUDIENCE, (position, 0))
        return sink

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Serve those who are behind meanwhile."""
        working = [asyncio.create_task(work) for work in (self.relay.feed(), self.backlog.run())]
        yield
        assert not any(each.done() for each in working)
        for each in working:
            each.cancel()
        await asyncio.wait(working)

    async def caught_up(self) -> None:
        """Wait until nobody is behind."""
        await until(lambda: len(self.feeder) == 0)


def ids(first: int, last: int) -> list[str]:
    """Return the ids from one number to the other."""
    return [f"{n}-0" for n in range(first, last + 1)]


def number(position: Position | None) -> int | None:
    """Return the number of which a position was made, None for none."""
    return None if position is None else position[0]


# Of a stream of 20 entries the last 10 are in memory; two more have not been relayed yet.
@pytest.mark.parametrize("epoch", [None, "e"])
@pytest.mark.parametrize(
    ("since", "found", "asked"),
    [
        ("20-0", 20, 0),
        ("15-0", 15, 0),
        ("10-0", 10, 0),
        ("9-0", 9, 1),
        ("1-0", 1, 1),
        ("0-0", None, 1),
        ("0-9", None, 1),
        ("22-0", 22, 1),
        ("22-1", None, 1),
        ("18446744073709551615-0", None, 1),
    ],
)
async def test_locate(since: str, epoch: str | None, found: int | None, asked: int) -> None:
    """A client resumes within the stream; Redis is asked where memory doesn't tell."""
    bench = Bench()
    await bench.begin(10, 20)
    bench.shelf.add(*entries(21, 22))
    assert number(await bench.backlog.locate(since, epoch)) == found
    assert bench.shelf.asked == ["extent"] * asked


@pytest.mark.parametrize(
    "since",
    ["", "Xyzzy", "15", "15-", "015-0", "15-0 ", "15-0\n", "-1-0", "18446744073709551616-0"],
)
async def test_locate_nonsense(since: str) -> None:
    """What is no id is nowhere, and nobody is asked."""
    bench = Bench()
    await bench.begin(10, 20)
    assert await bench.backlog.locate(since, None) is None
    assert bench.shelf.asked == []


@pytest.mark.parametrize("since", ["15-0", "5-0", "50-0"])
async def test_locate_in_another_history(since: str) -> None:
    """A position in another history is nowhere in this one, and nobody is asked."""
    bench = Bench()
    await bench.begin(10, 20)
    assert await bench.backlog.locate(since, "d") is None
    assert bench.shelf.asked == []


async def test_locate_what_was_trimmed() -> None:
    """What the stream has lost, the client can't get all of."""
    bench = Bench()
    await bench.begin(10, 20)
    bench.shelf.trim(5)
    assert number(await bench.backlog.locate("5-0", None)) == 5
    assert await bench.backlog.locate("4-0", None) is None


async def test_locate_in_an_empty_stream() -> None:
    """In a stream whose entries are all gone nothing but its last position can be resumed from."""
    bench = Bench()
    await bench.bring(Positioned("e", "9-0", None))
    bench.history.reset((10, 0))
    assert number(await bench.backlog.locate("9-0", None)) == 9
    assert await bench.backlog.locate("8-0", None) is None


async def test_locate_for_many() -> None:
    """However many ask at once, and where, Redis is asked once."""
    bench = Bench()
    await bench.begin(10, 20)
    asking = [bench.backlog.locate(f"{n % 21}-0", "e") for n in range(500)]
    found = await asyncio.gather(*asking)
    assert [*map(number, found)] == [n % 21 or None for n in range(500)]
    assert bench.shelf.asked == ["extent"]


async def test_locate_behind_what_is_known() -> None:
    """Who is ahead of what Redis has told so far makes it be asked again."""
    bench = Bench()
    await bench.begin(10, 20)
    assert number(await bench.backlog.locate("5-0", None)) == 5
    bench.shelf.add(entry(21))
    assert number(await bench.backlog.locate("21-0", None)) == 21
    assert bench.shelf.asked == ["extent"] * 2


async def test_locate_by_what_a_page_has_told() -> None:
    """Where the stream begins is known, too, from the last time when older history was fetched."""
    bench = Bench()
    await bench.begin(10, 20)
    bench.shelf.trim(5)
    async with bench.at_work():
        bench.put(7)
        await bench.caught_up()
    assert await bench.backlog.locate("4-0", None) is None
    assert "extent" not in bench.shelf.asked


async def test_locate_for_many_who_wait() -> None:
    """However many wait for the same answer, all go on when it comes, and not one after another."""
    bench = Bench()
    await bench.begin(10, 20)
    answer = asyncio.Event()
    bench.shelf.meanwhile = answer.wait
    asking = [asyncio.create_task(bench.backlog.locate("5-0", "e")) for _ in range(500)]
    await until(lambda: bench.shelf.asked)
    answer.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert all(each.done() for each in asking)


async def test_locate_before_the_position_is_known() -> None:
    """Who asks before Redis was reached waits for that."""
    bench = Bench()
    bench.shelf.add(*entries(1, 10))
    asking = asyncio.create_task(bench.backlog.locate("5-0", "e"))
    await asyncio.sleep(0)
    assert not asking.done()
    await bench.bring(Positioned("e", "10-0", None))
    assert number(await asking) == 5


async def test_locate_while_redis_is_away() -> None:
    """Who asks while Redis is away waits until it is back."""
    bench = Bench()
    await bench.begin(10, 20)
    bench.shelf.away = True
    asking = asyncio.create_task(bench.backlog.locate("5-0", None))
    await until(lambda: len(bench.shelf.asked) > 1)
    assert number(await bench.backlog.locate("15-0", None)) == 15
    bench.shelf.away = False
    assert number(await asking) == 5


async def test_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks while Redis is away does not wait for ever."""
    monkeypatch.setattr(relay_backlog, "PATIENCE", 0.05)
    bench = Bench()
    assert await bench.backlog.locate("5-0", None) is None
    await bench.begin(10, 20)
    bench.shelf.away = True
    asking = [bench.backlog.locate("5-0", None) for _ in range(10)]
    assert await asyncio.gather(*asking) == [None] * 10


async def test_patience_with_an_answer_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives up an answer leaves the others theirs."""
    bench = Bench()
    await bench.begin(10, 20)
    answer = asyncio.Event()
    bench.shelf.meanwhile = answer.wait
    monkeypatch.setattr(relay_backlog, "PATIENCE", 0.05)
    assert await bench.backlog.locate("5-0", None) is None
    monkeypatch.undo()
    asking = asyncio.create_task(bench.backlog.locate("5-0", None))
    await until(lambda: len(bench.shelf.asked) == 2)
    answer.set()
    assert number(await asking) == 5


async def test_locate_in_a_history_not_yet_heard_of() -> None:
    """Where Redis has another history than the relay knows of, the relay is waited for."""
    bench = Bench()
    await bench.begin(10, 20)
    bench.shelf.epoch, bench.shelf.entries = "f", entries(1, 8)
    known = asyncio.create_task(bench.backlog.locate("5-0", "e"))
    anybody = asyncio.create_task(bench.backlog.locate("5-0", None))
    await until(lambda: len(bench.shelf.asked) > 2)
    assert not known.done()
    await bench.bring(Positioned("f", "8-0", "another history"))
    assert (await known, number(await anybody)) == (None, 5)


async def test_history_that_changes_while_it_is_asked_for() -> None:
    """An answer about a history that is gone when it arrives is none."""
    bench = Bench()
    await bench.begin(10, 20)

    async def change() -> None:
        bench.shelf.entries = entries(30, 38)
        await bench.bring(Positioned("f", "38-0", "another history"))

    bench.shelf.meanwhile = change
    assert await bench.backlog.locate("5-0", None) is None


async def test_older_than_memory() -> None:
    """What a client misses beyond memory is fetched page by page, and kept there."""
    bench = Bench()
    await bench.begin(20, 25)
    async with bench.at_work():
        first = bench.put(5)
        await bench.caught_up()
        assert {*bench.shelf.asked} == {"backward"}
        asked = len(bench.shelf.asked)
        assert 15 / COUNT <= asked <= 15 / (COUNT - 1) + 1
        second, third = bench.put(5), bench.put(12)
        await bench.caught_up()
        await bench.bring(batch(entry(26)))
    assert (first.ids, second.ids, third.ids) == (ids(6, 26), ids(6, 26), ids(13, 26))
    assert len(bench.shelf.asked) == asked


@pytest.mark.parametrize("start", range(1, 10))
async def test_every_page_length(start: int) -> None:
    """However what is missed falls into pages, nothing is lost where they meet."""
    bench = Bench()
    await bench.begin(9, 9)
    async with bench.at_work():
        starts = [start, max(1, start - 1), start]
        sinks = [bench.put(each) for each in starts]
        await bench.caught_up()
    assert [sink.ids for sink in sinks] == [ids(each + 1, 9) for each in starts]


async def test_control_entries_between() -> None:
    """Control entries and bad ones among the older entries are passed over."""
    bench = Bench()
    bench.shelf.add(entry(1), control(2, "{}"), entry(3), entry(4, "Xyzzy"), entry(5))
    await bench.bring(Positioned("e", "5-0", None))
    async with bench.at_work():
        sink = bench.put(1)
        await bench.caught_up()
    assert sink.ids == ["3-0", "5-0"]


async def test_many_at_once() -> None:
    """However many return together, what they miss is read once."""
    bench = Bench()
    await bench.begin(20, 25)
    async with bench.at_work():
        sinks = [bench.put(5 + n % 10) for n in range(300)]
        await bench.caught_up()
    assert [sink.ids for sink in sinks] == [ids(6 + n % 10, 25) for n in range(300)]
    assert len(bench.shelf.asked) <= 15 / (COUNT - 1) + 1


async def test_more_than_memory_holds() -> None:
    """What memory can't hold is read for all who need it, and memory keeps its bound."""
    bench = Bench(most=50_000)
    await bench.begin(60, 60, 10_000)
    highest = 0

    async def watch() -> None:
        nonlocal highest
        highest = max(highest, bench.history._bytes)

    bench.shelf.meanwhile = watch
    async with bench.at_work():
        sinks = [bench.put(start) for start in [1, 30, 50, 1] * 50]
        await bench.caught_up()
        await bench.bring(batch(*entries(61, 62, 10_000)))
    assert [sink.ids for sink in sinks] == [ids(n + 1, 62) for n in [1, 30, 50, 1] * 50]
    assert 0 < highest < 50_000 + 11_000
    assert len(bench.shelf.asked) < 40


@pytest.mark.parametrize("most", [20_000, 50_000, 100_000, 10_000_000])
async def test_batches_that_flow_while_older_are_fetched(most: int) -> None:
    """With every answer of Redis the stream may have moved on, and still everybody is served."""
    bench = Bench(most)
    await bench.begin(20, 40, 9_000)
    sinks: list[Sink] = []

    async def flow() -> None:
        if len(sinks) < 10:
            sinks.append(bench.put(len(sinks) * 2 + 1))
        new = (bench.relay.position or (0, 0))[0] + 1
        await bench.bring(batch(*entries(new, new, 9_000)))

    bench.shelf.meanwhile = flow
    async with bench.at_work():
        first = bench.put(2)
        await until(lambda: len(first.ids) >= 40)
        bench.shelf.meanwhile = nothing
        await bench.caught_up()
    last = (bench.relay.position or (0, 0))[0]
    assert first.ids == ids(3, last)
    assert [sink.ids for sink in sinks] == [ids(n * 2 + 2, last) for n in range(len(sinks))]


@pytest.mark.parametrize("most", [20_000, 200_000])
async def test_batches_that_flow_all_the_time(most: int) -> None:
    """While batches follow each other without a pause, memory being full, everybody is served."""
    bench = Bench(most)
    await bench.begin(20, 60, 9_000)
    live = [Sink(delay=0.001) for _ in range(15)]
    for each in live:
        bench.hub.join(each, "bob", AUDIENCE)

    async def flow() -> None:
        for last in range(61, 1000):
            await bench.bring(batch(*entries(last, last, 9_000)))

    async with bench.at_work():
        flowing = asyncio.create_task(flow())
        sinks = [bench.put(2), bench.put(15)]
        # They come near to the present, and stay there.
        await until(lambda: min(len(sink.ids) for sink in sinks) >= 70, timeout=40)
        assert not flowing.done()
        flowing.cancel()
        await asyncio.wait([flowing])
    assert [sink.ids[:70] for sink in sinks] == [ids(3, 72), ids(16, 85)]


async def test_newcomers_from_further_back() -> None:
    """Who comes while older history is being fetched, and needs more of it, gets all of that."""
    bench = Bench(most=20_000)
    await bench.begin(40, 40, 9_000)
    sinks: list[Sink] = []

    async def come() -> None:
        if len(sinks) < 8:
            sinks.append(bench.put(28 - 3 * len(sinks)))
            await until(lambda: sinks[-1] in bench.feeder._older)

    bench.shelf.meanwhile = come
    async with bench.at_work():
        sinks.append(bench.put(30))
        await bench.caught_up()
    assert [sink.ids[0] for sink in sinks] == ["31-0", *(f"{29 - 3 * n}-0" for n in range(1, 8))]
    assert [len(sink.ids) for sink in sinks] == [40 - int(sink.ids[0][:-2]) + 1 for sink in sinks]


@pytest.mark.parametrize("most", [20_000, 10_000_000])
async def test_trimmed_meanwhile(most: int) -> None:
    """Who is before what the stream has left is reported, the others get everything."""
    bench = Bench(most)
    await bench.begin(30, 30, 9_000)

    async def trim() -> None:
        bench.shelf.trim(10)

    bench.shelf.meanwhile = trim
    async with bench.at_work():
        lost, kept = bench.put(2), bench.put(20)
        await bench.caught_up()
    assert bench.left == [lost]
    assert lost.ids == ids(3, len(lost.ids) + 2)
    assert kept.ids == ids(21, 30)


async def test_all_of_it_was_trimmed() -> None:
    """Where the stream has lost everything beyond memory, who needs that is reported."""
    bench = Bench()
    await bench.begin(10, 20)
    bench.shelf.trim(15)
    async with bench.at_work():
        lost = [bench.put(5), bench.put(9)]
        kept = bench.put(10)
        await bench.caught_up()
    assert (bench.left, kept.ids) == (lost, ids(11, 20))


async def test_fetching_while_redis_is_away() -> None:
    """While Redis is away who needs older history waits, which is logged, and then gets it."""
    bench = Bench()
    await bench.begin(10, 20)
    bench.shelf.away = True
    with capture_logs() as logs:
        async with bench.at_work():
            sink = bench.put(5)
            await until(lambda: len(bench.shelf.asked) > 1)
            await bench.bring(batch(entry(21)))
            assert (sink.ids, bench.left) == ([], [])
            bench.shelf.away = False
            await bench.caught_up()
    assert sink.ids == ids(6, 21)
    assert logs[0] == {"event": "history.unavailable", "log_level": "warning", "error": "away"}


async def test_fetching_from_another_history() -> None:
    """Where Redis has another history than the relay knows of, nothing of it is taken."""
    bench = Bench()
    await bench.begin(10, 20)
    bench.shelf.epoch = "f"
    async with bench.at_work():
        sink = bench.put(5)
        await until(lambda: len(bench.shelf.asked) > 1)
        assert sink.writes == []
        await bench.bring(Positioned("f", "22-0", "another history"), batch(entry(23)))
        await bench.caught_up()
    assert sink.ids == ["23-0"]


@pytest.mark.parametrize("most", [20_000, 10_000_000])
async def test_another_history_while_an_older_one_is_fetched(most: int) -> None:
    """When the history changes while some of it is fetched, none of that is written."""
    bench = Bench(most)
    await bench.begin(30, 30, 9_000)

    async def change() -> None:
        if bench.relay.epoch == "e":
            await bench.bring(Positioned("f", "4-0", "another history"), batch(entry(5)))

    bench.shelf.meanwhile = change
    async with bench.at_work():
        sinks = [bench.put(2), bench.put(20)]
        await bench.caught_up()
        await bench.bring(batch(entry(6)))
    assert [sink.ids for sink in sinks] == [ids(5, 6)] * 2
    assert bench.history.floor == (4, 0)


async def test_leaving_while_older_are_fetched() -> None:
    """Who leaves while older history is fetched for it gets nothing, and disturbs nobody."""
    bench = Bench()
    await bench.begin(10, 10)
    leaving: list[Sink] = []

    async def leave() -> None:
        while leaving:
            bench.feeder.leave(leaving.pop(), "alice")

    bench.shelf.meanwhile = leave
    async with bench.at_work():
        sink, staying = bench.put(2), bench.put(8)
        leaving.append(sink)
        await bench.caught_up()
        await until(lambda: not bench.feeder.older_wanted.is_set())
    assert (sink.ids, staying.ids) == ([], ids(9, 10))

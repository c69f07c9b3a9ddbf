from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from neighbours import AUDIENCE, WORDS, control, entries, entry
from sinks import Sink

from notifyd.core.audience import Audience
from notifyd.core.history import BLOCK_BYTES, History
from notifyd.core.hub import Hub
from notifyd.daemon.relay_feeder import Feeder
from notifyd.daemon.relay_records import to_record

if TYPE_CHECKING:
    from notifyd.core.batch import RawEntry

NOTHING = Audience.build(WORDS)


class Bench:
    """A feeder whose history begins behind position 10, and those whom the history has left."""

    def __init__(self, most: int = 10_000_000) -> None:
        self.hub: Hub[Sink] = Hub()
        self.history = History(most)
        self.history.reset((10, 0))
        self.left: list[Sink] = []
        self.feeder: Feeder[Sink] = Feeder(self.hub, self.history, left_behind=self.left.append)

    def put(
        self, position: int, sink: Sink | None = None, audience: Audience | None = AUDIENCE
    ) -> Sink:
        """Have a client of alice's behind."""
        sink = sink or Sink()
        self.feeder.put(sink, "alice", audience, (position, 0))
        return sink

    def relay(self, *some: RawEntry) -> None:
        """Do what the relay does with a batch."""
        records = [to_record(each) for each in some]
        events = [(each.rule, each.frame) for each in records if each.rule]
        for delivery in self.hub.deliveries(events):
            for member in delivery.members:
                member.write(delivery.data, delivery.events)
        self.history.append(records)
        self.feeder.advanced()

    def older(self, *some: RawEntry, end: int, first: int, start: int = 1) -> None:
        """Hand over entries that are older than memory."""
        records = [to_record(each) for each in some]
        self.feeder.feed_older(records, (start, 0), (end, 0), (first, 0))

    def feed(self) -> None:
        """Serve everybody until nobody can be served."""
        while self.feeder.wanted.is_set():
            self.feeder.feed(math.inf)


def ids(first: int, last: int) -> list[str]:
    """Return the ids from one number to the other."""
    return [f"{n}-0" for n in range(first, last + 1)]


def test_behind() -> None:
    """A client that is behind is connected, is told so, and gets no event as it comes."""
    bench = Bench()
    sink = bench.put(10)
    bench.relay(*entries(11, 12))
    assert (sink.writes, sink.heard) == ([], ["behind"])
    assert (len(bench.feeder), bench.hub.connections("alice")) == (1, 1)
    assert bench.feeder.position(sink) == (10, 0)
    assert bench.feeder.wanted.is_set()


def test_catching_up() -> None:
    """It gets what follows its position in one write, is live from then on, and is told so."""
    bench = Bench()
    bench.relay(*entries(11, 13))
    sink = bench.put(11)
    bench.feed()
    assert ([events for _, events in sink.writes], sink.ids) == ([2], ids(12, 13))
    assert (sink.heard, bench.feeder.position(sink), len(bench.feeder)) == (
        ["behind", "live"],
        None,
        0,
    )
    bench.relay(entry(14))
    assert sink.ids == ids(12, 14)


def test_lag() -> None:
    """It is known who is behind, with which audience, and how far by the times in the ids."""
    bench = Bench()
    sink = bench.put(10)
    assert (bench.feeder.members, bench.feeder.lag(sink)) == ([sink], 0)
    bench.relay(*entries(11, 2010))
    assert bench.feeder.lag(sink) == 2
    assert bench.feeder.audience(sink) is not None
    bench.feed()
    assert (bench.feeder.members, bench.feeder.lag(sink)) == ([], 0)


def test_nothing_to_catch_up_with() -> None:
    """A client that is behind at the present is written nothing, and is live."""
    bench = Bench()
    sink = bench.put(10)
    bench.feed()
    assert (sink.writes, sink.heard) == ([], ["behind", "live"])
    assert not bench.feeder.wanted.is_set()


def test_stats() -> None:
    """What was written to those who are behind is counted by itself."""
    bench = Bench()
    bench.relay(*entries(11, 13))
    sinks = [bench.put(10), bench.put(12), bench.put(13)]
    bench.feed()
    assert bench.feeder.stats.deliveries == 4
    written = sum(len(data) for sink in sinks for data, _ in sink.writes)
    assert bench.feeder.stats.delivered_bytes == written


def test_filtered() -> None:
    """A client gets what its user may see, control entries and bad ones left out."""
    bench = Bench()
    bench.relay(
        entry(11, "{}", to='{"users": ["alice"]}'),
        entry(12, "{}", to='{"users": ["bob"], "groups": [1]}'),
        control(13, "{}"),
        entry(14, "Xyzzy"),
        entry(15),
    )
    sink, other = bench.put(10), bench.put(10, audience=NOTHING)
    bench.feed()
    assert (sink.ids, other.ids) == (["11-0", "15-0"], ["11-0"])
    assert len(bench.feeder) == 0


def test_filtered_once() -> None:
    """Those who may see the same share what was found for one of them at the same position."""
    bench = Bench()
    bench.relay(*entries(11, 13))
    sinks = [bench.put(10, audience=[AUDIENCE, NOTHING][n % 2]) for n in range(10)]
    bench.feed()
    [data, *others] = [sink.writes[0][0] for sink in sinks[::2]]
    assert all(other is data for other in others)
    assert [sink.writes for sink in sinks[1::2]] == [[]] * 5


def test_chunks() -> None:
    """A long history comes in chunks of bounded size, in order, the others taking turns."""
    bench = Bench()
    bench.relay(*entries(11, 60, 30_000))
    first, second = bench.put(10), bench.put(10)
    bench.feeder.feed(math.inf)
    assert len(first.writes) == len(second.writes) == 1
    bench.feed()
    assert first.ids == second.ids == ids(11, 60)
    assert max(len(data) for data, _ in first.writes) < BLOCK_BYTES + 70_000
    assert len(first.writes) > 5


def test_owing() -> None:
    """A client that owes something gets the next chunk when it has taken everything."""
    bench = Bench()
    bench.relay(*entries(11, 60, 30_000))
    sink = bench.put(10, Sink(lambda sink: setattr(sink, "owed", 1)))
    for count in (1, 2, 3):
        bench.feed()
        assert len(sink.writes) == count
        sink.owed = 0
        bench.feeder.drained(sink)
    assert sink.ids == ids(11, 60)[: len(sink.ids)]


def test_position_of_what_was_written() -> None:
    """While it is fed, the position of a client is that of the last entry it was written."""
    bench = Bench()
    bench.relay(*entries(11, 60, 30_000))
    sink = bench.put(10)
    while (position := bench.feeder.position(sink)) is not None:
        assert position[0] == 10 + len(sink.ids)
        bench.feeder.feed(math.inf)


def test_draining_of_the_live() -> None:
    """That a client which isn't behind has taken everything means nothing here."""
    bench = Bench()
    bench.feeder.drained(Sink())
    assert not bench.feeder.wanted.is_set()


def test_no_audience() -> None:
    """While nobody knows what its user may see, a client gets nothing and stays where it is."""
    bench = Bench()
    sink = bench.put(10, audience=None)
    bench.relay(*entries(11, 12))
    bench.feeder.drained(sink)
    bench.feed()
    assert (sink.writes, bench.feeder.position(sink)) == ([], (10, 0))
    bench.put(12, sink)
    bench.feed()
    assert sink.ids == ids(11, 12)


def test_suspended_on_the_way() -> None:
    """A client that is suspended while it is fed gets the rest by the audience it has then."""
    bench = Bench()
    bench.relay(*entries(11, 60, 30_000))
    sink = bench.put(10)
    bench.feeder.feed(math.inf)
    count = len(sink.ids)
    bench.put(60, sink, None)
    bench.feed()
    assert len(sink.ids) == count
    bench.put(60, sink, NOTHING)
    bench.feed()
    assert (len(sink.ids), sink.heard) == (count, ["behind", "live"])


def test_ahead() -> None:
    """A client that is ahead waits until the relay is where it is, and gets what is newer."""
    bench = Bench()
    sink, at = bench.put(12), bench.put(11)
    bench.feed()
    bench.relay(entry(11))
    bench.feed()
    assert (sink.heard, at.heard) == (["behind"], ["behind", "live"])
    bench.relay(*entries(12, 13))
    bench.feed()
    bench.relay(entry(14))
    assert (sink.ids, at.ids) == (ids(13, 14), ids(12, 14))


def test_leaving() -> None:
    """Of a client that has left nothing is kept, whatever it was waiting for."""
    bench = Bench()
    bench.relay(*entries(11, 12))
    owing = Sink()
    owing.owed = 1
    sinks = [bench.put(10), bench.put(5), bench.put(90), bench.put(10, owing)]
    bench.feeder.feed(math.inf)
    sinks += [bench.put(10), bench.put(10, audience=None)]
    for sink in sinks:
        bench.feeder.leave(sink, "alice")
    bench.feed()
    assert (len(bench.feeder), len(bench.hub), bench.feeder.oldest) == (0, 0, None)
    assert [sink.ids for sink in sinks] == [ids(11, 12), [], [], [], [], []]
    assert not any((bench.feeder._ready, bench.feeder._turn, bench.feeder._ahead))


def test_leaving_between_two_turns() -> None:
    """Who leaves before its turn in the same round gets nothing."""
    bench = Bench()
    bench.relay(*entries(11, 12))
    sinks = [bench.put(10) for _ in range(40)]
    bench.feeder.feed(0)
    late = [sink for sink in sinks if not sink.writes]
    for sink in late:
        bench.feeder.leave(sink, "alice")
    bench.feed()
    assert [sink.writes for sink in late] == [[]] * len(late)


def test_leaving_by_a_write() -> None:
    """Who is lost by being written to is neither live nor behind."""
    bench = Bench()
    bench.relay(*entries(11, 60, 30_000))

    def on_write(sink: Sink) -> None:
        bench.feeder.leave(sink, "alice")

    long, short = bench.put(10, Sink(on_write)), bench.put(59, Sink(on_write))
    bench.feed()
    assert (len(bench.feeder), len(bench.hub)) == (0, 0)
    assert (long.heard, short.heard, len(long.writes)) == (["behind"], ["behind"], 1)


def test_turns() -> None:
    """When its time is over serving stops after a few, and goes on with those who were left."""
    bench = Bench()
    bench.relay(entry(11))
    sinks = [bench.put(10) for _ in range(50)]
    counts = []
    while bench.feeder.wanted.is_set():
        bench.feeder.feed(time.perf_counter() - 1)
        counts.append(sum(len(sink.writes) for sink in sinks))
    assert counts == [16, 32, 48, 50]


def test_newcomers_wait_for_their_turn() -> None:
    """Those who come while others are being served don't keep them waiting."""
    bench = Bench()
    bench.relay(entry(11))
    early = [bench.put(10) for _ in range(20)]
    bench.feeder.feed(0)
    late = [bench.put(10) for _ in range(20)]
    bench.feeder.feed(0)
    assert [len(sink.writes) for sink in early] == [1] * 20
    assert not any(sink.writes for sink in late)


def test_restart() -> None:
    """When the history is another one, everybody goes on from its position."""
    bench = Bench()
    bench.relay(*entries(11, 12))
    sinks = [bench.put(5), bench.put(11), bench.put(90)]
    bench.feeder.feed(math.inf)
    sinks.append(bench.put(5, audience=None))
    bench.history.reset((4, 0))
    bench.feeder.restart((4, 0))
    assert bench.feeder.oldest is None
    assert [bench.feeder.position(sink) for sink in sinks] == [(4, 0), None, (4, 0), (4, 0)]
    bench.relay(*entries(5, 6))
    bench.feed()
    assert [sink.ids for sink in sinks] == [ids(5, 6), ["12-0", *ids(5, 6)], ids(5, 6), []]


def test_move() -> None:
    """A client that is moved goes on from there."""
    bench = Bench()
    bench.relay(*entries(11, 14))
    sink = bench.put(5)
    bench.feeder.move(sink, (12, 0))
    bench.feed()
    assert sink.ids == ids(13, 14)


def test_older_wanted() -> None:
    """Who is before the history in memory asks for older, from the oldest position on."""
    bench = Bench()
    bench.put(10)
    bench.feed()
    assert (bench.feeder.older_wanted.is_set(), bench.feeder.oldest) == (False, None)
    bench.put(7), bench.put(5), bench.put(9)
    bench.feed()
    assert (bench.feeder.older_wanted.is_set(), bench.feeder.oldest) == (True, (5, 0))


def test_history_that_leaves() -> None:
    """A client before whose position the history in memory gives way asks for older, too."""
    bench = Bench(100_000)
    bench.relay(*entries(11, 14, 30_000))
    sink = bench.put(10)
    bench.feed()
    assert (sink.writes, bench.feeder.oldest) == ([], (10, 0))


def test_reaching_back() -> None:
    """When memory reaches back far enough, those who waited for that are served."""
    bench = Bench()
    bench.relay(entry(11))
    sinks = [bench.put(position) for position in (5, 8, 7)]
    bench.feed()
    bench.history.prepend([to_record(each) for each in entries(8, 10)], (7, 0))
    bench.feeder.reaches_back((1, 0))
    bench.feed()
    assert [sink.ids for sink in sinks] == [[], ids(9, 11), ids(8, 11)]
    assert (bench.feeder.oldest, bench.left) == ((5, 0), [])


def test_left_behind() -> None:
    """Who is before the beginning of the stream itself is reported, and waits no more."""
    bench = Bench()
    sinks = [bench.put(position) for position in (5, 8, 7)]
    bench.feed()
    bench.feeder.reaches_back((7, 0))
    assert bench.left == [sinks[0]]
    assert bench.feeder.oldest == (7, 0)
    bench.older(*entries(8, 9), end=10, first=8)
    assert bench.left == [sinks[0], sinks[2]]
    assert sinks[1].ids == ["9-0"]


def test_older_pages() -> None:
    """From older records each gets what follows its position, and goes on behind them."""
    bench = Bench()
    bench.relay(entry(11))
    sinks = [bench.put(position) for position in (5, 6, 8, 9, 5)]
    bench.feed()
    bench.older(*entries(6, 8), end=8, first=1, start=5)
    assert [sink.ids for sink in sinks] == [ids(6, 8), ids(7, 8), [], [], ids(6, 8)]
    assert bench.feeder.oldest == (8, 0)
    bench.feed()
    bench.older(*entries(9, 10), end=10, first=1, start=8)
    bench.feed()
    assert [sink.ids[-1] for sink in sinks] == ["11-0"] * 5
    assert sum(len(sink.ids) for sink in sinks) == 6 + 5 + 3 + 2 + 6


def test_older_page_is_cut() -> None:
    """Of many older records one gets a chunk at most; who owes it waits for the next."""
    bench = Bench()
    sink = bench.put(1, Sink(lambda sink: setattr(sink, "owed", 1)))
    bench.feed()
    bench.older(*entries(2, 10, 60_000), end=10, first=1)
    assert len(sink.writes[0][0]) < BLOCK_BYTES + 70_000
    bench.feed()
    assert bench.feeder.oldest is None


def test_older_page_and_newcomers() -> None:
    """Who came when the page was on its way, and needs what is before it, gets nothing of it."""
    bench = Bench()
    late, early = bench.put(3), bench.put(5)
    bench.feed()
    bench.older(*entries(6, 8), end=8, first=1, start=5)
    assert (late.ids, early.ids) == ([], ids(6, 8))
    assert bench.feeder.oldest == (3, 0)


def test_suspended_while_it_waits_for_older() -> None:
    """Who is suspended while it waits for older history gets none before it has an audience."""
    bench = Bench()
    sink = bench.put(5)
    bench.feed()
    bench.put(10, sink, None)
    bench.older(*entries(6, 10), end=10, first=1, start=5)
    assert (sink.writes, bench.feeder.position(sink)) == ([], (5, 0))
    bench.put(10, sink)
    bench.feed()
    assert bench.feeder.oldest == (5, 0)
    bench.older(*entries(6, 10), end=10, first=1, start=5)
    assert sink.ids == ids(6, 10)

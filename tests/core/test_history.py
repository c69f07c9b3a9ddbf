from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.block import Record, weight
from notifyd.core.events import Rule
from notifyd.core.history import BLOCK_BYTES, Chunk, History

if TYPE_CHECKING:
    from collections.abc import Sequence

    from notifyd.core.positions import Position

KEYS = ["1", "2", "3"]
PLENTY = 32 * 1024 * 1024
EVERYONE = Rule(everyone=True)

vocabulary = Vocabulary()
keys = st.frozensets(st.sampled_from(KEYS), max_size=2)
permissions = st.frozensets(st.sampled_from(["app.a", "app.b"]), max_size=1)
audiences = st.builds(
    Audience.build,
    st.just(vocabulary),
    permissions=permissions,
    content_types=keys,
    groups=keys,
    superuser=st.booleans(),
)
users = st.sampled_from(KEYS)


@st.composite
def rules(draw: st.DrawFn, depth: int = 3) -> Rule:
    """Draw a rule, often one for users only, that nests at most `depth` deep."""
    parts = draw(st.lists(rules(depth - 1), max_size=2)) if depth > 1 else []
    if draw(st.booleans()):
        return Rule(users=draw(keys), all=tuple(parts))
    everyone = draw(st.sampled_from([False, False, True]))
    return Rule(draw(keys), draw(keys), draw(permissions), draw(keys), everyone, tuple(parts))


class Draft(NamedTuple):
    """A record without its place: about how heavy it is, and its rule."""

    extra: int
    rule: Rule | None


drafts = st.lists(
    st.builds(
        Draft,
        st.sampled_from([0, 0, 60_000, BLOCK_BYTES // 2, BLOCK_BYTES, 300_000]),
        st.none() | st.just(EVERYONE) | rules(1),
    ),
    min_size=1,
    max_size=4,
)


def record(position: Position, rule: Rule | None = EVERYONE, extra: int = 0) -> Record:
    """Make a record whose frame tells its position, one that nobody gets if it has no rule."""
    return Record(position, b"<%d-%d>" % position if rule else b"", rule, extra)


def run(*numbers: int, extra: int = 0) -> list[Record]:
    """Make records for everyone at these positions."""
    return [record((number, 0), extra=extra) for number in numbers]


def history_of(*numbers: int, extra: int = 0, most: int = PLENTY) -> History:
    """Make a history that begins at 0-0 and has records for everyone."""
    history = History(most)
    history.reset((0, 0))
    if numbers:
        history.append(run(*numbers, extra=extra))
    return history


def numbers(chunk: Chunk | None) -> list[int]:
    """Return where the records of a chunk stand."""
    assert chunk is not None
    return [each.position[0] for each in chunk.block.records[chunk.start :]]


def frames(records: Sequence[Record], audience: Audience, user: str) -> list[bytes]:
    """Return the frames that a user may see, asked for one by one."""
    return [each.frame for each in records if each.rule and audience.sees(each.rule, user)]


def test_nothing_is_known_at_first() -> None:
    """Before the present is known, nothing follows any position."""
    history = History(PLENTY)
    assert (history.floor, history.end, len(history), history.seconds) == (None, None, 0, 0.0)
    assert history.after((0, 0)) is None


def test_an_empty_history() -> None:
    """Where nothing has happened since the present became known, nothing follows it."""
    history = history_of()
    chunk = history.after((0, 0))
    assert chunk is not None
    assert (numbers(chunk), chunk.end, chunk.latest) == ([], (0, 0), True)
    assert (history.floor, history.end, history.full) == ((0, 0), (0, 0), False)


@pytest.mark.parametrize(
    ("position", "following"),
    [
        ((0, 0), [1, 3, 5]),
        ((0, 9), [1, 3, 5]),
        ((1, 0), [3, 5]),
        ((2, 0), [3, 5]),
        ((3, 0), [5]),
        ((4, 9), [5]),
        ((5, 0), []),
    ],
)
def test_what_follows_a_position(position: Position, following: list[int]) -> None:
    """What follows a position are the records behind it, whether or not one stands at it."""
    chunk = history_of(1, 3, 5).after(position)
    assert chunk is not None
    assert numbers(chunk) == following
    assert (chunk.end, chunk.latest) == ((5, 0), True)


def test_at_the_floor_and_before() -> None:
    """From the floor on all can be had; from before it nothing, rather than a part."""
    history = History(PLENTY)
    history.reset((5, 3))
    history.append(run(6))
    assert numbers(history.after((5, 3))) == [6]
    assert history.after((5, 2)) is None
    assert history.after((0, 0)) is None


def test_a_client_that_is_ahead() -> None:
    """Nothing follows a position beyond the present, and nobody is led back from there."""
    history = history_of(1, 2)
    chunk = history.after((9, 0))
    assert chunk is not None
    assert (numbers(chunk), chunk.end) == ([], (9, 0))
    history.append(run(9, 10))
    assert numbers(history.after((9, 0))) == [10]


def test_a_chunk_holds_so_many_bytes() -> None:
    """A chunk ends with the record that fills it, and the next one goes on behind that."""
    history = history_of(*range(1, 6), extra=BLOCK_BYTES // 2 - weight(record((1, 0))))
    first = history.after((0, 0))
    assert first is not None
    assert (numbers(first), first.end, first.latest) == ([1, 2], (2, 0), False)
    second, third = history.after((2, 0)), history.after((4, 0))
    assert (numbers(second), numbers(third)) == ([3, 4], [5])
    assert third is not None
    assert third.latest


def test_one_byte_less_than_a_chunk() -> None:
    """As long as a chunk has any room left, one more record goes in, however heavy it is."""
    extra = BLOCK_BYTES - weight(record((1, 0))) - 1
    first = history_of(1, 2, 3, extra=extra).after((0, 0))
    assert first is not None
    assert (numbers(first), first.latest) == ([1, 2], False)


def test_a_chunk_that_is_just_full_at_the_present() -> None:
    """A chunk that is filled by the last record of all ends at the present."""
    chunk = history_of(1, extra=BLOCK_BYTES).after((0, 0))
    assert chunk is not None
    assert (numbers(chunk), chunk.end, chunk.latest) == ([1], (1, 0), True)


def test_the_heaviest_record_goes_alone() -> None:
    """A record that is heavier than a chunk is one by itself: whoever is behind gets past it."""
    history = history_of(1, 2, 3, extra=3 * BLOCK_BYTES)
    assert [numbers(history.after((n, 0))) for n in range(4)] == [[1], [2], [3], []]


def test_the_present_moves_on() -> None:
    """Who was at the present is behind it once records have come."""
    history = history_of(1)
    first = history.after((0, 0))
    assert first is not None
    assert (numbers(first), first.end) == ([1], (1, 0))
    history.append(run(2))
    second = history.after(first.end)
    assert numbers(second) == [2]


# The bound.


def test_the_oldest_give_way() -> None:
    """When the bound is reached the oldest block goes, and the floor is where its last one was."""
    history = history_of(1, 2, 3, extra=BLOCK_BYTES, most=3 * BLOCK_BYTES + 3_000)
    assert (len(history), history.floor, history.full) == (3, (0, 0), False)
    history.append(run(4, 5, extra=BLOCK_BYTES))
    assert (len(history), history.floor, history.end) == (3, (2, 0), (5, 0))
    assert history.after((1, 0)) is None
    assert [numbers(history.after((n, 0))) for n in (2, 3, 4)] == [[3], [4], [5]]


def test_more_than_fits_in() -> None:
    """A record that is heavier than the bound leaves an empty history at the present."""
    history = history_of(1, 2, most=10_000)
    history.append(run(3, extra=10_000))
    assert (len(history), history.floor, history.end) == (0, (3, 0), (3, 0))
    assert history.after((2, 0)) is None
    assert numbers(history.after((3, 0))) == []
    history.append(run(4))
    assert numbers(history.after((3, 0))) == [4]


def test_a_lower_bound() -> None:
    """When the bound is lowered, the next record makes the oldest give way."""
    history = history_of(1, 2, 3, extra=BLOCK_BYTES)
    history.most = 2 * BLOCK_BYTES
    assert len(history) == 3
    history.append(run(4))
    assert (len(history), history.floor) == (2, (2, 0))


def test_older_records_are_added() -> None:
    """Records from before the floor are put at the beginning, and the floor is lowered."""
    history = History(PLENTY)
    history.reset((5, 0))
    history.append(run(6))
    history.prepend(run(2, 3, 5), (1, 7))
    assert history.floor == (1, 7)
    first = history.after((1, 7))
    assert first is not None
    assert (numbers(first), first.end, first.latest) == ([2, 3, 5], (5, 0), False)
    assert numbers(history.after((5, 0))) == [6]
    assert history.after((1, 6)) is None


def test_older_records_come_in_pieces_too() -> None:
    """However much is added at once, whoever is behind gets a block's worth at a time."""
    history = History(PLENTY)
    history.reset((9, 0))
    history.prepend(run(*range(1, 10), extra=BLOCK_BYTES // 2), (0, 0))
    assert numbers(history.after((0, 0))) == [1, 2]
    assert numbers(history.after((2, 0))) == [3, 4]
    assert numbers(history.after((8, 0))) == [9]


def test_there_is_nothing_older() -> None:
    """Where nothing stands before the floor, lowering it takes no record."""
    history = History(PLENTY)
    history.reset((5, 0))
    history.prepend([], (1, 0))
    chunk = history.after((1, 0))
    assert chunk is not None
    assert (numbers(chunk), chunk.end, chunk.latest) == ([], (5, 0), True)


def test_the_newest_of_the_older_are_kept() -> None:
    """Of older records that don't all fit in the newest are kept, and the floor tells which."""
    history = History(3 * weight(record((1, 0))))
    history.reset((5, 0))
    history.append(run(6))
    history.prepend(run(2, 3, 4, 5), (1, 0))
    assert (history.full, history.floor) == (True, (3, 0))
    assert [numbers(history.after((n, 0))) for n in (3, 5)] == [[4, 5], [6]]
    assert history.after((2, 0)) is None


def test_nothing_fits_before_a_full_history() -> None:
    """A history that is full takes no older record."""
    history = History(weight(record((6, 0))))
    history.reset((5, 0))
    history.append(run(6))
    history.prepend(run(3, 4), (1, 0))
    assert (len(history), history.floor) == (1, (4, 0))


def test_older_records_go_first() -> None:
    """What was added at the beginning is the first to give way to what is relayed."""
    history = History(3 * BLOCK_BYTES)
    history.reset((5, 0))
    history.append(run(6, extra=BLOCK_BYTES))
    history.prepend(run(4, 5), (3, 0))
    history.append(run(7, extra=2 * BLOCK_BYTES))
    assert (len(history), history.floor) == (1, (6, 0))
    assert numbers(history.after((6, 0))) == [7]


def test_a_new_beginning() -> None:
    """Another history begins at its present, even if that is an earlier position."""
    history = history_of(5, 6, 7)
    history.after((5, 0))
    history.reset((2, 0))
    assert (len(history), history.floor, history.end) == (0, (2, 0), (2, 0))
    assert numbers(history.after((5, 0))) == []
    history.append(run(3, 7))
    assert numbers(history.after((2, 0))) == [3, 7]
    assert numbers(history.after((5, 0))) == [7]


def test_how_far_it_reaches_back() -> None:
    """The age of the floor is reckoned from the present by the positions' milliseconds."""
    history = History(PLENTY)
    history.reset((1_000, 0))
    assert history.seconds == 0
    history.append(run(1_500, 4_250))
    assert history.seconds == 3.25


# All of it, against a list.


class Reader:
    """A client that follows the chunks from a position, and what it got."""

    def __init__(self, position: Position, audience: Audience, user: str) -> None:
        self.start = self.position = position
        self.audience = audience
        self.user = user
        self.got: list[bytes] = []


class Stream:
    """The naive history: a list of all that ever was in the stream. It checks the real one."""

    def __init__(self, most: int, before: int) -> None:
        self.most = most
        self.history = History(most)
        self.serial = itertools.count(1)
        self.all: list[Record] = []
        self.readers: list[Reader] = []
        self.begin(before)

    def begin(self, before: int) -> None:
        """Begin another stream, with some records that were relayed by nobody."""
        self.serial = itertools.count(1)
        self.all = [record((next(self.serial), 0), extra=60_000) for _ in range(before)]
        self.readers.clear()
        self.history.reset((before, 0))

    def add(self, drafts: list[Draft]) -> None:
        """Relay records."""
        some = [record((next(self.serial), 0), rule, extra) for extra, rule in drafts]
        self.all += some
        self.history.append(some)
        assert sum(map(weight, self.known)) <= self.most

    def read_back(self, steps: int) -> None:
        """Fetch what is older, down to so many half steps below the floor."""
        floor = self.history.floor
        assert floor is not None
        down = max((0, 0), (floor[0] - (steps + 1) // 2, 5 * (steps % 2)))
        older = [each for each in self.all if down < each.position <= floor]
        self.history.prepend(older, min(down, floor))
        # The one that fills it may stand out.
        assert sum(map(weight, self.known[1:])) < self.most
        assert self.history.full or self.history.floor == min(down, floor)

    def serve(self, reader: Reader) -> None:
        """Give a reader its next chunk, unless what it needs is no longer there."""
        floor, end = self.history.floor, self.history.end
        assert floor is not None
        assert end is not None
        chunk = self.history.after(reader.position)
        assert (chunk is None) is (reader.position < floor)
        if chunk is None:
            return
        data, events = chunk.visible(reader.audience, reader.user)
        got = [piece + b">" for piece in data.split(b">")[:-1]]
        assert len(got) == events
        assert chunk.end > reader.position or chunk.latest
        assert chunk.latest is (chunk.end >= end)
        reader.got += got
        reader.position = chunk.end

    @property
    def known(self) -> list[Record]:
        """The records that the history must have."""
        floor = self.history.floor
        assert floor is not None
        return [each for each in self.all if each.position > floor]

    def check(self) -> None:
        """Compare what there is, and what everybody got."""
        assert len(self.history) == len(self.known)
        assert self.history.end == (self.all[-1].position if self.all else (0, 0))
        for reader in self.readers:
            behind = [r for r in self.all if reader.start < r.position <= reader.position]
            assert reader.got == frames(behind, reader.audience, reader.user)


class Add(NamedTuple):
    """Records are relayed."""

    drafts: list[Draft]


class ReadBack(NamedTuple):
    """Older records are fetched."""

    steps: int


class Begin(NamedTuple):
    """Another stream begins."""

    before: int


class Come(NamedTuple):
    """A client comes that is behind, at some place of the stream or beyond it."""

    place: int
    audience: Audience
    user: str


class Serve(NamedTuple):
    """Those who are behind get a chunk."""

    times: int


Step = Add | ReadBack | Begin | Come | Serve

steps = st.lists(
    st.builds(Add, drafts)
    | st.builds(ReadBack, st.integers(0, 12))
    | st.builds(Come, st.integers(0, 20), audiences, users)
    | st.builds(Serve, st.integers(1, 3)),
    max_size=25,
)


def take(stream: Stream, step: Step) -> None:
    """Let the history and the list go through a step."""
    match step:
        case Add(drafts):
            stream.add(drafts)
        case ReadBack(steps):
            stream.read_back(steps)
        case Begin(before):
            stream.begin(before)
        case Come(place, audience, user):
            stream.readers.append(Reader((place // 2, 5 * (place % 2)), audience, user))
        case Serve(times):
            for reader in stream.readers * times:
                stream.serve(reader)
    stream.check()


@given(
    st.sampled_from([100_000, 400_000, 1_500_000]),
    st.integers(0, 8),
    steps,
    st.builds(Begin, st.integers(0, 4)),
    steps,
)
def test_everyone_gets_all_that_follows(
    most: int, before: int, steps: list[Step], anew: Begin, more: list[Step]
) -> None:
    """Who follows the chunks gets what is visible behind its position, once and in order."""
    stream = Stream(most, before)
    for step in (*steps, anew, *more):
        take(stream, step)
    # In the end all come to the present whom the history has not left.
    take(stream, Serve(len(stream.all) + 1))
    floor, end = stream.history.floor, stream.history.end
    assert floor is not None
    assert end is not None
    assert not [each for each in stream.readers if floor <= each.position < end]

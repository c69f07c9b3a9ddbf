from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifyd.core.controls import EVERYBODY, Order
from notifyd.core.ledger import Ledger

if TYPE_CHECKING:
    from notifyd.core.positions import Position

KEYS = ["1", "2", "3", "4", "5"]
PLENTY = 100

keys = st.frozensets(st.sampled_from(KEYS), max_size=2)
orders = st.builds(
    Order,
    recheck_users=keys,
    recheck_groups=keys,
    recheck_all=st.sampled_from([False, False, False, True]),
    disconnect=keys,
    reauthenticate=keys,
)


class Entry(NamedTuple):
    """An entry of the stream with an order."""

    position: Position
    order: Order


# Several may stand at one position: a ledger makes nothing of it.
positions = st.tuples(st.integers(0, 5), st.integers(0, 1))
entries = st.lists(st.builds(Entry, positions, orders), max_size=12)
everywhere = [(number, serial) for number in range(-1, 7) for serial in (0, 1)]


def concerned(entries: list[Entry], user: str, groups: frozenset[str], since: Position) -> bool:
    """Look through all entries for one that concerns the user."""
    return any(
        order.recheck_all
        or user in order.recheck_users | order.disconnect | order.reauthenticate
        or not groups.isdisjoint(order.recheck_groups)
        for position, order in entries
        if position > since
    )


def ended(entries: list[Entry], user: str, since: Position) -> bool:
    """Look through all entries for one that has ended the user's connections."""
    return any(
        user in order.disconnect | order.reauthenticate
        for position, order in entries
        if position > since
    )


def ledger_of(*entries: Entry, floor: Position = (0, 0), most: int = PLENTY) -> Ledger:
    """Make a ledger that begins at the floor and has these entries."""
    ledger = Ledger(most)
    ledger.reset(floor)
    for entry in entries:
        ledger.note(*entry)
    return ledger


def check(ledger: Ledger, entries: list[Entry], groups: frozenset[str]) -> None:
    """Compare every answer with the list: exact where it is covered, the strict one elsewhere."""
    for since in everywhere:
        covered = ledger.covers(since)
        assert covered is (ledger.floor is not None and since >= ledger.floor)
        for user in KEYS:
            answer = ledger.concerned(user, groups, since)
            assert answer is (concerned(entries, user, groups, since) if covered else True)
            assert not covered or ledger.ended(user, since) is ended(entries, user, since)


def recheck(*users: str) -> Order:
    """Make an order to read these users anew."""
    return Order(recheck_users=frozenset(users))


@given(entries, positions, keys)
def test_the_ledger_agrees_with_a_list(
    entries: list[Entry], floor: Position, groups: frozenset[str]
) -> None:
    """Behind the floor a user is concerned exactly if an entry says so, in whatever sequence."""
    ledger = ledger_of(*entries, floor=floor)
    assert ledger.floor == floor
    check(ledger, entries, groups)


@settings(max_examples=200)
@given(entries, positions, keys, st.integers(1, 3))
def test_what_is_forgotten_is_not_denied(
    entries: list[Entry], start: Position, groups: frozenset[str], most: int
) -> None:
    """A ledger that had to forget is right about what it covers, and strict about the rest."""
    ledger, known = ledger_of(floor=start, most=most), list[Entry]()
    for entry in entries:
        before = ledger.floor
        ledger.note(*entry)
        known.append(entry)
        assert ledger.floor is not None
        assert before is not None
        assert before <= ledger.floor <= max(start, *(each.position for each in known))
        check(ledger, known, groups)


@given(entries, positions, st.lists(positions, max_size=3), keys)
def test_the_past_can_be_read_back(
    entries: list[Entry], floor: Position, further: list[Position], groups: frozenset[str]
) -> None:
    """Where older entries are noted afterwards, the ledger answers for them as well."""
    ledger = ledger_of(*(entry for entry in entries if entry.position > floor), floor=floor)
    for back in further:
        assert ledger.floor is not None
        for entry in entries:
            if back < entry.position <= ledger.floor:
                ledger.note(*entry)
        ledger.extend(back)
        assert ledger.floor == min(floor, back)
        floor = ledger.floor
        check(ledger, entries, groups)


def test_what_is_forgotten_while_reading_back() -> None:
    """A floor that is lowered stays above what had to be forgotten of the past meanwhile."""
    ledger = ledger_of(floor=(9, 0), most=2)
    for number, user in enumerate(KEYS[:3], 1):
        ledger.note((number, 0), recheck(user))
    ledger.extend((0, 0))
    assert all(ledger.concerned(user, (), (0, 0)) for user in KEYS[:3])


def test_nothing_is_known_at_first() -> None:
    """Before the ledger begins, everybody is concerned and no position is covered."""
    ledger = Ledger()
    assert ledger.floor is None
    assert not ledger.covers((2**64, 0))
    assert ledger.concerned("1", (), (2**64, 0))
    assert not ledger.ended("1", (0, 0))


def test_an_order_counts_for_what_was_read_before() -> None:
    """An order concerns what was read before its entry, and not what was read at it or later."""
    ledger = ledger_of(Entry((5, 0), recheck("1")))
    since = [(4, 9), (5, 0), (5, 1)]
    assert [ledger.concerned("1", (), at) for at in since] == [True, False, False]


def test_others_are_not_concerned() -> None:
    """An order about a user, or about a group, leaves alone whoever else there is."""
    ledger = ledger_of(
        Entry((5, 0), recheck("1")), Entry((6, 0), Order(recheck_groups=frozenset({"7"})))
    )
    assert not ledger.concerned("2", ["1", "8"], (1, 0))
    assert ledger.concerned("2", ["8", "7"], (1, 0))


def test_all_are_concerned() -> None:
    """A recheck of all concerns every user, of no group too."""
    ledger = ledger_of(Entry((5, 0), EVERYBODY), Entry((3, 0), EVERYBODY))
    assert ledger.concerned("1", (), (4, 0))
    assert not ledger.concerned("1", (), (5, 0))


@pytest.mark.parametrize(
    "order", [Order(disconnect=frozenset({"1"})), Order(reauthenticate=frozenset({"1"}))]
)
def test_connections_are_ended(order: Order) -> None:
    """Orders to disconnect or to log in anew end connections, and a recheck alone does not."""
    ledger = ledger_of(Entry((5, 0), order), Entry((6, 0), recheck("2")))
    assert [ledger.ended("1", at) for at in [(4, 0), (5, 0)]] == [True, False]
    assert ledger.concerned("1", (), (4, 0))
    assert not ledger.ended("2", (0, 0))


def test_the_latest_order_counts() -> None:
    """An older entry that is noted late does not hide a newer one."""
    ledger = ledger_of(Entry((5, 0), recheck("1")), Entry((3, 0), recheck("1")))
    assert ledger.concerned("1", (), (4, 0))


def test_at_the_floor_all_is_known() -> None:
    """The floor itself is covered, and the position before it is not."""
    ledger = ledger_of(floor=(5, 3))
    assert [ledger.covers(at) for at in [(5, 2), (5, 3), (6, 0)]] == [False, True, True]
    assert [ledger.concerned("1", (), at) for at in [(5, 2), (5, 3)]] == [True, False]


def test_a_new_beginning() -> None:
    """Another history begins with nothing of the former one, even at an earlier position."""
    some = frozenset(KEYS)
    ledger = ledger_of(Entry((5, 0), Order(some, some, disconnect=some)), Entry((6, 0), EVERYBODY))
    ledger.reset((1, 0))
    assert ledger.floor == (1, 0)
    assert not any(ledger.concerned(user, KEYS, (1, 0)) for user in KEYS)
    assert not any(ledger.ended(user, (1, 0)) for user in KEYS)


def test_a_floor_is_lowered_only() -> None:
    """Reading back from where nobody asked leaves the floor where it was."""
    ledger = ledger_of(floor=(5, 0))
    ledger.extend((7, 0))
    assert ledger.floor == (5, 0)


def test_the_older_half_is_forgotten() -> None:
    """When too many are named, the older half goes, and the floor tells up to where."""
    ledger = ledger_of(*(Entry((n, 0), recheck(str(n))) for n in range(1, 6)), most=4)
    assert ledger.floor == (3, 0)
    assert [ledger.concerned(str(n), (), (3, 0)) for n in range(1, 6)] == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    "order",
    [
        recheck(*KEYS),
        Order(recheck_groups=frozenset(KEYS)),
        Order(disconnect=frozenset(KEYS[:3]), reauthenticate=frozenset(KEYS[3:])),
    ],
)
def test_an_entry_that_names_too_many(order: Order) -> None:
    """One entry that names more than are remembered makes all that was read before it doubtful."""
    ledger = ledger_of(Entry((5, 0), order), most=4)
    assert ledger.floor == (5, 0)
    assert all(ledger.concerned(user, (), (4, 0)) for user in (*KEYS, "6"))


def test_the_memory_is_bounded() -> None:
    """However many users and groups are named, a bounded number is remembered."""
    ledger = ledger_of(most=10)
    for n in range(100):
        some = frozenset({str(n), str(n + 1)})
        ledger.note((n, 0), Order(some, some, disconnect=some))
        tables = (ledger._rechecked, ledger._groups, ledger._ended)
        assert all(len(table) <= 10 for table in tables)


def test_those_named_again_and_again_take_no_memory() -> None:
    """Orders about the same few never make the ledger forget anything."""
    ledger = ledger_of(*(Entry((n, 0), recheck("1", "2")) for n in range(100)), most=2)
    assert ledger.floor == (0, 0)

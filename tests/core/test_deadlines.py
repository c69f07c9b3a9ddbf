from __future__ import annotations

import collections
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.deadlines import Agenda, Deadlines, Wheel

times = st.integers(0, 20)


def test_items_are_due_after_their_time() -> None:
    """An item is due when its seconds are over, not before, and once."""
    deadlines: Deadlines[str] = Deadlines(10)
    deadlines.add("a", 100.0)
    assert deadlines.due(109.9) == []
    assert deadlines.due(110.0) == ["a"]
    assert deadlines.due(200.0) == []


def test_items_are_due_in_order() -> None:
    """The items that are due come oldest first, the others stay."""
    deadlines: Deadlines[str] = Deadlines(10)
    for now, item in enumerate("abcd"):
        deadlines.add(item, now)
    assert deadlines.due(12) == ["a", "b", "c"]
    assert len(deadlines) == 1


def test_discarded_items_are_not_due() -> None:
    """An item that was discarded is never due, and discarding it again is allowed."""
    deadlines: Deadlines[str] = Deadlines(10)
    deadlines.add("a", 0)
    deadlines.discard("a")
    deadlines.discard("a")
    assert len(deadlines) == 0
    assert deadlines.due(100) == []


def test_adding_again_starts_over() -> None:
    """An item that is added again has its whole time from then on."""
    deadlines: Deadlines[str] = Deadlines(10)
    for now, item in ((0, "a"), (1, "b"), (2, "a")):
        deadlines.add(item, now)
    assert deadlines.due(11) == ["b"]
    assert deadlines.due(12) == ["a"]


def test_another_time() -> None:
    """Another time counts for the items that wait, and their order stays."""
    deadlines: Deadlines[str] = Deadlines(10)
    deadlines.add("a", 0)
    deadlines.add("b", 3)
    deadlines.change(5)
    deadlines.add("c", 4)
    assert deadlines.due(5) == ["a"]
    assert deadlines.due(8) == ["b"]
    assert deadlines.due(9) == ["c"]


@given(st.lists(st.tuples(st.sampled_from(["add", "discard", "due"]), st.integers(0, 5))))
def test_deadlines_agree_with_a_dict(steps: list[tuple[str, int]]) -> None:
    """Exactly those are due that were added long enough ago and not discarded."""
    deadlines: Deadlines[int] = Deadlines(3)
    model: dict[int, int] = {}
    for now, (step, item) in enumerate(steps):
        if step == "add":
            deadlines.add(item, now)
            model[item] = now
        elif step == "discard":
            deadlines.discard(item)
            model.pop(item, None)
        else:
            due = [item for item, at in model.items() if now >= at + 3]
            assert sorted(deadlines.due(now)) == sorted(due)
            model = {item: at for item, at in model.items() if item not in due}
        assert len(deadlines) == len(model)


def test_deadlines_take_constant_time() -> None:
    """Neither a hundred thousand waiting items nor as many departed ones slow a tick down."""
    deadlines: Deadlines[int] = Deadlines(10)
    for item in range(200_000):
        deadlines.add(item, 0)
    for item in range(100_000):
        deadlines.discard(item)
    started = time.process_time()
    for _ in range(10_000):
        assert deadlines.due(9) == []
    assert time.process_time() - started < 1


def test_an_agenda_is_kept_in_order() -> None:
    """The items of an agenda are due at their own times, the earliest first, and once."""
    agenda: Agenda[str] = Agenda()
    for item, due in (("b", 20), ("a", 10), ("d", 30.5), ("c", 30)):
        agenda.add(item, due)
    assert agenda.due(9.9, 10) == []
    assert agenda.due(30, 10) == ["a", "b", "c"]
    assert agenda.due(30, 10) == []
    assert (len(agenda), "d" in agenda, "a" in agenda) == (1, True, False)


def test_an_agenda_gives_out_so_many_at_a_time() -> None:
    """Of many items that are due at once no more come than are asked for, the others later."""
    agenda: Agenda[int] = Agenda()
    for item in range(5):
        agenda.add(item, 10)
    assert agenda.due(10, 0) == []
    assert [sorted(agenda.due(10, 2)) for _ in range(4)] == [[0, 1], [2, 3], [4], []]


def test_what_was_struck_off_the_agenda_takes_nobodys_place() -> None:
    """An item that was discarded is not due, and does not count among those asked for."""
    agenda: Agenda[str] = Agenda()
    for due, item in enumerate("abc"):
        agenda.add(item, due)
    agenda.discard("a")
    agenda.discard("a")
    agenda.discard("never there")
    assert ("a" in agenda, len(agenda)) == (False, 2)
    assert agenda.due(10, 2) == ["b", "c"]


@pytest.mark.parametrize("due", [5, 10, 15])
def test_an_item_has_one_time(due: int) -> None:
    """An item that is put on the agenda anew is due at its new time, sooner or later, and once."""
    agenda: Agenda[str] = Agenda()
    agenda.add("a", 10)
    agenda.add("a", due)
    assert len(agenda) == 1
    assert agenda.due(due - 1, 10) == []
    assert agenda.due(due, 10) == ["a"]
    assert agenda.due(100, 10) == []


def test_an_item_may_come_back() -> None:
    """An item that was discarded and added again at the same time is due once."""
    agenda: Agenda[str] = Agenda()
    agenda.add("a", 10)
    agenda.discard("a")
    agenda.add("a", 10)
    assert agenda.due(10, 10) == ["a"]
    agenda.add("a", 10)
    assert agenda.due(10, 10) == ["a"]
    assert len(agenda) == 0


def test_items_need_no_order() -> None:
    """Items that can't be compared may be due at the same time."""
    agenda: Agenda[object] = Agenda()
    some = [object(), object(), object()]
    for item in some:
        agenda.add(item, 10)
    assert {*agenda.due(10, 10)} == {*some}


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "add", "discard", "due"]), st.integers(0, 5), times),
        max_size=40,
    )
)
def test_an_agenda_agrees_with_a_list(steps: list[tuple[str, int, int]]) -> None:
    """What is due are the first of a list of the items, sorted by their times."""
    agenda: Agenda[int] = Agenda()
    model: dict[int, int] = {}
    for step, item, time_ in steps:
        if step == "add":
            agenda.add(item, time_)
            model[item] = time_
        elif step == "discard":
            agenda.discard(item)
            model.pop(item, None)
        else:
            expected = sorted(due for due in model.values() if due <= time_)[:item]
            assert [model.pop(each) for each in agenda.due(time_, item)] == expected
        assert {each for each in range(6) if each in agenda} == {*model}
        assert len(agenda) == len(model)


def test_a_crowd_is_spread_evenly() -> None:
    """Clients that arrive together are spread over all slots."""
    wheel: Wheel[int] = Wheel(25, 50)
    for item in range(10_000):
        wheel.add(item)
    assert {len(wheel.slot(i)) for i in range(50)} == {200}
    assert len(wheel) == 10_000


@given(st.integers(1, 7), st.integers(0, 40))
def test_slots_differ_by_one(slots: int, count: int) -> None:
    """As long as nobody leaves, the fullest slot has at most one more than the emptiest."""
    wheel: Wheel[int] = Wheel(1, slots)
    for item in range(count):
        wheel.add(item)
    sizes = [len(wheel.slot(i)) for i in range(slots)]
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1


def test_newcomers_fill_what_departures_left() -> None:
    """Of two slots the emptier one gets the newcomer."""
    wheel: Wheel[int] = Wheel(1, 2)
    for item in range(10):
        wheel.add(item)
    for item in wheel.slot(1):
        wheel.discard(item)
    for item in range(10, 15):
        wheel.add(item)
    assert [len(wheel.slot(i)) for i in range(2)] == [5, 5]


def test_an_item_keeps_its_slot() -> None:
    """An item has one slot for as long as it stays, so its answer is checked where it was asked."""
    wheel: Wheel[str] = Wheel(1, 4)
    wheel.add("a")
    wheel.add("a")
    assert [wheel.slot(i) for i in range(4)] == [["a"], [], [], []]
    wheel.discard("a")
    wheel.discard("a")
    assert len(wheel) == 0
    assert wheel.slot(0) == []


def test_a_slot_is_a_snapshot() -> None:
    """Clients may come and go while a slot's items are being pinged."""
    wheel: Wheel[int] = Wheel(1, 1)
    wheel.add(1)
    for item in wheel.slot(0):
        wheel.discard(item)
        wheel.add(2)
    assert wheel.slot(0) == [2]


def test_each_slot_has_its_turn() -> None:
    """In every interval each slot has its turn once, in order, evenly spaced."""
    wheel: Wheel[int] = Wheel(4, 4)
    assert wheel.turn(100.0) == []
    assert [wheel.turn(100.5 + n) for n in range(6)] == [[], [1], [2], [3], [0], [1]]


def test_a_late_tick_catches_up() -> None:
    """A tick that comes late gets all slots it missed, but none of them twice."""
    wheel: Wheel[int] = Wheel(4, 4)
    wheel.turn(0)
    assert wheel.turn(3.5) == [1, 2, 3]
    assert wheel.turn(1_000) == [1, 2, 3, 0]
    assert wheel.turn(1_000) == []


def test_a_clock_that_goes_back_turns_nothing() -> None:
    """A slot whose turn was has it again an interval later, whatever the clock says meanwhile."""
    wheel: Wheel[int] = Wheel(4, 4)
    wheel.turn(0)
    assert [wheel.turn(now) for now in (2, 1, 2, 3)] == [[1, 2], [], [], [3]]


@given(st.integers(1, 10), st.lists(st.integers(0, 30), max_size=100))
def test_no_slot_is_forgotten(slots: int, waits: list[int]) -> None:
    """Whatever the rhythm of the ticks, every slot has its turn once per interval."""
    wheel: Wheel[int] = Wheel(slots * 2, slots)
    turns, now = collections.Counter[int](), 0
    assert wheel.turn(now) == []
    for wait in waits:
        step = min(wait, slots * 2)
        now += step
        turns.update(wheel.turn(now))
    assert turns.total() == now // 2
    assert all(turns[slot] in (now // 2 // slots, now // 2 // slots + 1) for slot in turns)


@pytest.mark.parametrize("timeout", [3, 4, 10])
def test_the_keepalive_of_the_docstring(timeout: int) -> None:
    """Who doesn't answer is dropped one timeout after the ping, others never, newcomers neither."""
    wheel: Wheel[str] = Wheel(4, 4)
    late: Deadlines[tuple[float, int]] = Deadlines(timeout)
    pinged: dict[str, float] = {}
    dropped: dict[str, float] = {}
    for item in ("mute", "good"):
        wheel.add(item)
    for now in range(40):
        if now == 20:
            wheel.add("newcomer")
        for slot in wheel.turn(now):
            for item in wheel.slot(slot):
                pinged.setdefault(item, now)
            late.add((now, slot), now)
        for then, slot in late.due(now):
            for item in wheel.slot(slot):
                if pinged.get(item, now) <= then:
                    dropped[item] = now
                    wheel.discard(item)
        pinged = {item: at for item, at in pinged.items() if item == "mute"}
    assert dropped == {"mute": 4 + timeout}
    assert len(wheel) == 2


def test_the_wheel_takes_constant_time() -> None:
    """A hundred thousand clients come, are pinged and go within two seconds."""
    wheel: Wheel[int] = Wheel(25, 250)
    started = time.process_time()
    for item in range(100_000):
        wheel.add(item)
    wheel.turn(0)
    met = itertools.chain.from_iterable(wheel.slot(slot) for slot in wheel.turn(25.05))
    assert sorted(met) == list(range(100_000))
    for item in range(100_000):
        wheel.discard(item)
    assert time.process_time() - started < 2

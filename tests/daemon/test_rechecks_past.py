from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from neighbours import Shelf, entry
from waiting import until

from notifyd.core.ledger import Ledger
from notifyd.daemon import rechecks_past
from notifyd.daemon.rechecks_past import Past

if TYPE_CHECKING:
    from notifyd.core.batch import RawEntry


def control(number: int, body: Any) -> RawEntry:
    """Return a control entry."""
    return f"{number}-0", {
        b"control": body if isinstance(body, bytes) else json.dumps(body).encode()
    }


class House:
    """A ledger, from the position 100-0 on, and a past of four orders."""

    def __init__(self) -> None:
        self.epoch: str | None = "e"
        self.ledger = Ledger()
        self.ledger.reset((100, 0))
        self.shelf = Shelf()
        self.shelf.add(
            entry(10),
            control(20, {"recheck": {"users": ["1"]}}),
            control(30, {"reauthenticate": {"users": ["2"]}}),
            control(40, {"recheck": {"groups": ["7"]}}),
            entry(100),
        )
        self.past = Past(self.ledger, self.shelf, epoch=lambda: self.epoch)


async def test_known_already() -> None:
    """Of what happened since the daemon listens nobody has to be asked."""
    house = House()
    assert await house.past.covers("e", (100, 0))
    assert house.shelf.asked == []


async def test_read_back() -> None:
    """What was ordered before is read once, whoever asks, and however far back."""
    house = House()
    assert await house.past.covers("e", (15, 0))
    assert house.ledger.concerned("1", (), (15, 0))
    assert not house.ledger.concerned("1", (), (20, 0))
    assert house.ledger.ended("2", (25, 0))
    assert house.ledger.concerned("3", ["7"], (30, 0))
    assert await house.past.covers("e", (10, 0))
    assert house.shelf.asked == ["controls"]


async def test_asked_by_many() -> None:
    """Many who ask at once make one question."""
    house = House()
    answers = await asyncio.gather(*[house.past.covers("e", (n, 0)) for n in range(5, 100)])
    assert answers.count(True) == 90
    assert house.shelf.asked == ["controls"]


async def test_asked_by_many_who_wait() -> None:
    """However many wait for the same answer, all go on when it comes, and not one after another."""
    house = House()
    answer = asyncio.Event()
    house.shelf.meanwhile = answer.wait
    asking = [asyncio.create_task(house.past.covers("e", (10, 0))) for _ in range(500)]
    await until(lambda: house.shelf.asked)
    answer.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert all(each.done() for each in asking)


async def test_trimmed() -> None:
    """What the stream no longer has can't be known."""
    house = House()
    assert not await house.past.covers("e", (9, 9))
    assert not await house.past.covers("e", (9, 9))
    assert house.shelf.asked == ["controls"]


async def test_another_history() -> None:
    """Of another history nothing can be known."""
    house = House()
    assert not await house.past.covers("d", (100, 0))
    assert not await house.past.covers(None, (100, 0))


async def test_after_a_gap() -> None:
    """After a gap what is left of the stream is read anew."""
    house = House()
    assert await house.past.covers("e", (10, 0))
    house.ledger.reset((200, 0))
    house.shelf.add(entry(200))
    house.shelf.entries = house.shelf.entries[3:]
    assert await house.past.covers("e", (40, 0))
    assert not await house.past.covers("e", (39, 0))
    assert house.shelf.asked == ["controls", "controls"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"recheck": 1}', b"\xff"])
async def test_unreadable(body: bytes) -> None:
    """An order that can't be read may have been about anybody."""
    house = House()
    house.shelf.entries[3] = control(40, body)
    assert await house.past.covers("e", (10, 0))
    assert house.ledger.concerned("9", (), (39, 0))
    assert not house.ledger.concerned("9", (), (40, 0))


async def test_redis_is_back_in_time() -> None:
    """While Redis is away one waits."""
    house = House()
    house.shelf.away = True
    asking = asyncio.create_task(house.past.covers("e", (10, 0)))
    await until(lambda: len(house.shelf.asked) >= 2)
    house.shelf.away = False
    assert await asking


async def test_position_is_known_in_time() -> None:
    """Before the daemon has found its bus one waits."""
    house = House()
    house.epoch = None
    asking = asyncio.create_task(house.past.covers("e", (100, 0)))
    await asyncio.sleep(0)
    house.epoch = "e"
    assert await asking


async def test_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Redis stays away there is no answer."""
    monkeypatch.setattr(rechecks_past, "PATIENCE", 0.2)
    house = House()
    house.shelf.away = True
    with pytest.raises(TimeoutError):
        await house.past.covers("e", (10, 0))


async def test_history_changes_while_asking() -> None:
    """What was read of a history that the relay has left meanwhile is thrown away."""
    house = House()
    house.shelf.epoch = "f"
    asking = asyncio.create_task(house.past.covers("e", (10, 0)))
    await until(lambda: house.shelf.asked)
    house.epoch = "f"
    assert not await asking
    assert not house.ledger.concerned("1", (), (100, 0))

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from daemon.rechecking import LITTLE, MUCH, House, audience, login_of
from structlog.testing import capture_logs
from waiting import until

from notifyd.core.controls import Order
from notifyd.core.login import Outcome, Refused, Result
from notifyd.core.protocol import CloseCode
from notifyd.daemon import rechecks

if TYPE_CHECKING:
    from notifyd.core.audience import Audience


def recheck(*users: str) -> Order:
    """Return the order to read users anew."""
    return Order(recheck_users=frozenset(users))


EVERYBODY = Order(recheck_all=True)


async def test_suspended_at_once() -> None:
    """From the moment of the order its user gets nothing, and nobody else is concerned."""
    house = House()
    one, other = house.join("1"), house.join("2")
    house.order(recheck("1"))
    assert (one.sees, other.seen) == (None, [MUCH])


async def test_read_and_restored() -> None:
    """Once read, a user sees what the database says now, as of the order or later."""
    house = House()
    person = house.join("1")
    house.stand("1", LITTLE)
    async with house.at_work():
        house.order(recheck("1"))
        await until(lambda: person.sees)
    assert person.seen == [MUCH, None, LITTLE]
    assert (login_of(person).audience, login_of(person).as_of) == (LITTLE, "2-0")
    assert house.readings.results[Outcome.CHANGED] == 1
    assert len(house.waited) == 1


async def test_every_client_of_the_user() -> None:
    """All clients of a user are suspended together, and read once."""
    house = House()
    persons = [house.join("1") for _ in range(3)]
    async with house.at_work():
        house.order(recheck("1"))
        assert [person.sees for person in persons] == [None] * 3
        await until(lambda: all(person.sees for person in persons))
    assert house.asked == [["1"]]


async def test_absent_users_are_not_read() -> None:
    """Who isn't connected costs no query."""
    house = House()
    async with house.at_work():
        house.order(recheck("1"))
        person = house.join("2")
        house.order(recheck("2"))
        await until(lambda: person.seen == [MUCH, None, MUCH])
    assert house.asked == [["2"]]


async def test_groups() -> None:
    """An order about a group concerns those who were its members when they were read."""
    house = House()
    member = house.join("1", audience(groups=["7"]))
    other = house.join("2", audience(groups=["8"]))
    house.order(Order(recheck_groups=frozenset("7")))
    assert (member.sees, len(other.seen)) == (None, 1)


async def test_everybody() -> None:
    """An order about all concerns all, 200 users at a time."""
    house = House()
    persons = [house.join(str(n)) for n in range(450)]
    async with house.at_work():
        house.order(EVERYBODY)
        assert {person.sees for person in persons} == {None}
        await until(lambda: all(person.sees for person in persons))
    assert sorted(map(len, house.asked)) == [50, 200, 200]


async def test_disconnect() -> None:
    """Who is disconnected is closed with 4403, at once."""
    house = House()
    one, other = house.join("1"), house.join("2")
    house.order(Order(disconnect=frozenset("1")))
    assert (one.code, other.code) == (CloseCode.REVOKED, None)


async def test_reauthenticate() -> None:
    """Who has logged out is closed with 4401, at once."""
    house = House()
    one, other = house.join("1"), house.join("2")
    house.order(Order(reauthenticate=frozenset("1")))
    assert (one.code, other.code) == (CloseCode.AUTHENTICATION_FAILED, None)


async def test_gone() -> None:
    """Who is deleted or inactive is closed with 4403."""
    house = House()
    person = house.join("1")
    del house.standings["1"]
    async with house.at_work():
        house.order(recheck("1"))
        await until(lambda: person.code)
    assert person.code is CloseCode.REVOKED
    assert house.readings.results[Outcome.REVOKED] == 1


async def test_new_password() -> None:
    """A new password closes with 4401; a new secret key of the site does not."""
    house = House()
    one, other = house.join("1"), house.join("2")
    house.stand("1", MUCH, "new")
    house.stand("2", MUCH, "new", "d")
    async with house.at_work():
        house.order(recheck("1", "2"))
        await until(lambda: one.code and other.sees)
    assert (one.code, other.code) == (CloseCode.AUTHENTICATION_FAILED, None)


async def test_overtaken() -> None:
    """What an order has overtaken while it was read is thrown away and read again."""
    house = House()
    person = house.join("1")

    def grant_less() -> None:
        house.stand("1", LITTLE)
        house.order(recheck("1"))

    house.during = [grant_less]
    async with house.at_work():
        house.order(recheck("1"))
        await until(lambda: person.sees)
    assert {*person.seen} == {MUCH, None, LITTLE}
    assert person.seen[-1] == LITTLE
    assert MUCH not in person.seen[1:]
    assert house.readings.results[Outcome.STALE] == 1


@pytest.mark.parametrize("before", [True, False], ids=["old group", "new group"])
async def test_overtaken_by_a_groups_order(*, before: bool) -> None:
    """An order about a group the user was in, or is in by now, overtakes a reading, too."""
    house = House()
    groups: tuple[Audience, Audience] = (audience(groups=["7"]), audience(groups=["8"]))
    person = house.join("1", groups[0])
    house.stand("1", groups[1])
    house.during = [lambda: house.order(Order(recheck_groups=frozenset("7" if before else "8")))]
    async with house.at_work():
        house.order(recheck("1"))
        await until(lambda: person.sees)
    assert house.asked == [["1"], ["1"]]


async def test_overtaken_three_times() -> None:
    """Whoever can't be read three times because of new orders is closed with 1013."""
    house = House()
    person = house.join("1")
    house.during = [lambda: house.order(recheck("1")) for _ in range(3)]
    async with house.at_work():
        house.order(recheck("1"))
        await until(lambda: person.code)
    assert person.code is CloseCode.TRY_LATER
    assert person.seen[1:] == [None] * len(person.seen[1:])


async def test_everybody_is_patient() -> None:
    """Orders about all that follow each other close nobody."""
    house = House()
    person = house.join("1")
    house.during = [lambda: house.order(EVERYBODY) for _ in range(5)]
    async with house.at_work():
        house.order(EVERYBODY)
        await until(lambda: person.sees)
    assert person.code is None


async def test_database_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom an order names and who can't be read in time is closed with 1013, and logged."""
    monkeypatch.setattr(rechecks, "PATIENCE", 0.3)
    house = House()
    person = house.join("1")
    house.fault = Refused(Result.ERROR, "OperationalError")
    with capture_logs() as logs:
        async with house.at_work():
            began = time.monotonic()
            house.order(recheck("1"))
            await until(lambda: person.code)
    assert time.monotonic() - began >= 0.3
    assert person.code is CloseCode.TRY_LATER
    assert person.seen == [MUCH, None]
    assert {"event": "recheck.failed", "log_level": "error"}.items() <= logs[-1].items()
    assert house.readings.results[Outcome.ERROR] == len(house.asked)


async def test_database_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not answer is given up in time."""
    monkeypatch.setattr(rechecks, "PATIENCE", 0.2)
    house = House()
    person = house.join("1")
    house.open.clear()
    async with house.at_work():
        house.order(recheck("1"))
        await until(lambda: person.code)
    assert person.code is CloseCode.TRY_LATER
    assert house.readings.results[Outcome.TIMEOUT] >= 1


async def test_database_is_back_in_time() -> None:
    """A database that fails for a moment costs nobody the connection."""
    house = House()
    person = house.join("1")
    house.fault = Refused(Result.ERROR, "OperationalError")
    async with house.at_work():
        house.order(recheck("1"))
        await until(lambda: house.asked)
        house.fault = None
        await until(lambda: person.sees)
    assert (person.code, person.seen) == (None, [MUCH, None, MUCH])


async def test_one_user_is_broken() -> None:
    """A user for whom the site's code fails keeps nobody else from being read."""
    house = House()
    persons = [house.join(str(n)) for n in range(200)]
    house.broken = "7"
    async with house.at_work():
        house.order(recheck(*map(str, range(200))))
        await until(lambda: all(person.sees or person is persons[7] for person in persons))
    assert persons[7].sees is None
    assert [len(users) for users in house.asked[:3]] == [200, 20, 20]


async def test_everybody_waits_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an order about all, clients stay for as long as the database is away."""
    monkeypatch.setattr(rechecks, "PATIENCE", 0.05)
    house = House()
    person = house.join("1")
    house.fault = Refused(Result.ERROR, "OperationalError")
    async with house.at_work():
        house.order(EVERYBODY)
        await until(lambda: len(house.asked) >= 4)
        assert (person.sees, person.code, len(house.rechecks)) == (None, None, 1)
        house.fault = None
        await until(lambda: person.sees)
    assert len(house.rechecks) == 0


async def test_urgent_first() -> None:
    """Whom an order names is read before those whom only an order about all concerns."""
    house = House()
    for n in range(1000):
        house.join(str(n))
    house.order(EVERYBODY)
    house.order(recheck("999"))
    async with house.at_work():
        await until(lambda: house.asked)
    assert house.asked[0] == ["999"]


async def test_user_leaves_meanwhile() -> None:
    """Who leaves while being read is no longer waited for."""
    house = House()
    person = house.join("1")
    house.open.clear()
    async with house.at_work():
        house.order(recheck("1"))
        await until(lambda: house.asked)
        house.hub.leave(person, "1")
        house.open.set()
        await until(lambda: not len(house.rechecks))
    assert house.readings.results[Outcome.GONE] == 1


async def test_restart() -> None:
    """After a gap everybody is read anew, and what was read before it counts for nothing."""
    house = House()
    person = house.join("1")
    async with house.at_work():
        house.position = (9, 0)
        house.rechecks.restart((9, 0))
        assert person.sees is None
        await until(lambda: person.sees)
    assert not house.ledger.covers((8, 0))
    assert login_of(person).as_of == "9-0"


async def test_thousand_users() -> None:
    """A thousand users of one order are read in five jobs."""
    house = House()
    persons = [house.join(str(n)) for n in range(1000)]
    async with house.at_work():
        house.order(recheck(*map(str, range(1000))))
        await until(lambda: all(person.sees for person in persons))
    assert len(house.asked) == 5


async def test_nobody_waits_in_vain() -> None:
    """Orders that come while a user is read merge into one more reading."""
    house = House()
    person = house.join("1")
    house.open.clear()
    async with house.at_work():
        house.order(recheck("1"))
        await until(lambda: house.asked)
        for _ in range(10):
            house.order(recheck("1"))
        house.open.set()
        await until(lambda: person.sees)
        await asyncio.sleep(0)
    assert len(house.asked) == 2

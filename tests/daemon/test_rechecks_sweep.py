from __future__ import annotations

import time

from daemon.rechecking import LITTLE, MUCH, House, login_of
from structlog.testing import capture_logs
from waiting import until

from notifyd.core.controls import Order
from notifyd.core.login import Outcome, Refused, Result
from notifyd.core.protocol import CloseCode

SOON = 0.2


async def test_read_in_turn() -> None:
    """Everybody who is connected is read again and again, and is not suspended for it."""
    house = House(SOON)
    person = house.join("1")
    house.sweep.entered("1", time.time())
    async with house.at_work():
        await until(lambda: len(house.asked) >= 2)
    assert person.seen == [MUCH]
    assert house.readings.results[Outcome.KEPT] >= 2
    assert login_of(person).read_at > 0


async def test_changed() -> None:
    """A change without a signal takes effect by the sweep."""
    house = House(SOON)
    person = house.join("1")
    house.sweep.entered("1", time.time())
    house.stand("1", LITTLE)
    async with house.at_work():
        await until(lambda: house.readings.results[Outcome.CHANGED])
    assert person.seen == [MUCH, LITTLE]


async def test_gone() -> None:
    """Who was deactivated without a signal is closed with 4403."""
    house = House(SOON)
    person = house.join("1")
    house.sweep.entered("1", time.time())
    del house.standings["1"]
    async with house.at_work():
        await until(lambda: person.code)
    assert person.code is CloseCode.REVOKED


async def test_new_password() -> None:
    """Who has another password since, without a signal, is closed with 4401."""
    house = House(SOON)
    person = house.join("1")
    house.sweep.entered("1", time.time())
    house.stand("1", MUCH, "new")
    async with house.at_work():
        await until(lambda: person.code)
    assert person.code is CloseCode.AUTHENTICATION_FAILED


async def test_failure() -> None:
    """If the database fails everybody keeps what they may see, and the failure is told."""
    house = House(SOON)
    person = house.join("1")
    house.sweep.entered("1", time.time())
    house.fault = Refused(Result.ERROR, "OperationalError")
    with capture_logs() as logs:
        async with house.at_work():
            await until(lambda: len(house.asked) >= 2)
    assert (person.seen, person.code) == ([MUCH], None)
    assert {line["event"] for line in logs} == {"sweep.failed"}
    assert house.readings.results[Outcome.ERROR] >= 1


async def test_overtaken() -> None:
    """What an order has overtaken is thrown away, and is the order's to read."""
    house = House(SOON)
    person = house.join("1")
    house.sweep.entered("1", time.time())

    def revoke() -> None:
        house.stand("1", LITTLE)
        house.order(Order(recheck_users=frozenset("1")))

    house.during = [revoke]
    async with house.at_work():
        await until(lambda: person.sees == LITTLE)
    assert person.seen == [MUCH, None, LITTLE]
    assert house.readings.results[Outcome.STALE] == 1


async def test_spread() -> None:
    """Those who came together are not read together, but none later than the interval."""
    house = House(1)
    for n in range(100):
        house.join(str(n))
        house.sweep.entered(str(n), time.time())
    began = time.monotonic()
    async with house.at_work():
        await until(lambda: sum(map(len, house.asked)) >= 100)
    assert time.monotonic() - began < 1.5
    assert len(house.asked) > 1


async def test_age_counts() -> None:
    """Who was read long ago, and came with a ticket, is read at once."""
    house = House(1000)
    house.join("1")
    house.sweep.entered("1", time.time() - 2000)
    house.join("2")
    house.sweep.entered("2", time.time())
    async with house.at_work():
        await until(lambda: house.asked, timeout=20)
    assert house.asked == [["1"]]


async def test_who_has_left_is_not_read() -> None:
    """Who has left costs no query."""
    house = House(SOON)
    house.hub.leave(house.join("1"), "1")
    house.join("2")
    for user in ("1", "2"):
        house.sweep.entered(user, time.time() - 1)
    async with house.at_work():
        await until(lambda: house.asked)
    assert house.asked[0] == ["2"]

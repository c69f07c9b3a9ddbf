from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from neighbours import Shelf, entry

from notifyd.core.audience import Vocabulary
from notifyd.core.controls import Order
from notifyd.core.history import History
from notifyd.core.hub import Hub
from notifyd.core.ledger import Ledger
from notifyd.core.limits import Buckets
from notifyd.core.login import Login, Refused, Result
from notifyd.core.positions import format_position
from notifyd.core.protocol import Hello
from notifyd.daemon import auth, rechecks_past
from notifyd.daemon.logins import Logins
from notifyd.daemon.rechecks_past import Past
from notifyd.daemon.relay import Relay
from notifyd.daemon.relay_feeder import Feeder
from notifyd.daemon.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from newsrooms import Newsroom

pytest_plugins = ["newsroom_fixtures"]

ADDRESS = "192.0.2.1"


class Caller:
    """A client that is let in, as far as the logins know it."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self.expires = self.renews = 0.0


class House:
    """Logins at a position of the stream, over the newsroom."""

    def __init__(self, vocabulary: Vocabulary, queries: list[str], **options: float) -> None:
        self.queries = queries
        self.entered: list[tuple[str, float]] = []
        history = History(1 << 20)
        hub: Hub[Any] = Hub()
        self.relay: Relay[Any] = Relay(
            hub,
            history,
            Feeder(hub, history, left_behind=lambda _: None),
            obey=lambda _position, _order: None,
            restarted=lambda _position, _reason: None,
            observe_latency=lambda *_: None,
            observe_fanout=lambda _: None,
        )
        self.history = history
        self.ledger = Ledger()
        self.shelf = Shelf()
        self.at(100)
        self.authenticator = auth.Authenticator(
            vocabulary,
            threads=2,
            timeout=10,
            statement_timeout=5,
            unscoped=True,
            failures=Buckets(0.001, 3, most=10),
            observe=lambda _: None,
            position=lambda: self.relay.last_id,
        )
        times = {"ttl": 900.0, "lifetime": 43_200.0} | options
        self.tickets = Tickets(vocabulary, **times)
        self.logins = Logins(
            self.authenticator,
            self.tickets,
            self.ledger,
            Past(self.ledger, self.shelf, epoch=lambda: self.relay.epoch),
            self.relay,
            **times,
            entered=lambda user, read_at: self.entered.append((user, read_at)),
        )

    def at(self, number: int, epoch: str = "e") -> None:
        """Begin at a position of a history, knowing nothing of what was before."""
        self.relay.epoch = self.shelf.epoch = epoch
        self.history.reset((number, 0))
        self.ledger.reset((number, 0))
        self.shelf.entries.clear()
        self.shelf.add(entry(number))

    def order(self, order: Order) -> None:
        """Relay the order of the next entry."""
        assert self.history.end is not None
        position = (self.history.end[0] + 1, 0)
        self.history.reset(position)
        self.ledger.note(position, order)

    async def by_token(self, newsroom: Newsroom, name: str = "nadia") -> Login:
        """Log somebody in by a token."""
        return await self.logins.log_in(Hello(token=await newsroom.token(name)), ADDRESS)

    async def by_ticket(self, ticket: str | None) -> Login:
        """Log somebody in by a ticket."""
        assert ticket is not None
        return await self.logins.log_in(Hello(ticket=ticket), ADDRESS)

    def ticket(self, login: Login) -> str:
        """Let somebody in, and return the ticket."""
        caller: Any = Caller(login)
        ticket, _ = self.logins.entered(caller)
        assert ticket is not None
        return ticket

    async def result(self, ticket: str) -> Result:
        """Return how a ticket is refused."""
        with pytest.raises(Refused) as caught:
            await self.by_ticket(ticket)
        assert ticket not in str(caught.value)
        return caught.value.result


@pytest.fixture
async def house(newsroom: Newsroom, queries: list[str]) -> AsyncIterator[House]:  # noqa: ARG001 - the database
    """Give logins over a newsroom of the test's own."""
    made = House(Vocabulary(), queries)
    yield made
    await made.authenticator.close()


async def test_token(house: House, newsroom: Newsroom) -> None:
    """A token is answered by the database, as of the position before it was asked."""
    login = await house.by_token(newsroom)
    assert (login.user, login.as_of) == (str((await newsroom.user("nadia")).pk), "100-0")
    assert abs(login.auth_time - time.time()) < 5


async def test_ticket_needs_no_query(house: House, newsroom: Newsroom) -> None:
    """A ticket admits as the token did before it, without a query."""
    login = await house.by_token(newsroom)
    ticket = house.ticket(login)
    house.queries.clear()
    assert await house.by_ticket(ticket) == login
    assert house.queries == []
    assert house.authenticator.results["ok"] == 2


async def test_ticket_is_read_anew_after_an_order(house: House, newsroom: Newsroom) -> None:
    """If an order has come since that concerns the user, the database says what is true now."""
    login = await house.by_token(newsroom)
    ticket = house.ticket(login)
    await newsroom.run((await newsroom.group("editors")).permissions.clear)
    house.order(Order(recheck_users=frozenset([login.user])))
    later = await house.by_ticket(ticket)
    assert (later.audience.permissions, later.as_of) == (0, "101-0")
    assert later.auth_time == login.auth_time


async def test_ticket_after_an_order_for_others(house: House, newsroom: Newsroom) -> None:
    """An order that concerns others costs a ticket nothing."""
    ticket = house.ticket(await house.by_token(newsroom))
    house.order(Order(recheck_users=frozenset(["0"]), recheck_groups=frozenset(["0"])))
    house.queries.clear()
    await house.by_ticket(ticket)
    assert house.queries == []


@pytest.mark.parametrize("how", ["disconnect", "reauthenticate"])
async def test_ticket_dies_with_the_login(house: House, newsroom: Newsroom, how: str) -> None:
    """After a log-out, or a disconnection, a ticket of before is worth nothing."""
    login = await house.by_token(newsroom)
    ticket = house.ticket(login)
    named = frozenset([login.user])
    orders = {"disconnect": Order(disconnect=named), "reauthenticate": Order(reauthenticate=named)}
    house.order(orders[how])
    assert await house.result(ticket) is Result.INVALID


async def test_ticket_dies_with_the_password(house: House, newsroom: Newsroom) -> None:
    """After a change of the password, even one without a signal, a ticket is worth nothing."""
    login = await house.by_token(newsroom)
    ticket = house.ticket(login)
    await newsroom.change("nadia", password="another")
    house.order(Order(recheck_all=True))
    assert await house.result(ticket) is Result.INVALID


async def test_ticket_dies_with_the_user(house: House, newsroom: Newsroom) -> None:
    """After a deactivation a ticket is worth nothing."""
    login = await house.by_token(newsroom)
    ticket = house.ticket(login)
    await newsroom.change("nadia", is_active=False)
    house.order(Order(recheck_users=frozenset([login.user])))
    assert await house.result(ticket) is Result.INACTIVE


async def test_cold_start(house: House, newsroom: Newsroom) -> None:
    """A daemon that has just begun reads in the stream what was ordered before."""
    login = await house.by_token(newsroom)
    ticket = house.ticket(login)
    house.at(200)
    house.shelf.entries.insert(0, entry(90))
    house.queries.clear()
    assert await house.by_ticket(ticket) == login
    assert house.queries == []
    assert house.shelf.asked == ["controls"]


async def test_cold_start_after_a_log_out(house: House, newsroom: Newsroom) -> None:
    """A daemon that saw nothing of a log-out finds it in the stream."""
    login = await house.by_token(newsroom)
    ticket = house.ticket(login)
    house.at(200)
    body = b'{"reauthenticate": {"users": ["%s"]}}' % login.user.encode()
    house.shelf.entries[:0] = [entry(90), ("150-0", {b"control": body})]
    assert await house.result(ticket) is Result.INVALID


async def test_history_that_does_not_reach_back(house: House, newsroom: Newsroom) -> None:
    """If the stream was trimmed behind a ticket's position, a token has to be shown."""
    ticket = house.ticket(await house.by_token(newsroom))
    house.at(200)
    assert await house.result(ticket) is Result.EXPIRED


async def test_another_history(house: House, newsroom: Newsroom) -> None:
    """After a loss of the stream nobody knows who has logged out: a token has to be shown."""
    ticket = house.ticket(await house.by_token(newsroom))
    house.at(100, epoch="f")
    assert await house.result(ticket) is Result.EXPIRED


async def test_redis_is_away(
    house: House, newsroom: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Redis can't be asked what was ordered, the client is to try later."""
    monkeypatch.setattr(rechecks_past, "PATIENCE", 0.2)
    ticket = house.ticket(await house.by_token(newsroom))
    house.at(200)
    house.shelf.away = True
    assert await house.result(ticket) is Result.TIMEOUT


async def test_nonsense_is_limited(house: House) -> None:
    """Who shows what is no ticket again and again is limited like others who fail."""
    results = [await house.result("Xyzzy") for _ in range(5)]
    assert results == [Result.INVALID] * 3 + [Result.RATE_LIMITED] * 2
    assert house.authenticator.results["rate_limited"] == 2


async def test_ticket_of_before_the_position_was_known(house: House, newsroom: Newsroom) -> None:
    """While the daemon has no position there are no tickets."""
    login = await house.by_token(newsroom)
    house.relay.epoch = None
    caller: Any = Caller(login)
    assert house.logins.entered(caller) == (None, None)


async def test_entered(house: House, newsroom: Newsroom) -> None:
    """Who is let in is read in turn from then on, and has to go when the lifetime is over."""
    login = await house.by_token(newsroom)
    caller: Any = Caller(login)
    now = asyncio.get_running_loop().time()
    house.logins.entered(caller)
    assert house.entered == [(login.user, login.read_at)]
    assert 0.8 * 43_200 - 5 < caller.expires - now <= 43_200
    assert 299 < caller.renews - now < 301


async def test_lifetime_counts_from_the_token(newsroom: Newsroom, queries: list[str]) -> None:
    """However often a ticket is renewed, the time since the token counts."""
    house = House(Vocabulary(), queries, lifetime=100.0)
    try:
        login = await house.by_token(newsroom)
        ticket = house.tickets.issue(login, "e", login.auth_time + 99)
        assert house.tickets.open(ticket, login.auth_time + 99.5).login == login
        with pytest.raises(Refused):
            house.tickets.open(ticket, login.auth_time + 100)
    finally:
        await house.authenticator.close()


@pytest.mark.parametrize("as_of", [None, "99-0"], ids=["unknown", "not covered"])
async def test_overtaken(house: House, newsroom: Newsroom, as_of: str | None) -> None:
    """What was read before anything was known has to be read again."""
    login = await house.by_token(newsroom)
    assert not house.logins.overtaken(login)
    early = Login(login.user, login.audience, as_of=as_of)
    assert house.logins.overtaken(early)
    house.history.end = None
    assert house.logins.overtaken(Login(login.user, login.audience)) is False


async def test_renew(house: House, newsroom: Newsroom) -> None:
    """A login is renewed with what the database says now, as of the present position."""
    login = await house.by_token(newsroom)
    house.history.reset((300, 0))
    renewed = await house.logins.renew(login)
    assert renewed.as_of == format_position((300, 0))
    assert (renewed.audience, renewed.digest) == (login.audience, login.digest)

"""The site behind the promises: what its users may see, at every moment, and who had to know."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from daemon.promises_outside import Answers

from notifyd.core.audience import Audience
from notifyd.core.login import Login, Refused, Result, Standing
from notifyd.daemon.tickets import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.promises_outside import Entry, Loop, Redis, Rule

    from notifyd.core.audience import Vocabulary
    from notifyd.core.controls import Order

USERS = ("1", "2")
GROUPS = ("1", "2")

# Seconds that a question to the database may take.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Account:
    """A user's row and what belongs to it; `grants` are permissions and content types."""

    groups: frozenset[str] = frozenset()
    grants: frozenset[str] = frozenset()
    superuser: bool = False
    active: bool = True
    password: int = 0


def sees(account: Account, user: str, rule: Rule) -> bool:
    """Tell whether a rule admits a user: DESIGN.md 4.1, once more."""
    if not account.active:
        return False
    for key, value in rule.items():
        if key == "everyone" or (key == "users" and user in value):
            return True
        if key == "groups" and not account.groups.isdisjoint(value):
            return True
        if key in {"permissions", "content_types"} and (
            account.superuser or not account.grants.isdisjoint(map(str, value))
        ):
            return True
        if key == "all" and all(sees(account, user, part) for part in value):
            return True
    return False


class Site:
    """The database, now and ever, and what can be told from it and the stream."""

    def __init__(self, loop: Loop, redis: Redis, tick: Callable[[], int]) -> None:
        self._loop = loop
        self._redis = redis
        self._tick = tick
        self.answers = Answers(lambda: Refused(Result.ERROR, "OperationalError"))
        self.tickets: list[tuple[Login, str | None, list[str]]] = []
        self._rows = dict.fromkeys(USERS, Account())
        self._granted = dict.fromkeys(GROUPS, frozenset[str]())
        self._ever: dict[str, list[tuple[int, Account]]] = {user: [] for user in USERS}
        self._commit()

    # What the site does.

    def change(self, user: str, account: Account) -> None:
        """Commit a change of a user; the password stays."""
        self._rows[user] = replace(account, password=self._rows[user].password)
        self._commit()

    def new_password(self, user: str) -> None:
        """Commit a new password."""
        row = self._rows[user]
        self._rows[user] = replace(row, password=row.password + 1)
        self._commit()

    def grant(self, group: str, grants: frozenset[str]) -> None:
        """Commit what a group may see."""
        self._granted[group] = grants
        self._commit()

    def _commit(self) -> None:
        moment = self._tick()
        for user, row in self._rows.items():
            of_groups = (self._granted[group] for group in row.groups)
            account = replace(row, grants=row.grants.union(*of_groups))
            if not self._ever[user] or self._ever[user][-1][1] != account:
                self._ever[user].append((moment, account))

    def now(self, user: str) -> Account:
        """Return what the database has."""
        return self._ever[user][-1][1]

    # What was promised.

    def _between(self, user: str, start: int, end: int) -> list[Account]:
        """Return what the database had at any moment between two."""
        began = [account for moment, account in self._ever[user] if moment <= start]
        return began[-1:] + [each for moment, each in self._ever[user] if start < moment <= end]

    def _concerns(self, order: Order, user: str, start: int, moment: int) -> bool:
        """Tell whether an order concerned a user for certain, whichever audience a daemon had."""
        named = order.recheck_users | order.disconnect | order.reauthenticate
        if order.recheck_all or user in named:
            return True
        known = self._between(user, start, moment)
        return all(not order.recheck_groups.isdisjoint(each.groups) for each in known)

    def _rechecked(self, user: str, event: Entry) -> int:
        """Return the moment of the last recheck before an event."""
        found = self._redis.epochs[event.epoch]
        for entry in self._redis.orders:
            if entry.epoch == event.epoch and entry.position < event.position:
                assert entry.order is not None
                if self._concerns(entry.order, user, found, entry.moment):
                    found = entry.moment
        return found

    def may_see(self, user: str, event: Entry, moment: int) -> bool:
        """Tell whether an audience that may decide on it at the moment admits an event."""
        assert event.rule is not None
        known = self._between(user, self._rechecked(user, event), moment)
        return any(sees(account, user, event.rule) for account in known)

    def must_see(self, user: str, event: Entry, moment: int) -> bool:
        """Tell whether every audience that may decide on it up to the moment admits an event."""
        if event.rule is None:
            return False
        known = self._between(user, self._rechecked(user, event), moment)
        return all(sees(account, user, event.rule) for account in known)


def _standing(account: Account, vocabulary: Vocabulary) -> Standing | None:
    if not account.active:
        return None
    names = {each for each in account.grants if "." in each}
    audience = Audience.build(
        vocabulary,
        permissions=names,
        content_types=account.grants - names,
        groups=account.groups,
        superuser=account.superuser,
    )
    return Standing(audience, (f"password {account.password}",))


class Authenticator:
    """Stand in for Django: a token is its user's key."""

    def __init__(
        self, site: Site, vocabulary: Vocabulary, position: Callable[[], str | None]
    ) -> None:
        self._site = site
        self._vocabulary = vocabulary
        self._position = position

    async def authenticate(self, token: str, *, bare: bool, address: str | None) -> Login:
        """Return the user whom the token names."""
        assert (bare, address) is not None
        as_of, standings = await self.read([token])
        standing = standings[token]
        if standing is None:
            raise Refused(Result.INACTIVE)
        now = asyncio.get_running_loop().time()
        return Login(token, standing.audience, standing.digests[0], now, now, as_of)

    async def read(self, users: Sequence[str]) -> tuple[str | None, Mapping[str, Standing | None]]:
        """Return what the database says of users, and the position that was relayed before."""
        as_of = self._position()

        def look() -> Mapping[str, Standing | None]:
            return {user: _standing(self._site.now(user), self._vocabulary) for user in users}

        try:
            async with asyncio.timeout(_PATIENCE):
                return as_of, await self._site.answers.ask(look)
        except TimeoutError:
            raise Refused(Result.TIMEOUT) from None

    def check(self, address: str | None) -> None:
        """Refuse nobody."""

    def count(self, result: Result, address: str | None) -> None:
        """Count nothing."""


class Tickets:
    """Stand in for the signature: a ticket is the number of what it says.

    Every third is one that had no room for the audience.
    """

    def __init__(self, site: Site, vocabulary: Vocabulary) -> None:
        self._site = site
        self._vocabulary = vocabulary

    def issue(self, login: Login, epoch: str | None, _now: float) -> str:
        """Return a ticket for the login."""
        mask = login.audience.permissions | login.audience.content_types
        self._site.tickets.append((login, epoch, login.audience.vocabulary.words(mask)))
        return f"ticket {len(self._site.tickets) - 1}"

    def open(self, ticket: str, _now: float) -> Ticket:
        """Return what a ticket says, in the words of this daemon."""
        number = int(ticket.removeprefix("ticket "))
        login, epoch, words = self._site.tickets[number]
        complete = number % 3 != 0
        content_types = [each for each in words if each.startswith("content_type:")]
        audience = Audience.build(self._vocabulary)
        if complete:
            audience = Audience.build(
                self._vocabulary,
                permissions={*words} - {*content_types},
                content_types=[each.removeprefix("content_type:") for each in content_types],
                groups=login.audience.groups,
                superuser=login.audience.superuser,
            )
        return Ticket(replace(login, audience=audience), epoch, complete)

"""Rechecks with everything around them, but for the stream and the database."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.hub import Hub
from notifyd.core.ledger import Ledger
from notifyd.core.login import Login, Refused, Result, Standing
from notifyd.core.positions import format_position
from notifyd.daemon.rechecks import Rechecks
from notifyd.daemon.rechecks_readings import Readings
from notifyd.daemon.rechecks_sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from notifyd.core.controls import Order
    from notifyd.core.positions import Position
    from notifyd.core.protocol import CloseCode

WORDS = Vocabulary()


def audience(*permissions: str, groups: Sequence[str] = ()) -> Audience:
    """Return an audience with these permissions, in these groups."""
    return Audience.build(WORDS, permissions=permissions, groups=groups)


MUCH, LITTLE = audience("app.view_much"), audience("app.view_little")


class Person:
    """A client that was let in, and what becomes of it."""

    def __init__(self, house: House, login: Login) -> None:
        self._house = house
        self.login: Login | None = login
        self.code: CloseCode | None = None
        self.seen: list[Audience | None] = []
        """What it could see, one after the other; None: nothing."""

    def close(self, code: CloseCode, detail: str) -> None:
        """Be gone."""
        assert detail
        assert self.login is not None
        self.code = code
        self._house.hub.leave(self, self.login.user)

    @property
    def sees(self) -> Audience | None:
        """What it can see now."""
        return self.seen[-1]


class House:
    """A hub of persons, their rechecks, and a database that answers when the test wants it."""

    def __init__(self, interval: float = 1000) -> None:
        self.hub: Hub[Person] = Hub()
        self.ledger = Ledger()
        self.position: Position = (1, 0)
        self.ledger.reset(self.position)
        self.standings: dict[str, Standing] = {}
        self.asked: list[list[str]] = []
        self.waited: list[float] = []
        self.during: list[Callable[[], None]] = []
        """What happens while each of the next reads is under way."""
        self.fault: Exception | None = None
        self.broken = ""
        """The user for whom the site's code fails."""
        self.open = asyncio.Event()
        self.open.set()
        self.readings = Readings(
            self.hub, self.ledger, self.read, put=self._put, at_boundary=lambda action: action()
        )
        self.rechecks = Rechecks(self.hub, self.readings, observe=self.waited.append)
        self.sweep = Sweep(self.hub, self.readings, interval=interval)

    def join(self, user: str, sees: Audience = MUCH, digest: str = "d") -> Person:
        """Let somebody in, who stands so in the database, too."""
        self.standings[user] = Standing(sees, (digest,) if digest else ())
        login = Login(user, sees, digest, as_of=format_position(self.position))
        person = Person(self, login)
        self.hub.join(person, user, sees)
        person.seen.append(sees)
        return person

    def stand(self, user: str, sees: Audience, *digests: str) -> None:
        """Change what the database says of a user."""
        self.standings[user] = Standing(sees, digests or self.standings[user].digests)

    def order(self, order: Order) -> None:
        """Relay the order of the next entry."""
        self.position = (self.position[0] + 1, 0)
        self.rechecks.obey(self.position, order)

    async def read(self, users: Sequence[str]) -> tuple[str | None, dict[str, Standing | None]]:
        """Read users as they are now, and answer when the test lets it."""
        self.asked.append([*users])
        as_of = format_position(self.position)
        found = {user: self.standings.get(user) for user in users}
        if self.during:
            self.during.pop(0)()
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        if self.broken in users:
            raise Refused(Result.ERROR, "ValueError")
        return as_of, found

    def _put(self, person: Person, user: str, sees: Audience | None) -> None:
        if sees is None:
            self.hub.suspend(person, user)
        else:
            self.hub.join(person, user, sees)
        person.seen.append(sees)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[House]:
        """Let rechecks and sweep run for the length of a block."""
        working = [asyncio.create_task(w) for w in (self.rechecks.run(), self.sweep.run())]
        try:
            yield self
        finally:
            for task in working:
                task.cancel()
            await asyncio.wait(working)
        assert all(task.cancelled() for task in working)


def login_of(person: Person) -> Login:
    """Return who somebody is."""
    assert person.login is not None
    return dataclasses.replace(person.login)

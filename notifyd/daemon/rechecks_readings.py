"""Reading users anew, and what becomes of their clients by what was read."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import structlog

from notifyd.core.login import Outcome, Refused, Result
from notifyd.core.positions import parse_position
from notifyd.core.protocol import CloseCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from notifyd.core.audience import Audience
    from notifyd.core.hub import Hub
    from notifyd.core.ledger import Ledger
    from notifyd.core.login import Login, Standing

log = structlog.stdlib.get_logger()


class Subject(Protocol):
    """What is asked of a client that was let in."""

    login: Login | None
    """Who it is; a client that was let in has one."""

    def close(self, code: CloseCode, detail: str) -> None:
        """Close the connection."""


Member = TypeVar("Member", bound=Subject)


class Readings(Generic[Member]):
    """Reads users, a few at a time, and applies the results to their clients.

    `read` returns what the database says of users, None for those who are gone or inactive, and
    the position that had been relayed before it was asked; it raises Refused. `put` lets a client
    have what an audience may see, from where it is on, or nothing while that is None. `at_boundary`
    calls an action between two batches.
    """

    def __init__(
        self,
        hub: Hub[Member],
        ledger: Ledger,
        read: Callable[
            [Sequence[str]], Awaitable[tuple[str | None, Mapping[str, Standing | None]]]
        ],
        *,
        put: Callable[[Member, str, Audience | None], None],
        at_boundary: Callable[[Callable[[], None]], None],
    ) -> None:
        self._hub = hub
        self._read = read
        self._put = put
        self.ledger = ledger
        self.at_boundary = at_boundary
        self.results: dict[Outcome, int] = dict.fromkeys(Outcome, 0)

    def suspend(self, member: Member) -> None:
        """Let a client have nothing until its user was read."""
        self._put(member, _login(member).user, None)

    async def read(self, users: Sequence[str], patience: float) -> Reading[Member]:
        """Read users, within so many seconds. Raises Refused, having counted it."""
        try:
            async with asyncio.timeout(patience):
                as_of, standings = await self._read(users)
        except TimeoutError:
            self.results[Outcome.TIMEOUT] += len(users)
            raise Refused(Result.TIMEOUT, f"no answer within {patience:.3g} s") from None
        except Refused as refused:
            timeout = refused.result is Result.TIMEOUT
            self.results[Outcome.TIMEOUT if timeout else Outcome.ERROR] += len(users)
            raise
        return Reading(self, as_of, standings)

    def judge(self, user: str, reading: Reading[Member], *, suspended: bool) -> Outcome:
        """Apply what was read of a user to the user's clients, which may be `suspended`."""
        members = self._hub.members(user)
        standing = reading.standings.get(user)
        if not members:
            return Outcome.GONE
        if self._overtaken(user, members, reading):
            return Outcome.STALE
        if standing is None:
            for member in members:
                member.close(CloseCode.REVOKED, "the user is gone or inactive")
            return Outcome.REVOKED
        changed = False
        for member in members:
            login = _login(member)
            if login.digest and login.digest not in standing.digests:
                member.close(CloseCode.AUTHENTICATION_FAILED, "the user has a new password")
                continue
            differs = login.audience != standing.audience
            changed = changed or differs
            member.login = dataclasses.replace(
                login, audience=standing.audience, as_of=reading.as_of, read_at=reading.read_at
            )
            if differs or suspended:
                self._put(member, user, standing.audience)
        return Outcome.CHANGED if changed else Outcome.KEPT

    def _overtaken(self, user: str, members: Sequence[Member], reading: Reading[Member]) -> bool:
        """Tell whether an order has come since that concerns the user, as read or as before."""
        if reading.as_of is None:
            return True
        standing = reading.standings.get(user)
        audiences = {_login(member).audience for member in members}
        if standing is not None:
            audiences.add(standing.audience)
        groups = frozenset().union(*(audience.groups for audience in audiences))
        return self.ledger.concerned(user, groups, parse_position(reading.as_of))


def _login(member: Subject) -> Login:
    assert member.login is not None, "the hub has nobody without one"
    return member.login


class Reading(Generic[Member]):
    """What was read of some users, true as of a position; `read_at` is in Unix time."""

    def __init__(
        self,
        readings: Readings[Member],
        as_of: str | None,
        standings: Mapping[str, Standing | None],
    ) -> None:
        self._readings = readings
        self.as_of = as_of
        self.standings = standings
        self.read_at = time.time()

    def apply(self, user: str, *, suspended: bool = True) -> Outcome:
        """Apply what was read of a user, between two batches, and count what became of it."""
        outcome = self._readings.judge(user, self, suspended=suspended)
        self._readings.results[outcome] += 1
        return outcome

"""Revocation: what users may see is read anew, when the site says so and from time to time.

The promise is that every event is delivered by an audience that was read no earlier than the last
recheck before it in the stream. So whoever an order concerns gets nothing from the moment when it
is relayed until the audience has been read, and then what was missed. A result that a later order
has overtaken is thrown away. Whose audience can't be read does not keep the old one.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

import structlog

from notifyd.core.backoff import Backoff
from notifyd.core.login import Outcome, Refused
from notifyd.core.protocol import CloseCode
from notifyd.daemon.rechecks_readings import Member, Readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from notifyd.core.controls import Order
    from notifyd.core.hub import Hub
    from notifyd.core.positions import Position

log = structlog.stdlib.get_logger()

PATIENCE: Final = 10.0
"""Seconds that reading a user may take before the user's clients are closed."""

ATTEMPTS: Final = 3
"""How often a user is read whom one order after the other concerns meanwhile."""

AT_ONCE: Final = 200
"""Users that are read by one job."""

_SMALLER: Final = 10
"""How many times smaller each job is than the one before that failed."""

_WORKERS: Final = 2
"""Jobs at a time; the other threads are for those who log in."""

_FIRST: Final = 0.1
_MOST: Final = 5.0
"""Seconds: the ceilings of the delays between attempts to read from a database that fails."""


@dataclass(slots=True)
class _Pending:
    """A user who waits to be read, `since` a moment of the monotonic clock.

    Whom an order names is `urgent`; whom only an order for everybody concerns has all the time
    that the database needs. `began` is when the first reading did. `attempts` were overtaken,
    `failures` are those that the database, or the site's code, did not let happen.
    """

    since: float
    urgent: bool
    began: float | None = None
    attempts: int = 0
    failures: int = 0

    def late(self, now: float) -> bool:
        """Tell whether the user's clients have waited for long enough."""
        return self.urgent and self.began is not None and now >= self.began + PATIENCE


class Rechecks(Generic[Member]):
    """Obeys the orders of the control entries; `readings` reads and applies what was read.

    `observe` is told how long each user's clients got nothing, in seconds.
    """

    def __init__(
        self, hub: Hub[Member], readings: Readings[Member], *, observe: Callable[[float], None]
    ) -> None:
        self._hub = hub
        self._readings = readings
        self._observe = observe
        self._pending: dict[str, _Pending] = {}
        self._running: dict[str, _Pending] = {}
        self._wanted = asyncio.Event()

    def __len__(self) -> int:
        """Return how many users wait to be read."""
        return len(self._pending.keys() | self._running.keys())

    def obey(self, position: Position, order: Order) -> None:
        """Do what a control entry says, when everything before it was relayed and nothing after."""
        self._readings.ledger.note(position, order)
        for user in order.disconnect:
            self._close(user, CloseCode.REVOKED, "disconnected by the site")
        for user in order.reauthenticate:
            self._close(user, CloseCode.AUTHENTICATION_FAILED, "logged out, or a new password")
        if order.recheck_all:
            self._suspend(self._hub.all_users(), urgent=False)
        users = {user for user in order.recheck_users if user in self._hub}
        if order.recheck_groups:
            users.update(self._hub.users_of(order.recheck_groups))
        self._suspend(users, urgent=True)

    def restart(self, position: Position) -> None:
        """Read everybody anew: what was ordered before this position can't be known."""
        self._readings.ledger.reset(position)
        self._suspend(self._hub.all_users(), urgent=False)

    def require(self, user: str) -> None:
        """Read a user anew before the user's clients get anything more."""
        self._suspend([user], urgent=True)

    async def run(self) -> None:
        """Read those who wait, for ever."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(_WORKERS):
                workers.create_task(self._work())

    def _close(self, user: str, code: CloseCode, detail: str) -> None:
        for member in self._hub.members(user):
            member.close(code, detail)

    def _suspend(self, users: Iterable[str], *, urgent: bool) -> None:
        now = time.monotonic()
        named = [*users]
        for user in named:
            for member in self._hub.members(user):
                self._readings.suspend(member)
            pending = self._pending.setdefault(user, _Pending(now, urgent))
            pending.urgent = pending.urgent or urgent
        if named:
            log.debug("users.suspended", users=len(named))
            self._wanted.set()

    async def _work(self) -> None:
        backoff = Backoff(_FIRST, _MOST)
        while True:
            await self._wanted.wait()
            if users := self._take():
                if await self._recheck(users):
                    backoff.reset()
                else:
                    await asyncio.sleep(backoff.next())
            else:
                self._wanted.clear()

    def _take(self) -> dict[str, _Pending]:
        """Move some of those who wait to those who are being read, the urgent ones first."""
        waiting = [user for user in self._pending if user not in self._running]
        if any(self._pending[user].urgent for user in waiting):
            waiting = [user for user in waiting if self._pending[user].urgent]
        now = time.monotonic()
        # It may be one user for whom the site's code fails, and with whom all others of the job do.
        failures = self._pending[waiting[0]].failures if waiting else 0
        most = max(1, AT_ONCE // _SMALLER**failures)
        taken = {user: self._pending.pop(user) for user in waiting[:most]}
        for pending in taken.values():
            pending.began = pending.began or now
        self._running.update(taken)
        return taken

    async def _recheck(self, users: dict[str, _Pending]) -> bool:
        """Read users and apply what was read; False if the database can't be read now."""
        now = time.monotonic()
        patience = PATIENCE
        for pending in users.values():
            if pending.urgent and pending.began is not None:
                patience = min(patience, pending.began + PATIENCE - now)
        try:
            reading = await self._readings.read([*users], patience)
        except Refused as refused:
            self._failed(users, str(refused))
            return False

        def apply() -> None:
            for user, pending in users.items():
                self._applied(user, pending, reading.apply(user))

        self._readings.at_boundary(apply)
        return True

    def _failed(self, users: Mapping[str, _Pending], detail: str) -> None:
        now = time.monotonic()
        log.error("recheck.failed", users=len(users), detail=detail)
        for user, pending in users.items():
            del self._running[user]
            pending.failures += 1
            if pending.late(now):
                self._close(user, CloseCode.TRY_LATER, "what the user may see can't be read")
            else:
                self._wait_again(user, pending)
        self._wanted.set()

    def _applied(self, user: str, pending: _Pending, outcome: Outcome) -> None:
        del self._running[user]
        if outcome is not Outcome.STALE:
            if user not in self._pending:
                self._observe(time.monotonic() - pending.since)
        elif pending.urgent and pending.attempts + 1 >= ATTEMPTS:
            self._close(user, CloseCode.TRY_LATER, "what the user may see keeps changing")
        else:
            pending.attempts += 1
            self._wait_again(user, pending)
        if self._pending:
            self._wanted.set()

    def _wait_again(self, user: str, pending: _Pending) -> None:
        """Put a user back, merged with what has been ordered meanwhile."""
        if user not in self._hub:
            return
        later = self._pending.get(user)
        if later is not None:
            pending.urgent = pending.urgent or later.urgent
        self._pending[user] = pending

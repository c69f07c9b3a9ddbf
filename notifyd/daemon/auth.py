"""Authentication: from a token to a user and what that user may see.

The event loop's part, and for others the whole: who may ask, and what came of it. The site is
set up by `auth_project`; its users are read by `auth_accounts`, in the threads of `auth_threads`,
for which one waits in `auth_queue`.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from notifyd.core.login import Login, Refused, Result
from notifyd.daemon.auth_accounts import Accounts
from notifyd.daemon.auth_database import Patience, close_connections, database_fault
from notifyd.daemon.auth_project import SetupError, cache_url, create_token, faults, setup
from notifyd.daemon.auth_queue import Queue
from notifyd.daemon.auth_threads import Threads
from notifyd.daemon.auth_tokens import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from notifyd.core.audience import Vocabulary
    from notifyd.core.limits import Buckets
    from notifyd.core.login import Standing

__all__ = [
    "Authenticator",
    "Login",
    "Refused",
    "SetupError",
    "cache_url",
    "create_token",
    "database_fault",
    "faults",
    "setup",
]

# Base64url, and the colons of version 1. The longest that sesame can make, with a textual key of
# 255 bytes and a signature of 64, has 432 characters.
_FORM: Final = re.compile(r"[A-Za-z0-9_:-]{4,512}")

# What the client is to blame for. A timeout or an error says nothing against it.
_FAILURES: Final = frozenset({Result.EXPIRED, Result.INVALID, Result.INACTIVE})

# How long `close` waits for queries that are under way, in seconds.
_GRACE: Final = 2.0


class Authenticator:
    """Tells who sent a token, with a bounded number of threads and so of database connections.

    Create it in the event loop, once the project is set up and has no `faults`. Times are in
    seconds: `timeout` is for one authentication from beginning to end, `statement_timeout` for
    one query and for connecting. `failures` limits the failed attempts from each address.
    `observe` is told how long each attempt took that got as far as waiting for a thread.
    `position` tells up to where the stream was relayed; it is asked before the database is.
    Another `timeout` is for authentications that begin from then on.

    `results` counts the outcomes.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        threads: int,
        timeout: float,
        statement_timeout: float,
        unscoped: bool,
        failures: Buckets,
        observe: Callable[[float], None],
        position: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.results: dict[str, int] = dict.fromkeys(map(str, Result), 0)
        self._patience = Patience(statement_timeout)
        self.timeout = timeout
        self.limit(failures)
        self._observe = observe
        self._closed = False
        accounts = Accounts(vocabulary, unscoped=unscoped)
        self._queue = Queue(
            accounts.answer,
            accounts.read,
            Threads(threads, leave=close_connections),
            probe=accounts.probe,
            most=accounts.most,
            position=position,
            check=self.check,
            settle=self._settle,
        )

    def limit(self, failures: Buckets) -> None:
        """Limit failed attempts by these buckets from now on; what others knew is forgotten."""
        self._failures = failures

    @property
    def database(self) -> bool | None:
        """Whether the database answered when it was last asked, None before the first time."""
        return self._queue.database

    def probe(self) -> None:
        """Ask the database again if it did not answer when it was last asked."""
        if not self._closed:
            self._queue.probe()

    async def authenticate(self, token: str, *, bare: bool, address: str | None) -> Login:
        """Return the user whom the token names. Raises Refused.

        A `bare` token came by itself, without a hello around it. Without an address there is no
        limit on failures.
        """
        # The cheapest first: a stranger's nonsense costs neither a thread nor a query.
        if not _looks_like_token(token):
            self.count(Result.INVALID, address)
            raise Refused(Result.INVALID, "it does not look like a token")
        try:
            self.check(address)
        except Refused as refused:
            self.count(refused.result, address)
            raise
        began = time.monotonic()
        outcome = await self._queue.ask(Claim(token, bare), address, self.timeout)
        self._observe(time.monotonic() - began)
        # What the client is to blame for has been charged already.
        if isinstance(outcome, Refused):
            self.results[outcome.result] += 1
            raise outcome
        self.results[Result.OK] += 1
        return outcome

    async def read(
        self,
        users: Sequence[str],
        timeout: float | None = None,  # noqa: ASYNC109 - it is about the database, as for authenticate
    ) -> tuple[str | None, dict[str, Standing | None]]:
        """Return where users stand by their primary keys as text, and as of which position.

        None stands for those who are gone or not active. Two hundred take little longer than a
        few, and are as many as one job should have. Raises Refused for all of them, with
        Result.TIMEOUT after the time of an authentication or another, or with Result.ERROR.
        """
        if self._closed:
            raise _stopping()
        outcome = await self._queue.read(users, self.timeout if timeout is None else timeout)
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    def check(self, address: str | None) -> None:
        """Raise Refused if nobody is let in at all, or nobody from this address for a while.

        Nothing is counted by it: a refusal, too, is for `count`.
        """
        if self._closed:
            raise _stopping()
        if address is not None and self._failures.empty(address, time.monotonic()):
            raise _too_many()

    def count(self, result: Result, address: str | None) -> None:
        """Count how an attempt ended that was made elsewhere; the address pays for its failures."""
        self.results[result] += 1
        self._charge(result, address)

    async def close(self) -> None:
        """End the threads; those that the database doesn't let go are left behind."""
        if self._closed:
            return
        self._closed = True
        self._patience.end()
        await self._queue.close(_stopping, _GRACE)

    def _settle(self, address: str | None, outcome: Login | Refused) -> Login | Refused:
        """Return what a client learns, as if all of a job had been asked one after the other.

        When the failures of an address are used up nobody from there learns any more, not even
        that a token is good: a job must not be worth two hundred guesses.
        """
        if address is not None and self._failures.empty(address, time.monotonic()):
            return _too_many()
        if isinstance(outcome, Refused):
            # Whoever has left meanwhile pays, too: the work was done.
            self._charge(outcome.result, address)
        return outcome

    def _charge(self, result: Result, address: str | None) -> None:
        if address is not None and result in _FAILURES:
            # Charged, not asked for: whoever tries many at a time gets no more of them.
            self._failures.charge(address, time.monotonic())


def _stopping() -> Refused:
    return Refused(Result.ERROR, "the daemon is stopping")


def _too_many() -> Refused:
    return Refused(Result.RATE_LIMITED, "too many failures from this address")


def _looks_like_token(token: object) -> bool:
    return isinstance(token, str) and _FORM.fullmatch(token) is not None

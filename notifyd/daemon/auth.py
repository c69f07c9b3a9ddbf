"""Authentication: from a token to a user and what that user may see.

The event loop's part: who may ask, how many at a time and for how long. The site is set up by
`auth_project`, its users are read by `auth_accounts`, in threads; this module is their front.
"""

from __future__ import annotations

import asyncio
import functools
import math
import queue
import re
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from notifyd.core.login import Login, Refused, Result
from notifyd.daemon.auth_accounts import Accounts
from notifyd.daemon.auth_database import Patience, close_connections, database_fault
from notifyd.daemon.auth_project import SetupError, cache_url, create_token, faults, setup

if TYPE_CHECKING:
    from collections.abc import Callable

    from notifyd.core.audience import Vocabulary
    from notifyd.core.limits import Buckets
    from notifyd.daemon.auth_accounts import Answer

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

    `results` counts the outcomes. `database` tells whether the database answered when it was last
    asked, None before the first time.
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
    ) -> None:
        self.results: dict[str, int] = dict.fromkeys(map(str, Result), 0)
        self.database: bool | None = None
        self._accounts = Accounts(vocabulary, unscoped=unscoped)
        self._patience = Patience(statement_timeout)
        self._timeout = timeout
        self._failures = failures
        self._observe = observe
        self._answered = -math.inf
        self._closed = False
        # Whoever waits for a thread waits here and not in the queue: those who give up leave
        # nothing behind, however long the database stays away.
        self._idle = asyncio.Semaphore(threads)
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._threads = threads
        for number in range(threads):
            # No executor: the end of the process would wait for its threads, stuck or not.
            threading.Thread(target=self._work, name=f"auth-{number}", daemon=True).start()

    async def authenticate(self, token: str, *, bare: bool, address: str | None) -> Login:
        """Return the user whom the token names. Raises Refused.

        A `bare` token came by itself, without a hello around it. Without an address there is no
        limit on failures.
        """
        try:
            login = await self._authenticate(token, bare=bare, address=address)
        except Refused as refused:
            self.results[refused.result] += 1
            if address is not None and refused.result in _FAILURES:
                # Charged, not asked for: whoever tries many at a time gets no more of them.
                self._failures.charge(address, time.monotonic())
            raise
        self.results[Result.OK] += 1
        return login

    async def close(self) -> None:
        """End the threads; those that the database doesn't let go are left behind."""
        if self._closed:
            return
        self._closed = True
        self._patience.end()
        await asyncio.wait([self._submit(None) for _ in range(self._threads)], timeout=_GRACE)

    async def _authenticate(self, token: str, *, bare: bool, address: str | None) -> Login:
        # The cheapest first: a stranger's nonsense costs neither a thread nor a query.
        if not _looks_like_token(token):
            raise Refused(Result.INVALID, "it does not look like a token")
        self._check(address)
        began = time.monotonic()
        outcome: Login | Refused
        try:
            async with asyncio.timeout(self._timeout):
                outcome = await self._ask(token, bare=bare, address=address)
        except TimeoutError:
            # If others were answered meanwhile, the database is merely busy.
            if self._answered < began:
                self.database = False
            outcome = Refused(Result.TIMEOUT, f"no answer within {self._timeout:g} s")
        self._observe(time.monotonic() - began)
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    def _check(self, address: str | None) -> None:
        if self._closed:
            raise Refused(Result.ERROR, "the daemon is stopping")
        if address is not None and self._failures.empty(address, time.monotonic()):
            raise Refused(Result.RATE_LIMITED, "too many failures from this address")

    async def _ask(self, token: str, *, bare: bool, address: str | None) -> Login | Refused:
        await self._idle.acquire()
        try:
            # Again: a crowd from one address may have got this far before its first failed.
            self._check(address)
        except Refused as refused:
            self._idle.release()
            return refused
        job = functools.partial(self._accounts.answer, token, bare=bare)
        answer = await self._submit(job)
        assert answer is not None, "only the end of a thread has no answer"
        return answer.outcome

    def _submit(self, job: Callable[[], Answer] | None) -> asyncio.Future[Answer | None]:
        waiter: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._jobs.put((job, waiter))
        return waiter

    def _work(self) -> None:
        """Do jobs, in a thread, until one of them is None."""
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        # A function of its own, so that an idle thread has no token or login in its variables.
        job, waiter = self._jobs.get()
        answer = None
        if job is None:
            close_connections()
        else:
            answer = job()
        # A query that was stuck may return when the loop is closed: nobody is left to be told.
        with suppress(RuntimeError):
            waiter.get_loop().call_soon_threadsafe(self._finish, waiter, answer)
        return job is not None

    def _finish(self, waiter: asyncio.Future[Answer | None], answer: Answer | None) -> None:
        self._idle.release()
        if answer is not None and answer.database is not None:
            self.database = answer.database
            self._answered = time.monotonic()
        # The client may have left, or its time may be over.
        if not waiter.done():
            waiter.set_result(answer)


_Job = tuple["Callable[[], Answer] | None", "asyncio.Future[Answer | None]"]


def _looks_like_token(token: object) -> bool:
    return isinstance(token, str) and _FORM.fullmatch(token) is not None

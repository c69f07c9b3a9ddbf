"""Who waits for a thread, for how long, and who is next.

Whoever waits does so here, in the event loop: those who give up leave nothing behind, however
long the database stays away. When a thread is idle it takes all that waits, up to a bound.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from notifyd.core.login import Refused, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from notifyd.core.login import Login, Standing
    from notifyd.daemon.auth_accounts import Answer
    from notifyd.daemon.auth_threads import Threads
    from notifyd.daemon.auth_tokens import Claim

_IN_A_ROW: Final = 3
"""Jobs that read users anew and go before the tokens that wait; then it is the tokens' turn."""

_MOST_READ: Final = 200
"""Users in one job; a single reading may have more."""


@dataclass(slots=True, eq=False)
class _Asking:
    """Somebody who waits for a token to be looked at."""

    claim: Claim
    address: str | None
    waiter: asyncio.Future[Login | Refused]


@dataclass(slots=True, eq=False)
class _Reading:
    """Somebody who waits for users to be read."""

    users: Sequence[str]
    waiter: asyncio.Future[tuple[str | None, dict[str, Standing | None]] | Refused]


class Queue:
    """Hands what waits to the threads. Times are in seconds.

    `answer` answers for up to `most` tokens, or for the first of them if time is short; `read`
    reads users, `probe` only finds out whether they can be read. All are called in a thread, with
    what a job takes, and never raise.
    `position` tells up to where the stream was relayed, just before a job reads the database.
    `check` raises Refused for an address that needs to wait no longer. `settle` is told each
    outcome in the order of arrival, and returns what the client learns of it.

    `database` tells whether the database answered when it was last asked, None before the first
    time.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Claim], str | None], Answer[list[Login | Refused]]],
        read: Callable[[Sequence[str]], Answer[dict[str, Standing | Refused | None]]],
        threads: Threads,
        *,
        probe: Callable[[], Answer[None]],
        most: int,
        position: Callable[[], str | None],
        check: Callable[[str | None], None],
        settle: Callable[[str | None, Login | Refused], Login | Refused],
    ) -> None:
        self.database: bool | None = None
        self._answer = answer
        self._read = read
        self._probe = probe
        self._probing = False
        self._most = most
        self._threads = threads
        self._position = position
        self._check = check
        self._settle = settle
        self._answered = -math.inf
        # In order of arrival, and left at any place at once.
        self._askings: dict[asyncio.Future[Any], _Asking] = {}
        self._readings: dict[asyncio.Future[Any], _Reading] = {}
        self._passed = 0

    def __len__(self) -> int:
        """Return how many wait for a thread."""
        return len(self._askings) + len(self._readings)

    async def ask(
        self,
        claim: Claim,
        address: str | None,
        timeout: float,  # noqa: ASYNC109 - its end is an answer like others
    ) -> Login | Refused:
        """Return who sent a token, or why nobody did."""
        waiter: asyncio.Future[Login | Refused] = asyncio.get_running_loop().create_future()
        self._askings[waiter] = _Asking(claim, address, waiter)
        answer: Login | Refused = await self._wait(waiter, timeout)
        return answer

    async def read(
        self,
        users: Sequence[str],
        timeout: float,  # noqa: ASYNC109 - its end is an answer like others
    ) -> tuple[str | None, dict[str, Standing | None]] | Refused:
        """Return where users stand and as of which position, or why that can't be known."""
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._readings[waiter] = _Reading(users, waiter)
        answer: tuple[str | None, dict[str, Standing | None]] | Refused
        answer = await self._wait(waiter, timeout)
        return answer

    def probe(self) -> None:
        """Ask the database again that did not answer when it was last asked.

        Nobody else might: a daemon that is not ready gets no more clients.
        """
        if self.database is False and self._threads.idle and not self._probing:
            self._probing = True
            self._threads.do(self._probe, self._finish_probe)

    def _finish_probe(self, answer: Answer[None]) -> None:
        self._probing = False
        self._note(answer)
        self._hand_out()

    async def close(self, refused: Callable[[], Refused], grace: float) -> None:
        """Refuse all who wait, and end the threads after `grace` seconds at most."""
        for waiter in (*self._askings, *self._readings):
            _tell(waiter, refused())
        await self._threads.close(grace)

    async def _wait(self, waiter: asyncio.Future[Any], seconds: float) -> Any:
        began = time.monotonic()
        try:
            self._hand_out()
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            # If others were answered meanwhile, the database is merely busy.
            if self._answered < began:
                self.database = False
            return Refused(Result.TIMEOUT, f"no answer within {seconds:g} s")
        finally:
            self._askings.pop(waiter, None)
            self._readings.pop(waiter, None)

    def _hand_out(self) -> None:
        """Give the idle threads what waits: users who may have lost a right go first.

        Yet not always, or reading everybody anew would keep everybody else out.
        """
        while self._threads.idle and len(self):
            if self._readings and not (self._askings and self._passed >= _IN_A_ROW):
                self._passed += bool(self._askings)
                self._hand_out_readings()
            else:
                self._passed = 0
                self._hand_out_askings()

    def _hand_out_readings(self) -> None:
        batch: list[_Reading] = []
        users: dict[str, None] = {}
        for reading in [*itertools.islice(self._readings.values(), _MOST_READ)]:
            if batch and len(users) + len(reading.users) > _MOST_READ:
                break
            users.update(dict.fromkeys(reading.users))
            batch.append(self._readings.pop(reading.waiter))
        self._threads.do(
            functools.partial(self._read, [*users]),
            functools.partial(self._finish_readings, batch, self._position()),
        )

    def _hand_out_askings(self) -> None:
        # A thread that comes back finds a crowd and takes it along; if several are idle they
        # share it.
        share = math.ceil(len(self._askings) / self._threads.idle)
        batch: list[_Asking] = []
        for asking in [*itertools.islice(self._askings.values(), min(share, self._most))]:
            del self._askings[asking.waiter]
            try:
                # Again: many from one address may have got this far before its first failed.
                self._check(asking.address)
            except Refused as refused:
                _tell(asking.waiter, refused.with_traceback(None))
            else:
                batch.append(asking)
        if batch:
            claims = [asking.claim for asking in batch]
            self._threads.do(
                functools.partial(self._answer, claims, self._position()),
                functools.partial(self._finish_askings, batch),
            )

    def _finish_askings(self, batch: list[_Asking], answer: Answer[list[Login | Refused]]) -> None:
        self._note(answer)
        for asking, outcome in zip(batch, answer.outcome, strict=False):
            _tell(asking.waiter, self._settle(asking.address, outcome))
        # Those whom the job had no time for are the first of the next one.
        left = [each for each in batch[len(answer.outcome) :] if not each.waiter.done()]
        if left:
            self._askings = {each.waiter: each for each in left} | self._askings
        self._hand_out()

    def _finish_readings(
        self,
        batch: list[_Reading],
        as_of: str | None,
        answer: Answer[dict[str, Standing | Refused | None]],
    ) -> None:
        self._note(answer)
        for reading in batch:
            outcomes = {user: answer.outcome[user] for user in reading.users}
            refused = [each for each in outcomes.values() if isinstance(each, Refused)]
            if refused:
                # One of their own, since both will raise it.
                _tell(reading.waiter, Refused(refused[0].result, str(refused[0])))
            else:
                _tell(reading.waiter, (as_of, outcomes))
        self._hand_out()

    def _note(self, answer: Answer[Any]) -> None:
        if answer.database is not None:
            self.database = answer.database
            self._answered = time.monotonic()


def _tell(waiter: asyncio.Future[Any], outcome: object) -> None:
    # The client may have left, or its time may be over.
    if not waiter.done():
        waiter.set_result(outcome)

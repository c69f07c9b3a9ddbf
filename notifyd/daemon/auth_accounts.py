"""The jobs of the threads: who sent these tokens, and what may these users see.

Everything here may block. A job serves many at once, which is where the speed comes from, and
answers each as if it had come alone: what is wrong with one is never held against another.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import structlog
from django.db import Error, InterfaceError, OperationalError

from notifyd.core.login import Login, Refused, Result
from notifyd.daemon.auth_database import describe, refresh_connections
from notifyd.daemon.auth_rights import permission_fault
from notifyd.daemon.auth_standing import Standings
from notifyd.daemon.auth_tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from notifyd.core.audience import Vocabulary
    from notifyd.core.login import Standing
    from notifyd.daemon.auth_tokens import Claim, Found

log = structlog.stdlib.get_logger()

_T = TypeVar("_T")

_MOST: Final = 200
"""Tokens in one job."""

_SLICE: Final = 0.5
"""Seconds that a job goes on with what it has to do one by one."""

_AWAY: Final = (OperationalError, InterfaceError)
"""What is raised for a database that can't be reached, or doesn't answer in time."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """What a thread brings back, refusals included: nobody may be left to take an exception.

    `database` tells whether the database answered; None: it was not asked.
    """

    outcome: _T
    database: bool | None


class Accounts:
    """Answers for tokens and users. With `unscoped`, a bare token may be so as in the plain guide.

    `most` is how many tokens one job takes well.
    """

    def __init__(self, vocabulary: Vocabulary, *, unscoped: bool) -> None:
        self._tokens = Tokens(unscoped=unscoped)
        self._standings = Standings(vocabulary)
        self.most = _MOST if self._tokens.bulk else 1

    def answer(self, claims: Sequence[Claim], as_of: str | None) -> Answer[list[Login | Refused]]:
        """Return who sent each token, or why nobody did; never raises.

        `as_of` is a position that was relayed before. There may be fewer answers than tokens, but
        one at least: those at the end were left for lack of time, and have to be asked again.
        """
        job = _Job([claim.token for claim in claims])
        outcome = job.attempt(self._answer, job, claims, as_of)
        if isinstance(outcome, Refused):
            # One each, since whoever is told will raise it.
            outcome = [Refused(outcome.result, str(outcome)) for _ in claims]
        return Answer(outcome, job.database)

    def read(self, users: Sequence[str]) -> Answer[dict[str, Standing | Refused | None]]:
        """Return where each user stands, None for those who are gone or inactive; never raises."""
        job = _Job()
        outcome = job.attempt(self._read, job, users)
        if isinstance(outcome, Refused):
            outcome = dict.fromkeys(users, outcome)
        return Answer(outcome, job.database)

    def probe(self) -> Answer[None]:
        """Find out whether all that is needed can be read; never raises."""
        job = _Job()
        job.attempt(self._probe, job)
        return Answer(None, job.database)

    def _probe(self, job: _Job) -> None:
        with _refreshed():
            job.database = permission_fault() is None

    def _answer(
        self, job: _Job, claims: Sequence[Claim], as_of: str | None
    ) -> list[Login | Refused]:
        with _refreshed():
            backend = self._tokens.begin()
            if len(claims) > 1:
                job.tried(self._tokens.gather, backend, claims)
            found = []
            for claim in job.in_time(claims):
                found.append(job.attempt(self._tokens.find, backend, claim))
                # Nonsense is refused without a query, and says nothing of the database.
                if backend.users and job.database is None:
                    job.database = True
            users = [each.user for each in found if not isinstance(each, Refused)]
            standings = job.tried(self._standings.gather, users) or {}
            return [
                each
                if isinstance(each, Refused)
                else job.attempt(self._admit, job, each, standings, as_of)
                for each in job.in_time(found)
            ]

    def _admit(
        self, job: _Job, found: Found, standings: dict[Any, Standing], as_of: str | None
    ) -> Login:
        user, read_at = found.user, job.began
        if user.pk not in standings:
            standings[user.pk] = self._standings.of(user)
        standing = standings[user.pk]
        # Last: if anything above fails, the client may try its token again.
        self._tokens.use_up(found)
        job.database = True
        digest = next(iter(standing.digests), "")
        return Login(
            str(user.pk), standing.audience, digest, time.time(), read_at=read_at, as_of=as_of
        )

    def _read(self, job: _Job, users: Sequence[str]) -> dict[str, Standing | Refused | None]:
        with _refreshed():
            backend = self._tokens.begin()
            keys = self._tokens.keys(users)
            known = job.tried(self._tokens.fetch, keys.values()) or {}
            read: dict[str, Standing | Refused | None] = dict.fromkeys(users)
            found = {}
            for text, key in keys.items():
                user = job.one_of_many(self._tokens.user, backend, key, known)
                if isinstance(user, Refused):
                    read[text] = user
                elif user is not None:
                    found[text] = user
            standings = job.tried(self._standings.gather, found.values()) or {}
            for text, user in found.items():
                read[text] = standings.get(user.pk) or job.one_of_many(self._standings.of, user)
            if keys and not any(isinstance(each, Refused) for each in read.values()):
                job.database = True
            return read


class _Job:
    """How the work of one job goes. None of the secrets gets into the log.

    `began` is in Unix time. `database` tells whether the database answered when it was last asked.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self.began = time.time()
        self.database: bool | None = None
        self._secrets = secrets

    def attempt(self, work: Callable[..., _T], *arguments: Any) -> _T | Refused:
        """Do what may fail, and return a refusal if it does."""
        try:
            return self.one_of_many(work, *arguments)
        except _AWAY as error:
            return self._failed(error)

    def one_of_many(self, work: Callable[..., _T], *arguments: Any) -> _T | Refused:
        """Do the same, but raise what a database raises that is not there, or too slow.

        It would be so for all the others, too.
        """
        try:
            return work(*arguments)
        except Refused as refused:
            return refused.with_traceback(None)
        except _AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - code of the site was run, which may raise anything
            return self._failed(error)

    def tried(self, work: Callable[..., _T], *arguments: Any) -> _T | None:
        """Do at once what could be done one by one; None if that does not work."""
        outcome = self.one_of_many(work, *arguments)
        return None if isinstance(outcome, Refused) else outcome

    def in_time(self, items: Sequence[_T]) -> Iterator[_T]:
        """Yield items, at least one, until the job has taken long enough."""
        end = time.monotonic() + _SLICE
        for number, item in enumerate(items):
            if number and time.monotonic() > end:
                return
            yield item

    def _failed(self, error: Exception) -> Refused:
        log.error("auth.error", error=describe(error, *self._secrets))
        if isinstance(error, Error):
            self.database = False
        return Refused(Result.ERROR, type(error).__name__)


@contextlib.contextmanager
def _refreshed() -> Iterator[None]:
    refresh_connections()
    try:
        yield
    finally:
        refresh_connections()

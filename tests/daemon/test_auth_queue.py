from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.login import Login, Refused, Result, Standing
from notifyd.daemon.auth_accounts import Answer
from notifyd.daemon.auth_queue import Queue
from notifyd.daemon.auth_threads import Threads
from notifyd.daemon.auth_tokens import Claim

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

NOBODY = Audience.build(Vocabulary())


class Bench:
    """A queue over jobs that wait for a gate, and note what they were given.

    A job answers for `patience` tokens at most. Tokens from the address "bad" are not waited for,
    and the user "broken" can't be read.
    """

    def __init__(self, threads: int, most: int, patience: int) -> None:
        self._gate = threading.Semaphore(0)
        self.jobs: list[Sequence[str]] = []
        self.position: str | None = "1-0"
        self.settled: list[str | None] = []
        self.database: bool | None = True
        self.patience = patience
        self.threads = Threads(threads, leave=lambda: None)
        self.queue = Queue(
            self._answer,
            self._read,
            self.threads,
            probe=self._probe,
            most=most,
            position=lambda: self.position,
            check=self._check,
            settle=self._settle,
        )

    def open(self, jobs: int = 1_000) -> None:
        """Let so many jobs through the gate."""
        self._gate.release(jobs)

    def ask(self, token: str, address: str | None = None, timeout: float = 10) -> asyncio.Task[Any]:
        """Begin to wait for a token to be looked at."""
        return asyncio.create_task(self.queue.ask(Claim(token, bare=False), address, timeout))

    def read(self, *users: str, timeout: float = 10) -> asyncio.Task[Any]:
        """Begin to wait for users to be read."""
        return asyncio.create_task(self.queue.read(users, timeout))

    async def busy(self) -> asyncio.Task[Any]:
        """Have every thread do something that only the gate ends."""
        first = [self.ask("first") for _ in range(self.threads.idle)]
        await until(lambda: len(self.jobs) == len(first))
        return first[0]

    def _answer(self, claims: Sequence[Claim], as_of: str | None) -> Answer[list[Login | Refused]]:
        self.jobs.append([claim.token for claim in claims])
        self._gate.acquire()
        found: list[Login | Refused] = [Login(claim.token, NOBODY, as_of=as_of) for claim in claims]
        return Answer(found[: self.patience], self.database)

    def _read(self, users: Sequence[str]) -> Answer[dict[str, Standing | Refused | None]]:
        self.jobs.append(users)
        self._gate.acquire()
        read: dict[str, Standing | Refused | None] = dict.fromkeys(users, Standing(NOBODY))
        if "broken" in read:
            read["broken"] = Refused(Result.ERROR, "RuntimeError")
        return Answer(read, self.database)

    def _probe(self) -> Answer[None]:
        self.jobs.append(["probe"])
        self._gate.acquire()
        return Answer(None, self.database)

    def _check(self, address: str | None) -> None:
        if address == "bad":
            raise Refused(Result.RATE_LIMITED)

    def _settle(self, address: str | None, outcome: Login | Refused) -> Login | Refused:
        self.settled.append(address)
        return outcome


@contextlib.asynccontextmanager
async def bench(threads: int = 1, most: int = 200, patience: int = 200) -> AsyncIterator[Bench]:
    """Give a bench, and clear it at the end."""
    made = Bench(threads, most, patience)
    try:
        yield made
    finally:
        made.open()
        await made.queue.close(lambda: Refused(Result.ERROR, "closed"), 10)


async def test_probe() -> None:
    """A database that did not answer is asked again, once at a time, until it does."""
    async with bench(threads=2) as b:
        b.queue.probe()
        b.queue.database = False
        for _ in range(3):
            b.queue.probe()
        b.open()
        await until(lambda: b.queue.database)
        b.queue.probe()
        assert b.jobs == [["probe"]]


async def test_probe_in_vain() -> None:
    """Where it still does not answer the next probe asks once more."""
    async with bench() as b:
        b.database = b.queue.database = False
        b.open()
        for jobs in (1, 2):
            b.queue.probe()
            await until(lambda: len(b.jobs) == jobs and b.threads.idle)  # noqa: B023 - at once
        assert b.queue.database is False


async def test_lone_request() -> None:
    """Whoever comes alone is served at once."""
    async with bench() as b:
        b.open()
        assert (await b.ask("a")).user == "a"
        assert b.jobs == [["a"]]


async def test_crowd() -> None:
    """A thread that gets idle takes all who wait as one job, and each has the answer to its own."""
    async with bench() as b:
        await b.busy()
        waiting = [b.ask(f"{n}") for n in range(50)]
        await until(lambda: len(b.queue) == 50)
        b.open()
        assert [login.user for login in await asyncio.gather(*waiting)] == [
            f"{n}" for n in range(50)
        ]
        assert b.jobs == [["first"], [f"{n}" for n in range(50)]]


async def test_most() -> None:
    """A job takes no more than so many, in the order of their arrival."""
    async with bench(most=3) as b:
        await b.busy()
        waiting = [b.ask(f"{n}") for n in range(8)]
        await until(lambda: len(b.queue) == 8)
        b.open()
        await asyncio.gather(*waiting)
        assert b.jobs[1:] == [["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]


async def test_idle_threads_share() -> None:
    """Several idle threads share a crowd; what a job had no time for comes before the others."""
    async with bench(threads=2, patience=1) as b:
        await b.busy()
        waiting = [b.ask(f"{n}") for n in range(7)]
        await until(lambda: len(b.queue) == 7)
        b.open(1)
        await until(lambda: len(b.jobs) == 3)
        # Whoever waits longest at the gate is next: the other thread, which finds nothing to do.
        b.open(1)
        await until(lambda: b.threads.idle)
        b.open()
        found = await asyncio.gather(*waiting)
        assert [login.user for login in found] == [f"{n}" for n in range(7)]
        # The thread that was free first took all. It brings six back, and there are two threads.
        assert len(b.jobs[2]) == 7
        assert sorted(map(len, b.jobs[3:5])) == [3, 3]
        assert b.jobs[3][0] == "1"


async def test_gone_meanwhile() -> None:
    """Who has left is not asked about again, when a job had no time for all."""
    async with bench(patience=1) as b:
        await b.busy()
        stays, leaves, last = b.ask("stays"), b.ask("leaves"), b.ask("last")
        await until(lambda: len(b.queue) == 3)
        b.open(1)
        await until(lambda: len(b.jobs) == 2)
        leaves.cancel()
        b.open()
        assert (await stays).user == "stays"
        assert (await last).user == "last"
        assert b.jobs[2:] == [["last"]]


async def test_readings_first() -> None:
    """Users who may have lost a right are read before the tokens that came earlier."""
    async with bench() as b:
        await b.busy()
        login, reading = b.ask("a"), b.read("1", "2")
        await until(lambda: len(b.queue) == 2)
        b.open()
        await login
        assert b.jobs[1:] == [["1", "2"], ["a"]]
        assert reading.result() == ("1-0", {"1": Standing(NOBODY), "2": Standing(NOBODY)})


async def test_readings_starve_nobody() -> None:
    """However many readings wait, after three it is the tokens' turn."""
    async with bench() as b:
        await b.busy()
        users = [[f"{n}.{m}" for m in range(200)] for n in range(7)]
        readings = [b.read(*each) for each in users]
        logins = [b.ask("a"), b.ask("b")]
        await until(lambda: len(b.queue) == 9)
        b.open()
        await asyncio.gather(*readings, *logins)
        assert b.jobs[1:] == [*users[:3], ["a", "b"], *users[3:]]


async def test_tokens_starve_nobody() -> None:
    """However many tokens wait, a reading is next."""
    async with bench(most=1) as b:
        await b.busy()
        logins = [b.ask(f"{n}") for n in range(20)]
        await until(lambda: len(b.queue) == 20)
        reading = b.read("1")
        await until(lambda: len(b.queue) == 21)
        b.open()
        await asyncio.gather(*logins, reading)
        assert b.jobs[1] == ["1"]


async def test_readings_together() -> None:
    """Several small readings are one job, and each has the answer for its own users."""
    async with bench() as b:
        await b.busy()
        one, two, three = b.read("1", "2"), b.read("2", "3"), b.read("broken", "1")
        await until(lambda: len(b.queue) == 3)
        b.open()
        assert [*(await one)[1]] == ["1", "2"]
        assert [*(await two)[1]] == ["2", "3"]
        refused = await three
        assert (refused.result, str(refused)) == (Result.ERROR, "RuntimeError")
        assert b.jobs[1:] == [["1", "2", "3", "broken"]]


async def test_large_readings() -> None:
    """A job reads no more users than it should have, but for a single reading that does."""
    async with bench() as b:
        await b.busy()
        sizes = [150, 50, 1, 300]
        readings = [b.read(*(f"{n}.{m}" for m in range(size))) for n, size in enumerate(sizes)]
        await until(lambda: len(b.queue) == 4)
        b.open()
        await asyncio.gather(*readings)
        assert [len(job) for job in b.jobs[1:]] == [200, 1, 300]


async def test_position() -> None:
    """The position is that of the moment just before the job, however long somebody has waited."""
    async with bench() as b:
        first = await b.busy()
        login, reading = b.ask("a"), b.read("1")
        await until(lambda: len(b.queue) == 2)
        b.position = "2-0"
        b.open()
        assert (await first).as_of == "1-0"
        assert (await login).as_of == "2-0"
        assert (await reading)[0] == "2-0"


@pytest.mark.parametrize("kind", ["ask", "read"])
async def test_timeout(kind: str) -> None:
    """Who waits for too long is told so and leaves nothing behind, and the database is away."""
    async with bench() as b:
        await b.busy()
        refused = await getattr(b, kind)("a", timeout=0.05)
        assert (refused.result, str(refused)) == (Result.TIMEOUT, "no answer within 0.05 s")
        assert (len(b.queue), b.queue.database) == (0, False)
        b.open()
        await until(lambda: b.queue.database)
        assert b.jobs == [["first"]]


async def test_busy_is_not_away() -> None:
    """A timeout while others are answered says nothing against the database."""
    async with bench(threads=2, most=1) as b:
        await b.busy()
        late = [b.ask("a", timeout=0.5), b.ask("b", timeout=0.5)]
        await until(lambda: len(b.queue) == 2)
        b.open(1)
        refused = await asyncio.gather(*late)
        assert [each.result for each in refused] == [Result.TIMEOUT] * 2
        assert b.queue.database is True


async def test_database() -> None:
    """What a job says of the database holds until another one has asked it."""
    async with bench() as b:
        assert b.queue.database is None
        b.open()
        for said, known in ((None, None), (False, False), (None, False), (True, True)):
            b.database = said
            await b.ask("a")
            assert b.queue.database is known


@pytest.mark.parametrize("kind", ["ask", "read"])
async def test_leaving(kind: str) -> None:
    """Who gives up while waiting leaves nothing behind."""
    async with bench() as b:
        await b.busy()
        task = getattr(b, kind)("a")
        await until(lambda: len(b.queue) == 1)
        task.cancel()
        await asyncio.wait([task])
        assert len(b.queue) == 0
        b.open()
        await b.ask("b")
        assert b.jobs == [["first"], ["b"]]


async def test_check() -> None:
    """Whom there is something against by the time of the job costs no thread."""
    async with bench() as b:
        await b.busy()
        bad = [b.ask("a", "bad"), b.ask("b", "bad")]
        await until(lambda: len(b.queue) == 2)
        b.open()
        assert [each.result for each in await asyncio.gather(*bad)] == [Result.RATE_LIMITED] * 2
        good = b.ask("c", "good")
        assert (await good).user == "c"
        assert b.jobs == [["first"], ["c"]]


async def test_settle() -> None:
    """Each outcome is settled once, in the order of arrival, also for who has left meanwhile."""
    async with bench() as b:
        await b.busy()
        tasks = [b.ask(address, address) for address in ("x", "y", "z")]
        await until(lambda: len(b.queue) == 3)
        b.open(1)
        await until(lambda: len(b.jobs) == 2)
        tasks[1].cancel()
        await asyncio.wait(tasks[1:2])
        b.open(1)
        await asyncio.gather(tasks[0], tasks[2])
        assert b.settled == [None, "x", "y", "z"]


async def test_close() -> None:
    """At the end all who wait are refused, each by a refusal of its own."""
    b = Bench(threads=1, most=200, patience=200)
    await b.busy()
    tasks = [b.ask("a"), b.ask("b"), b.read("1")]
    await until(lambda: len(b.queue) == 3)
    await b.queue.close(lambda: Refused(Result.ERROR, "closed"), 0.01)
    refused = await asyncio.gather(*tasks)
    assert [str(each) for each in refused] == ["closed"] * 3
    assert len({*map(id, refused)}) == 3
    b.open()
    await until(lambda: b.threads.idle == 2)

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from newsrooms import ADDRESS, SITE, Newsroom, crowd, forged, login, result
from structlog.testing import capture_logs
from waiting import until

from notifyd.core.limits import Buckets
from notifyd.core.login import Result, Standing
from notifyd.daemon.auth import Authenticator, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., Authenticator]

pytest_plugins = ["newsroom_fixtures"]


@pytest.fixture
def locked(newsroom: Newsroom) -> Iterator[sqlite3.Connection]:
    """Give a lock on the database: nobody can read it before a rollback."""
    assert isinstance(newsroom, Newsroom)
    path = connections.settings["default"]["NAME"]
    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    yield lock
    if lock.in_transaction:
        lock.rollback()
    lock.close()


@pytest.fixture
def patient(newsroom: Newsroom) -> None:
    """Have SQLite wait for a lock for a minute."""
    assert isinstance(newsroom, Newsroom)
    connections.settings["default"]["OPTIONS"]["timeout"] = 60


async def test_login(newsroom: Newsroom, make: Make) -> None:
    """A token of the scope notifyd tells its user's primary key as text."""
    found = await login(make(), await newsroom.token("nadia"))
    assert found.user == str((await newsroom.user("nadia")).pk)


async def test_unscoped_bare(newsroom: Newsroom, make: Make) -> None:
    """The plain guide's unscoped token is accepted as a bare first message."""
    token = await newsroom.token("nadia", scope="")
    assert await result(make(), token, bare=True) == "ok"


async def test_scoped_bare(newsroom: Newsroom, make: Make) -> None:
    """A scoped token is accepted as a bare first message, too."""
    assert await result(make(), await newsroom.token("nadia"), bare=True) == "ok"


async def test_unscoped_in_hello(newsroom: Newsroom, make: Make) -> None:
    """A hello needs a scoped token."""
    assert await result(make(), await newsroom.token("nadia", scope="")) == "invalid"


async def test_unscoped_switched_off(newsroom: Newsroom, make: Make) -> None:
    """Unscoped tokens are refused everywhere if the operator wants that."""
    token = await newsroom.token("nadia", scope="")
    assert await result(make(unscoped=False), token, bare=True) == "invalid"


@pytest.mark.parametrize("bare", [True, False])
async def test_other_scope(newsroom: Newsroom, make: Make, bare: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A token that was made for another purpose is refused."""
    assert await result(make(), await newsroom.token("nadia", scope="x"), bare=bare) == "invalid"


@pytest.mark.parametrize(
    "token",
    ["", "abc", "a b c d", "t\u00f6ken", "AAAA\n", "A" * 513, "A" * 100_000, None, 7, b"AAAA"],
    ids=lambda token: repr(token)[:12],
)
async def test_form(newsroom: Newsroom, make: Make, token: Any) -> None:
    """What is not of a token's form is refused before a thread is asked."""
    assert isinstance(newsroom, Newsroom)
    seconds: list[float] = []
    authenticator = make(observe=seconds.append)
    assert await result(authenticator, token, bare=True) == "invalid"
    assert (authenticator.database, seconds) == (None, [])


async def test_results(newsroom: Newsroom, make: Make) -> None:
    """Every result is counted, and present from the start."""
    authenticator = make()
    names = {"ok", "expired", "invalid", "inactive", "timeout", "rate_limited", "error"}
    assert authenticator.results == dict.fromkeys(names, 0)
    await login(authenticator, await newsroom.token("nadia"))
    assert await result(authenticator, forged(1)) == "invalid"
    assert authenticator.results == dict.fromkeys(names, 0) | {"ok": 1, "invalid": 1}


async def test_observe(newsroom: Newsroom, make: Make) -> None:
    """The time of each attempt is observed once, refused or not."""
    seconds: list[float] = []
    authenticator = make(observe=seconds.append)
    await login(authenticator, await newsroom.token("nadia"))
    await result(authenticator, forged(1))
    assert len(seconds) == 2
    assert all(0 < each < 10 for each in seconds)


async def test_rate_limit(newsroom: Newsroom, make: Make, queries: list[str]) -> None:
    """An address that failed too often is refused before the database, good token or not."""
    authenticator = make(failures=Buckets(0.001, 2, most=10))
    token = await newsroom.token("nadia")
    assert [await result(authenticator, forged(1)) for _ in range(2)] == ["invalid"] * 2
    del queries[:]
    assert await result(authenticator, token) == "rate_limited"
    assert queries == []
    assert await result(authenticator, token, address="192.0.2.2") == "ok"


async def test_rate_limit_counts_nonsense(newsroom: Newsroom, make: Make) -> None:
    """What is not of a token's form counts as a failure, too."""
    authenticator = make(failures=Buckets(0.001, 1, most=10))
    await result(authenticator, "")
    assert await result(authenticator, await newsroom.token("nadia")) == "rate_limited"


async def test_rate_limit_spares_successes(newsroom: Newsroom, make: Make) -> None:
    """Users who log in behind one address are not limited."""
    authenticator = make(failures=Buckets(0.001, 1, most=10))
    token = await newsroom.token("nadia")
    assert [await result(authenticator, token) for _ in range(3)] == ["ok"] * 3


async def test_no_address_no_limit(newsroom: Newsroom, make: Make) -> None:
    """Failures without an address are not limited."""
    assert isinstance(newsroom, Newsroom)
    authenticator = make(failures=Buckets(0.001, 1, most=10))
    tries = [await result(authenticator, forged(1), address=None) for _ in range(3)]
    assert tries == ["invalid"] * 3


async def test_rate_limit_of_a_crowd(newsroom: Newsroom, make: Make) -> None:
    """Attempts that arrive together get no further than the limit and one for each thread."""
    assert isinstance(newsroom, Newsroom)
    authenticator = make(failures=Buckets(0.001, 3, most=10))
    crowd = await asyncio.gather(*(result(authenticator, forged(1)) for _ in range(30)))
    assert set(crowd) == {"invalid", "rate_limited"}
    assert crowd.count("invalid") <= 3 + 2


async def test_rate_limit_within_a_job(newsroom: Newsroom, make: Make) -> None:
    """A good token among guesses is of no use once the guesses from its address are used up."""
    authenticator = make(threads=1, failures=Buckets(0.001, 3, most=10))
    token = await newsroom.token("nadia")
    texts = [forged(1), *[forged(1)] * 5, token]
    tries = await asyncio.gather(*(result(authenticator, text) for text in texts))
    assert tries == ["invalid"] * 3 + ["rate_limited"] * 4


async def test_rate_limit_spares_the_neighbours(newsroom: Newsroom, make: Make) -> None:
    """Others who come at the same time don't pay for the failures of an address."""
    authenticator = make(threads=1, failures=Buckets(0.001, 3, most=10))
    token = await newsroom.token("nadia")
    guesses = [result(authenticator, forged(1)) for _ in range(10)]
    others = [result(authenticator, token, address="192.0.2.2") for _ in range(10)]
    _, *tries = await asyncio.gather(*guesses, *others)
    assert tries[-10:] == ["ok"] * 10


@pytest.mark.usefixtures("patient")
async def test_rate_limit_of_those_who_leave(locked: sqlite3.Connection, make: Make) -> None:
    """Who leaves before the answer pays for the work all the same."""
    authenticator = make(threads=1, failures=Buckets(0.001, 1, most=10))
    task = asyncio.create_task(login(authenticator, forged(1)))
    await until(lambda: not authenticator._queue._threads.idle)
    task.cancel()
    await asyncio.wait([task])
    locked.rollback()
    await until(lambda: authenticator.database)
    assert await result(authenticator, forged(1)) == "rate_limited"


async def test_check(newsroom: Newsroom, make: Make) -> None:
    """Others who admit clients can ask for an address, which counts nothing by itself."""
    assert isinstance(newsroom, Newsroom)
    authenticator = make(failures=Buckets(0.001, 1, most=10))
    authenticator.check(ADDRESS)
    authenticator.count(Result.EXPIRED, ADDRESS)
    for _ in range(2):
        with pytest.raises(Refused, match=r"^too many failures from this address$"):
            authenticator.check(ADDRESS)
    authenticator.check("192.0.2.2")
    authenticator.check(None)
    assert sum(authenticator.results.values()) == authenticator.results["expired"] == 1


@pytest.mark.parametrize("kind", [Result.OK, Result.TIMEOUT, Result.RATE_LIMITED, Result.ERROR])
async def test_count(newsroom: Newsroom, make: Make, kind: Result) -> None:
    """What a client is not to blame for is counted, and its address doesn't pay."""
    assert isinstance(newsroom, Newsroom)
    authenticator = make(failures=Buckets(0.001, 1, most=10))
    authenticator.count(kind, ADDRESS)
    authenticator.count(kind, None)
    authenticator.check(ADDRESS)
    assert authenticator.results[kind] == 2


async def test_crowd(any_newsroom: Newsroom, make: Make, queries: list[str]) -> None:
    """Many who come at once are logged in together, by a few queries."""
    people = [user for user in await any_newsroom.run(crowd, 40) if user.is_active]
    tokens = [await any_newsroom.token(user.username) for user in people] * 10
    seconds: list[float] = []
    authenticator = make(threads=2, observe=seconds.append)
    del queries[:]
    found = await asyncio.gather(*(login(authenticator, token) for token in tokens))
    assert [each.user for each in found] == [str(user.pk) for user in people] * 10
    # Two come alone; the others need two jobs, or three.
    assert len([sql for sql in queries if " FROM " in sql]) <= 5 * 5
    assert (authenticator.results["ok"], len(seconds)) == (len(tokens), len(tokens))


async def test_position(newsroom: Newsroom, make: Make) -> None:
    """A login, and what is read, is true as of the position before the database was asked."""
    positions = iter(["1-0", "2-0"])
    authenticator = make(position=lambda: next(positions))
    found = await login(authenticator, await newsroom.token("nadia"))
    assert found.as_of == "1-0"
    as_of, standings = await authenticator.read([found.user])
    assert as_of == "2-0"
    assert standings == {found.user: Standing(found.audience, (found.digest,))}


async def test_no_position(newsroom: Newsroom, make: Make) -> None:
    """Where nobody knows a position, there is none."""
    authenticator = make()
    assert (await login(authenticator, await newsroom.token("nadia"))).as_of is None
    assert await authenticator.read([]) == (None, {})


async def test_read(newsroom: Newsroom, make: Make) -> None:
    """Users who are gone or inactive stand nowhere, and a reading is no authentication."""
    seconds: list[float] = []
    authenticator = make(observe=seconds.append)
    keys = [str((await newsroom.user(name)).pk) for name in ("nadia", "ines")]
    _, standings = await authenticator.read([*keys, "2000000000", "nonsense"])
    assert [*standings] == [*keys, "2000000000", "nonsense"]
    assert [key for key, each in standings.items() if each is not None] == keys[:1]
    assert (sum(authenticator.results.values()), seconds) == (0, [])
    assert authenticator.database is True


@pytest.mark.parametrize("seconds", [None, 0.1])
async def test_read_timeout(locked: sqlite3.Connection, make: Make, seconds: float | None) -> None:
    """A reading that takes too long is refused as a whole, after the time that it was given."""
    authenticator = make(timeout=0.2 if seconds is None else 60)
    with pytest.raises(Refused, match=r"^no answer within 0.[12] s$") as refused:
        await authenticator.read(["1", "2"], timeout=seconds)
    assert refused.value.result == "timeout"
    assert authenticator.database is False
    locked.rollback()


async def test_read_error(newsroom: Newsroom, make: Make) -> None:
    """A reading that the database fails is refused as a whole."""
    assert isinstance(newsroom, Newsroom)
    authenticator = make()
    path = connections.settings["default"]["NAME"]
    with sqlite3.connect(path) as tables:
        tables.execute("ALTER TABLE auth_user RENAME TO away")
    tables.close()
    with capture_logs() as lines, pytest.raises(Refused) as refused:
        await authenticator.read(["1", "2"])
    assert (refused.value.result, authenticator.database) == ("error", False)
    assert [line["error"] for line in lines] == ["OperationalError: no such table: auth_user"]


async def test_timeout(locked: sqlite3.Connection, make: Make) -> None:
    """Whoever has no answer in time is told so, and the database counts as away."""
    seconds: list[float] = []
    authenticator = make(timeout=0.1, observe=seconds.append)
    with pytest.raises(Refused, match=r"^no answer within 0.1 s$") as refused:
        await login(authenticator, forged(1))
    assert refused.value.result == "timeout"
    assert authenticator.database is False
    assert 0.1 <= seconds[0] < 2
    locked.rollback()


async def test_timeout_of_the_queue(locked: sqlite3.Connection, make: Make) -> None:
    """The time spent waiting for a thread counts."""
    authenticator = make(threads=1, timeout=0.2)
    tries = await asyncio.gather(*(result(authenticator, forged(1)) for _ in range(3)))
    assert tries == ["timeout"] * 3
    locked.rollback()
    await until(lambda: authenticator.database)


@pytest.mark.usefixtures("patient")
async def test_recovery(newsroom: Newsroom, locked: sqlite3.Connection, make: Make) -> None:
    """When the database answers again, so do the threads that were stuck."""
    locked.rollback()
    token = await newsroom.token("nadia")
    locked.execute("BEGIN EXCLUSIVE")
    authenticator = make(timeout=0.2)
    assert [await result(authenticator, token) for _ in range(4)] == ["timeout"] * 4
    locked.rollback()
    await until(lambda: authenticator.database)
    assert await result(authenticator, token) == "ok"


@pytest.mark.usefixtures("patient")
async def test_client_that_left(locked: sqlite3.Connection, make: Make) -> None:
    """A client that leaves while its token is looked at leaves nothing behind."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    authenticator = make(threads=1)
    tasks = [asyncio.create_task(login(authenticator, forged(1))) for _ in range(3)]
    await until(lambda: not authenticator._queue._threads.idle)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert len(authenticator._queue) == 0
    locked.rollback()
    await until(lambda: authenticator.database)
    del task, tasks
    gc.collect()
    assert complaints == []
    assert sum(authenticator.results.values()) == 0


async def test_database_error(newsroom: Newsroom, make: Make) -> None:
    """An error of the database is one log line and an error for the client, until it answers."""
    authenticator = make()
    token = await newsroom.token("nadia")
    path = connections.settings["default"]["NAME"]
    with sqlite3.connect(path) as tables:
        tables.execute("ALTER TABLE auth_user RENAME TO away")
    with capture_logs() as lines:
        assert await result(authenticator, token) == "error"
    assert lines == [
        {
            "event": "auth.error",
            "log_level": "error",
            "error": "OperationalError: no such table: auth_user",
        }
    ]
    assert authenticator.database is False
    with tables:
        tables.execute("ALTER TABLE away RENAME TO auth_user")
    tables.close()
    assert await result(authenticator, token) == "ok"
    assert authenticator.database is True


async def test_nonsense_says_nothing_of_the_database(newsroom: Newsroom, make: Make) -> None:
    """A token that is refused without a query leaves the state of the database open."""
    assert isinstance(newsroom, Newsroom)
    authenticator = make()
    assert await result(authenticator, "AAAA") == "invalid"
    assert authenticator.database is None


async def test_close(newsroom: Newsroom, make: Make) -> None:
    """Closing ends the threads, and whoever comes later is refused."""
    authenticator = make(threads=3)
    before = {thread for thread in threading.enumerate() if thread.name.startswith("auth-")}
    await authenticator.close()
    await until(lambda: not any(thread.is_alive() for thread in before))
    with pytest.raises(Refused, match=r"^the daemon is stopping$"):
        await login(authenticator, await newsroom.token("nadia"))
    with pytest.raises(Refused, match=r"^the daemon is stopping$"):
        await authenticator.read(["1"])
    await authenticator.close()


@pytest.mark.long
@pytest.mark.usefixtures("patient")
async def test_close_with_a_stuck_thread(locked: sqlite3.Connection, make: Make) -> None:
    """Closing doesn't wait for a database that doesn't answer, nor does whoever waits."""
    authenticator = make(threads=1)
    tasks = [asyncio.create_task(result(authenticator, forged(1))) for _ in range(2)]
    await until(lambda: not authenticator._queue._threads.idle)
    async with asyncio.timeout(5):
        await authenticator.close()
    locked.rollback()
    assert sorted(await asyncio.gather(*tasks)) == ["error", "invalid"]


@pytest.mark.long
def test_end_of_the_process(tmp_path: Path, seeded: Path) -> None:
    """A stuck thread does not hold the process back at its end."""
    script = f"""
import asyncio, sqlite3
from notifyd.core.audience import Vocabulary
from notifyd.core.limits import Buckets
from notifyd.daemon import auth
auth.setup("newsroom.settings", {str(SITE)!r})
from django.db import connections
connections.settings["default"]["OPTIONS"]["timeout"] = 600
token = auth.create_token("nadia")
lock = sqlite3.connect({str(seeded)!r}, isolation_level=None)
lock.execute("BEGIN EXCLUSIVE")
async def main():
    authenticator = auth.Authenticator(
        Vocabulary(), threads=1, timeout=0.1, statement_timeout=1, unscoped=True,
        failures=Buckets(1, 1, 1), observe=print,
    )
    try:
        await authenticator.authenticate(token, bare=False, address=None)
    except auth.Refused as refused:
        print(refused)
    await authenticator.close()
asyncio.run(main())
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={"NEWSROOM_DATABASE": str(seeded), "HOME": str(tmp_path)},
        timeout=30,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no answer within 0.1 s" in run.stdout
    assert run.stderr == ""

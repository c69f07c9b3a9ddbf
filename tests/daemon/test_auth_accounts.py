from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.db.backends.signals import connection_created
from django.db.models.signals import post_save
from django.test.utils import override_settings
from django.utils.module_loading import import_string
from newsrooms import STOCK, Newsroom, crowd, forged, login, result
from structlog.testing import capture_logs

from notifyd.core.audience import Vocabulary
from notifyd.core.login import Login, Refused, Standing
from notifyd.daemon import auth_accounts
from notifyd.daemon.auth_accounts import Accounts
from notifyd.daemon.auth_tokens import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from notifyd.daemon.auth import Authenticator

    Make = Callable[..., Authenticator]

pytest_plugins = ["newsroom_fixtures"]

AUTHSITE = Path(__file__).parent / "authsite"


async def answer(
    newsroom: Newsroom, accounts: Accounts, tokens: Sequence[str], *, bare: bool = False
) -> list[Login | str]:
    """Return what one job makes of tokens: a login without its times, or why there is none."""
    claims = [Claim(token, bare) for token in tokens]
    found = (await newsroom.run(accounts.answer, claims, None)).outcome
    return [
        str(each.result)
        if isinstance(each, Refused)
        else dataclasses.replace(each, auth_time=0, read_at=0)
        for each in found
    ]


async def read(
    newsroom: Newsroom, accounts: Accounts, users: Sequence[str]
) -> dict[str, Standing | str | None]:
    """Return what one job reads of users: where they stand, or why that can't be known."""
    found = (await newsroom.run(accounts.read, users)).outcome
    return {key: str(e.result) if isinstance(e, Refused) else e for key, e in found.items()}


async def tokens_of(newsroom: Newsroom, people: Sequence[Any], scope: str = "notifyd") -> list[str]:
    """Return a new token of each of these users."""
    get_token = import_string("sesame.utils.get_token")
    made: list[str]
    made = await newsroom.run(lambda: [str(get_token(user, scope)) for user in people])
    return made


@pytest.fixture
def accounts(newsroom: Newsroom) -> Accounts:
    """Give the jobs over the newsroom as it is set up."""
    assert isinstance(newsroom, Newsroom)
    return Accounts(Vocabulary(), unscoped=True)


@contextlib.contextmanager
def no_lists() -> Iterator[None]:
    """Have something of the site in the way of queries with a list."""

    def obstruct(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        if " IN (%s, " in sql:
            raise RuntimeError("no lists here")
        return execute(sql, params, many, context)

    def install(connection: Any, **_: object) -> None:
        connection.execute_wrappers.append(obstruct)

    connection_created.connect(install)
    yield
    connection_created.disconnect(install)


async def test_queries(newsroom: Newsroom, make: Make, queries: list[str]) -> None:
    """A login takes four queries: the user, the permissions of user and groups, the groups."""
    authenticator = make(threads=1)
    await login(authenticator, await newsroom.token("nadia"))
    token = await newsroom.token("rosa")
    del queries[:]
    await login(authenticator, token)
    assert len(queries) == 4


async def test_queries_of_the_first(newsroom: Newsroom, make: Make, queries: list[str]) -> None:
    """The first login takes one more, which reads the content types for all within seconds."""
    token = await newsroom.token("nadia")
    del queries[:]
    await login(make(), token)
    assert len(queries) == 5


async def test_error_of_the_site(
    newsroom: Newsroom, make: Make, backends: Callable[..., None]
) -> None:
    """A fault in the site's own code is logged in a line without the token."""
    base: Any = import_string("sesame.backends.ModelBackend")

    class Broken(base):  # type: ignore[misc] # it can't be imported before set-up
        def authenticate(self, _request: Any, sesame: str, **_how: Any) -> Any:
            raise RuntimeError(f"no idea what {sesame} is\nand more")

    backends(Broken, stock=(STOCK[0],))
    authenticator, token = make(), await newsroom.token("nadia")
    with capture_logs() as lines:
        assert await result(authenticator, token) == "error"
    words = "RuntimeError: no idea what *** is"
    assert lines == [{"event": "auth.error", "log_level": "error", "error": words}]
    assert authenticator.database is None


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("members.Member", {"groups": [], "permissions": 0, "superuser": False, "shown": False}),
        ("members.Reader", {"groups": [], "permissions": 2, "superuser": False, "shown": True}),
        ("members.Chief", {"groups": [], "permissions": 2, "superuser": False, "shown": True}),
        ("members.Staff", {"groups": [], "permissions": 0, "superuser": True, "shown": True}),
        ("members.Clubber", {"groups": [], "permissions": 0, "superuser": True, "shown": True}),
    ],
)
def test_custom_user(tmp_path: Path, user: str, found: dict[str, Any]) -> None:
    """A site's own user model counts with what it has: any key, any permissions or none."""
    run = subprocess.run(
        [sys.executable, str(AUTHSITE / "login.py")],
        env={**os.environ, "AUTHSITE_USER": user, "AUTHSITE_DATABASE": str(tmp_path / "db")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    same = dict.fromkeys(["same_key", "together", "read", "digest", "gone"], True)
    assert json.loads(run.stdout) == {**same, "inactive": "inactive", **found}


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(
    "max_age", [30, pytest.param(0, marks=pytest.mark.long)], ids=["fresh", "expired"]
)
async def test_together_as_alone(
    any_newsroom: Newsroom,
    max_age: int,
    bare: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A job answers each of many just as it would have answered it alone."""
    people = await any_newsroom.run(crowd, 40)
    tokens = await tokens_of(any_newsroom, people)
    tokens += await tokens_of(any_newsroom, people[:5], "")
    tokens += await tokens_of(any_newsroom, people[:5], "elsewhere")
    tokens += [forged(people[0].pk), forged(2_000_000_000), "AAAA", tokens[0], tokens[0][:-2]]
    accounts = Accounts(Vocabulary(), unscoped=True)
    with override_settings(SESAME_MAX_AGE=max_age):
        alone = [(await answer(any_newsroom, accounts, [t], bare=bare))[0] for t in tokens]
        assert await answer(any_newsroom, accounts, tokens, bare=bare) == alone
    kinds = {each if isinstance(each, str) else "ok" for each in alone}
    assert kinds == ({"ok", "inactive", "invalid"} if max_age else {"expired", "invalid"})


async def test_reading_together_as_alone(any_newsroom: Newsroom) -> None:
    """Users who are read together stand where they would if they were read alone."""
    people = await any_newsroom.run(crowd, 40)
    keys = [str(user.pk) for user in people] + ["2000000000"]
    accounts = Accounts(Vocabulary(), unscoped=True)
    together = await read(any_newsroom, accounts, keys)
    for key in keys:
        assert await read(any_newsroom, accounts, [key]) == {key: together[key]}
    inactive = {str(user.pk) for user in people if not user.is_active}
    assert {key for key, each in together.items() if each is None} == inactive | {"2000000000"}


async def test_reading_as_logging_in(newsroom: Newsroom, accounts: Accounts) -> None:
    """A user who is read anew stands where the user's login does."""
    [found] = await answer(newsroom, accounts, [await newsroom.token("nadia")])
    assert isinstance(found, Login)
    standing = (await read(newsroom, accounts, [found.user]))[found.user]
    assert standing == Standing(found.audience, (found.digest,))


async def test_queries_of_many(any_newsroom: Newsroom, queries: list[str]) -> None:
    """Two hundred logins take four queries together, and one for the content types."""
    people = await any_newsroom.run(crowd, 40)
    tokens = await tokens_of(any_newsroom, [user for user in people if user.is_active])
    accounts = Accounts(Vocabulary(), unscoped=True)
    del queries[:]
    found = await answer(any_newsroom, accounts, (tokens * 7)[:200])
    assert len([each for each in found if isinstance(each, Login)]) == 200
    assert len([sql for sql in queries if " FROM " in sql]) == 5


async def test_queries_of_a_reading(any_newsroom: Newsroom, queries: list[str]) -> None:
    """So do two hundred users who are read anew."""
    people = await any_newsroom.run(crowd, 40)
    keys = [str(user.pk) for user in people] + [str(2_000_000_000 + n) for n in range(160)]
    accounts = Accounts(Vocabulary(), unscoped=True)
    del queries[:]
    await read(any_newsroom, accounts, keys)
    assert len([sql for sql in queries if " FROM " in sql]) == 5


async def test_reading_nobody(newsroom: Newsroom, accounts: Accounts, queries: list[str]) -> None:
    """What is not the text of a primary key is nobody's, without a query."""
    rosa = (await newsroom.user("rosa")).pk
    texts = ["", "x", f" {rosa}", f"0{rosa}", f"{rosa}.0", "\0", "\ud800", "9" * 5_000]
    del queries[:]
    assert await read(newsroom, accounts, texts) == dict.fromkeys(texts)
    assert await read(newsroom, accounts, []) == {}
    assert [sql for sql in queries if " FROM " in sql] == []


async def test_reading_impossible_keys(any_newsroom: Newsroom) -> None:
    """A key that the database can't store is nobody's, and spoils no other."""
    accounts = Accounts(Vocabulary(), unscoped=True)
    rosa = str((await any_newsroom.user("rosa")).pk)
    for others in ([], [rosa], [rosa, "1", "2", "3"]):
        found = await read(any_newsroom, accounts, ["9" * 30, *others, f"-{'9' * 30}"])
        assert [key for key in others if found[key] is None] == []
        assert (found["9" * 30], found[f"-{'9' * 30}"]) == (None, None)


async def test_poison_of_postgresql(newsroom_on_postgres: Newsroom) -> None:
    """A forged key that PostgreSQL can't store refuses its own token and no other."""
    with override_settings(SESAME_PRIMARY_KEY_FIELD="username"):
        accounts = Accounts(Vocabulary(), unscoped=True)
        people = [await newsroom_on_postgres.user(name) for name in ("nadia", "omar", "rosa")]
        good = await tokens_of(newsroom_on_postgres, people)
        tokens = [good[0], forged("\0"), *good[1:], forged("a\0b"), forged("nobody")]
        with capture_logs() as lines:
            found = await answer(newsroom_on_postgres, accounts, tokens)
        assert lines == []
        names = [each if isinstance(each, str) else "ok" for each in found]
        assert names == ["ok", "invalid", "ok", "ok", "invalid", "invalid"]


async def test_poison_of_sqlite(newsroom: Newsroom, queries: list[str]) -> None:
    """A forged key that SQLite can't store does so too, and is found in a few queries."""
    with override_settings(SESAME_PACKER="sesame.packers.UnsignedLongLongPacker"):
        accounts = Accounts(Vocabulary(), unscoped=True)
        good = await tokens_of(newsroom, await newsroom.run(crowd, 40))
        alone = await answer(newsroom, accounts, good)
        del queries[:]
        found = await answer(newsroom, accounts, [*good, forged((1 << 64) - 1)])
        assert found == [*alone, "invalid"]
        assert len([sql for sql in queries if " FROM " in sql]) < 20


async def test_fallback(any_newsroom: Newsroom) -> None:
    """Where many can't be served at once they are served one by one, all the same."""
    accounts = Accounts(Vocabulary(), unscoped=True)
    people = await any_newsroom.run(crowd, 10)
    tokens = await tokens_of(any_newsroom, people)
    alone = [(await answer(any_newsroom, accounts, [token]))[0] for token in tokens]
    with no_lists(), capture_logs() as lines:
        assert await answer(any_newsroom, accounts, tokens) == alone
    words = "RuntimeError: no lists here"
    assert lines == [{"event": "auth.error", "log_level": "error", "error": words}] * 2
    keys = [str(user.pk) for user in people]
    with no_lists():
        found = await read(any_newsroom, accounts, keys)
    assert found == await read(any_newsroom, accounts, keys)


async def test_lack_of_time(
    newsroom: Newsroom, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that takes too long leaves the rest, but never all."""
    tokens = await tokens_of(newsroom, await newsroom.run(crowd, 10))
    alone = [(await answer(newsroom, accounts, [token]))[0] for token in tokens]
    monkeypatch.setattr(auth_accounts, "_SLICE", -1.0)
    assert await answer(newsroom, accounts, tokens) == alone[:1]


async def test_database_error(newsroom: Newsroom, accounts: Accounts) -> None:
    """A database that is not there is so for all of a job, and logged once."""
    tokens = await tokens_of(newsroom, await newsroom.run(crowd, 10))
    with sqlite3.connect(connections.settings["default"]["NAME"]) as tables:
        tables.execute("ALTER TABLE auth_user RENAME TO away")
    tables.close()
    claims = [Claim(token, bare=False) for token in tokens]
    with capture_logs() as lines:
        logins = await newsroom.run(accounts.answer, claims, None)
        reading = await newsroom.run(accounts.read, ["1", "2"])
    assert len(lines) == 2
    assert (logins.database, reading.database) == (False, False)
    assert [each.result for each in logins.outcome] == ["error"] * 10
    assert [each.result for each in reading.outcome.values()] == ["error"] * 2
    # Each will be raised by somebody else.
    assert len({id(each) for each in logins.outcome}) == 10


async def test_site_that_fails_for_one(newsroom: Newsroom, backends: Callable[..., None]) -> None:
    """A fault of the site's code with one user is no other user's, when logging in or later."""
    asked: Counter[tuple[str, str]] = Counter()

    class Faulty:
        def has_perm(self, user: Any, perm: str, _obj: Any = None) -> bool:
            if user.username == "rosa":
                raise RuntimeError("no idea")
            asked[user.username, perm] += 1
            return False

    backends(Faulty)
    accounts = Accounts(Vocabulary(), unscoped=True)
    people = [await newsroom.user(name) for name in ("nadia", "rosa", "omar")]
    with capture_logs() as lines:
        found = await answer(newsroom, accounts, [*await tokens_of(newsroom, people)] * 3)
        assert [each == "error" for each in found] == [False, True, False] * 3
        # Who comes three times in a job is read once.
        assert set(asked.values()) == {1}
        reading = await read(newsroom, accounts, [str(user.pk) for user in people])
    assert [each == "error" for each in reading.values()] == [False, True, False]
    assert {line["error"] for line in lines} == {"RuntimeError: no idea"}


async def test_site_that_fails_to_find_one(
    newsroom: Newsroom, backends: Callable[..., None]
) -> None:
    """Nor does a user who can't be found stand in the way of others who are read."""
    base: Any = import_string("sesame.backends.ModelBackend")
    rosa = (await newsroom.user("rosa")).pk

    class Faulty(base):  # type: ignore[misc] # it can't be imported before set-up
        def get_user(self, key: Any) -> Any:
            if key == rosa:
                raise RuntimeError("no idea")
            return super().get_user(key)

    backends(Faulty, stock=(STOCK[0],))
    accounts = Accounts(Vocabulary(), unscoped=True)
    people = [await newsroom.user(name) for name in ("nadia", "rosa", "omar")]
    with capture_logs():
        reading = await read(newsroom, accounts, [str(user.pk) for user in people])
    assert [each == "error" for each in reading.values()] == [False, True, False]


async def test_one_time_together(newsroom: Newsroom) -> None:
    """Of those in a job who come with the same one-time token the first one succeeds."""
    with override_settings(SESAME_ONE_TIME=True):
        accounts = Accounts(Vocabulary(), unscoped=True)
        people = [await newsroom.user(name) for name in ("nadia", "rosa", "omar")]
        nadia, rosa, omar = await tokens_of(newsroom, people)
        found = await answer(newsroom, accounts, [nadia, rosa, nadia, omar, rosa, nadia])
        names = ["ok" if isinstance(each, Login) else each for each in found]
        assert names == ["ok", "ok", "invalid", "ok", "invalid", "invalid"]
        assert await answer(newsroom, accounts, [nadia, rosa]) == ["invalid"] * 2


async def test_one_time_that_fails(newsroom: Newsroom) -> None:
    """A one-time token that could not be used up is still good."""
    faults = iter([RuntimeError("not now")])

    def receiver(**_: Any) -> None:
        for fault in faults:
            raise fault

    with override_settings(SESAME_ONE_TIME=True):
        accounts = Accounts(Vocabulary(), unscoped=True)
        tokens = [await newsroom.token("nadia"), await newsroom.token("rosa")]
        post_save.connect(receiver)
        found = await answer(newsroom, accounts, [tokens[0], *tokens])
        post_save.disconnect(receiver)
    assert [each if isinstance(each, str) else "ok" for each in found] == ["error", "ok", "ok"]


async def test_keys_in_capitals(newsroom: Newsroom) -> None:
    """Where a database takes two spellings of a key for the same, users are found all the same."""
    with override_settings(SESAME_PRIMARY_KEY_FIELD="username"):
        accounts = Accounts(Vocabulary(), unscoped=True)
        tokens = [await newsroom.token("nadia"), await newsroom.token("rosa"), forged("nobody")]
        with sqlite3.connect(connections.settings["default"]["NAME"]) as tables:
            tables.executescript("""
                PRAGMA writable_schema = ON;
                UPDATE sqlite_schema SET sql = replace(sql,
                    '"username" varchar(150)', '"username" varchar(150) COLLATE NOCASE')
                WHERE name = 'auth_user';
                PRAGMA writable_schema = RESET;
                REINDEX;
                UPDATE auth_user SET username = 'Nadia' WHERE username = 'nadia';
            """)
        tables.close()
        alone = [(await answer(newsroom, accounts, [token]))[0] for token in tokens]
        assert await answer(newsroom, accounts, tokens) == alone
    assert [isinstance(each, Login) for each in alone] == [True, True, False]


async def test_times(newsroom: Newsroom, accounts: Accounts) -> None:
    """A login tells when the user was read, when the token was accepted, and the position."""
    before = time.time()
    claims = [Claim(await newsroom.token(name), bare=False) for name in ("nadia", "rosa")]
    found = (await newsroom.run(accounts.answer, claims, "7-0")).outcome
    assert [each.as_of for each in found] == ["7-0", "7-0"]
    for each in found:
        assert before <= each.read_at <= each.auth_time <= time.time()

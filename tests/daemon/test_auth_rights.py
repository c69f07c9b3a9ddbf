"""What the daemon may do in PostgreSQL as a role that has the rights of the how-to guide."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connections
from django.test.utils import override_settings
from newsrooms import Newsroom, database, login, result, sqlite
from pages import ROOT, blocks
from structlog.testing import capture_logs
from unprivileged import unprivileged

from notifyd.daemon.auth_database import database_fault, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from postgres import PostgresServer

    from notifyd.daemon.auth import Authenticator

    Make = Callable[..., Authenticator]
    Execute = Callable[[str], None]

pytest_plugins = ["newsroom_fixtures"]

PAGE = ROOT / "docs" / "how-to" / "connect-to-your-site.md"
ROLE = "reader"
EVERYTHING = f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {ROLE}"


def statements(title: str) -> str:
    """Return the SQL of a block of the page, for the role of the tests."""
    [block] = [each for each in blocks(PAGE) if each.title == title]
    return re.sub(r"\bnotifyd\b", ROLE, block.text)


@pytest.fixture
def owner(newsroom_on_postgres: Newsroom, postgres: PostgresServer) -> Iterator[Execute]:
    """Give a function that the owner of the tables changes rights with; the role has the least."""
    assert isinstance(newsroom_on_postgres, Newsroom)

    def execute(statement: str) -> None:
        postgres.execute(statement, "newsroom")

    with psycopg.connect(**postgres.parts("newsroom"), autocommit=True) as connection:
        connection.execute(statements("grants.sql").encode())
    yield execute
    execute(f"{EVERYTHING}; DROP ROLE {ROLE}")


@pytest.fixture
def newsroom_read(owner: Execute, seeded_postgres: dict[str, Any]) -> Iterator[Newsroom]:
    """Give the newsroom as that role sees it."""
    assert callable(owner)
    with database({**seeded_postgres, "USER": ROLE}):
        yield Newsroom()


async def test_least_rights(newsroom_read: Newsroom, make: Make) -> None:
    """Logins, one and many, and what a sweep or a recheck of all reads do with those rights."""
    authenticator, tokens = make(), [await newsroom_read.token(each) for each in ("nadia", "omar")]
    alone = await login(authenticator, tokens[0])
    many = await asyncio.gather(*(login(authenticator, each) for each in tokens * 5))
    _, read = await authenticator.read([each.user for each in many])
    assert {each.audience for each in many} == {each.audience for each in read.values() if each}
    assert alone.audience == many[0].audience
    assert await newsroom_read.run(database_fault) is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE auth_user SET is_superuser = true",
        "INSERT INTO auth_group (name) VALUES ('intruders')",
        "DELETE FROM auth_user_groups",
        "SELECT * FROM django_session",
    ],
)
async def test_no_more_rights(newsroom_read: Newsroom, statement: str) -> None:
    """With those rights nothing can be written, and nothing else be read."""

    def execute() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute(statement)

    with pytest.raises(DatabaseError, match="permission denied"):
        await newsroom_read.run(execute)


async def test_missing_right(newsroom_read: Newsroom, owner: Execute, make: Make) -> None:
    """A right that is missing is named with its grant, by the check and in the log."""
    grant = f"as the owner of the tables: GRANT SELECT ON auth_permission TO {ROLE};"
    token = await newsroom_read.token("nadia")
    owner(f"REVOKE ALL ON auth_permission FROM {ROLE}")
    fault = await newsroom_read.run(database_fault)
    assert fault == f"the role may not read auth_permission; {grant}"
    with capture_logs() as lines:
        assert await result(make(), token) == "error"
    [line] = lines
    assert line["event"] == "auth.error"
    assert line["error"].endswith(f"permission denied for table auth_permission; {grant}")


async def test_missing_rights(newsroom_read: Newsroom, owner: Execute) -> None:
    """All that is missing is named at once."""
    owner(EVERYTHING)
    fault = str(await newsroom_read.run(database_fault))
    tables = re.findall(r"GRANT SELECT ON (\w+) TO", fault)
    assert sorted(tables) == sorted(re.findall(r"\b(?:auth|django)_\w+", statements("grants.sql")))


async def test_one_time(newsroom_read: Newsroom, owner: Execute, make: Make) -> None:
    """Tokens that are good once need one right more, which is named until it is there."""
    with override_settings(SESAME_ONE_TIME=True):
        authenticator, token = make(), await newsroom_read.token("nadia")
        fault = str(await newsroom_read.run(database_fault))
        assert f"GRANT UPDATE (last_login) ON auth_user TO {ROLE};" in fault
        assert await result(authenticator, token) == "error"
        owner(statements("one_time.sql"))
        assert await newsroom_read.run(database_fault) is None
        assert await result(authenticator, token) == "ok"
        assert await result(authenticator, token) == "invalid"


def test_closed_sqlite(newsroom: Newsroom, folder: Path) -> None:
    """A SQLite file that the daemon can't open is told with what is in the way."""
    assert isinstance(newsroom, Newsroom)
    folder.chmod(0o700)
    (folder / "db.sqlite3").touch()
    with database(sqlite(folder / "db.sqlite3")), unprivileged():
        fault = str(database_fault())
    assert fault.startswith("OperationalError: unable to open database file; ")
    assert f"{folder} is closed to the user " in fault


def test_readonly_sqlite(newsroom: Newsroom, folder: Path) -> None:
    """One in a folder that it can't write to is told with the drop-in to use."""
    assert isinstance(newsroom, Newsroom)
    folder.chmod(0o555)
    error = OperationalError("attempt to write a readonly database")
    with database(sqlite(folder / "db.sqlite3")), unprivileged():
        words = describe(error)
    assert words.startswith("OperationalError: attempt to write a readonly database; SQLite has to")
    assert "site-on-sqlite.conf" in words


@pytest.mark.parametrize(
    "error", [OperationalError("unable to open database file"), OperationalError("no such table")]
)
def test_unknown_errors(newsroom: Newsroom, error: Exception) -> None:
    """Where nothing is known to help, nothing is advised."""
    assert isinstance(newsroom, Newsroom)
    assert describe(error) == f"OperationalError: {error}"

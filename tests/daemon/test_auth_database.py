from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import connections
from django.db.backends.signals import connection_created
from django.test.utils import override_settings
from newsrooms import Newsroom, database, forged, login, result
from structlog.testing import capture_logs
from waiting import until

from notifyd.daemon.auth_database import Patience, database_fault, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from postgres import PostgresServer

    from notifyd.daemon.auth import Authenticator

    Make = Callable[..., Authenticator]

pytest_plugins = ["newsroom_fixtures"]


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Give the port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def locked_users(newsroom_on_postgres: Newsroom, postgres: PostgresServer) -> Iterator[None]:
    """Have a lock on the users: nobody can read them."""
    assert isinstance(newsroom_on_postgres, Newsroom)
    with psycopg.connect(**postgres.parts("newsroom")) as lock:
        lock.execute("LOCK TABLE auth_user IN ACCESS EXCLUSIVE MODE")
        yield


async def test_login(newsroom_on_postgres: Newsroom, make: Make) -> None:
    """Users are read from PostgreSQL as from any database."""
    authenticator = make()
    found = await login(authenticator, await newsroom_on_postgres.token("nadia"))
    assert found.user == str((await newsroom_on_postgres.user("nadia")).pk)
    assert authenticator.database is True


async def test_stopped(
    newsroom_on_postgres: Newsroom, postgres: PostgresServer, make: Make
) -> None:
    """While the database is down logins fail at once, and succeed when it is back."""
    authenticator, token = make(), await newsroom_on_postgres.token("nadia")
    assert await result(authenticator, token) == "ok"
    with postgres.stopped(), capture_logs() as lines:
        assert await result(authenticator, token) == "error"
        assert authenticator.database is False
    assert [line["event"] for line in lines] == ["auth.error"]
    assert lines[0]["error"].startswith("OperationalError: connection")
    assert await result(authenticator, token) == "ok"
    assert authenticator.database is True


async def test_probe(newsroom_on_postgres: Newsroom, postgres: PostgresServer, make: Make) -> None:
    """That the database is back is found out without a login."""
    authenticator, token = make(), await newsroom_on_postgres.token("nadia")
    with postgres.stopped():
        assert await result(authenticator, token) == "error"
    authenticator.probe()
    await until(lambda: authenticator.database)


async def test_restarted(
    newsroom_on_postgres: Newsroom, postgres: PostgresServer, make: Make
) -> None:
    """A connection that is kept between logins doesn't fail one after a restart."""
    connections.settings["default"]["CONN_MAX_AGE"] = None
    authenticator, token = make(threads=1), await newsroom_on_postgres.token("nadia")
    assert await result(authenticator, token) == "ok"
    with postgres.stopped():
        pass
    assert await result(authenticator, token) == "ok"


@pytest.mark.long
@pytest.mark.parametrize("age", [0, None], ids=["new connections", "kept connections"])
async def test_paused(
    newsroom_on_postgres: Newsroom, postgres: PostgresServer, make: Make, age: int | None
) -> None:
    """A database that falls silent costs each client its time, until it speaks again."""
    connections.settings["default"]["CONN_MAX_AGE"] = age
    authenticator, token = make(timeout=0.5), await newsroom_on_postgres.token("nadia")
    assert await result(authenticator, token) == "ok"
    with postgres.paused():
        began = time.monotonic()
        assert [await result(authenticator, token) for _ in range(3)] == ["timeout"] * 3
        assert time.monotonic() - began < 3
        assert authenticator.database is False
    await until(lambda: authenticator.database)
    assert await result(authenticator, token) == "ok"


@pytest.mark.usefixtures("locked_users")
async def test_statement_timeout(make: Make) -> None:
    """PostgreSQL ends a query that takes too long, which frees the thread."""
    authenticator = make(threads=1, statement_timeout=0.2)
    began = time.monotonic()
    with capture_logs() as lines:
        assert await result(authenticator, forged(1)) == "error"
    assert 0.2 <= time.monotonic() - began < 5
    words = "OperationalError: canceling statement due to statement timeout"
    assert [line["error"] for line in lines] == [words]


@pytest.mark.long
async def test_connect_timeout(newsroom_on_postgres: Newsroom, make: Make) -> None:
    """A server that takes the connection and says nothing is given up."""
    assert isinstance(newsroom_on_postgres, Newsroom)
    with silent_server() as port:
        connections.settings["default"]["PORT"] = str(port)
        assert await result(make(), forged(1)) == "error"


async def test_one_time_at_once(newsroom_on_postgres: Newsroom, make: Make) -> None:
    """Of many uses of a one-time token at the same time one succeeds."""
    with override_settings(SESAME_ONE_TIME=True):
        authenticator, token = make(threads=8), await newsroom_on_postgres.token("omar")
        tries = await asyncio.gather(*(result(authenticator, token) for _ in range(16)))
    assert sorted(tries) == ["invalid"] * 15 + ["ok"]


async def test_impossible_key(newsroom_on_postgres: Newsroom, make: Make) -> None:
    """A forged token with a key that the database can't store is invalid, and no error."""
    assert isinstance(newsroom_on_postgres, Newsroom)
    with override_settings(SESAME_PRIMARY_KEY_FIELD="username"):
        assert await result(make(), forged("\0")) == "invalid"


def test_settings_of_the_site(newsroom_on_postgres: Newsroom) -> None:
    """What the site has set about waiting stays as it is."""
    assert isinstance(newsroom_on_postgres, Newsroom)
    options = connections.settings["default"]["OPTIONS"]
    options["connect_timeout"] = 77
    Patience(2.5).end()
    assert options == {
        "connect_timeout": 77,
        "keepalives_idle": 3,
        "keepalives_interval": 3,
        "tcp_user_timeout": 3000,
    }


def test_end_of_patience(newsroom_on_postgres: Newsroom) -> None:
    """Connections are bounded from the beginning to the end, and no longer."""
    assert isinstance(newsroom_on_postgres, Newsroom)

    def timeout() -> Any:
        connections["default"].close()
        with connections["default"].cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            return cursor.fetchone()[0]

    patience = Patience(1.5)
    assert timeout() == "1500ms"
    patience.end()
    assert timeout() == "0"


async def test_debug(newsroom: Newsroom, make: Make) -> None:
    """With DEBUG on, an idle thread does not keep the text of its queries."""
    seen: list[Any] = []

    def watch(connection: Any, **_: object) -> None:
        seen.append(connection)

    token = await newsroom.token("nadia")
    connection_created.connect(watch)
    with override_settings(DEBUG=True):
        await login(make(threads=1), token)
    connection_created.disconnect(watch)
    assert [len(connection.queries_log) for connection in seen] == [0]


def test_fault(newsroom_on_postgres: Newsroom, postgres: PostgresServer) -> None:
    """The check says in words why the users can't be read."""
    assert isinstance(newsroom_on_postgres, Newsroom)
    assert database_fault() is None
    with postgres.stopped():
        assert str(database_fault()).startswith("OperationalError: connection")
    postgres.create("empty")
    with database(postgres.settings("empty")):
        fault = str(database_fault())
    assert fault.startswith('ProgrammingError: relation "auth_user" does not exist')


@pytest.mark.long
def test_fault_of_a_silent_server(newsroom_on_postgres: Newsroom) -> None:
    """The check does not wait for ever."""
    assert isinstance(newsroom_on_postgres, Newsroom)
    with silent_server() as port:
        connections.settings["default"]["PORT"] = str(port)
        assert str(database_fault(1)).startswith("OperationalError: connection timeout")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError(), "ValueError"),
        (ValueError("  one\ntwo"), "ValueError: one"),
        (ValueError("x" * 1000), f"ValueError: {'x' * 300}"),
        (ValueError("AAAA, hunter2 and letmein"), "ValueError: ***, *** and ***"),
        (ValueError("disable"), "ValueError: disable"),
    ],
)
def test_describe(newsroom: Newsroom, error: Exception, words: str) -> None:
    """An error is described by its first line, and no secret is in it."""
    assert isinstance(newsroom, Newsroom)
    settings = connections.settings["default"]
    settings["PASSWORD"] = "hunter2"
    settings["OPTIONS"] |= {"sslpassword": "letmein", "sslmode": "disable", "passes": 3}
    assert describe(error, "AAAA") == words

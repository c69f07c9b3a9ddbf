"""Fixtures for tests against the newsroom.

A test module that needs them has `pytest_plugins = ["newsroom_fixtures"]`.
"""

from __future__ import annotations

import os
import shutil
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.db.backends.signals import connection_created
from newsrooms import SITE, STOCK, Newsroom, database, fill, sqlite

from notifyd.core.audience import Vocabulary
from notifyd.core.limits import Buckets
from notifyd.daemon import auth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from postgres import PostgresServer


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Set Django up, and give a SQLite file with the newsroom in it."""
    path: Path = tmp_path_factory.mktemp("newsroom") / "newsroom.sqlite3"
    os.environ.setdefault("NEWSROOM_DATABASE", str(path))
    auth.setup("newsroom.settings", str(SITE))
    # What tests change is their own affair. Those that want a bus override it.
    settings.NOTIFYD = {**settings.NOTIFYD, "ENABLED": False}
    with database(sqlite(path)):
        fill()
    return path


@pytest.fixture
def newsroom(seeded: Path, tmp_path: Path) -> Iterator[Newsroom]:
    """Give the newsroom on a SQLite file of the test's own."""
    path = tmp_path / "newsroom.sqlite3"
    shutil.copy(seeded, path)
    with database(sqlite(path)):
        yield Newsroom()


@pytest.fixture(scope="session")
def seeded_postgres(seeded: Path, postgres: PostgresServer) -> dict[str, Any]:
    """Give the settings of a PostgreSQL database with the newsroom in it."""
    assert seeded.exists()
    postgres.create("newsroom")
    with database(postgres.settings("newsroom")):
        fill()
    return postgres.settings("newsroom")


@pytest.fixture
def newsroom_on_postgres(seeded_postgres: dict[str, Any]) -> Iterator[Newsroom]:
    """Give the newsroom on PostgreSQL, the same for all tests of a run."""
    with database(seeded_postgres):
        yield Newsroom()


@pytest.fixture(params=["newsroom", "newsroom_on_postgres"], ids=["sqlite", "postgresql"])
def any_newsroom(request: pytest.FixtureRequest) -> Newsroom:
    """Give the newsroom on one database after the other."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Newsroom)
    return found


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a function that puts classes among the site's authentication backends."""
    module = types.ModuleType("backends_of_the_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def use(*classes: Any, stock: tuple[str, ...] = STOCK) -> None:
        for number, each in enumerate(classes):
            setattr(module, f"Backend{number}", each)
        added = [f"{module.__name__}.Backend{number}" for number in range(len(classes))]
        monkeypatch.setattr(settings, "AUTHENTICATION_BACKENDS", [*added, *stock])

    return use


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., auth.Authenticator]]:
    """Give a function that makes authenticators; ask for a newsroom before."""
    made = []

    def build(**options: Any) -> auth.Authenticator:
        defaults = {
            "threads": 2,
            "timeout": 10.0,
            "statement_timeout": 1.0,
            "unscoped": True,
            "failures": Buckets(0.001, 100, most=10),
            "observe": lambda _seconds: None,
        }
        made.append(auth.Authenticator(Vocabulary(), **{**defaults, **options}))
        return made[-1]

    yield build
    for each in made:
        await each.close()


@pytest.fixture
def queries() -> Iterator[list[str]]:
    """Give the list of the queries over connections that are opened from now on."""
    made: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        made.append(sql)
        return execute(sql, params, many, context)

    def watch(connection: Any, **_: object) -> None:
        if note not in connection.execute_wrappers:
            connection.execute_wrappers.append(note)

    connection_created.connect(watch)
    yield made
    connection_created.disconnect(watch)

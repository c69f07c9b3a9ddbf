from __future__ import annotations

from typing import Any

import pytest

from notifyd.core.database_url import parse_database

POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "mysite",
    "USER": "",
    "PASSWORD": "",
    "HOST": "",
    "PORT": "",
    "OPTIONS": {},
}
MYSQL = {**POSTGRES, "ENGINE": "django.db.backends.mysql"}
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": "/srv/my site/db.sqlite3"}


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("postgresql:///mysite", POSTGRES),
        ("postgresql://notifyd@/mysite", {**POSTGRES, "USER": "notifyd"}),
        (
            "postgres://notifyd:p%40ss%2Fw@db.example.com:5433/mysite?sslmode=require",
            {
                **POSTGRES,
                "USER": "notifyd",
                "PASSWORD": "p@ss/w",
                "HOST": "db.example.com",
                "PORT": "5433",
                "OPTIONS": {"sslmode": "require"},
            },
        ),
        (
            "postgresql:///mysite?host=/run/postgresql&port=5434",
            {**POSTGRES, "HOST": "/run/postgresql", "PORT": "5434"},
        ),
        (
            "mysql://notifyd:x@[::1]/mysite?read_timeout=5&unix_socket=/run/mysqld.sock",
            {
                **MYSQL,
                "USER": "notifyd",
                "PASSWORD": "x",
                "HOST": "::1",
                "OPTIONS": {"read_timeout": 5, "unix_socket": "/run/mysqld.sock"},
            },
        ),
        ("sqlite:///srv/my%20site/db.sqlite3", SQLITE),
        ("sqlite:////srv/my%20site/db.sqlite3", SQLITE),
    ],
)
def test_addresses(url: str, database: dict[str, Any]) -> None:
    """An address becomes one entry of DATABASES, its parts decoded."""
    assert parse_database(url) == database


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("/srv/db.sqlite3", "another scheme"),
        ("oracle://secret@localhost/mysite", "another scheme"),
        ("postgresql:mysite", "another scheme"),
        ("postgresql://u:12/secret@localhost/mysite", "percent-encode"),
        ("postgresql://u:a#secret@localhost/mysite", "percent-encode"),
        ("postgresql://u:my secret@localhost/mysite", "percent-encode"),
        ("postgresql://u:secret@localhost", "names no database"),
        ("postgresql://u:secret@localhost/", "names no database"),
        ("mysql://u:secret@localhost/my/site", "percent-encode"),
        ("sqlite://srv/secret.sqlite3", "names no file"),
        ("sqlite:///", "names no file"),
    ],
)
def test_refused(url: str, hint: str) -> None:
    """What is no address is refused, without a word of the password in it."""
    with pytest.raises(ValueError, match=hint) as caught:
        parse_database(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None

"""A site with nothing set but its cache, and a second database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import connections
from django.test.utils import override_settings
from newsrooms import sqlite
from streams import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import RedisServer


@pytest.fixture
def stream(seeded: Path, redis_server: RedisServer) -> Iterator[Stream]:
    """Give the bus of the site; choose a newsroom, which is its database, besides."""
    assert seeded.exists()
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}
    with override_settings(CACHES={"default": cache}, NOTIFYD={}, ALLOWED_HOSTS=["testserver"]):
        yield Stream(redis_server)


@pytest.fixture
def other(seeded: Path, tmp_path: Path) -> Iterator[str]:
    """Give the alias of a second database, an empty one."""
    assert seeded.exists()
    settings = {"OPTIONS": {}, **sqlite(tmp_path / "other.sqlite3")}
    complete = connections.configure_settings({"default": {}, "other": settings})
    connections.settings["other"] = complete["other"]
    yield "other"
    connections["other"].close()
    del connections["other"]
    del connections.settings["other"]

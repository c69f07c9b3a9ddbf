"""A site with nothing set but its cache, a second database, and sites in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.test.utils import override_settings
from newsrooms import SITE, sqlite
from streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
def written(stream: Stream) -> Callable[[], list[dict[str, Any]]]:
    """Give a function that returns the controls and events on the bus, in their order."""

    def read() -> list[dict[str, Any]]:
        entries = stream.client.xrange("{notifyd}:events")
        return [json.loads(fields.get(b"control") or fields[b"event"]) for _, fields in entries]

    return read


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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """Give a function that starts a script in a process of its own, with a site's settings."""
    started: list[subprocess.Popen[str]] = []

    def run(settings: str, script: str) -> subprocess.Popen[str]:
        (tmp_path / "mine.py").write_text(settings)
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "DJANGO_SETTINGS_MODULE": "mine",
                "PYTHONPATH": f"{tmp_path}:{SITE}",
            },
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(start: Callable[[str, str], subprocess.Popen[str]]) -> Callable[[str, str], str]:
    """Give a function that runs a script to its end, and returns what it prints."""

    def finish(settings: str, script: str) -> str:
        process = start(settings, script)
        printed, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
        return printed.strip()

    return finish

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from django.test.utils import override_settings
from newsrooms import Newsroom

from notifyd.daemon.config import ConfigError, load
from notifyd.daemon.preflight import cautions, resolve

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["newsroom_fixtures"]

CACHES = {
    "default": {"BACKEND": "x", "LOCATION": "redis://127.0.0.1:6379/1"},
    "bus": {"BACKEND": "x", "LOCATION": "redis://127.0.0.1:6379/2"},
}


@pytest.fixture
def empty(tmp_path: Path, newsroom: Newsroom) -> str:
    """Give the name of a configuration file that says nothing, for a site that is set up."""
    assert isinstance(newsroom, Newsroom)
    (tmp_path / "notifyd.toml").touch()
    return str(tmp_path / "notifyd.toml")


def test_cache(empty: str) -> None:
    """The bus is at the address of the site's cache, if nobody says anything else."""
    with override_settings(CACHES=CACHES, NOTIFYD={}):
        resolved = resolve(load(empty, {})[0])
    assert resolved.redis.url == "redis://127.0.0.1:6379/1"
    assert resolved.sources["redis.url"] == "CACHES['default']"


def test_site(empty: str) -> None:
    """Where the site publishes to another place, the daemon reads there."""
    with override_settings(CACHES=CACHES, NOTIFYD={"CACHE_ALIAS": "bus", "PREFIX": "news"}):
        resolved = resolve(load(empty, {})[0])
    assert (resolved.redis.url, resolved.redis.prefix) == ("redis://127.0.0.1:6379/2", "news")
    assert resolved.sources["redis.prefix"] == 'NOTIFYD["PREFIX"]'


def test_own_address(empty: str) -> None:
    """An address of the bus alone comes before that of any cache."""
    with override_settings(CACHES=CACHES, NOTIFYD={"REDIS_URL": "unix:///run/redis.sock"}):
        assert resolve(load(empty, {})[0]).redis.url == "unix:///run/redis.sock"


def test_configuration(empty: str) -> None:
    """What the configuration says counts, whatever the site says."""
    environ = {"NOTIFYD_REDIS_URL": "redis://elsewhere", "NOTIFYD_REDIS_PREFIX": "mine"}
    with override_settings(CACHES=CACHES, NOTIFYD={"REDIS_URL": "redis://a", "PREFIX": "news"}):
        resolved = resolve(load(empty, environ)[0])
    assert (resolved.redis.url, resolved.redis.prefix) == ("redis://elsewhere", "mine")


def test_faults(empty: str) -> None:
    """A site that the daemon can't serve is refused, with where the fault is."""
    options = {"REDIS_URL": "redis+sentinel://a:1/service/0"}
    with override_settings(NOTIFYD=options), pytest.raises(ConfigError) as raised:
        resolve(load(empty, {})[0])
    (fault,) = raised.value.faults
    assert fault.startswith('redis.url (NOTIFYD["REDIS_URL"]): Sentinel addresses are not supp')


def test_site_without_redis(empty: str) -> None:
    """A site that has no Redis at all is refused, with what to set."""
    with override_settings(CACHES={}, NOTIFYD={}), pytest.raises(ConfigError, match="no 'default'"):
        resolve(load(empty, {})[0])


def test_python_that_is_none(empty: str) -> None:
    """An environment that can't be used is refused, with where it is named."""
    with pytest.raises(ConfigError) as raised:
        resolve(load(empty, {"NOTIFYD_DJANGO_PYTHON": "/nowhere"})[0])
    [fault] = raised.value.faults
    assert fault == (
        'django.python = "/nowhere" (environment NOTIFYD_DJANGO_PYTHON) does not exist; write the'
        " path of the site's virtual environment."
    )


def test_cautions(empty: str) -> None:
    """The environment that notifyd itself runs in is no cause for warnings."""
    assert cautions(load(empty, {"NOTIFYD_DJANGO_PYTHON": sys.prefix})[0]) == []
    assert cautions(load(empty, {})[0]) == []

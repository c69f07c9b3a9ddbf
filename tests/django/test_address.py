from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test.utils import override_settings
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection

from notifyd.django.address import PATIENCE, address, options
from notifyd.django.settings import Settings

pytest_plugins = ["newsroom_fixtures"]

SENTINEL = {
    "BACKEND": "django_redis.cache.RedisCache",
    "LOCATION": "redis://news/1",
    "OPTIONS": {
        "CLIENT_CLASS": "django_redis.client.SentinelClient",
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": [("127.0.0.1", 26379)],
    },
}
pytestmark = pytest.mark.usefixtures("seeded")


def cache(location: Any, **given: Any) -> dict[str, Any]:
    """Return a cache of django-redis."""
    backend = "django_redis.cache.RedisCache"
    return {"BACKEND": backend, "LOCATION": location, "OPTIONS": given}


def part(found: dict[str, Any], **expected: Any) -> dict[str, Any]:
    """Return of an address what is expected of it."""
    return {name: found.get(name) for name in expected}


def test_of_a_cache() -> None:
    """The address is that of the cache, with the options that go with it."""
    expected = {"host": "redis.example", "port": 6380, "db": 2, "username": "u", "password": "p@"}
    expected |= {"connection_class": SSLConnection, "ssl_ca_certs": "/etc/ca.pem"}
    given = cache(
        "rediss://redis.example:6380/2",
        USERNAME="u",
        PASSWORD="p@",
        CONNECTION_POOL_KWARGS={"ssl_ca_certs": "/etc/ca.pem", "max_connections": 3},
    )
    with override_settings(CACHES={"default": cache("redis://127.0.0.1"), "bus": given}):
        found = address(Settings(cache_alias="bus"))
        assert part(found, **expected) == expected


def test_of_several() -> None:
    """Of a cache with replicas the first address counts, which is written to."""
    with override_settings(CACHES={"default": cache(["redis://first/1", "redis://second/1"])}):
        assert part(address(Settings()), host="", db=0) == {"host": "first", "db": 1}


def test_own_url() -> None:
    """An address of the bus's own goes before that of any cache."""
    settings = Settings(redis_url="unix:///run/redis.sock?db=3", cache_alias="none")
    expected = {"path": "/run/redis.sock", "db": 3, "connection_class": UnixDomainSocketConnection}
    assert part(address(settings), **expected) == expected


def test_nothing_of_another_pool() -> None:
    """What the cache's pool added for itself stays there: a pool and a connection can be made."""
    with override_settings(CACHES={"default": cache("redis://127.0.0.1:1/0")}):
        pool = ConnectionPool(**address(Settings()))
        assert isinstance(pool.make_connection(), Connection)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:6379/1",
        "http://:s3cret@127.0.0.1/1",
        "redis://127.0.0.1:s3cret/1",
        "redis://:s3cret@127.0.0.1/1?no_such_option=1",
        "redis://:s3cret@127.0.0.1/1?socket_timeout=never",
        "redis+sentinel://:s3cret@127.0.0.1/news/1",
    ],
)
def test_bad_url(url: str) -> None:
    """What is no address is refused, and never quoted: a password may be a part of it."""
    with pytest.raises(ImproperlyConfigured, match=r'NOTIFYD\["REDIS_URL"\] must be') as caught:
        address(Settings(redis_url=url))
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (cache("redis://127.0.0.1"), r"CACHES has no 'bus': set NOTIFYD\[\"CACHE_ALIAS\"\]"),
        ({"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}, "is not of django-redis"),
        (SENTINEL, "uses Sentinel, which is not supported yet: set"),
    ],
)
def test_no_address(given: dict[str, Any], words: str) -> None:
    """A cache that is missing, or has no address for us, is named with the way out."""
    alias = "bus" if "no 'bus'" in words else "default"
    with (
        override_settings(CACHES={"default": given}),
        pytest.raises(ImproperlyConfigured, match=words),
    ):
        address(Settings(cache_alias=alias))


def test_options() -> None:
    """Whatever the cache has set, no request waits for long, and nothing is sent twice."""
    slow = {"retry_on_timeout": True, "socket_timeout": 60, "health_check_interval": 30}
    given = cache("redis://127.0.0.1", SOCKET_CONNECT_TIMEOUT=60, CONNECTION_POOL_KWARGS=slow)
    with override_settings(CACHES={"default": given}):
        connection: Any = ConnectionPool(**options(Settings())).make_connection()
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (PATIENCE, PATIENCE)
    assert connection.retry.get_retries() == 0
    assert connection.health_check_interval == 0

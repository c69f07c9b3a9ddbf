"""Where the bus is: at the address of one of the site's caches, or at one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.core.cache import InvalidCacheBackendError
from django.core.exceptions import ImproperlyConfigured
from django_redis import get_redis_connection
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

if TYPE_CHECKING:
    from notifyd.django.settings import Settings

PATIENCE: Final = 0.5
"""Seconds for connecting, and for each answer."""


def options(settings: Settings) -> dict[str, Any]:
    """Return what a ConnectionPool takes to reach the bus without ever waiting for long.

    Raises ImproperlyConfigured as `address` does.
    """
    return {
        **address(settings),
        "socket_connect_timeout": PATIENCE,
        "socket_timeout": PATIENCE,
        # A second attempt would take as long as the first, and might write the event twice.
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        # With RESP3, redis-py no longer looks whether an idle connection was closed.
        "protocol": 2,
        # One for each thread, whose number is limited elsewhere.
        "max_connections": 2**31,
    }


def address(settings: Settings) -> dict[str, Any]:
    """Return what a ConnectionPool takes to reach the bus. It may contain a password.

    Raises ImproperlyConfigured, with a sentence that says what to do.
    """
    if settings.redis_url:
        try:
            pool = ConnectionPool.from_url(settings.redis_url)
            # An option that no connection knows shows when one is made, which opens nothing yet.
            pool.make_connection()
        except (TypeError, ValueError):
            # Not chained: what it says may be a part of the password.
            raise ImproperlyConfigured(
                'NOTIFYD["REDIS_URL"] must be a redis://, rediss:// or unix:// address.'
            ) from None
    else:
        pool = _cache_pool(settings.cache_alias)
    # What a pool adds by itself belongs to it, and would not suit another.
    added = ConnectionPool(connection_class=pool.connection_class).connection_kwargs
    given = {name: each for name, each in pool.connection_kwargs.items() if name not in added}
    return {**given, "connection_class": pool.connection_class}


def _cache_pool(alias: str) -> ConnectionPool:
    try:
        pool: ConnectionPool = get_redis_connection(alias).connection_pool
    except InvalidCacheBackendError:
        raise ImproperlyConfigured(
            f'CACHES has no {alias!r}: set NOTIFYD["CACHE_ALIAS"], or NOTIFYD["REDIS_URL"].'
        ) from None
    except NotImplementedError:
        raise ImproperlyConfigured(
            f"CACHES[{alias!r}] is not of django-redis, which has the way to Redis:"
            ' name one that is in NOTIFYD["CACHE_ALIAS"], or set NOTIFYD["REDIS_URL"].'
        ) from None
    if isinstance(pool, SentinelConnectionPool):
        raise ImproperlyConfigured(
            f"CACHES[{alias!r}] uses Sentinel, which is not supported yet:"
            ' set NOTIFYD["REDIS_URL"] to the master\'s own address.'
        )
    return pool

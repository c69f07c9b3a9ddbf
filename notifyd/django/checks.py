"""What `manage.py check` has to say about the app and the settings that it needs."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from typing import TYPE_CHECKING, Any, Final
from weakref import ReferenceType

import redis
from django.apps import apps
from django.conf import settings as site
from django.core import checks
from django.core.cache import DEFAULT_CACHE_ALIAS
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import post_save
from django.utils.module_loading import import_string
from redis.connection import ConnectionPool

from notifyd.django import settings
from notifyd.django.address import address, options
from notifyd.django.checks_middleware import check_middleware
from notifyd.django.signals import DISPATCH_UID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Message = checks.CheckMessage
    Place = tuple[str, int, int]

TAG: Final = "notifyd"

LONG: Final = 300
"""Seconds for which a token may be good at most, before there is a warning."""

_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


def register() -> None:
    """Have Django run the checks; to do it again changes nothing."""
    for check in (
        *(check_setting, check_url, check_sesame, check_bus),
        *(check_receivers, check_middleware),
    ):
        checks.register(check, TAG)
    # It asks Redis, which may be out of reach of whoever runs the checks.
    checks.register(check_eviction, TAG, deploy=True)


def check_setting(**_: object) -> list[Message]:
    """Look at the keys and values of NOTIFYD."""
    given = settings.value()
    found: list[Message] = [
        checks.Error(fault, hint="Correct the settings.", id="notifyd.E001")
        for fault in settings.faults(given)
    ]
    for key in given if isinstance(given, dict) else ():
        if key not in settings.KINDS:
            near = difflib.get_close_matches(str(key).upper(), settings.KINDS, 1)
            known = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(settings.KINDS)}."
            found.append(
                checks.Warning(f"NOTIFYD has no key {key!r}.", hint=known, id="notifyd.W001")
            )
    return found


def check_url(**_: object) -> list[Message]:
    """Look at the address that the pages connect to."""
    given = settings.publishing()
    if given is None:
        return []
    if not given.url:
        if site.DEBUG:
            return []
        return [
            checks.Warning(
                'NOTIFYD["URL"] is not set: pages look for notifyd at port 8888 of the site.',
                hint='Set it to where browsers reach notifyd, "wss://www.example.com/ws/" say.',
                id="notifyd.W004",
            )
        ]
    if not re.match(r"wss?://[^/]", given.url):
        return [
            checks.Error(
                'NOTIFYD["URL"] is not the address of a WebSocket.',
                hint="It begins with wss://, or in development with ws://.",
                id="notifyd.E005",
            )
        ]
    if given.url.startswith("ws:") and site.SECURE_SSL_REDIRECT:
        return [
            checks.Warning(
                'NOTIFYD["URL"] begins with ws://, and all pages come by https://.',
                hint="Browsers refuse this mixture: have it begin with wss://.",
                id="notifyd.W005",
            )
        ]
    return []


def check_sesame(**_: object) -> list[Message]:
    """Look at the settings of django-sesame, which makes the tokens."""
    # Not at sesame's own idea of them: to import it may raise an exception about just these.
    return [*_max_age(), *_backend(), *_versions()]


def _max_age() -> Iterator[Message]:
    age = getattr(site, "SESAME_MAX_AGE", None)
    seconds = age.total_seconds() if isinstance(age, dt.timedelta) else age
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or seconds <= 0:
        yield checks.Error(
            "SESAME_MAX_AGE is not set: tokens never expire, and notifyd refuses to run.",
            hint="Set it to 30, in seconds: a page connects within moments.",
            id="notifyd.E002",
        )
    elif seconds > LONG:
        yield checks.Warning(
            f"SESAME_MAX_AGE is {seconds:g}: whoever sees a token has that many seconds to use it.",
            hint=f"Set it to 30, at most to {LONG}: a page connects within moments.",
            id="notifyd.W002",
        )


def _backend() -> Iterator[Message]:
    if not any(map(_is_sesame, site.AUTHENTICATION_BACKENDS)):
        yield checks.Error(
            "AUTHENTICATION_BACKENDS has no backend of django-sesame: nobody can connect.",
            hint='Add "sesame.backends.ModelBackend" to it.',
            id="notifyd.E003",
        )


def _is_sesame(path: str) -> bool:
    try:
        backend = import_string(path)
    except (ImportError, ImproperlyConfigured):
        return path.startswith("sesame.backends.")
    ancestors = getattr(backend, "__mro__", ())
    return any(ancestor.__module__ == "sesame.backends" for ancestor in ancestors)


def _versions() -> Iterator[Message]:
    versions = list(getattr(site, "SESAME_TOKENS", ["sesame.tokens_v2", "sesame.tokens_v1"]))
    if "sesame.tokens_v1" not in versions:
        return
    if versions[0] == "sesame.tokens_v1":
        words = "SESAME_TOKENS begins with version 1, which can't make tokens for notifyd alone."
    else:
        words = "SESAME_TOKENS accepts version 1, whose tokens may do whatever their user may do."
    yield checks.Warning(
        words, hint='Set it to ["sesame.tokens_v2"], the only one needed.', id="notifyd.W003"
    )


def check_bus(**_: object) -> list[Message]:
    """Look at where the bus is, and whether somebody else is there who might empty it."""
    given = settings.publishing()
    if given is None:
        return []
    try:
        ours = _place(address(given))
    except ImproperlyConfigured as error:
        fault, _separator, advice = str(error).partition(": ")
        hint = advice[:1].upper() + advice[1:] or "Correct the settings."
        return [checks.Error(f"There is no way to the bus: {fault}", hint=hint, id="notifyd.E004")]
    shared = [alias for alias in _caches_at(ours) if alias not in _own_caches(given)]
    if not shared:
        return []
    return [
        checks.Warning(
            f"The bus shares its Redis database with a cache: {', '.join(shared)}.",
            hint="cache.clear() empties a database, and the history of events with it. Give the "
            'bus one of its own: set NOTIFYD["CACHE_ALIAS"] to a further cache for nothing else, '
            'at "redis://127.0.0.1:6379/2" say.',
            id="notifyd.W006",
        )
    ]


def _own_caches(given: settings.Settings) -> set[str]:
    # A cache that is there for the bus's address is none that anybody would clear. What
    # `django.core.cache.cache` means is another matter.
    return set() if given.redis_url else {given.cache_alias} - {DEFAULT_CACHE_ALIAS}


def _caches_at(place: Place) -> Iterator[str]:
    for alias, cache in site.CACHES.items():
        locations = cache.get("LOCATION") or ()
        if isinstance(locations, str):
            locations = re.split(r"[;,]\s*(?=\w+://)", locations)
        given = cache.get("OPTIONS") or {}
        database = given.get("CONNECTION_POOL_KWARGS", given).get("db")
        if any(_place_of(each, database) == place for each in locations):
            yield alias


def _place_of(url: object, database: int | None) -> Place | None:
    try:
        return _place(ConnectionPool.from_url(str(url), db=database).connection_kwargs)
    except (TypeError, ValueError):
        # It is no address of Redis.
        return None


def _place(connection: Mapping[str, Any]) -> Place:
    database = int(connection.get("db") or 0)
    if path := connection.get("path"):
        return str(path), 0, database
    host = connection.get("host") or "localhost"
    port = int(connection.get("port") or 6379)
    return "localhost" if host in _LOOPBACK else host, port, database


def check_eviction(**_: object) -> list[Message]:
    """Ask Redis whether it might throw the bus away when its memory is full."""
    given = settings.publishing()
    try:
        pool = None if given is None else ConnectionPool(**options(given))
    except ImproperlyConfigured:
        # check_bus() has told that.
        return []
    if pool is None:
        return []
    client = redis.Redis.from_pool(pool)
    try:
        policy = str(client.info("memory")["maxmemory_policy"])
    except (redis.RedisError, OSError, ValueError, KeyError) as error:
        return [
            checks.Info(
                f"It can't be told whether Redis evicts the bus: {type(error).__name__}.",
                hint="Run this check where the site runs.",
                id="notifyd.I001",
            )
        ]
    finally:
        client.close()
    # The others evict nothing but keys with a time to live, which the bus has not.
    if not policy.startswith("allkeys-"):
        return []
    return [
        checks.Warning(
            f"Redis may throw the bus away: its maxmemory-policy is {policy}.",
            hint="Set it to noeviction or volatile-lru, or give the bus a Redis of its own.",
            id="notifyd.W007",
        )
    ]


def check_receivers(**_: object) -> list[Message]:
    """Look for a second publisher of the admin's log, such as the one of the guide."""
    if settings.publishing() is None or not apps.is_installed("django.contrib.admin"):
        return []
    return [
        checks.Warning(
            f"{name} is told of the admin's log, which notifyd.django publishes by itself.",
            hint="If it publishes too, every event arrives twice: remove it, as notifyd.django "
            "replaces it. If it does something else, silence this warning.",
            id="notifyd.W008",
        )
        for name in _receivers(apps.get_model("admin.LogEntry"))
    ]


def _receivers(sender: type) -> Iterator[str]:
    for (uid, sender_id), receiver, *_ in post_save.receivers:
        function = receiver() if isinstance(receiver, ReferenceType) else receiver
        if sender_id == id(sender) and uid != DISPATCH_UID and function is not None:
            name = getattr(function, "__qualname__", type(function).__qualname__)
            yield f"{function.__module__}.{name}"

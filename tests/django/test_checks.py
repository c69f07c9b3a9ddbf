from __future__ import annotations

import datetime as dt
import io
import sys
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db.models.signals import post_save
from django.test.utils import modify_settings, override_settings
from django.utils.module_loading import import_string
from newsrooms import model
from servers import free_port

from notifyd.django import checks
from notifyd.django.checks_middleware import check_middleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams import Stream

pytest_plugins = ["newsroom_fixtures"]
pytestmark = pytest.mark.usefixtures("seeded")

# Nobody is asked at this address, but for by the check that asks.
REDIS = "redis://127.0.0.1:6379"
DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO = "django.core.cache.backends.redis.RedisCache"
LOCAL = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


def cache(location: Any = f"{REDIS}/1", backend: str = DJANGO_REDIS, **given: Any) -> Any:
    """Return a cache in Redis."""
    return {"BACKEND": backend, "LOCATION": location, "OPTIONS": given}


def ids(check: Callable[[], list[Any]], **overridden: Any) -> list[str]:
    """Return what a check finds with some settings: the ids, each with a hint and text."""
    with override_settings(**{"NOTIFYD": {}, **overridden}):
        found = check()
    assert all(message.msg and message.hint for message in found)
    return [message.id.removeprefix("notifyd.") for message in found]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, []),
        ({"ENABLED": True, "HISTORY": 10, "REDIS_URL": None, "URL": "wss://news/"}, []),
        ({"HISTORY": "10"}, ["E001"]),
        ({"HISTORY": "10", "ENABLED": 1}, ["E001", "E001"]),
        (None, ["E001"]),
        ("wss://news/", ["E001"]),
        ({"url": "wss://news/"}, ["W001"]),
        ({"HISTORY": 0, "NO_SUCH": 1}, ["E001", "W001"]),
        ({1: 2}, ["W001"]),
    ],
)
def test_setting(given: Any, found: list[str]) -> None:
    """E001 and W001: NOTIFYD has a value that can't be used, or a key that nobody knows."""
    assert ids(checks.check_setting, NOTIFYD=given) == found


def test_setting_names_the_nearest() -> None:
    """An unknown key is told with the known one that is nearest."""
    with override_settings(NOTIFYD={"HISTROY": 1}):
        [message] = checks.check_setting()
    assert (message.msg, message.hint) == (
        "NOTIFYD has no key 'HISTROY'.",
        "Did you mean 'HISTORY'?",
    )


@pytest.mark.parametrize(
    ("url", "debug", "redirect", "found"),
    [
        (None, False, False, ["W004"]),
        ("", False, False, ["W004"]),
        (None, True, False, []),
        ("wss://www.example.com/ws/", False, True, []),
        ("wss://www.example.com/ws/", False, False, []),
        ("ws://localhost:8888/", True, False, []),
        ("ws://www.example.com/ws/", False, True, ["W005"]),
        ("https://www.example.com/ws/", False, False, ["E005"]),
        ("www.example.com", True, False, ["E005"]),
        ("wss:///ws/", True, False, ["E005"]),
    ],
)
def test_url(url: str | None, debug: bool, redirect: bool, found: list[str]) -> None:  # noqa: FBT001 - parameters of the test
    """W004, E005 and W005: the address for the pages is missing, is none, or is not encrypted."""
    overridden = {"NOTIFYD": {"URL": url}, "DEBUG": debug, "SECURE_SSL_REDIRECT": redirect}
    assert ids(checks.check_url, **overridden) == found


@pytest.mark.parametrize(
    ("age", "found"),
    [
        (None, ["E002"]),
        (0, ["E002"]),
        (True, ["E002"]),
        ("30", ["E002"]),
        (301, ["W002"]),
        (dt.timedelta(hours=1), ["W002"]),
        (30, []),
        (300, []),
        (dt.timedelta(seconds=30), []),
    ],
)
def test_max_age(age: Any, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """E002 and W002: tokens never expire, or late."""
    # Not by override_settings, at which django-sesame would take notice.
    monkeypatch.setattr(settings, "SESAME_MAX_AGE", age)
    assert ids(checks.check_sesame) == found


def test_max_age_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the setting it is the same as with None."""
    monkeypatch.delattr(settings, "SESAME_MAX_AGE")
    assert ids(checks.check_sesame) == ["E002"]


@pytest.fixture
def own_sesame(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the path of a backend that is made from django-sesame's."""
    module: Any = ModuleType("own_backends")
    module.Sesame = type("Sesame", (import_string("sesame.backends.ModelBackend"),), {})
    monkeypatch.setitem(sys.modules, "own_backends", module)
    return "own_backends.Sesame"


def test_backend(own_sesame: str) -> None:
    """E003: none of the backends is django-sesame's, or made from it."""
    plain = "django.contrib.auth.backends.ModelBackend"
    for backends, found in (
        ([plain], ["E003"]),
        ([plain, "no.such.Backend"], ["E003"]),
        ([], ["E003"]),
        ([plain, "sesame.backends.ModelBackend"], []),
        # It is there, though it can't be imported: another check's matter.
        ([plain, "sesame.backends.NoSuchBackend"], []),
        ([own_sesame], []),
    ):
        assert ids(checks.check_sesame, AUTHENTICATION_BACKENDS=backends) == found


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        (["sesame.tokens_v2"], []),
        (["sesame.tokens_v2", "sesame.tokens_v1"], ["W003"]),
        (["sesame.tokens_v1", "sesame.tokens_v2"], ["W003"]),
        (["sesame.tokens_v1"], ["W003"]),
    ],
)
def test_versions(tokens: list[str], found: list[str]) -> None:
    """W003: tokens of version 1 are accepted, or even made."""
    assert ids(checks.check_sesame, SESAME_TOKENS=tokens) == found


def test_versions_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless SESAME_TOKENS says otherwise, version 1 is accepted."""
    monkeypatch.delattr(settings, "SESAME_TOKENS")
    assert ids(checks.check_sesame) == ["W003"]


@pytest.mark.parametrize(
    ("caches", "given", "found"),
    [
        ({"default": LOCAL}, {}, ["E004"]),
        ({"default": cache(backend=DJANGO)}, {}, ["E004"]),
        ({"default": LOCAL, "bus": cache()}, {"CACHE_ALIAS": "buss"}, ["E004"]),
        ({"default": LOCAL}, {"REDIS_URL": "localhost"}, ["E004"]),
        ({"default": LOCAL, "bus": cache()}, {"CACHE_ALIAS": "bus"}, []),
        ({"default": LOCAL}, {"REDIS_URL": f"{REDIS}/1"}, []),
        # What is told by others, or switched off.
        ({"default": LOCAL}, {"HISTORY": 0}, []),
        ({"default": LOCAL}, {"ENABLED": False}, []),
    ],
)
def test_address(caches: dict[str, Any], given: dict[str, Any], found: list[str]) -> None:
    """E004: there is no cache of django-redis and no address."""
    assert ids(checks.check_bus, CACHES=caches, NOTIFYD=given) == found


BUS = {"CACHE_ALIAS": "bus"}
POOL: Any = {"CONNECTION_POOL_KWARGS": {"db": 1}}


@pytest.mark.parametrize(
    ("caches", "given", "found"),
    [
        # The guide's own.
        ({"default": cache()}, {}, ["W006"]),
        ({"default": cache(), "bus": cache(f"{REDIS}/2")}, BUS, []),
        ({"default": cache(), "bus": cache()}, BUS, ["W006"]),
        ({"default": cache("redis://localhost/1"), "bus": cache()}, BUS, ["W006"]),
        ({"default": cache("redis://other/1"), "bus": cache()}, BUS, []),
        ({"default": cache("redis://127.0.0.1:6380/1"), "bus": cache()}, BUS, []),
        ({"default": cache(backend=DJANGO), "bus": cache()}, BUS, ["W006"]),
        ({"default": cache(REDIS, DJANGO, db=1), "bus": cache()}, BUS, ["W006"]),
        ({"default": cache([f"{REDIS}/0", f"{REDIS}/1"]), "bus": cache()}, BUS, ["W006"]),
        ({"default": cache(f"{REDIS}/0,{REDIS}/1"), "bus": cache()}, BUS, ["W006"]),
        (
            {"default": cache(REDIS, CONNECTION_POOL_KWARGS={"db": 1}), "bus": cache()},
            BUS,
            ["W006"],
        ),
        ({"default": cache()}, {"REDIS_URL": f"{REDIS}/2"}, []),
        ({"default": cache()}, {"REDIS_URL": f"{REDIS}/1"}, ["W006"]),
        ({"default": LOCAL, "bus": cache("unix:///r.sock?db=1")}, BUS, []),
        ({"default": cache("unix:///r.sock?db=1")}, {"REDIS_URL": "unix:///r.sock?db=1"}, ["W006"]),
        ({"default": cache("unix:///r.sock?db=1")}, {"REDIS_URL": "unix:///r.sock?db=2"}, []),
        ({"default": cache("memcached:11211", LOCAL["BACKEND"]), "bus": cache()}, BUS, []),
        ({"default": cache()}, {"ENABLED": False}, []),
    ],
)
def test_shared(caches: dict[str, Any], given: dict[str, Any], found: list[str]) -> None:
    """W006: the bus is in a database that somebody clears who clears a cache."""
    assert ids(checks.check_bus, CACHES=caches, NOTIFYD=given) == found


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        ("allkeys-lru", ["W007"]),
        ("allkeys-random", ["W007"]),
        ("noeviction", []),
        ("volatile-ttl", []),
    ],
)
def test_eviction(policy: str, found: list[str], stream: Stream) -> None:
    """W007: Redis would throw the bus away when it needs room."""
    stream.client.config_set("maxmemory-policy", policy)
    assert ids(checks.check_eviction) == found


def test_eviction_unknown(stream: Stream) -> None:
    """I001: Redis is down or doesn't answer, which doesn't keep the check for long."""
    with stream.server.paused():
        begun = time.monotonic()
        assert ids(checks.check_eviction) == ["I001"]
        assert time.monotonic() - begun < 2
    with stream.server.stopped():
        assert ids(checks.check_eviction) == ["I001"]
    assert ids(checks.check_eviction) == []


def test_eviction_without_address() -> None:
    """Redis isn't asked where there is none, or where nothing is published."""
    assert ids(checks.check_eviction, CACHES={"default": LOCAL}) == []
    url = f"redis://127.0.0.1:{free_port()}/0"
    assert ids(checks.check_eviction, NOTIFYD={"ENABLED": False, "REDIS_URL": url}) == []


def test_eviction_is_for_deployment(stream: Stream) -> None:
    """Redis is asked by `check --deploy` only."""
    stream.client.config_set("maxmemory-policy", "allkeys-lru")
    assert "W007" not in report()
    assert "W007" in report(deploy=True)


def report(**options: Any) -> str:
    """Return what `manage.py check` says about us."""
    printed = io.StringIO()
    call_command("check", tags=["notifyd"], stdout=printed, stderr=printed, **options)
    return printed.getvalue()


def publish_event(**_: object) -> None:
    """Stand in for the guide's receiver."""


class Publisher:
    """A receiver that is a method."""

    def publish(self, **_: object) -> None:
        """Receive."""


@pytest.fixture
def receivers() -> Iterator[None]:
    """Have no receivers of the admin's log but ours, and those of the test."""
    before = post_save.receivers[:]
    sender = model("admin.LogEntry")
    post_save.receivers = [each for each in before if each[0][1] != id(sender)]
    import_string("notifyd.django.signals.connect")()
    yield
    post_save.receivers = before
    post_save.sender_receivers_cache.clear()


@pytest.mark.usefixtures("receivers")
def test_receivers() -> None:
    """W008: somebody else is told of the admin's log, and named."""
    sender = model("admin.LogEntry")
    assert ids(checks.check_receivers) == []
    post_save.connect(publish_event, sender=sender)
    with override_settings(NOTIFYD={}):
        [message] = checks.check_receivers()
    assert message.id == "notifyd.W008"
    assert f"{__name__}.publish_event is told" in message.msg
    post_save.disconnect(publish_event, sender=sender)
    assert ids(checks.check_receivers) == []


@pytest.mark.usefixtures("receivers")
def test_receivers_of_all_forms() -> None:
    """A method, an object and a receiver with a name of its own are found as well."""
    sender = model("admin.LogEntry")
    publisher = Publisher()
    post_save.connect(publisher.publish, sender=sender)
    post_save.connect(lambda **_: None, sender=sender, weak=False, dispatch_uid="mine")
    with override_settings(NOTIFYD={}):
        first, second = checks.check_receivers()
    assert "Publisher.publish is told" in first.msg
    assert "<lambda> is told" in second.msg


@pytest.mark.usefixtures("receivers")
def test_receivers_of_others() -> None:
    """Who is told of all models, or of another one, is not suspected; nor is one who is gone."""
    post_save.connect(publish_event)
    post_save.connect(publish_event, sender=model("articles.Article"))

    def gone(**_: object) -> None: ...

    # With DEBUG, Django remembers all receivers it has seen.
    with override_settings(DEBUG=False):
        post_save.connect(gone, sender=model("admin.LogEntry"))
    del gone
    assert ids(checks.check_receivers) == []


@pytest.mark.usefixtures("receivers")
def test_receivers_without_admin() -> None:
    """Where there is no admin there is no log, and where nothing is published nothing doubles."""
    post_save.connect(publish_event, sender=model("admin.LogEntry"))
    assert ids(checks.check_receivers, NOTIFYD={"ENABLED": False}) == []
    assert apps.is_installed("django.contrib.admin")
    with modify_settings(INSTALLED_APPS={"remove": ["django.contrib.admin"]}):
        assert ids(checks.check_receivers) == []


POSITION = "notifyd.django.middleware.PositionMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
OTHERS = ["django.middleware.security.SecurityMiddleware", "django.middleware.gzip.GZipMiddleware"]


@pytest.fixture
def own_middleware(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the path of a middleware that is made from that of the sessions, and of a function."""
    module: Any = ModuleType("own_middleware")
    module.Session = type("Session", (import_string(SESSION),), {})
    module.function = lambda get_response: get_response
    monkeypatch.setitem(sys.modules, "own_middleware", module)
    return "own_middleware"


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        ([], None),
        ([SESSION], None),
        ([POSITION, *OTHERS, SESSION], None),
        ([*OTHERS, "own_middleware.function", "no.such", POSITION, SESSION], None),
        ([*OTHERS, SESSION, POSITION], f"comes after {SESSION}, which"),
        (["own_middleware.Session", POSITION], "comes after own_middleware.Session, which"),
        ([POSITION, SESSION, POSITION], "is in MIDDLEWARE more than once"),
    ],
)
@pytest.mark.usefixtures("own_middleware")
def test_middleware(listed: list[str], fault: str | None) -> None:
    """W009: the position is noted twice, or after something that may read the database."""
    with override_settings(NOTIFYD={}, MIDDLEWARE=listed):
        found = check_middleware()
    assert [message.id for message in found] == (["notifyd.W009"] if fault else [])
    assert all(f"PositionMiddleware {fault}" in message.msg for message in found)


def test_middleware_is_checked() -> None:
    """`manage.py check` tells of it."""
    with override_settings(NOTIFYD={}, MIDDLEWARE=[SESSION, POSITION]):
        assert "W009" in report()


def test_report() -> None:
    """`manage.py check` shows what is found, fails for errors, and can be silenced by id."""
    shared = {"default": cache()}
    with override_settings(NOTIFYD={}, CACHES=shared, SILENCED_SYSTEM_CHECKS=[]):
        assert "(notifyd.W006) The bus shares its Redis database with a cache" in report()
        with override_settings(SILENCED_SYSTEM_CHECKS=["notifyd.W006"]):
            assert "W006" not in report()
    with override_settings(NOTIFYD={"HISTORY": 0}), pytest.raises(SystemCheckError, match="E001"):
        report()

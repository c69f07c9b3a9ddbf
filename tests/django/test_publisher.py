from __future__ import annotations

import datetime as dt
import decimal
import logging
import time
import uuid
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.test.utils import override_settings
from django.utils.functional import lazystr
from newsrooms import Newsroom, model
from waiting import wait_until

from notifyd.core.events import MAX_EVENT_BYTES, Rejected, Rejection, Rule
from notifyd.django import (
    PublishError,
    PublishUnknown,
    anotify,
    anotify_disconnect,
    anotify_recheck,
    bus,
    notify,
    notify_disconnect,
    notify_recheck,
    publisher,
)
from notifyd.django.publisher import Stats, stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams import Stream

    Written = Callable[[], list[dict[str, Any]]]

pytest_plugins = ["newsroom_fixtures"]
pytestmark = pytest.mark.usefixtures("newsroom")

EVENT = {"n": 1}


@pytest.fixture(autouse=True)
def _stats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "stats", Stats())


@pytest.fixture
def without_redis(stream: Stream) -> Iterator[None]:
    """Have Redis be down."""
    with stream.server.stopped():
        yield


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error."""
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


def failures() -> dict[str, int]:
    """Return the counts of failures that are not zero."""
    return {reason: count for reason, count in publisher.stats.failures.items() if count}


def test_event(stream: Stream) -> None:
    """The event arrives as it was given, its values by Django's rules for JSON."""
    key = uuid.uuid4()
    notify(
        MappingProxyType(
            {
                "name": lazystr("Größe"),
                "at": dt.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=dt.UTC),
                "price": decimal.Decimal("1.50"),
                "key": key,
                "parts": (1, MappingProxyType({"a": None})),
            }
        ),
        everyone=True,
    )
    assert stream.events() == [
        {
            "name": "Größe",
            "at": "2026-11-23T12:00:00.123Z",
            "price": "1.50",
            "key": str(key),
            "parts": [1, {"a": None}],
        }
    ]


def test_audience(stream: Stream) -> None:
    """The audience goes beside the event, as the rule that the keywords mean."""
    nadia = get_user_model().objects.get(username="nadia")
    notify(EVENT, users=[nadia])
    notify(EVENT, groups=[1], permissions=["articles.view_article"], match="all")
    assert [entry.rule for entry in stream.entries()] == [
        Rule(users=frozenset({str(nadia.pk)})),
        Rule(
            all=(
                Rule(groups=frozenset({"1"})),
                Rule(permissions=frozenset({"articles.view_article"})),
            )
        ),
    ]


def test_content_type_of_the_event(stream: Stream) -> None:
    """Without an audience the content type that the event names decides."""
    notify({"content_type_id": 7})
    [entry] = stream.entries()
    assert entry.rule == Rule(content_types=frozenset({"7"}))
    [(_, fields)] = stream.client.xrange("{notifyd}:events")
    assert fields.keys() == {b"event"}


def test_nobody(stream: Stream) -> None:
    """An event for an empty list goes nowhere, even if its content type would do."""
    notify({"content_type_id": 7}, users=[])
    assert stream.entries() == []


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({}, Rejection.NO_AUDIENCE),
        ({"content_type_id": None}, Rejection.NO_AUDIENCE),
        ({"content_type_id": "7"}, Rejection.BAD_AUDIENCE),
        ({"content_type_id": 7, "id": 1}, Rejection.RESERVED_KEY),
        ({"content_type_id": 7, "notifyd": 1}, Rejection.RESERVED_KEY),
        ({"content_type_id": 7, "n": float("nan")}, Rejection.NOT_JSON),
        ({"content_type_id": 7, "text": "\ud800"}, Rejection.NOT_UTF8),
        ({"content_type_id": 7, "text": "x" * MAX_EVENT_BYTES}, Rejection.TOO_LARGE),
        (["content_type_id"], Rejection.NOT_OBJECT),
    ],
)
def test_rejected(event: Any, reason: Rejection, stream: Stream) -> None:
    """What the daemon would refuse is refused at once, whatever becomes of the transaction."""
    with transaction.atomic(), pytest.raises(Rejected) as caught:
        notify(event)
    assert caught.value.reason is reason
    assert stream.entries() == []


def test_too_deep(stream: Stream) -> None:
    """An event that nests without an end is refused, too."""
    event: dict[str, Any] = {}
    for _ in range(100_000):
        event = {"e": event}
    with pytest.raises(Rejected):
        notify(event, everyone=True)
    assert stream.entries() == []


@pytest.mark.parametrize(
    "keywords",
    [
        {"permissions": ["view_article"]},
        {"permissions": [""]},
        {"users": ["\ud800"]},
        {"users": [1], "groups": [1]},
    ],
)
def test_bad_audience(keywords: dict[str, Any], stream: Stream) -> None:
    """An audience that nobody could be is refused at once, with a ValueError."""
    with pytest.raises(ValueError, match=r"\w"):
        notify(EVENT, **keywords)
    assert stream.entries() == []


def test_no_json(stream: Stream) -> None:
    """What JSON has no form for is a TypeError that names its type."""
    with pytest.raises(TypeError, match="type set"):
        notify({"n": {1, 2}}, everyone=True)
    assert stream.entries() == []


def test_without_transaction(stream: Stream) -> None:
    """Outside a transaction the event is written at once."""
    notify(EVENT, everyone=True, required=True)
    assert stream.events() == [EVENT]
    assert publisher.stats.published == 1


def test_commit(stream: Stream) -> None:
    """Inside a transaction the event waits for the commit, as it was when it was given."""
    event = {"n": 1}
    people = [1]
    with transaction.atomic():
        notify(event, users=people)
        event["n"] = 2
        people.append(2)
        assert stream.entries() == []
    assert stream.events() == [EVENT]
    assert stream.entries()[0].rule == Rule(users=frozenset({"1"}))


def test_rollback(stream: Stream) -> None:
    """Nothing is written of what is rolled back."""
    with transaction.atomic():
        notify(EVENT, everyone=True)
        transaction.set_rollback(True)
    assert stream.entries() == []


def test_savepoint(stream: Stream) -> None:
    """A savepoint that is rolled back takes its own events along, and no others."""
    with transaction.atomic():
        notify({"n": 1}, everyone=True)
        with transaction.atomic():
            notify({"n": 2}, everyone=True)
            transaction.set_rollback(True)
        with transaction.atomic():
            notify({"n": 3}, everyone=True)
        assert stream.entries() == []
    assert stream.events() == [{"n": 1}, {"n": 3}]


def test_using(stream: Stream, other: str) -> None:
    """It is the transaction of the named database that counts."""
    with transaction.atomic():
        notify({"n": 1}, everyone=True, using=other)
        assert stream.events() == [{"n": 1}]
        with transaction.atomic(using=other):
            notify({"n": 2}, everyone=True, using=other)
            notify({"n": 3}, everyone=True)
            assert len(stream.events()) == 1
        assert stream.events() == [{"n": 1}, {"n": 2}]
    assert stream.events() == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_postgres(stream: Stream, newsroom_on_postgres: Newsroom) -> None:
    """With PostgreSQL nothing is written before the commit, nor of what is rolled back."""
    assert isinstance(newsroom_on_postgres, Newsroom)
    articles = model("articles.Article").objects
    with transaction.atomic():
        articles.create(headline="one")
        notify({"n": 1}, everyone=True)
        with transaction.atomic():
            articles.create(headline="two")
            notify({"n": 2}, everyone=True)
            transaction.set_rollback(True)
        assert stream.entries() == []
    with transaction.atomic():
        notify({"n": 3}, everyone=True)
        transaction.set_rollback(True)
    assert stream.events() == [{"n": 1}]


def test_disabled(stream: Stream) -> None:
    """With ENABLED False nothing is published, and all is judged as ever."""
    with override_settings(NOTIFYD={"ENABLED": False}, CACHES={}):
        notify(EVENT, everyone=True, required=True)
        with pytest.raises(Rejected):
            notify(EVENT)
    assert stream.entries() == []


@pytest.mark.usefixtures("without_redis")
def test_down(caplog: pytest.LogCaptureFixture) -> None:
    """While Redis is down the request goes on at once, and the event is in the log and counted."""
    begun = time.monotonic()
    with transaction.atomic():
        article = model("articles.Article").objects.create(headline="kept")
        notify({"secret": "s3cret"}, everyone=True)
        notify(EVENT, everyone=True)
    assert time.monotonic() - begun < 2
    assert model("articles.Article").objects.filter(pk=article.pk).exists()
    refused, suspended = errors(caplog)
    assert refused.startswith("1 event(s) not published: ConnectionError: ")
    assert suspended == "1 event(s) not published: Redis was down less than 5 s ago"
    assert "s3cret" not in caplog.text
    assert failures() == {"connection": 1, "suspended": 1}


@pytest.mark.usefixtures("without_redis")
def test_down_and_required() -> None:
    """Who requires the event gets the exception after the commit: the data is saved."""
    articles = model("articles.Article").objects

    @transaction.atomic
    def save() -> None:
        articles.create(headline="kept")
        notify(EVENT, everyone=True, required=True)

    with pytest.raises(PublishError):
        save()
    assert articles.filter(headline="kept").exists()
    with pytest.raises(PublishError):
        notify(EVENT, everyone=True, required=True)


@pytest.mark.usefixtures("without_redis")
def test_others_on_commit() -> None:
    """What others do on commit is done, whatever becomes of the event."""
    done = []
    with transaction.atomic():
        notify(EVENT, everyone=True)
        transaction.on_commit(lambda: done.append("after"))
    assert done == ["after"]


def test_frozen(stream: Stream, caplog: pytest.LogCaptureFixture) -> None:
    """If Redis takes the event and doesn't answer, it is unknown, and not repeated."""
    notify(EVENT, everyone=True, required=True)
    with stream.server.paused():
        begun = time.monotonic()
        with pytest.raises(PublishUnknown), transaction.atomic():
            notify({"n": 2}, everyone=True, required=True)
        notify({"n": 3}, everyone=True)
        assert time.monotonic() - begun < 2
    assert errors(caplog)[0].startswith("1 event(s) may not have been published: TimeoutError: ")
    assert failures() == {"unknown": 1, "suspended": 1}
    assert stream.events() == [{"n": 1}, {"n": 2}]


def test_back(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once Redis is back, events arrive again."""
    monkeypatch.setattr(bus, "REST", 0.01)
    with stream.server.stopped():
        notify({"n": 1}, everyone=True)

    def arrives() -> bool:
        notify({"n": 2}, everyone=True)
        return bool(stream.entries())

    wait_until(arrives)
    assert stream.events() == [{"n": 2}]


def test_no_address(caplog: pytest.LogCaptureFixture) -> None:
    """A cache that can't be the bus is no reason to fail a request, but is logged and counted."""
    cache = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": cache}, NOTIFYD={}):
        notify(EVENT, everyone=True)
        with pytest.raises(PublishError, match="is not of django-redis"):
            notify(EVENT, everyone=True, required=True)
    assert failures() == {"address": 2}
    assert "is not of django-redis" in errors(caplog)[0]


def test_wrong_settings(stream: Stream) -> None:
    """A NOTIFYD that can't be used is told to whoever publishes, at once."""
    with override_settings(NOTIFYD={"HISTORY": "long"}), pytest.raises(ImproperlyConfigured):
        notify(EVENT, everyone=True)
    assert stream.entries() == []


async def test_async(stream: Stream) -> None:
    """In async code the same is awaited."""
    await anotify({"n": 1}, everyone=True)
    with pytest.raises(Rejected):
        await anotify(EVENT)

    def work() -> None:
        with transaction.atomic():
            notify({"n": 2}, everyone=True)

    await sync_to_async(work)()
    await sync_to_async(connections.close_all)()
    assert stream.events() == [{"n": 1}, {"n": 2}]


def test_disconnect(written: Written) -> None:
    """A user, a key, or several of both are disconnected on commit."""
    nadia = get_user_model().objects.get(username="nadia")
    many = get_user_model().objects.filter(username__in=["nadia", "omar"])
    keys = sorted(str(each.pk) for each in many)
    with transaction.atomic():
        notify_disconnect(nadia)
        assert written() == []
    for given in (nadia.pk, str(nadia.pk), [nadia], (nadia.pk, nadia), many):
        notify_disconnect(given)
    notify_disconnect([])
    assert written() == [{"disconnect": {"users": [str(nadia.pk)]}}] * 5 + [
        {"disconnect": {"users": keys}}
    ]


@pytest.mark.parametrize("given", [None, b"1", {"1": 1}, True, [None], 1.5])
def test_disconnect_nobody(given: Any, written: Written) -> None:
    """What is no user is refused at once."""
    with pytest.raises(TypeError):
        notify_disconnect(given)
    with pytest.raises(TypeError):
        notify_recheck(users=given or [given])
    assert written() == []


def test_disconnect_unsaved(written: Written) -> None:
    """A user who was never saved has no key, and a text that is no Unicode is none."""
    for given in (get_user_model()(), "\ud800"):
        with pytest.raises(ValueError, match=r"no key|surrogates"):
            notify_disconnect(given)
    assert written() == []


def test_recheck(written: Written) -> None:
    """What users, members of groups, or all may see is read anew on commit."""
    nadia = get_user_model().objects.get(username="nadia")
    editors = model("auth.Group").objects.get(name="editors")
    with transaction.atomic():
        notify_recheck(users=[nadia, 9], groups=[editors])
        assert written() == []
    notify_recheck(groups=[7])
    notify_recheck(everyone=True)
    notify_recheck(users=[])
    keys = sorted([str(nadia.pk), "9"])
    assert written() == [
        {"recheck": {"users": keys, "groups": [str(editors.pk)]}},
        {"recheck": {"groups": ["7"]}},
        {"recheck": {"all": True}},
    ]


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({}, ValueError),
        ({"everyone": False}, ValueError),
        ({"everyone": 1}, TypeError),
        ({"users": "1"}, TypeError),
        ({"groups": 1}, TypeError),
    ],
)
def test_recheck_nobody(keywords: dict[str, Any], error: type[Exception], written: Written) -> None:
    """Whoever doesn't say whose permissions have changed hears of it at once."""
    with pytest.raises(error):
        notify_recheck(**keywords)
    assert written() == []


def test_control_using(written: Written, other: str) -> None:
    """It is the transaction of the named database that counts."""
    with transaction.atomic(using=other):
        notify_disconnect(1, using=other)
        notify_recheck(users=[2])
        assert written() == [{"recheck": {"users": ["2"]}}]
    assert written()[1:] == [{"disconnect": {"users": ["1"]}}]


@pytest.mark.usefixtures("without_redis")
def test_control_required() -> None:
    """Who requires it hears that it is not written yet."""
    with pytest.raises(PublishError):
        notify_disconnect(1, required=True)
    with pytest.raises(PublishError):
        notify_recheck(everyone=True, required=True)
    notify_recheck(everyone=True)


async def test_control_async(written: Written) -> None:
    """In async code the same is awaited."""
    await anotify_disconnect(1)
    await anotify_recheck(everyone=True)
    await sync_to_async(connections.close_all)()
    assert written() == [{"disconnect": {"users": ["1"]}}, {"recheck": {"all": True}}]


def test_stats() -> None:
    """Every reason is there from the start, so that nobody waits for the first of its kind."""
    assert set(stats.failures) == {
        "rejected",
        "address",
        "withheld",
        "suspended",
        "connection",
        "refused",
        "unknown",
    }

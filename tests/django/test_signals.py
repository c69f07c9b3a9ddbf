from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.management import call_command
from django.db import connections, transaction
from django.db.migrations.state import ProjectState
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings
from newsrooms import Newsroom, model

from notifyd.core.events import Rule
from notifyd.django import publisher, signals
from notifyd.django.publisher import Stats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams import Stream

pytest_plugins = ["newsroom_fixtures"]
pytestmark = pytest.mark.usefixtures("newsroom")

KEYS = ["model", "object", "message", "timestamp", "user", "content_type_id", "object_id"]


@pytest.fixture(autouse=True)
def _content_types() -> Iterator[None]:
    # Django remembers the rows of another test's database.
    model("contenttypes.ContentType").objects.clear_cache()
    yield
    model("contenttypes.ContentType").objects.clear_cache()


@pytest.fixture
def client() -> Client:
    """Give the browser of somebody who may do everything."""
    browser = Client()
    browser.force_login(get_user_model().objects.get(username="admin"))
    return browser


def content_type(name: str = "article") -> Any:
    """Return the content type of one of the newsroom's models."""
    return model("contenttypes.ContentType").objects.get(model=name)


def entry(**values: Any) -> Any:
    """Return an entry of the admin's log that is not written yet."""
    defaults = {
        "user": get_user_model().objects.get(username="admin"),
        "content_type": content_type(),
        "object_id": "1",
        "object_repr": "x",
        "action_flag": 2,
    }
    return model("admin.LogEntry")(**{**defaults, **values})


def create(count: int, **values: Any) -> list[Any]:
    """Write entries in bulk."""
    made: list[Any] = model("admin.LogEntry").objects.bulk_create(
        [entry(object_repr=str(number), **values) for number in range(count)]
    )
    return made


def submit(client: Client, path: str, **data: Any) -> None:
    """Send a form of the admin."""
    response = client.post(f"/admin/articles/article/{path}", data)
    assert response.status_code == 302, response.content.decode()


def form(headline: str) -> dict[str, str]:
    """Return the fields of an article's form."""
    return {"headline": headline, "text": "", "published_0": "", "published_1": ""}


def test_add(stream: Stream, client: Client) -> None:
    """Who adds something in the admin is heard of, with the seven keys of the guide in order."""
    submit(client, "add/", **form("News"))
    article = model("articles.Article").objects.get(headline="News")
    written = model("admin.LogEntry").objects.get()
    [event] = stream.events()
    assert list(event) == KEYS
    assert event == {
        "model": "article",
        "object": "News",
        "message": "Added.",
        "timestamp": written.action_time.isoformat(),
        "user": "admin",
        "content_type_id": content_type().pk,
        "object_id": article.pk,
    }


def test_audience(stream: Stream, client: Client) -> None:
    """Whoever may see such objects gets the event: there is no other audience."""
    submit(client, "add/", **form("News"))
    [found] = stream.entries()
    assert found.rule == Rule(content_types=frozenset({str(content_type().pk)}))


def test_change(stream: Stream, client: Client) -> None:
    """A change is published with what was changed, in words."""
    article = model("articles.Article").objects.get(headline="The harbour freezes over")
    submit(client, f"{article.pk}/change/", **form("The harbour thaws"))
    [event] = stream.events()
    assert (event["object"], event["object_id"]) == ("The harbour thaws", article.pk)
    assert event["message"] == "Changed Headline and Published."


def test_delete(stream: Stream, client: Client) -> None:
    """A deletion is published, with the key that the object had."""
    article = model("articles.Article").objects.first()
    submit(client, f"{article.pk}/delete/", post="yes")
    [event] = stream.events()
    assert list(event) == KEYS
    assert (event["object"], event["object_id"]) == (article.headline, article.pk)
    assert not model("articles.Article").objects.filter(pk=article.pk).exists()


def test_delete_selected(stream: Stream, client: Client) -> None:
    """The action "delete selected" tells of every object, though no signal tells of the entries."""
    articles = {article.pk: article.headline for article in model("articles.Article").objects.all()}
    assert len(articles) > 1
    data = {"action": "delete_selected", "_selected_action": list(articles), "post": "yes"}
    submit(client, "", **data)
    events = stream.events()
    assert [list(event) for event in events] == [KEYS] * len(articles)
    assert {event["object_id"]: event["object"] for event in events} == articles
    assert not model("articles.Article").objects.exists()


def test_delete_one_selected(stream: Stream, client: Client) -> None:
    """Of a single object that is selected, Django sends a signal: it is told of once."""
    article = model("articles.Article").objects.first()
    data = {"action": "delete_selected", "_selected_action": [article.pk], "post": "yes"}
    submit(client, "", **data)
    assert [event["object_id"] for event in stream.events()] == [article.pk]


def test_history_of_the_admin(stream: Stream, client: Client) -> None:
    """Looking at the log publishes nothing, and neither does saving an entry again."""
    article = model("articles.Article").objects.first()
    submit(client, f"{article.pk}/change/", **form("News"))
    assert client.get(f"/admin/articles/article/{article.pk}/history/").status_code == 200
    written = model("admin.LogEntry").objects.get()
    written.save()
    assert len(stream.events()) == 1


def test_rollback(stream: Stream) -> None:
    """Nothing is told of what is rolled back, and nothing before the commit."""
    with transaction.atomic():
        entry().save()
        create(2)
        transaction.set_rollback(True)
    with transaction.atomic():
        entry().save()
        create(2)
        assert stream.events() == []
    assert [event["object"] for event in stream.events()] == ["x", "0", "1"]


def test_postgres(stream: Stream, newsroom_on_postgres: Newsroom) -> None:
    """With PostgreSQL it is the same: on commit, or never."""
    assert isinstance(newsroom_on_postgres, Newsroom)
    with transaction.atomic():
        entry(object_repr="kept").save()
        with transaction.atomic():
            entry(object_repr="undone").save()
            create(2)
            transaction.set_rollback(True)
        create(2)
        assert stream.events() == []
    assert [event["object"] for event in stream.events()] == ["kept", "0", "1"]


def test_another_database(stream: Stream, other: str) -> None:
    """What counts is the transaction of the database that the entry is written to."""
    shutil.copy(
        connections["default"].settings_dict["NAME"], connections[other].settings_dict["NAME"]
    )
    with transaction.atomic(using=other):
        entry(object_repr="a").save(using=other)
        model("admin.LogEntry").objects.using(other).bulk_create([entry(object_repr="b")])
        with transaction.atomic():
            pass
        assert stream.events() == []
    assert [event["object"] for event in stream.events()] == ["a", "b"]


def test_without_content_type(stream: Stream) -> None:
    """An entry that is about no model's object is skipped."""
    entry(content_type=None).save()
    create(2, content_type=None)
    assert stream.events() == []


def test_stale_content_type(stream: Stream) -> None:
    """A model that is no more still has the name of its content type."""
    kinds = model("contenttypes.ContentType").objects
    [kind] = kinds.bulk_create([kinds.model(app_label="old", model="thing")])
    entry(content_type=kind).save()
    [event] = stream.events()
    assert event["model"] == "thing"


@pytest.mark.parametrize(("key", "published"), [(None, None), (7, 7), ("7", "7"), (b"7", "b'7'")])
def test_key(key: Any, published: Any, stream: Stream) -> None:
    """The object's key is what the admin made of it, or a text."""
    made = entry(object_id=key)
    made.save()
    assert [event["object_id"] for event in stream.events()] == [published]


def test_fixture(stream: Stream) -> None:
    """A fixture that is loaded is no news."""
    entry(pk=7).save()
    data = serializers.serialize("json", model("admin.LogEntry").objects.all())
    model("admin.LogEntry").objects.all().delete()
    for each in serializers.deserialize("json", data):
        each.save()
    assert model("admin.LogEntry").objects.count() == 1
    assert len(stream.events()) == 1


def test_bulk_otherwise(stream: Stream) -> None:
    """Entries in bulk are told of whichever way they are created."""
    entries = model("admin.LogEntry").objects
    entries.using("default").bulk_create([entry(object_repr="a")])
    entries.filter(pk=1).bulk_create(entry(object_repr=text) for text in "bc")
    assert [event["object"] for event in stream.events()] == ["a", "b", "c"]


def test_few_queries(stream: Stream) -> None:
    """A hundred entries at a time cost two queries more, not two hundred."""
    admin = get_user_model().objects.get(username="admin")
    made = [
        model("admin.LogEntry")(
            user_id=admin.pk, content_type_id=content_type().pk, object_repr=str(n), action_flag=3
        )
        for n in range(100)
    ]
    with CaptureQueriesContext(connections["default"]) as queries:
        model("admin.LogEntry").objects.bulk_create(made)
    assert len(stream.events()) == 100
    assert len([each for each in queries if each["sql"].startswith("SELECT")]) == 2


def test_log_of_a_migration(stream: Stream) -> None:
    """What a migration writes to the log by the model it sees is left alone."""
    state = ProjectState.from_apps(model("admin.LogEntry")._meta.apps)
    historical: Any = state.apps.get_model("admin", "LogEntry")
    values = {"user_id": 1, "content_type_id": content_type().pk, "action_flag": 1}
    historical.objects.bulk_create([historical(object_repr=text, **values) for text in "ab"])
    assert model("admin.LogEntry").objects.count() == 2
    assert stream.events() == []


def test_no_migration() -> None:
    """The admin's models look unchanged to makemigrations."""
    printed = io.StringIO()
    call_command("makemigrations", check_changes=True, dry_run=True, stdout=printed)
    assert "No changes" in printed.getvalue()


def test_too_large(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An entry that makes no event is saved all the same, and logged and counted."""
    monkeypatch.setattr(publisher, "stats", Stats())
    entry(change_message="x" * 70_000).save()
    assert model("admin.LogEntry").objects.count() == 1
    assert stream.events() == []
    assert publisher.stats.failures["rejected"] == 1
    assert "1 event(s) not published: 7" in caplog.text
    assert "xxx" not in caplog.text


def test_disabled(stream: Stream) -> None:
    """With ENABLED False the admin works without a word, and without Redis."""
    with override_settings(NOTIFYD={"ENABLED": False}), stream.server.stopped():
        entry().save()
        create(2)
    assert stream.events() == []


def test_redis_down(stream: Stream, client: Client) -> None:
    """While Redis is down the admin works."""
    with stream.server.stopped():
        submit(client, "add/", **form("News"))
    assert model("articles.Article").objects.filter(headline="News").exists()


def test_connect_again(stream: Stream) -> None:
    """Connecting again doesn't double the events."""
    signals.connect()
    entry().save()
    create(2)
    assert len(stream.events()) == 3

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.test.utils import override_settings
from newsrooms import FAST, SITE, Newsroom, model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import RedisServer

pytest_plugins = ["newsroom_fixtures"]

KEYS = {"model", "object", "message", "timestamp", "user", "content_type_id", "object_id"}


def manage(folder: Path, *arguments: str) -> str:
    """Run one of the site's commands with a database in a folder, and return what it says."""
    run = subprocess.run(
        [sys.executable, str(SITE / "manage.py"), *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "NEWSROOM_DATABASE": str(folder / "newsroom.sqlite3")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def events(newsroom: Newsroom, redis_server: RedisServer) -> Iterator[Any]:
    """Give a function that returns the next event which the site has published, or None."""
    assert isinstance(newsroom, Newsroom)
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}
    listener = redis_server.client().pubsub(ignore_subscribe_messages=True)
    listener.subscribe("events")
    assert listener.get_message(timeout=5) is None

    def following() -> Any:
        # What another client publishes first has arrived when its answer has.
        redis_server.client().publish("events", "null")
        message = listener.get_message(timeout=5)
        assert message is not None
        return json.loads(message["data"])

    with override_settings(CACHES={"default": cache}, ALLOWED_HOSTS=["testserver"]):
        yield following
    listener.close()


def test_from_nothing(tmp_path: Path) -> None:
    """The site checks, migrates and seeds itself from nothing, and seeding again changes little."""
    assert "no issues" in manage(tmp_path, "check")
    assert "No changes" in manage(tmp_path, "makemigrations", "--check", "--dry-run")
    manage(tmp_path, "migrate", "--verbosity=0")
    assert "admin, nadia, omar, ines" in manage(tmp_path, "seed")
    assert "admin, nadia, omar, ines" in manage(tmp_path, "seed")


def test_people(newsroom: Newsroom) -> None:
    """The people of the newsroom have each their own permissions."""
    assert isinstance(newsroom, Newsroom)
    people: dict[str, Any] = {user.username: user for user in model("auth.User").objects.all()}
    assert people["admin"].is_superuser
    assert not people["ines"].is_active
    edits = {
        f"articles.{verb}_{what}" for verb in ("view", "change") for what in ("article", "comment")
    }
    assert people["nadia"].get_all_permissions() == edits
    assert people["omar"].get_all_permissions() == {"articles.view_comment"}
    with override_settings(**FAST):
        assert people["nadia"].check_password("newsroom")


def test_seed_again(newsroom: Newsroom) -> None:
    """Seeding again keeps passwords, and so the tokens that were made."""
    assert isinstance(newsroom, Newsroom)
    before = list(get_user_model().objects.values_list("username", "password"))
    call_command("seed", stdout=io.StringIO())
    assert list(get_user_model().objects.values_list("username", "password")) == before
    assert model("articles.Article").objects.count() == 2


def test_publisher(events: Any) -> None:
    """What somebody changes in the admin is published with the seven keys of the guide."""
    article = model("articles.Article").objects.first()
    client = Client()
    client.force_login(get_user_model().objects.get(username="nadia"))
    data = {"headline": "A new headline", "published_0": "", "published_1": "", "text": ""}
    response = client.post(f"/admin/articles/article/{article.pk}/change/", data)
    assert response.status_code == 302
    event = events()
    assert event.keys() == KEYS
    assert (event["model"], event["object"]) == ("article", "A new headline")
    assert (event["user"], event["object_id"]) == ("nadia", article.pk)
    kind = model("contenttypes.ContentType").objects.get(model="article")
    assert event["content_type_id"] == kind.pk


def entry(**values: Any) -> Any:
    """Write an entry of the admin's log."""
    user = get_user_model().objects.get(username="admin")
    return model("admin.LogEntry").objects.create(user=user, action_flag=1, **values)


def test_publisher_waits(events: Any) -> None:
    """Nothing is published of what is rolled back, or is about no model."""
    with transaction.atomic():
        kind = model("contenttypes.ContentType").objects.get(model="article")
        entry(content_type=kind, object_id="1", object_repr="x")
        transaction.set_rollback(True)
    entry(object_repr="x")
    assert events() is None


def test_publisher_without_redis(newsroom: Newsroom, redis_server: RedisServer) -> None:
    """A change counts even if nobody can be told."""
    assert isinstance(newsroom, Newsroom)
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}
    kind = model("contenttypes.ContentType").objects.get(model="article")
    with redis_server.stopped(), override_settings(CACHES={"default": cache}), transaction.atomic():
        written = entry(content_type=kind, object_id="1", object_repr="x")
    assert model("admin.LogEntry").objects.filter(pk=written.pk).exists()


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (
            "/srv/news.sqlite3",
            {"ENGINE": "django.db.backends.sqlite3", "NAME": "/srv/news.sqlite3"},
        ),
        (
            "postgresql://n:p%40ss@db.example.org:5433/news?sslmode=require",
            {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "news",
                "USER": "n",
                "PASSWORD": "p@ss",
                "HOST": "db.example.org",
                "PORT": "5433",
                "OPTIONS": {"sslmode": "require"},
            },
        ),
        (
            "postgresql:///news?host=/run/postgresql",
            {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "news",
                "USER": "",
                "PASSWORD": "",
                "HOST": "/run/postgresql",
                "PORT": "",
                "OPTIONS": {},
            },
        ),
    ],
)
def test_database(newsroom: Newsroom, address: str, parts: dict[str, Any]) -> None:
    """The database is a file or, by its URL, a PostgreSQL server."""
    assert isinstance(newsroom, Newsroom)
    from newsroom import settings  # noqa: PLC0415 - site/ is on the path once it is set up

    assert settings.database(address) == parts

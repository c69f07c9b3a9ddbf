from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.test.utils import override_settings
from newsrooms import FAST, SITE, Newsroom, model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest_plugins = ["newsroom_fixtures"]

SCRIPT = 'data-token-url="/notifyd/token/"'


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


@pytest.mark.long
def test_from_nothing(tmp_path: Path) -> None:
    """The site checks, migrates and seeds itself from nothing, and seeding again changes little."""
    assert "no issues" in manage(tmp_path, "check")
    assert "No changes" in manage(tmp_path, "makemigrations", "--check", "--dry-run")
    manage(tmp_path, "migrate", "--verbosity=0")
    assert "admin, nadia, omar, rosa, ines" in manage(tmp_path, "seed")
    assert "admin, nadia, omar, rosa, ines" in manage(tmp_path, "seed")


def test_people(newsroom: Newsroom) -> None:
    """The people of the newsroom have each their own permissions."""
    assert isinstance(newsroom, Newsroom)
    people: dict[str, Any] = {user.username: user for user in model("auth.User").objects.all()}
    assert people["admin"].is_superuser
    assert not people["ines"].is_active
    editing = {
        f"articles.{verb}_{what}"
        for verb in ("view", "change", "add", "delete")
        for what in ("article", "comment")
    }
    assert people["nadia"].get_all_permissions() == editing
    assert people["omar"].get_all_permissions() == editing
    assert people["rosa"].get_all_permissions() == {
        "articles.view_comment",
        "articles.change_comment",
    }
    with override_settings(**FAST):
        assert people["nadia"].check_password("newsroom")


def test_seed_again(newsroom: Newsroom) -> None:
    """Seeding again keeps passwords, and so the tokens that were made, and what was written."""
    assert isinstance(newsroom, Newsroom)
    before = list(get_user_model().objects.values_list("username", "password"))
    renamed = model("articles.Article").objects.first()
    model("articles.Article").objects.filter(pk=renamed.pk).update(headline="Another headline")
    articles = model("articles.Article").objects.count()
    call_command("seed", stdout=io.StringIO())
    assert list(get_user_model().objects.values_list("username", "password")) == before
    assert model("articles.Article").objects.count() == articles


@pytest.fixture
def visit(newsroom: Newsroom) -> Iterator[Callable[[str], Client]]:
    """Give a function that returns the browser of somebody who has logged in."""
    assert isinstance(newsroom, Newsroom)

    def log_in(name: str) -> Client:
        client = Client()
        client.force_login(get_user_model().objects.get(username=name))
        return client

    with override_settings(ALLOWED_HOSTS=["testserver"]):
        yield log_in


@pytest.mark.parametrize(
    "page", ["", "articles/comment/", "articles/comment/1/change/", "password_change/"]
)
def test_pages_are_live(visit: Callable[[str], Client], page: str) -> None:
    """Every page of the admin brings notifyd.js, and what shows its events, once."""
    html = visit("rosa").get(f"/admin/{page}").content.decode()
    for piece in (SCRIPT, 'id="live-state"', 'id="live-events"', "articles/live.js"):
        assert html.count(piece) == 1


def test_addresses(visit: Callable[[str], Client]) -> None:
    """A page knows where the objects are listed that its user may see, and no others."""
    kinds = model("contenttypes.ContentType").objects
    for name, models in {"nadia": ["article", "comment"], "rosa": ["comment"]}.items():
        html = visit(name).get("/admin/").content.decode()
        found = re.search(r'<script id="live-addresses" type="application/json">(.*?)<', html)
        assert found is not None
        assert json.loads(found[1]) == {
            str(kinds.get(model=each).pk): f"/admin/articles/{each}/" for each in models
        }


def test_pages_without_events(visit: Callable[[str], Client]) -> None:
    """Popups, and pages of nobody, bring nothing of it."""
    nadia = visit("nadia")
    popup = nadia.get("/admin/articles/article/add/?_popup=1")
    for page in (popup, nadia.post("/admin/logout/"), Client().get("/admin/login/")):
        assert page.status_code == 200
        assert SCRIPT not in page.content.decode()
        assert 'id="live-' not in page.content.decode()


def test_front_page(visit: Callable[[str], Client]) -> None:
    """The newsroom is its admin."""
    assert visit("nadia").get("/").headers["Location"] == "/admin/"


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

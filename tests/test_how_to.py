"""The how-to guides and the README, followed by somebody who has a site already."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from pages import ROOT, Block, Reader, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXISTING = ROOT / "docs" / "how-to" / "add-to-an-existing-site.md"
GUIDE = ROOT / "docs" / "how-to" / "run-for-a-site-that-follows-the-guide.md"
README = ROOT / "README.md"

BEFORE = """\
$ python3 -m venv .venv
$ . .venv/bin/activate
$ django-admin startproject mysite .
$ python manage.py migrate
$ redis-server --port 6379 --save ''
"""

# The variant of a page that goes without what the rest of it says.
FOR_SOME = {"mysite/settings.py, with a cache"}

CHECK = "python manage.py check --tag notifyd"
CLEAN = "System check identified no issues (0 silenced).\n"

URLS = """
from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

page = TemplateView.as_view(template_name="base.html")
urlpatterns = [path("", page), path("admin/", admin.site.urls)]
"""

SETTINGS = """
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
"""

# Of the guide a site has the cache, the backend, the time, and a receiver.
GUIDE_SETTINGS = """
INSTALLED_APPS += ["news.apps.NewsConfig"]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "sesame.backends.ModelBackend",
]
SESAME_MAX_AGE = 30
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://127.0.0.1:6379/1",
    },
}
"""
NEWS = {
    "__init__.py": "",
    "apps.py": """
from django.apps import AppConfig


class NewsConfig(AppConfig):
    name = "news"

    def ready(self):
        import news.signals
""",
    "signals.py": """
from django.contrib.admin.models import LogEntry
from django.db.models.signals import post_save
from django.dispatch import receiver


@receiver(post_save, sender=LogEntry)
def publish_event(instance, **_):
    pass
""",
}

# What a browser gets whose person has not logged in, and then has.
VISIT = """
import django
django.setup()
from django.contrib.auth.models import User
from django.test import Client

client = Client(headers={"host": "localhost"})
print("before:", client.get("/").text)
client.force_login(User.objects.create_superuser("ada"))
print("after:", client.get("/").text)
print("url:", client.post("/notifyd/token/").json()["url"])
"""

TAG = r'<script src="/static/notifyd/notifyd.js" data-token-url="/notifyd/token/" .*></script>'


@pytest.fixture
def reader(folder: Path) -> Iterator[Reader]:
    """Give somebody who has a site, with a template and a cache, and a Redis."""
    site = folder / "site"
    site.mkdir()
    with Reader(site) as somebody:
        somebody.follow(Block("", "console", "", BEFORE))
        (site / "templates").mkdir()
        (site / "templates" / "base.html").write_text("<title>News</title>\n")
        (site / "mysite" / "urls.py").write_text(URLS)
        settings = site / "mysite" / "settings.py"
        settings.write_text(settings.read_text().replace("'DIRS': []", "'DIRS': ['templates']"))
        add(somebody, SETTINGS)
        yield somebody


def add(reader: Reader, text: str) -> None:
    """Add something to the end of the site's settings."""
    reader.follow(Block("", "python", "mysite/settings.py, at the end", text))


def follow(reader: Reader, page: Path, section: str) -> None:
    """Do what a section says, but for what is meant for some."""
    for block in blocks(page):
        if block.section == section and block.title not in FOR_SOME:
            reader.follow(block)


def visit(reader: Reader) -> None:
    """See that pages bring notifyd.js to who is logged in, and that it learns where to connect."""
    (reader.project / "visit.py").write_text(VISIT)
    printed = reader.run("DJANGO_SETTINGS_MODULE=mysite.settings python visit.py")
    assert re.search(rf"before: <title>News</title>\s+after: .*\s+{TAG}\s+url: ws", printed)


@pytest.mark.long
def test_readme(reader: Reader) -> None:
    """The README's lines are enough: the site has no fault, its pages connect, a daemon runs."""
    follow(reader, README, "Add it to your site")
    assert reader.run(CHECK) == CLEAN
    visit(reader)


@pytest.mark.long
def test_existing_site(reader: Reader) -> None:
    """The page's lines are enough, and those for production and for a cache are as good."""
    follow(reader, EXISTING, "The ten lines")
    [from_where] = [block for block in blocks(EXISTING) if block.title.endswith("page was made")]
    reader.follow(from_where)
    visit(reader)
    follow(reader, EXISTING, "In production")
    [with_a_cache] = [block for block in blocks(EXISTING) if block.title in FOR_SOME]
    reader.follow(with_a_cache)
    assert reader.run(CHECK) == CLEAN
    assert "ok: Redis" in reader.run(
        "NOTIFYD_REDIS_URL= NOTIFYD_DJANGO_CACHE=notifyd notifyd check"
    )


@pytest.mark.long
def test_site_of_the_guide(reader: Reader) -> None:
    """The guide's receiver left in place is warned of as shown; without it nothing is amiss."""
    news = reader.project / "news"
    news.mkdir()
    for name, text in NEWS.items():
        (news / name).write_text(text)
    add(reader, GUIDE_SETTINGS)
    follow(reader, GUIDE, "Moving on to notifyd.django")
    assert "notifyd.W008" in reader.run(CHECK)
    (news / "signals.py").write_text("")
    assert reader.run(CHECK) == CLEAN

"""The two ways to the site's Django: its own settings, and those that notifyd brings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from daemons import ROOT, Daemon, Site, clean_environment
from pages import blocks

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.clients import Page, Pages
    from postgres import PostgresServer
    from servers import RedisServer

PAGE = ROOT / "docs" / "how-to" / "connect-to-your-site.md"
BROUGHT = "The settings that notifyd brings"
KEY = "only-for-development-set-SECRET_KEY-in-production"
# Nothing of the site can be imported.
NOTHING = {"PYTHONPATH": "", "DJANGO_SETTINGS_MODULE": "", "NEWSROOM_REDIS": ""}
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# A site with users of its own: their settings, their model, and what it says of one of them.
OWN_SETTINGS = """
SECRET_KEY = "secret of the site"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "members"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {database!r}}}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "members.ClubMember"
SESAME_MAX_AGE = 60
"""
OWN_MODELS = """
import uuid
from django.contrib.auth.models import AbstractUser
from django.db import models

class ClubMember(AbstractUser):
    username = None
    email = models.EmailField(unique=True)
    {key}
    USERNAME_FIELD = "email"
"""
OWN_TABLE = {"django_user_table": "members_clubmember", "django_user_name": "email"}
OWN_TOKEN = """
import json
import django
django.setup()
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from sesame.utils import get_token
call_command("migrate", run_syncdb=True, verbosity=0)
user = get_user_model().objects.create(email="ada@example.com", password="!")
kind = ContentType.objects.get_for_model(Group)
group = Group.objects.create(name="readers")
group.permissions.add(Permission.objects.get(codename="view_group"))
user.groups.add(group)
print(json.dumps([get_token(user, "notifyd"), kind.pk]))
"""

# The tables of a site whose users have keys of type integer, as far as they are read.
KEYED = {
    "people_person": "id integer, password text, last_login timestamptz, is_superuser boolean,"
    " is_active boolean, username text",
    "people_person_groups": "id bigint, person_id integer, group_id integer",
    "people_person_user_permissions": "id bigint, person_id integer, permission_id integer",
    "auth_group": "id integer, name text",
    "auth_permission": "id integer, name text, content_type_id integer, codename text",
    "auth_group_permissions": "id bigint, group_id integer, permission_id integer",
    "django_content_type": "id integer, app_label text, model text",
}


def lines(title: str) -> dict[str, str]:
    """Return what a block of the page has the operator write, by option as a daemon takes it."""
    [block] = [each for each in blocks(PAGE) if (each.section, each.title) == (BROUGHT, title)]
    text = block.text if block.text.startswith("[") else f"[django]\n{block.text}"
    return {
        f"{section}_{name}": value
        for section, table in tomllib.loads(text).items()
        for name, value in table.items()
    }


def three_lines(folder: Path, database: str, key: str, redis: RedisServer) -> dict[str, str]:
    """Return the three lines of the page for a site of the tests."""
    (folder / "secret_key").write_text(f"{key}\n")
    options = lines("notifyd.toml")
    assert len(options) == 3
    here = {
        "django_database": database,
        "django_secret_key_file": str(folder / "secret_key"),
        "redis_url": redis.url,
    }
    assert options.keys() == here.keys()
    return {**NOTHING, **here}


async def relays(daemon: Daemon, page: Page, content_type: int, number: int) -> None:
    """See that an event about a content type gets to a page."""
    event = json.dumps({"content_type_id": content_type, "n": number})
    assert daemon.command("publish", event).returncode == 0
    await page.event(n=number)


@pytest.mark.long
async def test_three_lines(home: Path, site: Site, redis: RedisServer, pages: Pages) -> None:
    """Three lines serve a site with Django's users, of which nothing can be imported."""
    options = three_lines(home, f"sqlite://{site.database}", KEY, redis)
    async with Daemon(home, site, "brought", **options) as daemon:
        checked = daemon.command("check")
        assert checked.stdout.endswith("ok: database answers\n")
        assert (checked.returncode, checked.stderr) == (0, "")
        nadia = await pages.hello(daemon, site.token("nadia"))
        await pages.hello(daemon, daemon.command("token", "omar").stdout.strip())
        await relays(daemon, nadia, site.content_type("article"), 1)
        assert KEY not in daemon.command("config").stdout + daemon.log


@pytest.mark.long
async def test_least_rights(
    home: Path, redis: RedisServer, postgres: PostgresServer, pages: Pages
) -> None:
    """With the rights of the page permissions are read at once when told, and by each sweep."""
    postgres.create("sites")
    address = f"{postgres.host}:{postgres.port}/sites"
    with Site(home, redis.url, f"postgresql://{postgres.user}@{address}") as site:
        site.fill()
        [grants] = [block for block in blocks(PAGE) if block.title == "grants.sql"]
        postgres.execute(re.sub(r"\bnotifyd\b", "daemon", grants.text), "sites")
        options = three_lines(home, f"postgresql://daemon@{address}", KEY, redis)
        async with Daemon(home, site, "least", auth_sweep="1", **options) as daemon:
            daemon.wait_for_bus()
            nadia = await pages.hello(daemon, site.token("nadia"))
            kind = site.content_type("group")
            site.run("p = Permission.objects.get(codename='view_group')")
            site.run("User.objects.get(username='nadia').user_permissions.add(p)")
            await relays(daemon, nadia, kind, 1)
            site.run("User.objects.filter(username='nadia').update(is_active=False)")
            assert await nadia.closed() == (4403, "access revoked")
            assert daemon.events("auth.error") == []


@pytest.mark.long
def test_wrong_type_of_key(
    home: Path, site: Site, redis: RedisServer, postgres: PostgresServer
) -> None:
    """A key of another type than was said, which no token would fit, is told by the check."""
    postgres.create("keys")
    for table, columns in KEYED.items():
        postgres.execute(f"CREATE TABLE {table} ({columns})", "keys")
    address = f"postgresql://{postgres.user}@{postgres.host}:{postgres.port}/keys"
    options = three_lines(home, address, KEY, redis)
    daemon = Daemon(home, site, **options, django_user_table="people_person")
    assert daemon.command("check").stdout.splitlines()[-1] == (
        "fault: database: the key of people_person is not of type bigint: set [django] user_pk to"
        " integer"
    )
    right = daemon.command("check", environment={"NOTIFYD_DJANGO_USER_PK": "integer"})
    assert right.returncode == 0


def make_site(folder: Path, key: str) -> tuple[Path, str, int]:
    """Make a site whose model has such a key; return its file, a token and a content type.

    The token's user, ada, may view models of that type.
    """
    database = folder / "db.sqlite3"
    (folder / "members").mkdir()
    (folder / "members" / "__init__.py").touch()
    (folder / "members" / "models.py").write_text(OWN_MODELS.format(key=key))
    (folder / "settings.py").write_text(OWN_SETTINGS.format(database=str(database)))
    made = subprocess.run(
        [sys.executable, "-c", OWN_TOKEN],
        cwd=folder,
        env={**clean_environment(), "DJANGO_SETTINGS_MODULE": "settings"},
        capture_output=True,
        check=True,
    )
    token, content_type = json.loads(made.stdout)
    return database, token, content_type


@pytest.mark.long
@pytest.mark.parametrize(
    ("key", "pk"),
    [("", "bigint"), ("id = models.UUIDField(primary_key=True, default=uuid.uuid4)", "uuid")],
    ids=["bigint", "uuid"],
)
async def test_users_of_its_own(
    folder: Path, home: Path, site: Site, redis: RedisServer, pages: Pages, key: str, pk: str
) -> None:
    """A user model of the site's own is named by its table, the type of its key and its names."""
    database, token, content_type = make_site(folder, key)
    options = three_lines(home, f"sqlite://{database}", "secret of the site", redis)
    assert lines("notifyd.toml, in [django]").keys() == {*OWN_TABLE, "django_user_pk"}
    options |= {**OWN_TABLE, "django_user_pk": pk}
    async with Daemon(home, site, f"own-{pk}", **options) as daemon:
        assert daemon.command("check").returncode == 0
        assert daemon.command("token", "ada@example.com").returncode == 0
        ada = await pages.hello(daemon, token)
        await relays(daemon, ada, content_type, 1)


def test_python(home: Path, site: Site, redis: RedisServer, tmp_path: Path) -> None:
    """What only the site's virtual environment has is there for its settings; and is looked at."""
    packages = tmp_path / "venv" / "lib" / f"python{VERSION}" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {VERSION}.2\n")
    (packages / "only_there.py").touch()
    (packages / "site.pth").write_text(f"{ROOT / 'site'}\n")
    (packages / "theirs.py").write_text("import only_there\nfrom newsroom.settings import *\n")
    (packages / "Django-4.2.dist-info").mkdir()
    (packages / "Django-4.2.dist-info" / "METADATA").write_text("Name: Django\nVersion: 4.2\n")
    file = tmp_path / "notifyd.toml"
    file.write_text(f'[django]\nsettings = "theirs"\npython = "{tmp_path}/venv"\n')
    daemon = Daemon(home, site, **{**NOTHING, "NEWSROOM_REDIS": redis.url})
    done = daemon.command("check", "--config", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"warning: {tmp_path}/venv has django 4.2, and notifyd needs" in done.stdout


def test_another_python(home: Path, site: Site, tmp_path: Path) -> None:
    """An environment for another Python is a fault of the configuration."""
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.1\n")
    daemon = Daemon(home, site, django_python=str(tmp_path))
    done = daemon.command("run")
    assert done.returncode == 78
    assert f'django.python = "{tmp_path}" (environment NOTIFYD_DJANGO_PYTHON) has Py' in done.stderr
    assert f"has Python 3.9, and notifyd runs on {VERSION}" in done.stderr


def test_missing_driver(home: Path, site: Site, redis: RedisServer) -> None:
    """A database whose driver is not installed is a fault that says where to install it."""
    options = three_lines(home, "mysql://notifyd:hunter2@localhost/mysite", KEY, redis)
    done = Daemon(home, site, **options).command("check")
    assert done.returncode == 78
    assert "Error loading MySQLdb module" in done.stderr
    assert "or set [django] python to one that has it." in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("name", ["site-in-home.conf", "site-on-sqlite.conf"])
def test_drop_ins(name: str) -> None:
    """The page's drop-ins are those that come with notifyd, without what these explain."""
    [block] = [each for each in blocks(PAGE) if each.title.endswith(name)]
    example = ROOT / "packaging" / "systemd" / "examples" / "notifyd.service.d" / name
    directives = [line for line in example.read_text().splitlines() if line and line[0] != "#"]
    assert block.text.splitlines() == directives

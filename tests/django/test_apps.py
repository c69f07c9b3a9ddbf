from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.db.models.signals import post_save
from newsrooms import model
from streams import Stream

from notifyd.django import signals
from notifyd.django.apps import NotifydConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import RedisServer

    Run = Callable[[str, str], str]

pytest_plugins = ["newsroom_fixtures"]

# What every site has of its own.
MINIMAL = """
SECRET_KEY = "not a secret"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
AUTHENTICATION_BACKENDS = ["sesame.backends.ModelBackend"]
SESAME_MAX_AGE = 30
SESAME_TOKENS = ["sesame.tokens_v2"]
"""


def test_import(run: Run) -> None:
    """What a site imports can be imported before Django is set up, or even configured."""
    script = (
        "from notifyd.django import PublishError, PublishUnknown, anotify, notify\n"
        "from notifyd.django import notify_disconnect, notify_recheck\n"
        "from django.apps import apps\n"
        "from django.conf import settings\n"
        "print(apps.ready, settings.configured)\n"
    )
    assert run("", script) == "False False"


@pytest.mark.usefixtures("seeded")
def test_config() -> None:
    """Naming the package is enough, and the app has a label that no other has."""
    config = apps.get_app_config("notifyd")
    assert isinstance(config, NotifydConfig)
    assert (config.name, config.label) == ("notifyd.django", "notifyd")
    assert not list(config.get_models())


@pytest.mark.usefixtures("newsroom")
def test_ready_again(stream: Stream) -> None:
    """To make the app ready twice changes nothing."""
    apps.get_app_config("notifyd").ready()
    sender = id(model("admin.LogEntry"))
    keys = [each[0] for each in post_save.receivers if each[0][1] == sender]
    assert keys.count((signals.DISPATCH_UID, sender)) == 1
    assert stream.events() == []


@pytest.mark.parametrize("place", [0, 6])
def test_installed_app_is_all(place: int, run: Run, redis_server: RedisServer) -> None:
    """One more line in INSTALLED_APPS, wherever, and it is published what Django tells of."""
    settings = (
        "from newsroom.settings import *\n"
        "INSTALLED_APPS = [app for app in INSTALLED_APPS if app.startswith('django.')]\n"
        f"INSTALLED_APPS.insert({place}, 'notifyd.django')\n"
        "DATABASES['default']['NAME'] = ':memory:'\n"
        f"CACHES['default']['LOCATION'] = {redis_server.url!r}\n"
        "NOTIFYD = {}\n"
        "ROOT_URLCONF = ()\n"
    )
    script = (
        "import django\n"
        "django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('migrate', verbosity=0)\n"
        "from django.contrib.admin.models import LogEntry\n"
        "from django.contrib.auth.models import User\n"
        "user = User.objects.create(username='nadia')\n"
        "for users in [user], [user, user]:\n"
        "    LogEntry.objects.log_actions(user.pk, users, 2)\n"
    )
    run(settings, script)
    client: Any = redis_server.client()
    [control, *events] = [fields for _, fields in client.xrange("{notifyd}:events")]
    assert json.loads(control[b"control"]) == {"recheck": {"users": ["1"]}}
    assert [json.loads(fields[b"event"])["object"] for fields in events] == ["nadia"] * 3


def test_without_admin(run: Run, redis_server: RedisServer) -> None:
    """A site without the admin publishes its own events, and never loads the admin's models."""
    settings = MINIMAL + (
        "INSTALLED_APPS = [f'django.contrib.{app}' for app in ('auth', 'contenttypes')]\n"
        "INSTALLED_APPS.append('notifyd.django')\n"
        f"NOTIFYD = {{'REDIS_URL': {redis_server.unix_url!r}, 'URL': 'wss://news/'}}\n"
    )
    script = (
        "import sys\n"
        "import django\n"
        "django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('check', tags=['notifyd'])\n"
        "from notifyd.django import notify\n"
        "notify({'n': 1}, groups=[1], required=True)\n"
        "print('django.contrib.admin.models' in sys.modules)\n"
    )
    said = run(settings, script)
    assert said == "System check identified no issues (0 silenced).\nFalse"
    assert Stream(redis_server).events() == [{"n": 1}]

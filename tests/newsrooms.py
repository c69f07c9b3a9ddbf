"""The newsroom, the Django project in site/, as tests of the daemon see it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections
from django.test.utils import override_settings
from django.utils.module_loading import import_string

from notifyd.daemon import auth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SITE = Path(__file__).parents[1] / "site"
ADDRESS = "192.0.2.1"
STOCK = ("django.contrib.auth.backends.ModelBackend", "sesame.backends.ModelBackend")
# Hashing passwords well takes longer than all the rest.
FAST = {"PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"]}


class Newsroom:
    """The seeded site."""

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what reads or changes the database, from a test with an event loop."""

        def work() -> Any:
            try:
                return function(*arguments)
            finally:
                connections.close_all()

        return await asyncio.to_thread(work)

    async def user(self, username: str) -> Any:
        """Return a user of the site."""
        return await self.run(lambda: get_user_model().objects.get(username=username))

    async def change(self, username: str, **values: Any) -> None:
        """Change a user without a signal."""
        users = get_user_model().objects
        await self.run(lambda: users.filter(username=username).update(**values))

    async def token(self, username: str, scope: str = "notifyd") -> str:
        """Return a new token of a user."""
        user = await self.user(username)
        return str(import_string("sesame.utils.get_token")(user, scope))

    async def group(self, name: str) -> Any:
        """Return a group of the site."""
        groups = model("auth.Group").objects
        return await self.run(lambda: groups.get(name=name))

    async def content_types(self, *names: str) -> frozenset[str]:
        """Return the keys of the content types of these models."""
        types = model("contenttypes.ContentType").objects.filter(model__in=names)
        return frozenset(str(each.pk) for each in await self.run(lambda: list(types)))


def model(name: str) -> Any:
    """Return a model, which can't be imported before the site is set up."""
    apps = import_string("django.apps.apps")
    return apps.get_model(name)


def forged(key: int | str) -> str:
    """Return a token of this moment for a user, signed by nobody."""
    packer = import_string("sesame.packers.packer")
    stamp = import_string("sesame.tokens_v2.pack_timestamp")()
    data = packer.pack_pk(key) + stamp + bytes(10)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def login(authenticator: auth.Authenticator, token: Any, **how: Any) -> auth.Login:
    """Authenticate a token from a hello, or otherwise if told so."""
    return await authenticator.authenticate(token, **{"bare": False, "address": ADDRESS, **how})


async def result(authenticator: auth.Authenticator, token: Any, **how: Any) -> str:
    """Return how an authentication ends."""
    try:
        await login(authenticator, token, **how)
    except auth.Refused as refused:
        return str(refused.result)
    return "ok"


def crowd(count: int) -> list[Any]:
    """Create users with all kinds of rights, the same each time, and return them."""
    dice = random.Random(count)
    permissions = [*model("auth.Permission").objects.order_by("pk")]
    groups = []
    for number in range(4):
        group, _created = model("auth.Group").objects.get_or_create(name=f"crowd {number}")
        group.permissions.set(dice.sample(permissions, 4 * number))
        groups.append(group)
    users = []
    for number in range(count):
        user, _created = model("auth.User").objects.get_or_create(
            username=f"crowd {number}",
            defaults={
                "password": f"md5$salt${number:032}",
                "is_active": number % 5 != 1,
                "is_superuser": number % 7 == 1,
            },
        )
        user.groups.set(dice.sample(groups, dice.randrange(4)))
        user.user_permissions.set(dice.sample(permissions, dice.choice([0, 0, 3])))
        users.append(user)
    return users


@contextlib.contextmanager
def database(settings: dict[str, Any]) -> Iterator[None]:
    """Have the site use another database; connections that are made meanwhile know only that."""
    before = connections.settings["default"]
    complete = connections.configure_settings({"default": {"OPTIONS": {}, **settings}})
    connections.settings["default"] = complete["default"]
    _forget_connection()
    try:
        yield
    finally:
        connections.settings["default"] = before
        _forget_connection()


def _forget_connection() -> None:
    connections.close_all()
    # It knows the settings it was made with. There is one only if this thread has used it.
    with contextlib.suppress(AttributeError):
        del connections["default"]


def sqlite(path: Path) -> dict[str, Any]:
    """Return the settings of a database in a file."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}


def fill() -> None:
    """Create the tables and the people."""
    # What is filled in is no news for anybody, and there may be no Redis.
    with override_settings(**FAST, NOTIFYD={"ENABLED": False}):
        call_command("migrate", verbosity=0)
        call_command("seed", stdout=io.StringIO())

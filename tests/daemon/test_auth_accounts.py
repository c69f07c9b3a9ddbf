from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import PermissionDenied
from django.db import connections, router
from django.test.utils import override_settings
from django.utils.module_loading import import_string
from newsrooms import Newsroom, forged, login, model, result
from structlog.testing import capture_logs

from notifyd.core.events import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from notifyd.core.audience import Audience
    from notifyd.daemon.auth import Authenticator

    Make = Callable[..., Authenticator]

pytest_plugins = ["newsroom_fixtures"]

AUTHSITE = Path(__file__).parent / "authsite"
STOCK = ["django.contrib.auth.backends.ModelBackend", "sesame.backends.ModelBackend"]


def shows(audience: Audience, *keys: str) -> bool:
    """Tell whether an audience sees each of these content types."""
    return all(audience.sees(Rule(content_types=frozenset({key}))) for key in keys)


def may(audience: Audience, word: str) -> bool:
    """Tell whether an audience has a permission."""
    return audience.sees(Rule(permissions=frozenset({word})))


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Give a function that puts classes among the site's authentication backends."""
    module = sys.modules[__name__]

    def use(*classes: Any, stock: tuple[str, ...] = tuple(STOCK)) -> None:
        for number, each in enumerate(classes):
            monkeypatch.setattr(module, f"Backend{number}", each, raising=False)
        sys.modules.setdefault("backends_of_the_test", module)
        added = [f"backends_of_the_test.Backend{number}" for number in range(len(classes))]
        monkeypatch.setattr(settings, "AUTHENTICATION_BACKENDS", [*added, *stock])

    yield use
    sys.modules.pop("backends_of_the_test", None)


async def test_content_types(newsroom: Newsroom, make: Make) -> None:
    """Users see the content types of the models that they may view or change, and no others."""
    articles = [*await newsroom.content_types("article")]
    comments = [*await newsroom.content_types("comment")]
    authenticator = make()
    nadia = (await login(authenticator, await newsroom.token("nadia"))).audience
    rosa = (await login(authenticator, await newsroom.token("rosa"))).audience
    assert shows(nadia, *articles, *comments)
    assert shows(rosa, *comments)
    assert not shows(rosa, *articles)
    assert not shows(nadia, *await newsroom.content_types("user"))


@pytest.mark.parametrize(("verb", "seen"), [("view", 1), ("change", 1), ("add", 0), ("delete", 0)])
async def test_verbs(newsroom: Newsroom, make: Make, verb: str, seen: int) -> None:
    """One of view and change is enough to see a content type, and nothing else is."""
    user = await newsroom.user("rosa")
    wanted = model("auth.Permission").objects.filter(codename=f"{verb}_session")
    await newsroom.run(lambda: user.user_permissions.set(wanted))
    audience = (await login(make(), await newsroom.token("rosa"))).audience
    assert shows(audience, *await newsroom.content_types("session")) is bool(seen)
    assert may(audience, f"sessions.{verb}_session")


async def test_permissions(newsroom: Newsroom, make: Make) -> None:
    """An audience has all permissions of its user, from groups and otherwise."""
    audience = (await login(make(), await newsroom.token("nadia"))).audience
    assert may(audience, "articles.change_article")
    assert not may(audience, "sessions.delete_session")


async def test_groups(newsroom: Newsroom, make: Make) -> None:
    """An audience has its user's groups, by primary key as text."""
    audience = (await login(make(), await newsroom.token("nadia"))).audience
    assert audience.groups == {str((await newsroom.group("editors")).pk)}


async def test_superuser(newsroom: Newsroom, make: Make, queries: list[str]) -> None:
    """A superuser sees everything by a flag, and nothing is enumerated."""
    authenticator, token = make(), await newsroom.token("admin")
    del queries[:]
    audience = (await login(authenticator, token)).audience
    assert (audience.superuser, audience.permissions) == (True, 0)
    assert len(queries) == 2


async def test_queries(newsroom: Newsroom, make: Make, queries: list[str]) -> None:
    """A login takes four queries: the user, the permissions of user and groups, the groups."""
    authenticator = make(threads=1)
    await login(authenticator, await newsroom.token("nadia"))
    token = await newsroom.token("rosa")
    del queries[:]
    await login(authenticator, token)
    assert len(queries) == 4


async def test_queries_of_the_first(newsroom: Newsroom, make: Make, queries: list[str]) -> None:
    """The first login takes one more, which reads the content types for all within seconds."""
    token = await newsroom.token("nadia")
    del queries[:]
    await login(make(), token)
    assert len(queries) == 5


@pytest.mark.parametrize("bare", [True, False])
async def test_queries_of_a_forgery(
    newsroom: Newsroom,
    make: Make,
    queries: list[str],
    bare: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A forged token costs one query, in however many ways it is tried."""
    key = (await newsroom.user("admin")).pk
    del queries[:]
    assert await result(make(), forged(key), bare=bare) == "invalid"
    assert len(queries) == 1


async def test_new_content_type(newsroom: Newsroom, make: Make) -> None:
    """A content type that is new shows at once, whatever is remembered of the others."""
    authenticator = make()
    await login(authenticator, await newsroom.token("rosa"))

    def found() -> str:
        created = model("contenttypes.ContentType").objects.create(app_label="polls", model="poll")
        permission = model("auth.Permission").objects.create(
            content_type=created, codename="view_poll", name="x"
        )
        model("auth.Group").objects.get(name="reporters").permissions.add(permission)
        return str(created.pk)

    key = await newsroom.run(found)
    assert shows((await login(authenticator, await newsroom.token("rosa"))).audience, key)


async def test_strange_permission(newsroom: Newsroom, make: Make, queries: list[str]) -> None:
    """A permission for no content type is looked up once, not at each login."""
    kind = await newsroom.content_types("article")
    user = await newsroom.user("rosa")

    def grant() -> None:
        permission = model("auth.Permission").objects.create(
            content_type_id=int(*kind), codename="view_everything", name="x"
        )
        user.user_permissions.add(permission)

    await newsroom.run(grant)
    authenticator, token = make(threads=1), await newsroom.token("rosa")
    await login(authenticator, await newsroom.token("nadia"))
    await login(authenticator, token)
    del queries[:]
    await login(authenticator, token)
    assert len(queries) == 4


async def test_inactive(newsroom: Newsroom, make: Make) -> None:
    """An inactive user is told apart from a bad token, by the name of the primary key only."""
    token = await newsroom.token("ines")
    pk = (await newsroom.user("ines")).pk
    authenticator = make()
    with pytest.raises(Exception, match=rf"^user {pk} is not active$"):
        await login(authenticator, token)
    assert authenticator.results["inactive"] == 1


async def test_expired(newsroom: Newsroom, make: Make) -> None:
    """A token that was good once is told apart from one that never was."""
    token = await newsroom.token("nadia")
    bare = await newsroom.token("nadia", scope="")
    with override_settings(SESAME_MAX_AGE=0):
        assert await result(make(), token) == "expired"
        assert await result(make(), bare, bare=True) == "expired"
        assert await result(make(), forged((await newsroom.user("nadia")).pk)) == "invalid"


async def test_changed_password(newsroom: Newsroom, make: Make) -> None:
    """A new password invalidates the tokens that were made before."""
    token = await newsroom.token("nadia")
    await newsroom.change("nadia", password="another")
    assert await result(make(), token) == "invalid"


async def test_unknown_user(newsroom: Newsroom, make: Make) -> None:
    """A token for a user who is gone is invalid."""
    token = await newsroom.token("nadia")
    user = await newsroom.user("nadia")
    await newsroom.run(user.delete)
    assert await result(make(), token) == "invalid"


async def test_version_1(newsroom: Newsroom, make: Make) -> None:
    """Tokens of version 1, which have no scopes, are unscoped ones where the site allows them."""
    with override_settings(SESAME_TOKENS=["sesame.tokens_v1", "sesame.tokens_v2"]):
        token = await newsroom.token("nadia", scope="")
        assert ":" in token
        assert await result(make(), token, bare=True) == "ok"
        assert await result(make(), token) == "invalid"


async def test_other_key(newsroom: Newsroom, make: Make) -> None:
    """With SESAME_PRIMARY_KEY_FIELD a login still tells the primary key."""
    with override_settings(SESAME_PRIMARY_KEY_FIELD="username"):
        found = await login(make(), await newsroom.token("nadia"))
        assert found.user == str((await newsroom.user("nadia")).pk)
        assert await result(make(), forged("nobody")) == "invalid"


async def test_one_time(newsroom: Newsroom, make: Make) -> None:
    """A one-time token is good once, and its use is the user's last login."""
    with override_settings(SESAME_ONE_TIME=True):
        token, authenticator = await newsroom.token("nadia"), make()
        assert [await result(authenticator, token) for _ in range(2)] == ["ok", "invalid"]
        assert (await newsroom.user("nadia")).last_login is not None
        assert await result(authenticator, await newsroom.token("nadia")) == "ok"


async def test_one_time_at_once(newsroom: Newsroom, make: Make) -> None:
    """Of many uses of a one-time token at the same time one succeeds."""
    with override_settings(SESAME_ONE_TIME=True):
        authenticator, token = make(threads=8), await newsroom.token("nadia")
        tries = await asyncio.gather(*(result(authenticator, token) for _ in range(16)))
    assert sorted(tries) == ["invalid"] * 15 + ["ok"]


async def test_many_times(newsroom: Newsroom, make: Make) -> None:
    """Otherwise a login writes nothing."""
    await login(make(), await newsroom.token("nadia"))
    assert (await newsroom.user("nadia")).last_login is None


async def test_token_stays_secret(newsroom: Newsroom, make: Make) -> None:
    """No receiver of user_login_failed gets to see a token."""
    told: list[Any] = []

    def receiver(**values: Any) -> None:
        told.append(values)

    user_login_failed.connect(receiver)
    with override_settings(SESAME_ONE_TIME=True):
        await result(make(), await newsroom.token("nadia", scope="x"), bare=True)
        await result(make(), await newsroom.token("nadia"))
    user_login_failed.disconnect(receiver)
    assert told == []


async def test_backend_that_grants(
    newsroom: Newsroom, make: Make, backends: Callable[..., None]
) -> None:
    """What has_perm grants counts, whichever backend says so and whether it lists it or not."""

    class Generous:
        def has_perm(self, _user: Any, perm: str, _obj: Any = None) -> bool:
            return perm.startswith("sessions.")

    backends(Generous)
    audience = (await login(make(), await newsroom.token("rosa"))).audience
    assert shows(audience, *await newsroom.content_types("session", "comment"))
    assert may(audience, "sessions.add_session")
    assert not shows(audience, *await newsroom.content_types("article"))


async def test_backend_that_lists(
    newsroom: Newsroom, make: Make, backends: Callable[..., None]
) -> None:
    """A permission that only a backend of the site knows counts as well."""
    base: Any = import_string("django.contrib.auth.backends.BaseBackend")

    class Clubs(base):  # type: ignore[misc] # it can't be imported before set-up
        def get_user_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
            return {"clubs.enter_lounge"} if user_obj.username == "rosa" and obj is None else set()

    backends(Clubs)
    audience = (await login(make(), await newsroom.token("rosa"))).audience
    assert may(audience, "clubs.enter_lounge")
    assert may(audience, "articles.view_comment")


async def test_backend_that_denies(
    newsroom: Newsroom, make: Make, backends: Callable[..., None]
) -> None:
    """What a backend forbids is not granted, whatever those after it would say."""

    class Strict:
        def has_perm(self, _user: Any, perm: str, _obj: Any = None) -> bool:
            if perm.endswith("_comment"):
                raise PermissionDenied
            return False

    backends(Strict)
    audience = (await login(make(), await newsroom.token("rosa"))).audience
    assert not may(audience, "articles.view_comment")
    assert not shows(audience, *await newsroom.content_types("comment"))


async def test_backend_of_the_site(
    newsroom: Newsroom, make: Make, backends: Callable[..., None]
) -> None:
    """The site's own sesame backend decides who may log in, and by whom it is asked."""
    base: Any = import_string("sesame.backends.ModelBackend")

    class Picky(base):  # type: ignore[misc] # it can't be imported before set-up
        def user_can_authenticate(self, user: Any) -> bool:
            return bool(user.username != "rosa")

        def authenticate(self, request: Any, sesame: str, **how: Any) -> Any:
            user = super().authenticate(request, sesame, **how)
            if user is not None and user.username == "admin":
                raise PermissionDenied
            return user

    backends(Picky, stock=(STOCK[0],))
    authenticator = make()
    people = ["nadia", "rosa", "admin", "ines"]
    tries = [await result(authenticator, await newsroom.token(name)) for name in people]
    assert tries == ["ok", "inactive", "invalid", "ok"]


async def test_backend_without_judgement(
    newsroom: Newsroom, make: Make, backends: Callable[..., None]
) -> None:
    """A backend that finds its users in a way of its own is believed."""
    mixin: Any = import_string("sesame.backends.SesameBackendMixin")

    class Own(mixin):  # type: ignore[misc] # it can't be imported before set-up
        def get_user(self, key: Any) -> Any:
            return model("auth.User").objects.filter(pk=key, is_active=True).first()

    backends(Own, stock=(STOCK[0],))
    authenticator = make()
    assert await result(authenticator, await newsroom.token("nadia")) == "ok"
    assert await result(authenticator, await newsroom.token("ines")) == "invalid"


async def test_function_among_backends(
    newsroom: Newsroom, make: Make, backends: Callable[..., None]
) -> None:
    """The setting may name a function that makes a backend."""
    stock = import_string(STOCK[0])

    def make_backend() -> Any:
        return stock()

    backends(make_backend, stock=(STOCK[1],))
    audience = (await login(make(), await newsroom.token("rosa"))).audience
    assert may(audience, "articles.view_comment")


async def test_error_of_the_site(
    newsroom: Newsroom, make: Make, backends: Callable[..., None]
) -> None:
    """A fault in the site's own code is logged in a line without the token."""
    base: Any = import_string("sesame.backends.ModelBackend")

    class Broken(base):  # type: ignore[misc] # it can't be imported before set-up
        def authenticate(self, _request: Any, sesame: str, **_how: Any) -> Any:
            raise RuntimeError(f"no idea what {sesame} is\nand more")

    backends(Broken, stock=(STOCK[0],))
    authenticator, token = make(), await newsroom.token("nadia")
    with capture_logs() as lines:
        assert await result(authenticator, token) == "error"
    words = "RuntimeError: no idea what *** is"
    assert lines == [{"event": "auth.error", "log_level": "error", "error": words}]
    assert authenticator.database is None


async def test_primary(
    newsroom: Newsroom, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users, groups and permissions are read from the database that is written to."""
    path = Path(connections.settings["default"]["NAME"])
    shutil.copy(path, tmp_path / "replica.sqlite3")
    replica = {**connections.settings["default"], "NAME": str(tmp_path / "replica.sqlite3")}
    monkeypatch.setitem(connections.settings, "replica", replica)

    class Site:
        def db_for_read(self, _model: Any, **_: Any) -> str:
            return "replica"

        def db_for_write(self, _model: Any, **_: Any) -> str:
            return "default"

    group = await newsroom.group("reporters")
    await newsroom.run(group.permissions.clear)
    monkeypatch.setattr(router, "routers", [*router.routers, Site()])
    token = await newsroom.token("rosa")
    audience = (await login(make(), token)).audience
    assert audience.permissions == 0


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("members.Member", {"groups": [], "permissions": 0, "superuser": False, "shown": False}),
        ("members.Reader", {"groups": [], "permissions": 2, "superuser": False, "shown": True}),
        ("members.Chief", {"groups": [], "permissions": 2, "superuser": False, "shown": True}),
    ],
)
def test_custom_user(tmp_path: Path, user: str, found: dict[str, Any]) -> None:
    """A site's own user model counts with what it has: any key, any permissions or none."""
    run = subprocess.run(
        [sys.executable, str(AUTHSITE / "login.py")],
        env={**os.environ, "AUTHSITE_USER": user, "AUTHSITE_DATABASE": str(tmp_path / "db")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    assert json.loads(run.stdout) == {"same_key": True, "inactive": "inactive", **found}

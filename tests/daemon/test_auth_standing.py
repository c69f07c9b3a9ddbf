from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connections, router
from django.test.utils import override_settings
from django.utils.module_loading import import_string
from newsrooms import STOCK, Newsroom, login, model

from notifyd.core.audience import Vocabulary
from notifyd.core.events import Rule
from notifyd.daemon.auth_standing import Standings, _digests

if TYPE_CHECKING:
    from collections.abc import Callable

    from notifyd.core.audience import Audience
    from notifyd.daemon.auth import Authenticator

    Make = Callable[..., Authenticator]

pytest_plugins = ["newsroom_fixtures"]


def shows(audience: Audience, *keys: str) -> bool:
    """Tell whether an audience sees each of these content types."""
    return all(audience.sees(Rule(content_types=frozenset({key}))) for key in keys)


def may(audience: Audience, word: str) -> bool:
    """Tell whether an audience has a permission."""
    return audience.sees(Rule(permissions=frozenset({word})))


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


async def test_digest(newsroom: Newsroom) -> None:
    """The digest of a log-in changes with the password, and is not what Django's sessions hold."""
    standings = Standings(Vocabulary())
    nadia = await newsroom.user("nadia")
    (digest,) = (await newsroom.run(standings.of, nadia)).digests
    assert len(digest) == 32
    assert digest not in nadia.get_session_auth_hash()
    assert (await newsroom.run(standings.of, nadia)).digests == (digest,)
    await newsroom.change("nadia", password="another")
    changed = (await newsroom.run(standings.of, await newsroom.user("nadia"))).digests
    assert changed != (digest,)


async def test_digests_of_former_keys(newsroom: Newsroom) -> None:
    """When the site changes its key, a digest by the former one is among those behind the first."""
    standings = Standings(Vocabulary())
    nadia = await newsroom.user("nadia")
    before = (await newsroom.run(standings.of, nadia)).digests
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        first, *others = (await newsroom.run(standings.of, nadia)).digests
    assert (*others,) == before
    assert first not in before


def test_no_digest() -> None:
    """Users who know no hash of a session have no digest."""
    assert _digests(object()) == ()


async def test_many_without_groups(newsroom: Newsroom, queries: list[str]) -> None:
    """Where nobody is in a group no group is asked for."""
    people = [await newsroom.user(name) for name in ("nadia", "rosa")]
    for user in people:
        await newsroom.run(user.groups.clear)
    del queries[:]
    standings = Standings(Vocabulary())
    read = await newsroom.run(standings.gather, people)
    assert len(queries) == 3
    for user in people:
        assert read[user.pk] == await newsroom.run(standings.of, user)


async def test_many_share_an_audience(newsroom: Newsroom) -> None:
    """Users who may see the same share one audience in memory when they are read together."""
    people = [await newsroom.user(name) for name in ("nadia", "omar", "rosa")]
    read = await newsroom.run(Standings(Vocabulary()).gather, people)
    nadia, omar, rosa = (read[user.pk].audience for user in people)
    assert nadia is omar
    assert nadia != rosa


@pytest.mark.parametrize("count", [0, 1])
async def test_few(newsroom: Newsroom, queries: list[str], count: int) -> None:
    """For one user there is nothing to gain, and the way of Django itself is taken."""
    people = [await newsroom.user("nadia")][:count]
    del queries[:]
    assert await newsroom.run(Standings(Vocabulary()).gather, people) == {}
    assert queries == []


async def test_many_superusers(newsroom: Newsroom, queries: list[str]) -> None:
    """Of superusers, and of those who are inactive, only the groups are read."""
    for name in ("nadia", "omar"):
        await newsroom.change(name, is_superuser=True)
    people = [await newsroom.user(name) for name in ("nadia", "omar", "ines")]
    del queries[:]
    standings = Standings(Vocabulary())
    read = await newsroom.run(standings.gather, people)
    assert len(queries) == 1
    for user in people:
        assert read[user.pk] == await newsroom.run(standings.of, user)


@pytest.mark.parametrize("grants", [True, False])
async def test_backends_that_say_nothing(
    newsroom: Newsroom,
    backends: Callable[..., None],
    grants: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Many can be read together if Django's backend grants permissions, and others don't care."""
    base: Any = import_string("django.contrib.auth.backends.BaseBackend")
    mixin: Any = import_string("sesame.backends.SesameBackendMixin")

    class Mute(base):  # type: ignore[misc] # it can't be imported before set-up
        pass

    class Own(mixin):  # type: ignore[misc] # the same
        pass

    backends(Mute, Own, stock=STOCK if grants else ())
    people = [await newsroom.user(name) for name in ("nadia", "omar", "rosa")]
    standings = Standings(Vocabulary())
    read = await newsroom.run(standings.gather, people)
    assert [*read] == ([user.pk for user in people] if grants else [])
    for user in people:
        alone = await newsroom.run(standings.of, user)
        assert read.get(user.pk, alone) == alone
        assert may(alone.audience, "articles.view_comment") is grants

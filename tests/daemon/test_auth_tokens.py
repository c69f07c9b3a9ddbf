from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import PermissionDenied
from django.test.utils import override_settings
from django.utils.module_loading import import_string
from newsrooms import STOCK, Newsroom, forged, login, model, result

from notifyd.daemon.auth_tokens import Claim, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from notifyd.daemon.auth import Authenticator

    Make = Callable[..., Authenticator]

pytest_plugins = ["newsroom_fixtures"]


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


async def test_reading_by_the_site(newsroom: Newsroom, backends: Callable[..., None]) -> None:
    """Where the site's backend finds its users in a way of its own, it does so for re-reading."""
    mixin: Any = import_string("sesame.backends.SesameBackendMixin")

    class Own(mixin):  # type: ignore[misc] # it can't be imported before set-up
        def get_user(self, key: Any) -> Any:
            if key == "omar":
                raise PermissionDenied
            names = {"username": key} if isinstance(key, str) else {"pk": key}
            return model("auth.User").objects.filter(**names, is_active=True).first()

    backends(Own, stock=(STOCK[0],))
    people = [await newsroom.user(name) for name in ("nadia", "rosa", "ines")]
    keys = [user.pk for user in people]
    for field in ("pk", "username"):
        with override_settings(SESAME_PRIMARY_KEY_FIELD=field):
            tokens = Tokens(unscoped=True)
            assert not tokens.bulk
            assert tokens.fetch(keys) == {}
            backend = tokens.begin()

            def read(key: Any, tokens: Tokens = tokens, backend: Any = backend) -> Any:
                return tokens.user(backend, key, {})

            assert [await newsroom.run(read, key) for key in keys] == [*people[:2], None]
            assert await newsroom.run(read, 2_000_000_000) is None
    omar = (await newsroom.user("omar")).pk
    assert await newsroom.run(read, omar) is None


async def test_reading_who_may_not(newsroom: Newsroom, backends: Callable[..., None]) -> None:
    """Whom the site's backend doesn't let in is not there when users are read."""
    base: Any = import_string("sesame.backends.ModelBackend")

    class Picky(base):  # type: ignore[misc] # it can't be imported before set-up
        def user_can_authenticate(self, user: Any) -> bool:
            return bool(user.username != "rosa")

    backends(Picky, stock=(STOCK[0],))
    tokens = Tokens(unscoped=True)
    assert tokens.bulk
    people = [await newsroom.user(name) for name in ("nadia", "rosa", "ines")]
    keys = [user.pk for user in people]
    nothing: dict[Any, Any] = {}
    for found in (await newsroom.run(tokens.fetch, keys), nothing):
        read = [await newsroom.run(tokens.user, tokens.begin(), key, found) for key in keys]
        assert read == [people[0], None, people[2]]


@pytest.mark.parametrize("how", ["authenticate", "get_user"])
async def test_bulk(newsroom: Newsroom, backends: Callable[..., None], how: str) -> None:
    """A backend that does anything in its own way is asked for each token by itself."""
    base: Any = import_string("sesame.backends.ModelBackend")

    def own(self: Any, *given: Any, **options: Any) -> Any:
        return getattr(super(type(self), self), how)(*given, **options)

    assert Tokens(unscoped=True).bulk
    backends(type("Own", (base,), {how: own}), stock=(STOCK[0],))
    tokens = Tokens(unscoped=True)
    assert not tokens.bulk
    backend = tokens.begin()
    await newsroom.run(tokens.gather, backend, [Claim(await newsroom.token("nadia"), bare=True)])
    assert backend.users == {}


async def test_django_finds(newsroom: Newsroom, backends: Callable[..., None]) -> None:
    """A backend that finds users as Django's does is as good as sesame's own."""
    mixin: Any = import_string("sesame.backends.SesameBackendMixin")
    django: Any = import_string(STOCK[0])

    class Both(mixin, django):  # type: ignore[misc] # they can't be imported before set-up
        pass

    backends(Both, stock=())
    tokens = Tokens(unscoped=True)
    assert tokens.bulk
    backend = tokens.begin()
    claims = [Claim(await newsroom.token(name), bare=False) for name in ("nadia", "rosa")]
    await newsroom.run(tokens.gather, backend, claims)
    assert [user.username for user in backend.users.values()] == ["nadia", "rosa"]
    assert [tokens.find(backend, claim).user.username for claim in claims] == ["nadia", "rosa"]


async def test_gathering_nobody(newsroom: Newsroom, queries: list[str]) -> None:
    """Tokens that name nobody cost no query."""
    tokens = Tokens(unscoped=True)
    backend = tokens.begin()
    claims = [Claim(text, bare=True) for text in ("AAAA", "BBBB", "A" * 512, "::::")]
    await newsroom.run(tokens.gather, backend, claims)
    assert (backend.users, queries) == ({}, [])


async def test_gathering_version_1(newsroom: Newsroom) -> None:
    """Tokens of version 1 name their users, too."""
    with override_settings(SESAME_TOKENS=["sesame.tokens_v1", "sesame.tokens_v2"]):
        claims = [Claim(await newsroom.token(n, scope=""), bare=True) for n in ("nadia", "rosa")]
        tokens = Tokens(unscoped=True)
        backend = tokens.begin()
        await newsroom.run(tokens.gather, backend, claims)
        assert [user.username for user in backend.users.values()] == ["nadia", "rosa"]
        assert [tokens.find(backend, each).user.username for each in claims] == ["nadia", "rosa"]
